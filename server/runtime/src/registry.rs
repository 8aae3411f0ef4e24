//! Models and their lives: `Cold → Loading → Active`, and back; where the device has memory of its own, `Active ⇄ Warm`.
//! The only place that knows back ends.
//!
//! A model is opened ([`crate::opening`]) at start, or when its files have come. Weights come and go within budgets of
//! bytes ([`crate::budget`]); a model's KV blocks live in the device's arena all the while, so its conversations and its
//! prefix cache outlive its weights.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use quarry_core::ids::ModelId;
use quarry_core::limits::{KV_SLABS_DEFAULT, SLAB_BYTES};
use quarry_core::plan::ModelSetup;
use quarry_model::backend::{ActivateOptions, Backend, BackendError, Loader, ModelCost, WarmModel};
use quarry_model::executor::{Executor, KvBlocks};
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::spec::DecoderSpec;

use crate::budget::{Budget, WeightBytes, kv_slabs};
use crate::drafts::StepCost;
use crate::opening::{HostError, Opened, ServedModel};
use crate::options::{EngineOptions, ModelSource};

/// Where a model's weights are.
pub enum Weights {
    /// On disk.
    Cold,
    /// On their way; permille done.
    Loading(Arc<AtomicU32>),
    /// In host memory; the device has memory of its own, where others are.
    Warm(WarmModel),
    /// In use.
    Active { warm: WarmModel, executor: Box<dyn Executor> },
    /// They could not be had; the next switch tries again.
    Failed(String),
}

/// A model that is known.
pub struct Known {
    pub served: Arc<ServedModel>,
    pub source: ModelSource,
    /// Its blocks in the device's arena.
    pub kv: Box<dyn KvBlocks>,
    pub cost: ModelCost,
    pub setup: ModelSetup,
    pub options: ActivateOptions,
    pub spec: Arc<DecoderSpec>,
    pub weights: Weights,
    /// Its weights go when its requests are answered; new ones are refused.
    pub is_unloading: bool,
    /// When it ran last.
    pub used: Instant,
    /// What its steps took so far.
    pub step_cost: StepCost,
    /// Bytes of its KV swapped out since start.
    pub swap_out_bytes: u64,
    /// Bytes swapped back in.
    pub swap_in_bytes: u64,
}

impl Known {
    /// Whether it can run.
    pub fn is_active(&self) -> bool {
        matches!(self.weights, Weights::Active { .. })
    }

    /// Whether its weights wait in host memory.
    pub fn is_warm(&self) -> bool {
        matches!(self.weights, Weights::Warm(_))
    }
}

/// Who makes room for a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// They leave the device.
    pub leave: Vec<ModelId>,
    /// Their weights leave memory altogether.
    pub forget: Vec<ModelId>,
}

/// All models of one device and the memory that they share.
pub struct Registry {
    backend: Box<dyn Backend>,
    arena: KvArena,
    /// Swapped blocks of all models.
    pub host: HostPool,
    pub budget: Budget,
    pub models: Vec<Known>,
}

impl Registry {
    /// Opens every model of the options; no weights are read yet.
    pub fn open(mut backend: Box<dyn Backend>, options: &EngineOptions) -> Result<Self, HostError> {
        if options.models.is_empty() {
            return Err(HostError::NoModel);
        }
        let opened = options.models.iter().map(Opened::read).collect::<Result<Vec<_>, _>>()?;
        let costs: Vec<ModelCost> = opened.iter().map(|model| model.cost(&*backend, options)).collect();
        let device_bytes_max = backend.own_memory_bytes();
        let slabs = match (options.kv_bytes, device_bytes_max) {
            (Some(bytes), _) => bytes.div_ceil(SLAB_BYTES),
            (None, Some(bytes_max)) => {
                let all = [&costs[..], &options.awaited_costs].concat();
                kv_slabs(bytes_max, &all) as usize
            }
            (None, None) => KV_SLABS_DEFAULT as usize,
        };
        let budget = Budget {
            bytes_max: options.memory_bytes,
            device_bytes_max,
            kv_bytes: (slabs * SLAB_BYTES) as u64,
            host_pool_bytes: options.swap_space_bytes as u64,
            scratch_bytes: costs[0].scratch_bytes as u64,
        };
        // Said in the budget's words before the device is asked for memory that it cannot give.
        let first = costs[0].weight_bytes as u64;
        budget.fits_device(0, first).map_err(|what| {
            let path = options.models[0].path.clone();
            HostError::TooLarge { path, what }
        })?;
        let bytes = slabs * SLAB_BYTES;
        let arena = backend.arena(SLAB_BYTES, slabs).map_err(|source| HostError::Arena { bytes, source })?;
        let bytes = options.swap_space_bytes;
        let host =
            HostPool::new(bytes).map_err(|error| HostError::HostPool { bytes, what: error.to_string() })?;
        let mut registry = Self { backend, arena, host, budget, models: Vec::new() };
        for model in opened {
            registry.add(model, options)?;
        }
        Ok(registry)
    }

