//! A driver that is none, with kernels that were compiled for the host, put in place before cudarc looks for a driver.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use quarry_cuda::{CudaBackend, CudaOptions, Holding};
use quarry_model::backend::{ActivateOptions, Backend as _, BackendError, ModelFiles};
use quarry_model::executor::{Batch, ExecError, Executor, KvBlocks, Row, StepResult};
use quarry_model::ids::BlockId;
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;
use quarry_tiny::{TensorType, TinyModel};

/// Builds both libraries and loads the driver, once a process.
///
/// # Panics
/// Where there is no C++ compiler, or no CUDA headers can be had (`toolkit.sh`): these tests cannot run without.
pub fn fake_driver() -> &'static libloading::Library {
    static LOADED: OnceLock<libloading::Library> = OnceLock::new();
    LOADED.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fake-cuda");
        // Also where server/flash includes this file.
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../cuda/tests/fake-cuda.sh");
        let ended = Command::new("bash").arg(script).arg(&out).output().expect("bash is there");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        // SAFETY: no other thread reads the environment yet: tests call this first, and it runs once.
        unsafe { std::env::set_var("FAKE_CUDA_KERNELS", out.join("libkernels.so")) };
        // SAFETY: our own library; a later search for libcuda.so.1 finds the one that is loaded.
        unsafe { libloading::Library::new(out.join("libcuda.so")) }.expect("the fake driver loads")
    })
}

/// The back end over the fake driver.
pub fn backend() -> CudaBackend {
    backend_with(CudaOptions::default())
}

/// The same with other options.
pub fn backend_with(options: CudaOptions) -> CudaBackend {
    fake_driver();
    let image = Some(&b".version 7.0\n.target sm_80\n.address_size 64\n\0"[..]);
    CudaBackend::new(CudaOptions { image, ..options }).expect("the fake driver has a device")
}

/// The same, holding models so.
pub fn backend_holding(holding: Holding) -> CudaBackend {
    backend_with(CudaOptions { holding, ..CudaOptions::default() })
}

/// A tiny model on the back end, with blocks of 16 positions.
pub struct Rig {
    pub executor: Box<dyn Executor>,
    pub kv: Box<dyn KvBlocks>,
    pub block_bytes: usize,
    pub files: ModelFiles,
    pub weight_bytes: usize,
    pub vocab: usize,
    _folder: Option<tempfile::TempDir>,
}

/// KV positions of a block.
pub const BLOCK_TOKENS: usize = 16;

impl Rig {
    /// In an arena of so many blocks.
    pub fn new(model: TinyModel, kind: TensorType, blocks: usize) -> Result<Self, BackendError> {
        Self::with(Holding::default(), model, kind, blocks)
    }

    /// The same, held so.
    pub fn with(
        holding: Holding,
        model: TinyModel,
        kind: TensorType,
        blocks: usize,
    ) -> Result<Self, BackendError> {
        let folder = tempfile::tempdir().expect("a folder for the model");
        let path = folder.path().join("tiny.gguf");
        model.write(&path, kind).expect("the model is written");
        let rig = Self::open(holding, ModelFiles::open(&path).expect("the model is read"), blocks)?;
        Ok(Self { _folder: Some(folder), ..rig })
    }

    /// A model that is open.
    pub fn open(holding: Holding, files: ModelFiles, blocks: usize) -> Result<Self, BackendError> {
        let mut backend = backend_holding(holding);
        let options = ActivateOptions { block_tokens: BLOCK_TOKENS, batch_tokens_max: 64, batch_rows_max: 8 };
        let warm = backend.loader().warm(&files, &mut |_| ())?;
        let cost = backend.cost(&files.spec, &files, &options);
        let block_bytes = cost.block_bytes;
        let arena = backend.arena(block_bytes, blocks)?;
        let kv = backend.kv_blocks(&files.spec, &arena, BLOCK_TOKENS)?;
        let executor = backend.activate(&warm, &*kv, &options)?;
        assert_eq!(warm.bytes, cost.weight_bytes, "what was foretold");
        let (vocab, weight_bytes) = (files.spec.vocab, warm.bytes);
        Ok(Self { executor, kv, block_bytes, weight_bytes, files, vocab, _folder: None })
    }

    /// Logits of the last of `tokens`, which are run at the positions from `first` on.
    pub fn step(&mut self, tokens: &[u32], first: usize, blocks: &[BlockId]) -> Result<Vec<f32>, ExecError> {
        let mut out = StepResult { keep_logits: true, ..StepResult::default() };
        self.run(tokens, first, blocks, &mut out)?;
        Ok(out.logits)
    }

