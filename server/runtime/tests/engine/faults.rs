//! The engine around executors that fail, and around a KV cache that is too small.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quarry_runtime::request::SamplingParams;
use quarry_runtime::text::constraint::ConstraintSpec;
use quarry_runtime::text::tokenizer::Specials;
use quarry_runtime::{
    EngineOptions, FinishReason, Generate, GenerateError, Generation, GenerationEvent, ModelSource, Observer,
    RequestStats, StepStats, SubmitError, SwitchStats,
};
use quarry_tiny::{TensorType, TinyModel};

use crate::support::*;

#[tokio::test]
async fn a_panic_answers_what_was_in_flight_and_the_engine_goes_on() {
    let (engine, faults, _folder) = faulty();
    let before = all(&mut submit(&engine, 20)).await.unwrap();
    let mut in_flight = [submit(&engine, 4000), submit(&engine, 4000)];
    for generation in &mut in_flight {
        assert!(matches!(generation.next().await, Some(GenerationEvent::Text { .. })));
    }
    faults.set(Fault::Panic);
    for generation in &mut in_flight {
        let error = all(generation).await.unwrap_err();
        assert!(
            matches!(&error, GenerateError::Engine(why) if why.contains("starts anew") && !why.contains("told to")),
            "{error}"
        );
        assert!(generation.next().await.is_none());
    }
    until("ready again", || engine.is_ready()).await;
    assert_eq!(faults.activations.load(Ordering::Relaxed), 2);
    assert_eq!(all(&mut submit(&engine, 20)).await.unwrap(), before);
    let now = engine.snapshot();
    assert_eq!((now.restarts, now.healthy, engine.is_dead()), (1, true, false));
}