    /// Slabs of the device's KV memory.
    pub fn kv_slabs(&self) -> u32 {
        u32::try_from(self.arena.slabs()).unwrap_or(u32::MAX)
    }

    /// Takes in a model whose files are opened; its weights are still on disk.
    pub fn add(&mut self, opened: Opened, options: &EngineOptions) -> Result<ModelId, HostError> {
        let id = ModelId(u32::try_from(self.models.len()).unwrap_or(u32::MAX));
        let path = opened.source.path.clone();
        let known = opened.known(&mut *self.backend, &self.arena, id, options)?;
        let scratch_bytes = self.budget.scratch_bytes.max(known.cost.scratch_bytes as u64);
        let budget = Budget { scratch_bytes, ..self.budget };
        let held = self.weight_bytes().device;
        if held > 0 && !budget.holds(held) {
            let what = format!(
                "its steps need {scratch_bytes} bytes of scratch, too many beside the loaded weights"
            );
            return Err(HostError::TooLarge { path, what });
        }
        self.budget = budget;
        self.models.push(known);
        Ok(id)
    }

    /// Loads the first model, and of the others in their order those that still fit.
    pub fn load_first(&mut self, progress: &mut dyn FnMut(&str, f32)) -> Result<(), HostError> {
        for index in 0..self.models.len() {
            let known = &self.models[index];
            let (name, path) = (known.served.name.clone(), known.source.path.clone());
            let needed = known.served.weight_bytes;
            let held = self.weight_bytes();
            let fits = self.budget.fits(held, needed, false);
            let stays_warm = fits.is_err() && self.budget.keeps_warm();
            match fits {
                Err(what) if index == 0 => return Err(HostError::TooLarge { path, what }),
                Err(what) if !stays_warm || self.budget.fits_host(held.host, needed).is_err() => {
                    tracing::info!(model = %name, %what, "model stays cold until it is asked for");
                    continue;
                }
                _ => {}
            }
            let begun = Instant::now();
            let warm =
                read_weights(&known.source, &*self.backend.loader(), &mut |share| progress(&name, share))
                    .map_err(|what| HostError::Load { path: path.clone(), what })?;
            let packing_seconds = begun.elapsed().as_secs_f32();
            if stays_warm {
                self.models[index].weights = Weights::Warm(warm);
            } else {
                self.activate(index, warm).map_err(|source| HostError::Backend { path, source })?;
            }
            tracing::info!(model = %name, packing_seconds, stays_warm, "weights packed");
        }
        self.budget.log(self.weight_bytes());
        Ok(())
    }

    /// Bytes of weights that are loaded or on their way.
    pub fn weight_bytes(&self) -> WeightBytes {
        let mut bytes = WeightBytes::default();
        for known in &self.models {
            let (is_on_device, is_on_host) = match known.weights {
                Weights::Active { .. } | Weights::Loading(_) => (true, true),
                Weights::Warm(_) => (false, true),
                Weights::Cold | Weights::Failed(_) => (false, false),
            };
            bytes.device += if is_on_device { known.served.weight_bytes } else { 0 };
            bytes.host += if is_on_host && self.budget.keeps_warm() { known.served.weight_bytes } else { 0 };
        }
        bytes
    }

    /// What has to go so that a model can run: from the device those that ran longest ago; from host memory, where the
    /// device has its own, those that are warm.
    pub fn room_for(&self, model: ModelId) -> Result<Room, String> {
        let target = self.models.get(model.0 as usize).ok_or("no such model")?;
        let needed = target.served.weight_bytes;
        let mut held = self.weight_bytes();
        let mut room = Room::default();
        for known in self.longest_idle(Known::is_active) {
            if self.budget.fits_device(held.device, needed).is_ok() {
                break;
            }
            held.device -= known.served.weight_bytes;
            room.leave.push(known.served.id);
        }
        self.budget.fits_device(held.device, needed)?;
        let needed = if target.is_warm() { 0 } else { needed };
        let leaves = |known: &Known| room.leave.contains(&known.served.id);
        let is_warm = |known: &Known| (known.is_warm() || leaves(known)) && known.served.id != model;
        for known in self.longest_idle(is_warm) {
            if self.budget.fits_host(held.host, needed).is_ok() {
                break;
            }
            held.host -= known.served.weight_bytes;
            room.forget.push(known.served.id);
        }
        self.budget.fits_host(held.host, needed).map(|()| room)
    }

