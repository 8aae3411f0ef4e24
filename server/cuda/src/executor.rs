//! One active model on the device.

use std::sync::Arc;

use cudarc::driver::DriverError;
use quarry_model::backend::{ActivateOptions, BackendError};
use quarry_model::executor::{
    AheadRow, Batch, BlockCopy, Caps, ExecError, Executor, Row, StepResult, StepTicket,
};
use quarry_model::sampler::SampleRow;
use quarry_model::spec::DecoderSpec;

use crate::device::{Device, Memory, backend, exec};
use crate::draws::{Draws, Place};
use crate::forward::Pass;
use crate::graphs::Graphs;
use crate::kv::KvCache;
use crate::orders::Orders;
use crate::pinned::Pinned;
use crate::prefill::{Prefill, PrefillAttention};
use crate::upload::Arrivals;
use crate::weights::{DeviceWeights, HostWeights};
use quarry_cuda_layout::{HEAD_ROWS, KvKind, Scratch};

/// Bound on the logits' error against an f32 reference, relative to the largest: int8 activations where weights are integers,
/// bf16 weights where they are not, keys and values as they are held. The suite's worst, over all types of weights: 0.0449
/// and, of int8, 0.0566, whether or not heads are rounded to 8 bits.
fn logits_error_max(kv: KvKind) -> f32 {
    match kv {
        KvKind::Bf16 => 0.055,
        KvKind::Int8 => 0.065,
    }
}

pub struct CudaExecutor {
    device: Arc<Device>,
    spec: Arc<DecoderSpec>,
    weights: DeviceWeights,
    /// Set while weights are on their way.
    arrivals: Option<Arrivals>,
    /// Where they come from.
    _host: Arc<HostWeights>,
    cache: Arc<KvCache>,
    caps: Caps,
    scratch: Scratch,
    memory: Memory,
    /// What the host sends of a step, reused.
    orders: Vec<u8>,
    /// The same where the device reads it, for a step in flight and the one behind it.
    sending: [Pinned; 2],
    /// Steps whose orders may not have been read yet.
    unread: usize,
    draws: Draws,
    graphs: Graphs,
    prefill: Option<Prefill>,
    tickets: u64,
    in_flight: Option<(u64, Orders)>,
}

