//! Models that come and go: one budget, one arena, conversations that go on.

use std::sync::atomic::Ordering;

use quarry_runtime::{
    Engine, EngineOptions, Generate, GenerateError, GenerationEvent, ModelSource, ModelState, SubmitError,
    WeightBytes,
};
use quarry_tiny::{TensorType, TinyModel};

use crate::support::*;

/// Files of two tiny models.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        TinyModel::qwen3().write(&folder.path().join("one.gguf"), TensorType::F32).unwrap();
        TinyModel::llama().write(&folder.path().join("two.gguf"), TensorType::F32).unwrap();
        Self { folder }
    }

    /// Options of both; their blocks share one slab, so that only one of them has room at a time.
    fn options(&self) -> EngineOptions {
        let source = |name: &str| ModelSource {
            name: name.into(),
            aliases: Vec::new(),
            path: self.folder.path().join(format!("{name}.gguf")),
            yarn: None,
        };
        let mut options = EngineOptions {
            kv_bytes: Some(64 << 20),
            ..EngineOptions::new(vec![source("one"), source("two")])
        };
        options.scheduler.switch_wait_us = 20_000;
        options
    }

    /// The same with memory for the weights of one, and for the KV of both.
    fn tight(&self) -> EngineOptions {
        let options = EngineOptions { kv_bytes: Some(128 << 20), ..self.options() };
        let engine = start(Box::new(backend()), options.clone());
        let weights = engine.models().iter().map(|model| model.weight_bytes).max().unwrap();
        let budget = engine.snapshot().budget;
        let memory = budget.kv_bytes + budget.host_pool_bytes + budget.scratch_bytes + weights;
        EngineOptions { memory_bytes: Some(memory), ..options }
    }
}

fn asked(engine: &Engine, model: usize, n: u32, tokens: u32) -> Generate {
    let prompt = (0..40 + 30 * n).map(|i| 10 + (i * 7 + n) % 180).collect();
    Generate { model: engine.models()[model].clone(), ..generate(engine, prompt, tokens) }
}

fn states(engine: &Engine) -> Vec<&'static str> {
    engine.models().iter().map(|model| engine.model_state(model).name()).collect()
}

/// What each of these (model, n) gets alone.
async fn alone(files: &Files, all_asked: &[(usize, u32)]) -> Vec<String> {
    let engine = start(Box::new(backend()), files.options());
    let mut answers = Vec::new();
    for &(model, n) in all_asked {
        let mut generation = submit_to(&engine, asked(&engine, model, n, 60)).unwrap();
        answers.push(all(&mut generation).await.unwrap().0);
    }
    answers
}

const CROWD: [(usize, u32); 10] =
    [(0, 1), (1, 1), (0, 2), (1, 2), (1, 3), (0, 3), (0, 4), (1, 4), (0, 5), (1, 5)];

async fn crowd_answers_as_alone(engine: &Engine, files: &Files) {
    let mut together: Vec<_> =
        CROWD.iter().map(|&(model, n)| submit_to(engine, asked(engine, model, n, 60)).unwrap()).collect();
    let expected = alone(files, &CROWD).await;
    for ((generation, expected), which) in together.iter_mut().zip(expected).zip(CROWD) {
        assert_eq!(all(generation).await.unwrap().0, expected, "{which:?}");
    }
    until("idle", || engine.snapshot().sum(|m| m.running + m.swapped + m.suspended) == 0).await;
    until("the host pool holds prefixes alone", || {
        let now = engine.snapshot();
        now.host_pool_bytes == now.host_pool_cached_bytes
    })
    .await;
}

#[tokio::test]
async fn models_that_share_one_slab_answer_what_each_answers_alone() {
    let files = Files::new();
    let engine = start(Box::new(backend()), files.options());
    assert_eq!(states(&engine), ["active", "active"]);
    crowd_answers_as_alone(&engine, &files).await;
    let now = engine.snapshot();
    assert!(now.sum(|m| m.swap_out_bytes) > 0, "{now:?}");
}