#[tokio::test]
async fn after_repeated_panics_the_engine_gives_up() {
    let (engine, faults, _folder) = faulty();
    faults.set(Fault::PanicAlways);
    let mut failures = 0;
    while !engine.is_dead() {
        match submit_to(&engine, generate(&engine, vec![1, 2, 3], 5)) {
            Ok(mut generation) => {
                all(&mut generation).await.unwrap_err();
                failures += 1;
            }
            Err(SubmitError::NotReady) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
    let restarts_max = EngineOptions::new(Vec::new()).restarts_max;
    assert!(failures >= restarts_max, "{failures} failures");
    assert!(matches!(submit_to(&engine, generate(&engine, vec![1], 1)), Err(SubmitError::NotReady)));
    until("unhealthy", || !engine.snapshot().healthy).await;
    engine.drain(Duration::from_secs(60)).await; // nothing to wait for
}

#[tokio::test]
async fn a_failed_step_fails_its_requests_alone() {
    let (engine, faults, _folder) = faulty();
    let before = all(&mut submit(&engine, 20)).await.unwrap();
    faults.set(Fault::Error);
    all(&mut submit(&engine, 20)).await.unwrap_err();
    assert_eq!(all(&mut submit(&engine, 20)).await.unwrap(), before);
    assert_eq!((engine.snapshot().restarts, faults.activations.load(Ordering::Relaxed)), (0, 1));
}

#[tokio::test]
async fn a_broken_device_starts_anew_from_warm_weights() {
    let (engine, faults, _folder) = faulty();
    let before = all(&mut submit(&engine, 20)).await.unwrap();
    faults.set(Fault::Device);
    all(&mut submit(&engine, 20)).await.unwrap_err();
    until("ready again", || engine.is_ready()).await;
    assert_eq!(all(&mut submit(&engine, 20)).await.unwrap(), before);
    assert_eq!((engine.snapshot().restarts, faults.activations.load(Ordering::Relaxed)), (1, 2));
}

#[tokio::test]
async fn draining_answers_everything_that_was_accepted() {
    for pause in [0, 5] {
        let (engine, _, _folder) = faulty();
        let mut accepted: Vec<Generation> = (0..8).map(|_| submit(&engine, 50)).collect();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let draining = {
            let engine = engine.clone();
            tokio::spawn(async move { engine.drain(Duration::from_secs(60)).await })
        };
        for generation in &mut accepted {
            assert_eq!(all(generation).await.unwrap().1, FinishReason::Length);
        }
        draining.await.unwrap();
        assert!(matches!(submit_to(&engine, generate(&engine, vec![1], 1)), Err(SubmitError::ShuttingDown)));
        assert!(!engine.is_ready() && !engine.is_dead());
    }
}

#[tokio::test]
async fn past_the_bound_draining_ends_what_runs() {
    let (engine, _, _folder) = faulty();
    let mut running = submit(&engine, 4000);
    assert!(matches!(running.next().await, Some(GenerationEvent::Text { .. })));
    engine.drain(Duration::ZERO).await;
    // The thread has been joined: what it had to say is there.
    let ended = tokio::time::timeout(Duration::from_millis(1), all(&mut running)).await.expect("an end");
    assert!(!matches!(ended, Ok((_, FinishReason::Length | FinishReason::Stop))));
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_it_is_queued() {
    let (engine, _, _folder) = faulty();
    let model = engine.model("small").unwrap();
    assert_eq!(model.name, "tiny");
    let long = vec![1; model.prompt_tokens_max as usize + 1];
    let refused = submit_to(&engine, generate(&engine, long, 1));
    assert!(matches!(refused, Err(SubmitError::PromptTooLong { .. })));
    assert!(matches!(submit_to(&engine, generate(&engine, Vec::new(), 1)), Err(SubmitError::Invalid(_))));
    let longest = vec![1; model.prompt_tokens_max as usize];
    let mut generation = submit_to(&engine, generate(&engine, longest, 100)).unwrap();
    assert_eq!(all(&mut generation).await.unwrap().1, FinishReason::Length);
}

/// Eight conversations that together need more KV than there is: some are swapped out and come back, or are
/// recomputed, and none says anything else than it does alone.
async fn crowded(swap_space_bytes: usize) -> quarry_runtime::Snapshot {
    /// Half as long again as what all together have room for.
    const OUTPUT: u32 = 150;
    let path = quarry_models::testing::model_path("smollm2-135m-instruct-q4_1");
    let source = ModelSource { name: "small".into(), aliases: Vec::new(), path, yarn: None };
    let options =
        EngineOptions { kv_bytes: Some(64 << 20), swap_space_bytes, ..EngineOptions::new(vec![source]) };
    let engine = start(Box::new(backend()), options);
    let prompt = |n: u32| (0..340).map(|i| 1000 + n * 7 + i * 13 % 997).collect::<Vec<u32>>();
    let mut together: Vec<Generation> =
        (0..8).map(|n| submit_to(&engine, generate(&engine, prompt(n), OUTPUT)).unwrap()).collect();
    let mut answers = Vec::new();
    for generation in &mut together {
        answers.push(all(generation).await.unwrap());
    }
    let crowd = engine.snapshot();
    // The first, and some of those that had to leave.
    for (n, answer) in answers.into_iter().enumerate().filter(|(n, _)| [0, 5, 7].contains(n)) {
        let mut alone = submit_to(&engine, generate(&engine, prompt(n as u32), OUTPUT)).unwrap();
        assert_eq!(all(&mut alone).await.unwrap(), answer, "conversation {n}");
    }
    until("idle", || engine.snapshot().sum(|m| m.running + m.swapped) == 0).await;
    until("the host pool holds prefixes alone", || {
        let now = engine.snapshot();
        now.host_pool_bytes == now.host_pool_cached_bytes
    })
    .await;
    crowd
}

#[tokio::test]
async fn swapping_changes_no_answer() {
    let crowd = crowded(1 << 30).await;
    assert!(crowd.sum(|m| m.preemptions) > 0 && crowd.sum(|m| m.swap_out_bytes) > 0, "{crowd:?}");
    // What the prefix cache still holds comes back without a copy.
    let (came, left) = (crowd.sum(|m| m.swap_in_bytes), crowd.sum(|m| m.swap_out_bytes));
    assert!(0 < came && came <= left, "{crowd:?}");
}

#[tokio::test]
async fn recomputing_changes_no_answer() {
    let crowd = crowded(0).await;
    assert!(crowd.sum(|m| m.preemptions) > 0 && crowd.sum(|m| m.swap_out_bytes) == 0, "{crowd:?}");
}

/// Two models and a crowd for each, long prompts among them: all are answered, and with what they get alone.
#[tokio::test]
async fn two_models_answer_at_once_what_each_answers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let source = |name: &str, model: TinyModel| {
        let path = folder.path().join(format!("{name}.gguf"));
        model.write(&path, TensorType::F32).unwrap();
        ModelSource { name: name.into(), aliases: Vec::new(), path, yarn: None }
    };
    let sources = vec![source("one", TinyModel::qwen3()), source("two", TinyModel::llama())];
    let engine = start(
        Box::new(backend()),
        EngineOptions { kv_bytes: Some(128 << 20), ..EngineOptions::new(sources) },
    );
    let asked = |n: usize| Generate {
        model: engine.models()[n % 2].clone(),
        ..generate(&engine, (10..30 + 40 * n as u32).map(|token| token % 200).collect(), 40)
    };
    let mut together: Vec<Generation> = (0..12).map(|n| submit_to(&engine, asked(n)).unwrap()).collect();
    let mut answers = Vec::new();
    for generation in &mut together {
        answers.push(all(generation).await.unwrap());
    }
    for (n, answer) in answers.into_iter().enumerate() {
        let mut alone = submit_to(&engine, asked(n)).unwrap();
        assert_eq!(all(&mut alone).await.unwrap(), answer, "request {n}");
    }
}

/// Counts draft tokens run, and those that were right.
#[derive(Default)]
struct Drafted {
    tokens: AtomicUsize,
    accepted: AtomicUsize,
}

impl Observer for Drafted {
    fn step(&self, stats: &StepStats) {
        for draft in &stats.drafts {
            self.tokens.fetch_add(draft.tokens as usize, Ordering::Relaxed);
            self.accepted.fetch_add(draft.accepted as usize, Ordering::Relaxed);
        }
    }

    fn request(&self, _: &RequestStats) {}
    fn switch(&self, _: &SwitchStats) {}
}

/// Prompts that repeat themselves, greedy and sampled, free and under a schema with forced and with drawn parts: drafts
/// are run, some are right, and no answer is another one than without.
#[tokio::test]
async fn drafts_change_no_answer() {
    let path = quarry_models::testing::model_path("smollm2-135m-instruct-q4_1");
    let source = ModelSource { name: "small".into(), aliases: Vec::new(), path, yarn: None };
    let drafted = Arc::new(Drafted::default());
    let engine = start_observed(Box::new(backend()), EngineOptions::new(vec![source]), drafted.clone());
    let text = "The ferry leaves at nine. The ferry leaves at ten. The ferry leaves at noon. ".repeat(4);
    let prompt = engine.models()[0].text.tokenizer.encode(&text, Specials::Literal);
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 60},
            "kind": {"enum": ["ferry", "bus"]},
            "b": {"type": "string", "maxLength": 60}
        },
        "required": ["a", "kind", "b"],
        "additionalProperties": false
    });
    for (temperature, constraint) in [
        (0.0, None),
        (0.8, None),
        (0.0, Some(ConstraintSpec::JsonSchema(schema.clone()))),
        (0.8, Some(ConstraintSpec::JsonSchema(schema))),
    ] {
        let sampling =
            SamplingParams { temperature, seed: 7, repetition_penalty: 1.1, ..SamplingParams::default() };
        let with = |drafts: bool| Generate {
            drafts: Some(drafts),
            sampling: sampling.clone(),
            constraint: constraint.clone(),
            ignore_eos: false,
            ..generate(&engine, prompt.clone(), 80)
        };
        let without = all(&mut submit_to(&engine, with(false)).unwrap()).await.unwrap();
        let before = drafted.tokens.load(Ordering::Relaxed);
        let answer = all(&mut submit_to(&engine, with(true)).unwrap()).await.unwrap();
        assert_eq!(answer, without, "temperature {temperature}, {constraint:?}");
        let after = drafted.tokens.load(Ordering::Relaxed);
        assert!(after > before, "no draft at {temperature}, {constraint:?}");
    }
    let (tokens, accepted) =
        (drafted.tokens.load(Ordering::Relaxed), drafted.accepted.load(Ordering::Relaxed));
    assert!(0 < accepted && accepted < tokens, "{accepted} of {tokens} were right");
}