    /// The same; draws greedily.
    pub fn run(
        &mut self,
        tokens: &[u32],
        first: usize,
        blocks: &[BlockId],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        let wanted = [tokens.len() - 1];
        self.rows(&[Row { tokens, first_position: first, blocks, wanted: &wanted }], out)
    }

    /// Logits of what the rows want, row after row.
    pub fn batch(&mut self, rows: &[Row<'_>]) -> Result<Vec<f32>, ExecError> {
        let mut out = StepResult { keep_logits: true, ..StepResult::default() };
        self.rows(rows, &mut out)?;
        Ok(out.logits)
    }

    pub fn rows(&mut self, rows: &[Row<'_>], out: &mut StepResult) -> Result<(), ExecError> {
        let ticket = self.executor.submit(&Batch::new(rows))?;
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let draw = SampleRow::new(&params);
        let wanted: usize = rows.iter().map(|row| row.wanted.len()).sum();
        self.executor.finish(ticket, &vec![draw; wanted], out)
    }
}

/// What `fake_cuda.h` declares, of the driver that is loaded.
pub struct FakeDriver(&'static libloading::Library);

/// The first numbers of `FakeCudaCounters`, in its order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    pub launches: u64,
    pub graph_launches: u64,
    pub bytes_host_to_device: u64,
    pub bytes_device_to_host: u64,
    pub bytes_device_to_device: u64,
    rest: [u64; 8],
    kernels: u64,
    by_kernel: [[u64; 9]; 128],
}

/// What kernels loaded of an allocation, as `FakeCudaLoads`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Loads {
    pub address: u64,
    pub size: u64,
    pub bytes: u64,
}

impl FakeDriver {
    pub fn get() -> Self {
        Self(fake_driver())
    }

    fn call<F: Copy>(&self, name: &str) -> F {
        // SAFETY: `fake_cuda.h` declares these functions as the callers below write their types.
        *unsafe { self.0.get::<F>(name) }.expect("the fake driver has it")
    }

    pub fn counters(&self) -> Counters {
        let counters = self.call::<unsafe extern "C" fn(*mut Counters)>("fake_cuda_counters");
        let mut out = std::mem::MaybeUninit::uninit();
        // SAFETY: the struct has the size and order that `fake_cuda.h` gives it, and the function fills all of it.
        unsafe {
            counters(out.as_mut_ptr());
            out.assume_init()
        }
    }

    pub fn set_seed(&self, seed: u64) {
        // SAFETY: as `fake_cuda.h` declares it.
        unsafe { self.call::<unsafe extern "C" fn(u64)>("fake_cuda_set_seed")(seed) }
    }

    pub fn set_memory_bytes(&self, bytes: u64) {
        // SAFETY: as `fake_cuda.h` declares it.
        unsafe { self.call::<unsafe extern "C" fn(u64)>("fake_cuda_set_memory_bytes")(bytes) }
    }

    /// Streams wait for events no more, or do again.
    pub fn forget_waits(&self, forget: bool) {
        // SAFETY: as `fake_cuda.h` declares it.
        unsafe { self.call::<unsafe extern "C" fn(i32)>("fake_cuda_forget_waits")(i32::from(forget)) }
    }

    /// Counts from zero what kernels load of each allocation.
    pub fn watch_loads(&self) {
        // SAFETY: as `fake_cuda.h` declares it.
        let told = unsafe { self.call::<unsafe extern "C" fn(i32) -> i32>("fake_cuda_watch_loads")(1) };
        assert_ne!(told, 0, "the kernels' library tells of its loads");
    }

    /// Allocations that kernels have loaded from since.
    pub fn loads(&self) -> Vec<Loads> {
        let mut out = vec![Loads::default(); 64];
        let read = self.call::<unsafe extern "C" fn(*mut Loads, usize) -> usize>("fake_cuda_loads");
        // SAFETY: as `fake_cuda.h` declares it; it writes at most as many as there is room for.
        let count = unsafe { read(out.as_mut_ptr(), out.len()) };
        assert!(count <= out.len());
        out.truncate(count);
        out
    }

    /// The n-th launch from now on fails.
    pub fn fail_launch(&self, n: u64) {
        // SAFETY: as `fake_cuda.h` declares it.
        unsafe { self.call::<unsafe extern "C" fn(u64, i32)>("fake_cuda_fail_launch")(n, 0) }
    }
}