    fn longest_idle(&self, filter: impl Fn(&Known) -> bool) -> Vec<&Known> {
        let mut found: Vec<&Known> = self.models.iter().filter(|known| filter(known)).collect();
        found.sort_by_key(|known| known.used);
        found
    }

    /// A model leaves the device; its weights stay warm where the device has memory of its own.
    pub fn leave_device(&mut self, model: ModelId) {
        let keeps_warm = self.budget.keeps_warm();
        let Some(known) = self.get_mut(model) else { return };
        known.weights = match std::mem::replace(&mut known.weights, Weights::Cold) {
            Weights::Active { warm, .. } if keeps_warm => Weights::Warm(warm),
            _ => Weights::Cold,
        };
    }

    /// A model's weights leave memory.
    pub fn forget_weights(&mut self, model: ModelId) {
        if let Some(known) = self.get_mut(model) {
            known.weights = Weights::Cold;
            known.is_unloading = false;
        }
    }

    /// The weights of a model that is warm.
    pub fn take_warm(&mut self, model: ModelId) -> Option<WarmModel> {
        let known = self.get_mut(model)?;
        match std::mem::replace(&mut known.weights, Weights::Cold) {
            Weights::Warm(warm) => Some(warm),
            other => {
                known.weights = other;
                None
            }
        }
    }

    /// Whether weights are on their way.
    pub fn is_loading(&self) -> bool {
        self.models.iter().any(|known| matches!(known.weights, Weights::Loading(_)))
    }

    /// The model of an id that this registry gave out.
    pub fn get_mut(&mut self, id: ModelId) -> Option<&mut Known> {
        self.models.get_mut(id.0 as usize)
    }

    /// Reads a model's weights on a thread of its own; `done` is called there.
    pub fn load(
        &mut self,
        id: ModelId,
        done: impl FnOnce(ModelId, Result<WarmModel, String>) + Send + 'static,
    ) -> Result<(), String> {
        let loader = self.backend.loader();
        let known = self.models.get_mut(id.0 as usize).ok_or("no such model")?;
        let share = Arc::new(AtomicU32::new(0));
        known.weights = Weights::Loading(share.clone());
        let source = known.source.clone();
        let work = move || {
            let mut progress = |done: f32| share.store((done * 1000.0) as u32, Ordering::Relaxed);
            let read = || read_weights(&source, &*loader, &mut progress);
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            done(id, read.unwrap_or_else(|_| Err("reading the weights panicked".into())));
        };
        let spawned = std::thread::Builder::new().name("loader".into()).spawn(work);
        spawned.map(drop).map_err(|error| format!("no thread to load it: {error}"))
    }

    /// Makes the executor of a model whose weights are there.
    pub fn activate(&mut self, index: usize, warm: WarmModel) -> Result<(), BackendError> {
        let Self { backend, models, .. } = self;
        let Some(known) = models.get_mut(index) else { return Err(BackendError::Foreign) };
        let executor = backend.activate(&warm, &*known.kv, &known.options)?;
        let served = &known.served;
        tracing::info!(
            model = %served.name,
            architecture = %served.architecture,
            quantization = %served.quantization,
            weight_bytes = warm.bytes,
            scratch_bytes_max = known.cost.scratch_bytes,
            context_tokens = served.context_tokens_max,
            isa = %executor.caps().isa,
            "model active"
        );
        known.weights = Weights::Active { warm, executor };
        known.used = Instant::now();
        Ok(())
    }

    /// Drops every executor and makes new ones from the warm weights, after a fault left them in doubt.
    pub fn reactivate(&mut self) -> Result<(), BackendError> {
        for index in 0..self.models.len() {
            let weights = std::mem::replace(&mut self.models[index].weights, Weights::Cold);
            match weights {
                Weights::Active { warm, executor } => {
                    drop(executor);
                    self.activate(index, warm)?;
                }
                other => self.models[index].weights = other,
            }
        }
        // What swaps in flight still do must reach nobody.
        for known in &mut self.models {
            known.kv = self.backend.kv_blocks(&known.spec, &self.arena, known.options.block_tokens)?;
        }
        Ok(())
    }
}

fn read_weights(
    source: &ModelSource,
    loader: &dyn Loader,
    progress: &mut dyn FnMut(f32),
) -> Result<WarmModel, String> {
    let files = source.open().map_err(|error| error.to_string())?;
    loader.warm(&files, progress).map_err(|error| error.to_string())
}
