//! A device: brings models up and says what they cost in bytes before anything is loaded.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use crate::executor::{Executor, KvBlocks};
use crate::kv::KvArena;
use crate::spec::DecoderSpec;
use crate::weights::WeightFile;

/// A model on disk: mapped, checked, described.
#[derive(Clone)]
pub struct ModelFiles {
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// The mapped file, or files.
    pub weights: Arc<WeightFile>,
    /// Its decoder.
    pub spec: Arc<DecoderSpec>,
}

/// What an executor is sized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivateOptions {
    /// KV positions per block.
    pub block_tokens: usize,
    /// Tokens of one batch at most.
    pub batch_tokens_max: usize,
    /// Rows of one batch at most.
    pub batch_rows_max: usize,
}

/// Bytes a model takes, known before it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ModelCost {
    /// Weights as this back end holds them.
    pub weight_bytes: usize,
    /// One KV block of `block_tokens` positions.
    pub block_bytes: usize,
    /// Activations and scratch of the largest batch.
    pub scratch_bytes: usize,
}

/// A model in host memory, ready to activate. Cheap to clone.
#[derive(Clone)]
pub struct WarmModel {
    /// Its decoder.
    pub spec: Arc<DecoderSpec>,
    /// Bytes it holds.
    pub bytes: usize,
    /// The back end's own form of the weights.
    pub state: Arc<dyn Any + Send + Sync>,
}

/// Why a model could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A tensor is missing, misshapen or of a type this back end cannot run.
    #[error("{tensor}: {what}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// Not enough memory.
    #[error("{what} needs {needed_bytes} bytes, {free_bytes} are free")]
    Memory {
        /// For what.
        what: &'static str,
        /// Bytes asked for.
        needed_bytes: usize,
        /// Bytes left.
        free_bytes: usize,
    },
    /// The options cannot be met (block size, batch bounds).
    #[error("{0}")]
    Options(String),
    /// The weights or the KV memory were made by another back end.
    #[error("these weights or blocks were made by another back end")]
    Foreign,
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
}

/// Reads weights, on any thread and beside steps.
pub trait Loader: Send + Sync {
    /// Reads (and packs) the weights; `progress` is told the share done, 0 to 1.
    ///
    /// # Errors
    /// [`BackendError::Tensor`] for a file that does not fit its own description.
    fn warm(&self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError>;
}

/// A device's own figures at one moment; `None` for what it does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceFigures {
    /// What it is called.
    pub name: String,
    /// What tells it from others of the same name.
    pub uuid: String,
    /// Of its chip.
    pub temperature_celsius: Option<f64>,
    /// What it draws now.
    pub power_watts: Option<f64>,
    /// What it may draw.
    pub power_limit_watts: Option<f64>,
    /// Memory that is taken, by whomever.
    pub memory_used_bytes: Option<u64>,
    /// Memory in all.
    pub memory_total_bytes: Option<u64>,
    /// Share of the last moments in which some kernel ran, 0 to 1.
    pub utilization: Option<f64>,
    /// Share of the last moments in which memory was read or written, 0 to 1.
    pub memory_utilization: Option<f64>,
    /// Clock of its processors.
    pub clock_hertz: Option<f64>,
    /// Clock of its memory.
    pub memory_clock_hertz: Option<f64>,
}

/// Tells figures of the devices that a back end computes on, on any thread and beside steps. It may take milliseconds.
pub trait Monitor: Send + Sync {
    /// One entry a device; those that tell nothing now are left out.
    fn read(&self) -> Vec<DeviceFigures>;
}

/// One device.
pub trait Backend: Send {
    /// `cpu`, `cuda`, `reference`.
    fn name(&self) -> &'static str;

    /// Bytes of the device's own memory that may be taken; `None` where it computes from host memory, so that weights there
    /// are in use without another copy.
    fn own_memory_bytes(&self) -> Option<u64>;

    /// Whether executors start a step before the host knows its tokens ([`Executor::finish_ahead`]); those of a device that
    /// works while the host waits do.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// What tells figures of the device itself, where there is such a thing.
    fn monitor(&self) -> Option<Arc<dyn Monitor>> {
        None
    }

    /// What the model costs here.
    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost;

    /// What reads weights for this device.
    fn loader(&self) -> Arc<dyn Loader>;

    /// The device's KV memory: at least `slab_bytes` bytes a slab.
    ///
    /// # Errors
    /// [`BackendError::Memory`].
    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError>;

    /// A model's view of an arena of this back end.
    ///
    /// # Errors
    /// [`BackendError::Options`] for blocks that the device cannot use, [`BackendError::Memory`] where one block does not
    /// fit into a slab.
    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError>;

    /// Makes an executor. Deactivating is dropping it: the [`WarmModel`] and the KV stay.
    ///
    /// # Errors
    /// [`BackendError::Options`] for bounds that let nothing through, [`BackendError::Foreign`].
    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError>;
}
