//! One active model on the device.

use std::sync::Arc;

use quarry_model::backend::{ActivateOptions, BackendError};
use quarry_model::executor::{Batch, BlockCopy, Caps, ExecError, Executor, StepResult, StepTicket};
use quarry_model::sampler::SampleRow;
use quarry_model::spec::DecoderSpec;

use crate::device::{Device, Memory, backend, exec};
use crate::draws::{Draws, Place};
use crate::forward::Pass;
use crate::kv::KvCache;
use crate::orders::Orders;
use crate::prefill::{Prefill, PrefillAttention};
use crate::scratch::{HEAD_ROWS, Scratch};
use crate::weights::DeviceWeights;

/// Bound on the logits' error against an f32 reference, relative to the largest: int8 activations where weights are integers,
/// bf16 weights where they are not, bf16 keys and values.
const LOGITS_ERROR_MAX: f32 = 0.055;

pub struct CudaExecutor {
    device: Arc<Device>,
    spec: Arc<DecoderSpec>,
    weights: Arc<DeviceWeights>,
    cache: Arc<KvCache>,
    caps: Caps,
    scratch: Scratch,
    memory: Memory,
    /// What the host sends of a step, reused.
    orders: Vec<u8>,
    draws: Draws,
    prefill: Option<Prefill>,
    tickets: u64,
    in_flight: Option<(u64, Orders)>,
}

impl CudaExecutor {
    pub fn new(
        device: Arc<Device>,
        spec: Arc<DecoderSpec>,
        weights: Arc<DeviceWeights>,
        cache: Arc<KvCache>,
        options: &ActivateOptions,
        library: Option<&'static dyn PrefillAttention>,
    ) -> Result<Self, BackendError> {
        let positions_max = spec.context_tokens_max.min(cache.blocks() * options.block_tokens);
        let scratch = Scratch::plan(&spec, options, positions_max);
        let memory = device.allocate(scratch.bytes).map_err(backend)?;
        let prefill = library
            .map(|library| Prefill::new(library, &device, &spec, &cache, &scratch, options))
            .transpose()?;
        let draws = Draws::new(scratch.draw_room);
        let caps = Caps {
            block_tokens: options.block_tokens,
            block_bytes: cache.shape.block_bytes(),
            blocks: cache.blocks(),
            batch_tokens_max: options.batch_tokens_max,
            batch_rows_max: options.batch_rows_max,
            activations: "int8",
            kv: "bf16",
            logits_error_max: LOGITS_ERROR_MAX,
            isa: device.name.clone(),
        };
        Ok(Self {
            device,
            spec,
            weights,
            cache,
            caps,
            scratch,
            memory,
            orders: Vec::new(),
            draws,
            prefill,
            tickets: 0,
            in_flight: None,
        })
    }

    fn pass(&self, orders: Orders) -> Pass<'_> {
        Pass {
            device: &self.device,
            spec: &self.spec,
            weights: &self.weights,
            cache: &self.cache,
            scratch: &self.scratch,
            memory: &self.memory,
            orders,
            prefill: self.prefill.as_ref(),
        }
    }

    /// So many numbers from the logits' place, which is waited for.
    fn read(&self, count: usize, to: &mut Vec<f32>) -> Result<(), ExecError> {
        let before = to.len();
        to.resize(before + count, 0.0);
        let bytes = bytemuck::cast_slice_mut(&mut to[before..]);
        self.memory.read(self.scratch.logits.start, bytes, &self.device.compute).map_err(exec)
    }
}

impl Executor for CudaExecutor {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, batch: &Batch<'_>) -> Result<StepTicket, ExecError> {
        self.caps.check_batch(batch, self.spec.vocab, self.scratch.positions_max)?;
        self.in_flight = None;
        self.device.bind().map_err(exec)?;
        let tile_tokens = Scratch::tile_tokens(&self.spec);
        let orders = Orders::write(batch, &self.cache, tile_tokens, self.prefill.is_some(), &mut self.orders);
        self.memory.write(self.scratch.orders.start, &self.orders, &self.device.compute).map_err(exec)?;
        if !self.pass(orders).run(batch.is_wanted).map_err(exec)? {
            return Err(ExecError::Abandoned);
        }
        self.tickets += 1;
        self.in_flight = Some((self.tickets, orders));
        Ok(StepTicket(self.tickets))
    }

    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        let orders = match self.in_flight {
            Some((number, orders)) if number == ticket.0 => orders,
            _ => return Err(ExecError::BadTicket(ticket.0)),
        };
        let wanted = orders.wanted_count;
        out.begin(samples, wanted)?;
        self.in_flight = None;
        self.device.bind().map_err(exec)?;
        let most = HEAD_ROWS.min(self.caps.batch_tokens_max);
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        for first in (0..wanted).step_by(most) {
            let count = most.min(wanted - first);
            let samples = &samples[first..first + count];
            let place = Place {
                device: &self.device,
                memory: &self.memory,
                logits: self.scratch.logits.start,
                room: self.scratch.draws.start,
            };
            self.draws.send(place, samples).map_err(exec)?;
            let pass = self.pass(orders);
            if out.keep_hidden {
                pass.hidden(first, count).map_err(exec)?;
                self.read(count * hidden, &mut out.hidden)?;
            }
            pass.head(first, count).map_err(exec)?;
            if out.keep_logits {
                self.read(count * vocab, &mut out.logits)?;
            }
            self.draws.draw(place, samples, &mut out.sampled).map_err(exec)?;
        }
        // A step of which nothing is wanted has been queued all the same; its end is what the caller waits for.
        if wanted == 0 {
            self.device.synchronize().map_err(exec)?;
        }
        Ok(())
    }

    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError> {
        self.caps.check_copies(moves)?;
        self.device.bind().map_err(exec)?;
        let bytes = self.caps.block_bytes;
        for copy in moves.iter().filter(|copy| copy.from != copy.to) {
            let (from, to) = (self.cache.offset(copy.from), self.cache.offset(copy.to));
            self.cache.memory.copy_within(from, to, bytes, &self.device.compute).map_err(exec)?;
        }
        Ok(())
    }
}

impl Drop for CudaExecutor {
    fn drop(&mut self) {
        // Its memory and weights are in use until the stream is done; a broken device uses nothing.
        let _ = self.device.synchronize();
    }
}
