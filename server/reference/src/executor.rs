//! One active model on the reference.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use quarry_model::backend::ActivateOptions;
use quarry_model::executor::{Batch, BlockCopy, Caps, ExecError, Executor, StepResult, StepTicket};
use quarry_model::sampler::{self, SampleRow};
use quarry_model::spec::DecoderSpec;

use crate::cache::Cache;
use crate::forward;
use crate::weights::Weights;

/// Against another f32 implementation only the order of sums differs.
const LOGITS_ERROR_MAX: f32 = 1e-4;

pub struct ReferenceExecutor {
    spec: Arc<DecoderSpec>,
    weights: Arc<Weights>,
    cache: Arc<Mutex<Cache>>,
    caps: Caps,
    scratch: sampler::Scratch,
    tickets: u64,
    /// The step in flight: its ticket and the hidden states of its wanted positions.
    in_flight: Option<(u64, Vec<Tensor>)>,
}

impl ReferenceExecutor {
    pub fn new(
        spec: Arc<DecoderSpec>,
        weights: Arc<Weights>,
        cache: Arc<Mutex<Cache>>,
        options: &ActivateOptions,
    ) -> Self {
        let (shape, blocks) = {
            let cache = lock(&cache);
            (cache.shape, cache.blocks())
        };
        let caps = Caps {
            block_tokens: shape.tokens,
            block_bytes: shape.bytes(),
            blocks,
            batch_tokens_max: options.batch_tokens_max,
            batch_rows_max: options.batch_rows_max,
            activations: "f32",
            kv: "f32",
            logits_error_max: LOGITS_ERROR_MAX,
            isa: "candle".into(),
        };
        Self { spec, weights, cache, caps, scratch: sampler::Scratch::default(), tickets: 0, in_flight: None }
    }
}

/// A poisoned lock only means that a panic was answered elsewhere.
fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device(error: candle_core::Error) -> ExecError {
    ExecError::Device(error.to_string())
}

impl Executor for ReferenceExecutor {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, batch: &Batch<'_>) -> Result<StepTicket, ExecError> {
        self.caps.check_batch(batch, self.spec.vocab, usize::MAX)?;
        self.in_flight = None;
        let mut wanted = Vec::new();
        for row in batch.rows {
            if !(batch.is_wanted)() {
                return Err(ExecError::Abandoned);
            }
            let hidden =
                forward::row(&self.spec, &self.weights, &mut lock(&self.cache), row).map_err(device)?;
            for &offset in row.wanted {
                wanted.push(hidden.narrow(0, offset, 1).map_err(device)?);
            }
        }
        self.tickets += 1;
        self.in_flight = Some((self.tickets, wanted));
        Ok(StepTicket(self.tickets))
    }

    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        let wanted = match &self.in_flight {
            Some((number, wanted)) if *number == ticket.0 => wanted,
            _ => return Err(ExecError::BadTicket(ticket.0)),
        };
        out.begin(samples, wanted.len())?;
        for (hidden, sample) in wanted.iter().zip(samples) {
            if out.keep_hidden {
                let normed = forward::output_norm(&self.spec, &self.weights, hidden).map_err(device)?;
                let normed = normed.flatten_all().and_then(|h| h.to_vec1::<f32>()).map_err(device)?;
                out.hidden.extend_from_slice(&normed);
            }
            let logits = forward::head(&self.spec, &self.weights, hidden).map_err(device)?;
            let mut logits = logits.flatten_all().and_then(|l| l.to_vec1::<f32>()).map_err(device)?;
            if out.keep_logits {
                out.logits.extend_from_slice(&logits);
            }
            out.sampled.push(sampler::sample(&mut logits, sample, &mut self.scratch));
        }
        self.in_flight = None;
        Ok(())
    }

    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError> {
        self.caps.check_copies(moves)?;
        for copy in moves {
            lock(&self.cache).copy(copy.from, copy.to);
        }
        Ok(())
    }
}