/// Why each request ended.
#[derive(Default)]
struct Ends(std::sync::Mutex<Vec<FinishReason>>);

impl Observer for Ends {
    fn step(&self, _: &StepStats) {}
    fn request(&self, stats: &RequestStats) {
        self.0.lock().unwrap().push(stats.reason);
    }
    fn switch(&self, _: &SwitchStats) {}
}

#[tokio::test]
async fn a_step_that_nobody_waits_for_any_more_ends_early() {
    let ends = Arc::new(Ends::default());
    let (engine, faults, _folder) = faulty_observed(ends.clone());
    let alone = all(&mut submit(&engine, 20)).await.unwrap();
    faults.set(Fault::Unwanted);
    let gone = submit(&engine, 20);
    until("the step waits", || faults.is_waiting.load(Ordering::Acquire)).await;
    drop(gone);
    assert_eq!(all(&mut submit(&engine, 20)).await.unwrap(), alone);
    // The observer hears of an end after the client does.
    until("three have ended", || ends.0.lock().unwrap().len() == 3).await;
    let seen = ends.0.lock().unwrap().clone();
    assert_eq!(seen, [FinishReason::Length, FinishReason::Cancelled, FinishReason::Length]);
    // A deadline is as good as a client that is gone.
    faults.is_waiting.store(false, Ordering::Release);
    faults.set(Fault::Unwanted);
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let late = Generate { deadline, ..generate(&engine, (10..30).collect(), 20) };
    let (text, reason) = all(&mut submit_to(&engine, late).unwrap()).await.unwrap();
    assert_eq!((text.as_str(), reason), ("", FinishReason::Deadline));
    // One of two: the step goes on for the other.
    let both = [submit(&engine, 20), submit(&engine, 20)];
    let [gone, mut stays] = both;
    drop(gone);
    assert_eq!(all(&mut stays).await.unwrap(), alone);
    // The end of the drain's patience ends a step too.
    faults.is_waiting.store(false, Ordering::Release);
    faults.set(Fault::Unwanted);
    let mut cut = submit(&engine, 20);
    until("the step waits", || faults.is_waiting.load(Ordering::Acquire)).await;
    engine.drain(Duration::ZERO).await;
    assert_eq!(all(&mut cut).await.unwrap_err(), GenerateError::ShutDown);
    assert_eq!(engine.snapshot().restarts, 0);
}
