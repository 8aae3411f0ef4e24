//! An engine whose every step panics: its requests get 500, then serving ends with an error, with which `quarry serve`
//! ends with a non-zero status.

mod support;

use std::sync::Arc;
use std::time::Duration;

use quarry_core::sampler::SampleRow;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_http::{AppState, Limits, Metrics, ServeError, serve};
use quarry_model::backend::{
    ActivateOptions, Backend, BackendError, Loader, ModelCost, ModelFiles, WarmModel,
};
use quarry_model::executor::{Batch, BlockCopy, Caps, ExecError, Executor, KvBlocks, StepResult, StepTicket};
use quarry_model::kv::KvArena;
use quarry_model::spec::DecoderSpec;
use quarry_runtime::{Engine, EngineOptions, ModelSource};
use serde_json::json;
use support::{MODEL, chat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The CPU back end, whose executors can do nothing.
struct BrokenBackend(CpuBackend);

impl Backend for BrokenBackend {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn own_memory_bytes(&self) -> Option<u64> {
        self.0.own_memory_bytes()
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        self.0.cost(spec, files, options)
    }

    fn loader(&self) -> Arc<dyn Loader> {
        self.0.loader()
    }

    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError> {
        self.0.arena(slab_bytes, slabs)
    }

    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError> {
        self.0.kv_blocks(spec, arena, block_tokens)
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        Ok(Box::new(BrokenExecutor(self.0.activate(model, kv, options)?)))
    }
}

struct BrokenExecutor(Box<dyn Executor>);

impl Executor for BrokenExecutor {
    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn submit(&mut self, _: &Batch<'_>) -> Result<StepTicket, ExecError> {
        panic!("this executor is broken");
    }

    fn finish(&mut self, _: StepTicket, _: &[SampleRow<'_>], _: &mut StepResult) -> Result<(), ExecError> {
        Err(ExecError::Device("nothing was submitted".into()))
    }

    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError> {
        self.0.copy_blocks(moves)
    }
}

fn start(metrics: Arc<Metrics>) -> Engine {
    let path = quarry_models::testing::model_path("smollm2-135m-instruct-q4_1");
    let source = ModelSource { name: MODEL.into(), aliases: Vec::new(), path, yarn: None };
    let options =
        EngineOptions { kv_bytes: Some(128 << 20), restarts_max: 1, ..EngineOptions::new(vec![source]) };
    let backend = CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap();
    Engine::start(Box::new(BrokenBackend(backend)), options, metrics, &mut |_, _| {}).unwrap()
}

async fn ask(socket: &mut TcpStream) -> String {
    let body = chat("hi", json!({})).to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_gives_up_ends_serving_with_an_error() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let observer = metrics.clone();
    let engine = tokio::task::spawn_blocking(move || start(observer)).await.unwrap();
    let state = AppState::new(metrics, Limits::default()).unwrap();
    state.set_engine(engine.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, state, std::future::pending()));
    // The first panic is survived, the second is not; both requests hear of it.
    for _ in 0..2 {
        while !engine.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = ask(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(text.starts_with("HTTP/1.0 500") && text.contains("a fault in the engine"), "{text}");
        // A panic's own text is for the log: it may hold what others asked.
        assert!(!text.contains("this executor is broken"), "{text}");
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), serving).await.expect("serving does not end");
    assert!(matches!(ended.unwrap(), Err(ServeError::EngineDead)));
    assert!(TcpStream::connect(address).await.is_err());
}