#[tokio::test]
async fn swaps_that_end_late_in_another_order_or_not_change_no_answer() {
    let files = Files::new();
    let (backend, faults) = faulty_backend();
    faults.swaps_late.store(3, Ordering::Relaxed);
    let engine = start(Box::new(backend), files.options());
    crowd_answers_as_alone(&engine, &files).await;
    assert!(engine.snapshot().sum(|m| m.swap_out_bytes) > 0);
}

#[tokio::test]
async fn weights_take_turns_in_a_budget_for_one_and_conversations_go_on() {
    let files = Files::new();
    let engine = start(Box::new(backend()), files.tight());
    assert_eq!(states(&engine), ["active", "cold"]);
    // Both ways while answers run, again and again.
    crowd_answers_as_alone(&engine, &files).await;
    let last = submit_to(&engine, asked(&engine, 1, 1, 5));
    all(&mut last.unwrap()).await.unwrap();
    assert_eq!(states(&engine), ["cold", "active"]);
    // Its prefix cache outlived its weights.
    let mut again = submit_to(&engine, asked(&engine, 0, 5, 5)).unwrap();
    loop {
        match again.next().await.unwrap() {
            GenerationEvent::Finished { usage, .. } => break assert!(usage.cached_tokens > 0, "{usage:?}"),
            GenerationEvent::Failed(error) => panic!("{error}"),
            GenerationEvent::Text { .. } => {}
        }
    }
}

