//! One active model on the CPU.

use std::sync::{Arc, Mutex, PoisonError};

use quarry_model::backend::ActivateOptions;
use quarry_model::executor::{Batch, BlockCopy, Caps, ExecError, Executor, StepResult, StepTicket};
use quarry_model::sampler::{self, SampleRow};
use quarry_model::spec::DecoderSpec;

use crate::forward::{Buffers, Pass};
use crate::isa::Kernels;
use crate::kv::KvCache;
use crate::packing::TILE;
use crate::threads::{Threads, WorkerPanicked};
use crate::weights::Weights;

/// Bound on the logits' error against an f32 reference, relative to the largest: int8 activations and weights,
/// f16 keys and values. The largest that was seen is 0.0501 (random llama weights as F32, portable set).
const LOGITS_ERROR_MAX: f32 = 0.055;

pub struct CpuExecutor {
    spec: Arc<DecoderSpec>,
    weights: Arc<Weights>,
    kernels: Kernels,
    threads: Arc<Mutex<Threads>>,
    kv: Arc<KvCache>,
    caps: Caps,
    buffers: Buffers,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    scratch: sampler::Scratch,
    tickets: u64,
    in_flight: Option<u64>,
}

impl CpuExecutor {
    pub fn new(
        spec: Arc<DecoderSpec>,
        weights: Arc<Weights>,
        kernels: Kernels,
        threads: Arc<Mutex<Threads>>,
        kv: Arc<KvCache>,
        options: &ActivateOptions,
    ) -> Self {
        let caps = Caps {
            block_tokens: options.block_tokens,
            block_bytes: kv.shape.block_bytes(),
            blocks: kv.blocks(),
            batch_tokens_max: options.batch_tokens_max,
            batch_rows_max: options.batch_rows_max,
            activations: "int8",
            kv: "f16",
            logits_error_max: LOGITS_ERROR_MAX,
            isa: kernels.isa().name().to_owned(),
        };
        Self {
            kv,
            spec,
            weights,
            kernels,
            threads,
            caps,
            buffers: Buffers::default(),
            hidden: Vec::new(),
            logits: Vec::new(),
            scratch: sampler::Scratch::default(),
            tickets: 0,
            in_flight: None,
        }
    }
}

/// `x / sqrt(mean(x²) + epsilon) · weight`: the head's own is fused with quantization, and keeps no floats.
fn output_norm(x: &[f32], weight: &[f32], epsilon: f32) -> impl Iterator<Item = f32> {
    let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let scale = 1.0 / (squares / x.len() as f64 + f64::from(epsilon)).sqrt();
    x.iter().zip(weight).map(move |(x, w)| (f64::from(*x) * scale) as f32 * w)
}

fn device(_: WorkerPanicked) -> ExecError {
    ExecError::Device("a worker thread panicked".into())
}

impl Executor for CpuExecutor {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, batch: &Batch<'_>) -> Result<StepTicket, ExecError> {
        self.caps.check_batch(batch, self.spec.vocab, usize::MAX)?;
        self.in_flight = None;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.keep_caller();
        let mut pass = Pass {
            spec: &self.spec,
            weights: &self.weights,
            kernels: self.kernels,
            threads: &mut threads,
            kv: &self.kv,
            buffers: &mut self.buffers,
        };
        if !pass.run(batch, &mut self.hidden).map_err(device)? {
            return Err(ExecError::Abandoned);
        }
        self.tickets += 1;
        self.in_flight = Some(self.tickets);
        Ok(StepTicket(self.tickets))
    }

    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        if self.in_flight != Some(ticket.0) {
            return Err(ExecError::BadTicket(ticket.0));
        }
        let wanted = self.hidden.len() / self.spec.hidden;
        out.begin(samples, wanted)?;
        self.in_flight = None;
        if out.keep_hidden {
            for row in self.hidden.chunks_exact(self.spec.hidden) {
                out.hidden.extend(output_norm(row, &self.weights.output_norm, self.spec.norm_epsilon));
            }
        }
        if wanted == 0 {
            return Ok(());
        }
        let vocab = self.spec.vocab;
        self.logits.clear();
        self.logits.resize(wanted * vocab, f32::NEG_INFINITY);
        // A tile of the head is run when any row may draw from it.
        let needed = |tile: usize| {
            samples.iter().any(|row| {
                row.logprobs
                    || row.mask.is_none_or(|mask| {
                        let half = mask.get(tile / 2).copied().unwrap_or(0) >> (tile % 2 * TILE);
                        half & 0xffff != 0
                    })
            })
        };
        {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let mut pass = Pass {
                spec: &self.spec,
                weights: &self.weights,
                kernels: self.kernels,
                threads: &mut threads,
                kv: &self.kv,
                buffers: &mut self.buffers,
            };
            pass.head(&self.hidden, &needed, &mut self.logits).map_err(device)?;
        }
        if out.keep_logits {
            out.logits.extend_from_slice(&self.logits);
        }
        for (row, logits) in samples.iter().zip(self.logits.chunks_exact_mut(vocab)) {
            out.sampled.push(sampler::sample(logits, row, &mut self.scratch));
        }
        Ok(())
    }

    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError> {
        self.caps.check_copies(moves)?;
        for copy in moves {
            // SAFETY: blocks exist as checked above; between steps nobody else uses them (`Executor::copy_blocks`).
            unsafe { self.kv.copy(copy.from, copy.to) };
        }
        Ok(())
    }
}