impl CudaExecutor {
    pub fn new(
        device: Arc<Device>,
        spec: Arc<DecoderSpec>,
        host: Arc<HostWeights>,
        cache: Arc<KvCache>,
        options: &ActivateOptions,
        library: Option<&'static dyn PrefillAttention>,
    ) -> Result<Self, BackendError> {
        let (weights, arrivals) = host.upload(&device).map_err(backend)?;
        let positions_max = spec.context_tokens_max.min(cache.blocks() * options.block_tokens);
        let scratch = Scratch::plan(&spec, options, positions_max);
        let memory = device.allocate(scratch.bytes).map_err(backend)?;
        let prefill = library
            .map(|library| Prefill::new(library, &device, &spec, &cache, &scratch, options))
            .transpose()?;
        let draws = Draws::new(scratch.draw_room, &device).map_err(backend)?;
        let sending = || Pinned::new(&device, scratch.orders.len()).map_err(backend);
        let sending = [sending()?, sending()?];
        let caps = Caps {
            block_tokens: options.block_tokens,
            block_bytes: cache.shape.block_bytes(),
            blocks: cache.blocks(),
            batch_tokens_max: options.batch_tokens_max,
            batch_rows_max: options.batch_rows_max,
            activations: "int8",
            kv: cache.shape.kind.name(),
            logits_error_max: logits_error_max(cache.shape.kind),
            isa: device.name.clone(),
        };
        Ok(Self {
            device,
            spec,
            weights,
            arrivals: Some(arrivals),
            _host: host,
            cache,
            caps,
            scratch,
            memory,
            orders: Vec::new(),
            sending,
            unread: 0,
            draws,
            graphs: Graphs::default(),
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
            arrivals: self.arrivals.as_ref(),
            cache: &self.cache,
            scratch: &self.scratch,
            memory: &self.memory,
            orders,
            prefill: self.prefill.as_ref(),
        }
    }

    /// Queues a checked batch; with `drawn`, tokens that are the numbers of draws.
    fn start(&mut self, batch: &Batch<'_>, drawn: bool) -> Result<StepTicket, ExecError> {
        let tile_tokens = Scratch::tile_tokens(&self.spec);
        let tokens_max = self.caps.batch_tokens_max;
        let orders = Orders::write(
            batch,
            &self.cache,
            tile_tokens,
            tokens_max,
            self.prefill.is_some(),
            &mut self.orders,
        );
        if self.unread == self.sending.len() {
            self.device.synchronize().map_err(exec)?;
            self.unread = 0;
        }
        self.unread += 1;
        self.tickets += 1;
        let sending = &mut self.sending[self.tickets as usize % 2];
        sending.bytes_mut()[..self.orders.len()].copy_from_slice(&self.orders);
        let sent = 0..self.orders.len();
        let stream = &self.device.compute;
        self.memory.write_late(self.scratch.orders.start, sending, sent, stream).map_err(exec)?;
        let mut graphs = std::mem::take(&mut self.graphs);
        let queued = self.queue(&mut graphs, orders, drawn, batch.is_wanted);
        self.graphs = graphs;
        if !queued.map_err(exec)? {
            return Err(ExecError::Abandoned);
        }
        self.in_flight = Some((self.tickets, orders));
        Ok(StepTicket(self.tickets))
    }

    /// False where nobody waited for it to the end.
    fn queue(
        &self,
        graphs: &mut Graphs,
        orders: Orders,
        drawn: bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<bool, DriverError> {
        let pass = self.pass(orders);
        if drawn {
            pass.take_drawn(self.memory.at(self.scratch.draws.start, 0))?;
        }
        match orders.bucket {
            // Too short to be worth giving up.
            Some(bucket) if self.arrivals.is_none() => {
                graphs.run(bucket, &self.device.compute, &|| pass.run(&|| true).map(|_| ()))?;
                Ok(true)
            }
            _ => pass.run(is_wanted),
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
        self.device.bind().map_err(exec)?;
        self.in_flight = None;
        self.start(batch, false)
    }

    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        self.finish_ahead(ticket, samples, &[], out).map(|_| ())
    }

    fn finish_ahead(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        ahead: &[AheadRow<'_>],
        out: &mut StepResult,
    ) -> Result<Option<StepTicket>, ExecError> {
        let orders = match self.in_flight {
            Some((number, orders)) if number == ticket.0 => orders,
            _ => return Err(ExecError::BadTicket(ticket.0)),
        };
        let numbers = self.caps.check_ahead(ahead, samples.len(), self.scratch.positions_max)?;
        let wanted = orders.wanted_count;
        out.begin(samples, wanted)?;
        self.in_flight = None;
        self.device.bind().map_err(exec)?;
        let most = HEAD_ROWS.min(self.caps.batch_tokens_max);
        let (vocab, hidden) = (self.spec.vocab, self.spec.hidden);
        let mut next = None;
        for first in (0..wanted).step_by(most) {
            let count = most.min(wanted - first);
            let samples = &samples[first..first + count];
            self.draws.send(place(&self.device, &self.memory, &self.scratch), samples).map_err(exec)?;
            let pass = self.pass(orders);
            if out.keep_hidden {
                pass.hidden(first, count).map_err(exec)?;
                self.read(count * hidden, &mut out.hidden)?;
            }
            pass.head(first, count).map_err(exec)?;
            if out.keep_logits {
                self.read(count * vocab, &mut out.logits)?;
            }
            self.draws.queue(place(&self.device, &self.memory, &self.scratch), samples).map_err(exec)?;
            // All draws of a step must be there for the step behind it.
            if !ahead.is_empty() && count == wanted {
                let rows: Vec<Row<'_>> =
                    ahead.iter().zip(&numbers).map(|(row, number)| row.row(number)).collect();
                next = Some(self.start(&Batch::new(&rows), true)?);
            }
            let place = place(&self.device, &self.memory, &self.scratch);
            let is_hosts = self.draws.collect(place, samples, &mut out.sampled).map_err(exec)?;
            self.unread = usize::from(next.is_some());
            // The head waited for all of them.
            self.arrivals = None;
            if is_hosts {
                // It began with another token.
                next = None;
            }
        }
        // A step of which nothing is wanted has been queued all the same; its end is what the caller waits for.
        if wanted == 0 {
            self.device.synchronize().map_err(exec)?;
            self.unread = 0;
        }
        Ok(next)
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

fn place<'a>(device: &'a Device, memory: &'a Memory, scratch: &Scratch) -> Place<'a> {
    Place { device, memory, logits: scratch.logits.start, room: scratch.draws.start }
}

impl Drop for CudaExecutor {
    fn drop(&mut self) {
        // Its memory and weights are in use until the streams are done; a broken device uses nothing.
        let _ = self.device.synchronize();
        if self.arrivals.is_some() {
            let _ = self.device.uploads.synchronize();
        }
    }
}