#[tokio::test]
async fn a_switch_that_fails_rolls_back() {
    let files = Files::new();
    let (backend, faults) = faulty_backend();
    let engine = start(Box::new(backend), files.tight());
    let mut before = submit_to(&engine, asked(&engine, 0, 1, 60)).unwrap();
    let expected = all(&mut before).await.unwrap();
    faults.loads_fail.store(true, Ordering::Relaxed);
    let error = all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, GenerateError::ModelFailed(what) if what.contains("told not to load")),
        "{error}"
    );
    faults.loads_fail.store(false, Ordering::Relaxed);
    // The first one came back, or does with its next request.
    let mut after = submit_to(&engine, asked(&engine, 0, 1, 60)).unwrap();
    assert_eq!(all(&mut after).await.unwrap(), expected);
    // And the other is tried again.
    all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn load_and_unload_by_hand() {
    let files = Files::new();
    let engine = start(Box::new(backend()), files.tight());
    let models = engine.models();
    engine.load(&models[1]).unwrap();
    until("switched", || states(&engine) == ["cold", "active"]).await;
    let mut running = submit_to(&engine, asked(&engine, 1, 1, 300)).unwrap();
    assert!(matches!(running.next().await, Some(GenerationEvent::Text { .. })));
    engine.unload(&models[1]);
    until("unloading", || states(&engine)[1] == "unloading").await;
    let refused = submit_to(&engine, asked(&engine, 1, 2, 5));
    assert!(matches!(refused, Err(SubmitError::Unloading)));
    all(&mut running).await.unwrap();
    until("unloaded", || states(&engine) == ["cold", "cold"]).await;
    assert_eq!(engine.snapshot().weights, WeightBytes::default());
    all(&mut submit_to(&engine, asked(&engine, 1, 2, 5)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_load_outlives_the_engine_that_asked_for_it() {
    let files = Files::new();
    let (backend, faults) = faulty_backend();
    let engine = start(Box::new(backend), files.options());
    let models = engine.models();
    engine.unload(&models[1]);
    until("unloaded", || states(&engine) == ["active", "cold"]).await;
    faults.loads_wait.store(true, Ordering::Relaxed);
    let loads = faults.loads.load(Ordering::Relaxed);
    engine.load(&models[1]).unwrap();
    until("loading", || faults.loads.load(Ordering::Relaxed) == loads + 1).await;
    faults.set(Fault::Panic);
    all(&mut submit_to(&engine, asked(&engine, 0, 1, 5)).unwrap()).await.unwrap_err();
    until("ready again", || engine.is_ready()).await;
    faults.loads_wait.store(false, Ordering::Relaxed);
    until("loaded", || states(&engine) == ["active", "active"]).await;
    all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap();
    assert_eq!(faults.loads.load(Ordering::Relaxed), loads + 1, "what was read is used");
}

#[tokio::test]
async fn what_cannot_fit_is_refused_before_anything_is_touched() {
    let files = Files::new();
    let mut options = files.tight();
    options.models.reverse(); // the smaller one first
    let memory_bytes = options.memory_bytes.map(|bytes| bytes - 1);
    let engine = start(Box::new(backend()), EngineOptions { memory_bytes, ..options });
    let models = engine.models();
    assert!(models[0].weight_bytes < models[1].weight_bytes);
    let error = engine.load(&models[1]).unwrap_err();
    assert!(error.contains("are left of the memory"), "{error}");
    let failed = all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap_err();
    assert!(matches!(failed, GenerateError::ModelFailed(_)), "{failed}");
    assert!(matches!(engine.model_state(&models[1]), ModelState::Failed(_)));
    assert_eq!(states(&engine)[0], "active");
    all(&mut submit_to(&engine, asked(&engine, 0, 1, 5)).unwrap()).await.unwrap();
}

/// Options and a device with memory of its own for the weights of either model, and host memory for the weights of
/// `warm` of them.
fn own_memory(files: &Files, warm: usize) -> (FaultyBackend, Faults, EngineOptions) {
    let options = EngineOptions { kv_bytes: Some(128 << 20), ..files.options() };
    let engine = start(Box::new(backend()), options.clone());
    let mut weights: Vec<u64> = engine.models().iter().map(|model| model.weight_bytes).collect();
    weights.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
    let budget = engine.snapshot().budget;
    let (mut backend, faults) = faulty_backend();
    backend.own_memory_bytes = Some(budget.kv_bytes + budget.scratch_bytes + weights[0]);
    let host = budget.host_pool_bytes + weights[..warm].iter().sum::<u64>();
    (backend, faults, EngineOptions { memory_bytes: Some(host), ..options })
}

/// Nobody says how large the KV cache is: on a device with memory of its own it is what weights and scratch leave.
#[tokio::test]
async fn kv_memory_is_what_the_device_has_left() {
    let files = Files::new();
    let engine = start(Box::new(backend()), files.options());
    let scratch = engine.snapshot().budget.scratch_bytes;
    let weights: u64 = engine.models().iter().map(|model| model.weight_bytes).sum();
    let (slab, gib) = (64 << 20, 1u64 << 30);
    for own_memory_bytes in [3 * gib, gib] {
        let (mut backend, _) = faulty_backend();
        backend.own_memory_bytes = Some(own_memory_bytes);
        let options = EngineOptions { kv_bytes: None, ..files.options() };
        let engine = start(Box::new(backend), options);
        let budget = engine.snapshot().budget;
        assert!(budget.kv_bytes + scratch + weights <= own_memory_bytes + slab, "{budget:?}");
        assert!(budget.kv_bytes + scratch + weights > own_memory_bytes - slab, "{budget:?}");
        all(&mut submit_to(&engine, asked(&engine, 0, 1, 5)).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn weights_stay_warm_where_the_device_has_memory_of_its_own() {
    let files = Files::new();
    let (backend, faults, options) = own_memory(&files, 2);
    let engine = start(Box::new(backend), options);
    assert_eq!(states(&engine), ["active", "warm"]);
    let loads = || faults.loads.load(Ordering::Relaxed);
    assert_eq!(loads(), 2);
    crowd_answers_as_alone(&engine, &files).await;
    assert!(faults.activations.load(Ordering::Relaxed) > 2, "they took turns");
    assert_eq!(loads(), 2, "nothing was read twice");
    let models = engine.models();
    let now = engine.snapshot().weights;
    assert_eq!(now.host, models[0].weight_bytes + models[1].weight_bytes);
    assert!(models.iter().any(|model| model.weight_bytes == now.device), "one of them is on the device");
    // Gone by hand is gone from memory, whichever of them is warm.
    models.iter().for_each(|model| engine.unload(model));
    until("unloaded", || states(&engine) == ["cold", "cold"]).await;
    assert_eq!(engine.snapshot().weights, WeightBytes::default());
    all(&mut submit_to(&engine, asked(&engine, 1, 2, 5)).unwrap()).await.unwrap();
    assert_eq!(loads(), 3);
}

#[tokio::test]
async fn warm_weights_make_room_in_host_memory() {
    let files = Files::new();
    let (backend, faults, options) = own_memory(&files, 1);
    let engine = start(Box::new(backend), options);
    assert_eq!(states(&engine), ["active", "cold"]);
    for (model, expected) in [(1, ["cold", "active"]), (0, ["active", "cold"])] {
        all(&mut submit_to(&engine, asked(&engine, model, 1, 5)).unwrap()).await.unwrap();
        assert_eq!(states(&engine), expected);
    }
    assert_eq!(faults.loads.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_switch_from_warm_weights_that_fails_rolls_back() {
    let files = Files::new();
    let (backend, faults, options) = own_memory(&files, 2);
    let engine = start(Box::new(backend), options);
    let mut before = submit_to(&engine, asked(&engine, 0, 1, 60)).unwrap();
    let expected = all(&mut before).await.unwrap();
    faults.activations_fail.store(1, Ordering::Relaxed);
    let error = all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap_err();
    assert!(matches!(&error, GenerateError::ModelFailed(what) if what.contains("told not to")), "{error}");
    until("the first one is back", || states(&engine) == ["active", "failed"]).await;
    assert_eq!(faults.loads.load(Ordering::Relaxed), 2, "its weights were warm");
    assert_eq!(all(&mut submit_to(&engine, asked(&engine, 0, 1, 60)).unwrap()).await.unwrap(), expected);
    all(&mut submit_to(&engine, asked(&engine, 1, 1, 5)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_model_whose_files_come_later_is_served_from_then_on() {
    let files = Files::new();
    let mut options = files.options();
    let late = options.models.pop().unwrap();
    let engine = start(Box::new(backend()), options);
    let arrival = engine.expect(late.name.clone(), vec!["second".into()]);
    arrival.progress(0.25);
    let awaited = engine.awaited();
    assert_eq!(awaited[0].state, ModelState::Absent { share: 0.25 });
    assert!(awaited[0].is_called("second") && engine.model("two").is_none());
    // Files that are no model stay awaited, for another try.
    let broken = ModelSource { path: files.folder.path().join("broken.gguf"), ..late.clone() };
    std::fs::write(&broken.path, "GGUF").unwrap();
    let error = arrival.arrived(&broken).unwrap_err();
    arrival.failed(error.to_string());
    assert!(matches!(&engine.awaited()[0].state, ModelState::Failed(why) if why.contains("broken.gguf")));
    let running = submit_to(&engine, asked(&engine, 0, 1, 300)).unwrap();
    arrival.arrived(&late).unwrap();
    until("it is served", || engine.model("two").is_some()).await;
    assert_eq!(engine.awaited(), []);
    until("it is loaded, for it fits", || states(&engine) == ["active", "active"]).await;
    drop(running);
    crowd_answers_as_alone(&engine, &files).await;
}

#[tokio::test]
async fn a_model_that_comes_and_does_not_fit_waits_for_its_turn() {
    let files = Files::new();
    let mut options = files.tight();
    let late = options.models.pop().unwrap();
    let engine = start(Box::new(backend()), options);
    engine.expect(late.name.clone(), Vec::new()).arrived(&late).unwrap();
    until("it is served", || engine.model("two").is_some()).await;
    assert_eq!(states(&engine), ["active", "cold"]);
    crowd_answers_as_alone(&engine, &files).await;
}
