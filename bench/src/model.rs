//! `bench model`: a model's speed in this process, by llama-bench's tests.
//!
//! ```text
//! ppN       N tokens into one sequence, in batches of at most `batch`; logits of the last position
//! tgN       N steps of one token
//! tgN xS    N steps of one token for each of S sequences, together
//! each      at every depth: behind so many tokens that are in the cache already
//! ```
//! Each test runs a part of itself once untimed, then `repeats` times. Tokens are random, as the rival's are.
//! A step's time is split where the executor is: layers (`submit`), then head and draw (`finish`).

use std::time::{Duration, Instant};

use anyhow::bail;
use quarry_model::backend::{Backend, ModelFiles, WarmModel};
use quarry_model::ids::TokenId;
use serde::Serialize;

use crate::random::Random;
use crate::rig::{Part, Rig, StepTime};
use crate::spread::Spread;

pub use crate::rig::BLOCK_TOKENS;

/// Tokens of a prefill step where nothing else is asked for.
pub const BATCH_TOKENS: usize = 512;
/// Of a list at most.
const LIST_MAX: usize = 32;
/// Streams, repeats and tokens at most; keys and values have their own bound.
const STREAMS_MAX: usize = 256;
const REPEATS_MAX: usize = 1000;
const TOKENS_MAX: usize = 1 << 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Lengths of prefill tests; 0 is none.
    pub prompt: Vec<usize>,
    /// Steps of decode tests; 0 is none.
    pub generate: usize,
    /// Tokens in the cache before each test.
    pub depth: Vec<usize>,
    /// Sequences that decode together.
    pub streams: Vec<usize>,
    /// Timed runs of each test.
    pub repeats: usize,
    /// Tokens of a prefill step at most.
    pub batch: usize,
}

impl ModelPlan {
    fn check(&self) -> anyhow::Result<()> {
        let lists = [&self.prompt, &self.depth, &self.streams];
        if lists.iter().any(|list| list.is_empty() || list.len() > LIST_MAX) {
            bail!("prompt, depth and streams take 1 to {LIST_MAX} numbers each");
        }
        let tokens = self.prompt.iter().chain(&self.depth).chain([&self.generate, &self.batch]);
        if tokens.copied().any(|count| count > TOKENS_MAX) || self.batch == 0 {
            bail!("prompt, generate and depth are at most {TOKENS_MAX}, a batch 1 to {TOKENS_MAX}");
        }
        if self.streams.iter().any(|&count| count == 0 || count > STREAMS_MAX) {
            bail!("streams are 1 to {STREAMS_MAX}");
        }
        if self.repeats == 0 || self.repeats > REPEATS_MAX {
            bail!("repeats are 1 to {REPEATS_MAX}");
        }
        Ok(())
    }

    /// Positions that each sequence needs: the first one prefills, the others only decode.
    fn positions(&self) -> Vec<usize> {
        let most = |list: &[usize]| list.iter().copied().max().unwrap_or_default();
        let depth = most(&self.depth);
        let decode = depth + self.generate.max(1);
        let mut positions = vec![decode; most(&self.streams).max(1)];
        positions[0] = decode.max(depth + most(&self.prompt));
        positions
    }

    fn batch_tokens(&self) -> usize {
        self.batch.max(self.streams.iter().copied().max().unwrap_or_default())
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// The file's name.
    pub model: String,
    /// As in the file.
    pub architecture: String,
    /// The type that most of the file's bytes have.
    pub quantization: String,
    /// The file's tensors, in bytes.
    pub file_bytes: usize,
    /// The weights as the back end holds them.
    pub weight_bytes: usize,
    /// What the process holds after loading; `None` where the system does not say.
    pub resident_bytes: Option<usize>,
    /// From opened to packed.
    pub load_seconds: f64,
    /// `cpu`.
    pub backend: &'static str,
    /// The instruction set that ran.
    pub isa: String,
    /// Threads that ran.
    pub threads: usize,
    /// Tokens of a prefill step at most.
    pub batch: usize,
    /// Every test.
    pub tests: Vec<TestReport>,
}

/// One test.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// As llama-bench names it.
    pub name: String,
    /// Prefilled tokens, 0 in a decode test.
    pub prompt: usize,
    /// Steps of one token, 0 in a prefill test.
    pub generate: usize,
    /// Tokens in the cache before it.
    pub depth: usize,
    /// Sequences together.
    pub streams: usize,
    /// All streams together.
    pub tokens_per_second: Spread,
    /// Every repeat.
    pub each: Vec<f64>,
    /// Mean milliseconds a step in the layers.
    pub body_ms: f64,
    /// Mean milliseconds a step in head and draw.
    pub head_ms: f64,
}

/// Loads the model and runs every test; `progress` hears each test's name before it runs.
///
/// # Errors
/// A plan past its bounds, or what the back end says.
pub fn run(
    backend: &mut dyn Backend,
    threads: usize,
    files: &ModelFiles,
    plan: &ModelPlan,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<ModelReport> {
    plan.check()?;
    progress("loading");
    let begun = Instant::now();
    let warm = backend.loader().warm(files, &mut |_| ())?;
    let load_seconds = begun.elapsed().as_secs_f64();
    let report = run_warm(backend, threads, files, &warm, plan, progress)?;
    Ok(ModelReport { load_seconds, ..report })
}

/// Runs every test with weights that are in host memory; no time of loading.
///
/// # Errors
/// As [`run`].
pub fn run_warm(
    backend: &mut dyn Backend,
    threads: usize,
    files: &ModelFiles,
    warm: &WarmModel,
    plan: &ModelPlan,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<ModelReport> {
    plan.check()?;
    let mut report = describe(backend.name(), threads, files, warm, plan);
    let rig = Rig::new(backend, files, warm, &plan.positions(), plan.batch_tokens())?;
    report.isa.clone_from(&rig.caps().isa);
    let mut tests = Tests { rig, plan, random: Random::new(1), vocab: files.spec.vocab };

    let mut depths = plan.depth.clone();
    depths.sort_unstable();
    depths.dedup();
    let mut filled = 0;
    for depth in depths {
        if depth > filled {
            progress(&format!("filling the cache to {depth}"));
            // What a test wrote behind the last depth is written over.
            tests.prefill(filled, depth - filled, false)?;
            filled = depth;
        }
        for &prompt in plan.prompt.iter().filter(|&&prompt| prompt > 0) {
            progress(&name(prompt, 0, depth, 1));
            report.tests.push(tests.prefill_test(prompt, depth)?);
        }
        if plan.generate == 0 {
            continue;
        }
        if plan.streams.iter().any(|&streams| streams > 1) {
            tests.rig.share(depth)?;
        }
        for &streams in &plan.streams {
            progress(&name(0, plan.generate, depth, streams));
            report.tests.push(tests.decode_test(depth, streams)?);
        }
    }
    Ok(report)
}

fn describe(
    backend: &'static str,
    threads: usize,
    files: &ModelFiles,
    warm: &WarmModel,
    plan: &ModelPlan,
) -> ModelReport {
    let tensors = files.weights.tensors();
    let bytes_of = |kind| tensors.iter().filter(|t| t.kind == kind).map(|t| t.bytes).sum::<usize>();
    let most = tensors.iter().map(|t| t.kind).max_by_key(|&kind| bytes_of(kind));
    ModelReport {
        model: files.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        architecture: files.spec.architecture.clone(),
        quantization: most.map_or("", |kind| kind.name()).to_owned(),
        file_bytes: tensors.iter().map(|t| t.bytes).sum(),
        weight_bytes: warm.bytes,
        resident_bytes: resident_bytes(),
        load_seconds: 0.0,
        backend,
        isa: String::new(),
        threads,
        batch: plan.batch,
        tests: Vec::new(),
    }
}

/// Memory of its own that this process has in RAM, pages of mapped files not counted; Linux says it in its own file.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<usize>().ok()? * 1024)
}

struct Tests<'a> {
    rig: Rig,
    plan: &'a ModelPlan,
    random: Random,
    vocab: usize,
}

impl Tests<'_> {
    /// Runs `count` tokens behind `first`; steps and their time.
    fn prefill(&mut self, first: usize, count: usize, wants_last: bool) -> anyhow::Result<(usize, StepTime)> {
        let tokens = self.random.tokens(self.vocab, count);
        let (mut at, mut steps, mut time) = (first, 0, StepTime::default());
        for piece in tokens.chunks(self.plan.batch) {
            let last = [piece.len() - 1];
            let is_end = at + piece.len() == first + count;
            let wanted: &[usize] = if wants_last && is_end { &last } else { &[] };
            time += self.rig.step(&[Part { sequence: 0, first: at, tokens: piece, wanted }])?;
            at += piece.len();
            steps += 1;
        }
        Ok((steps, time))
    }

    /// Runs `steps` steps of one token for each stream.
    fn decode(&mut self, depth: usize, streams: usize, steps: usize) -> anyhow::Result<StepTime> {
        let mut time = StepTime::default();
        for step in 0..steps {
            let tokens: Vec<TokenId> = self.random.tokens(self.vocab, streams);
            let part = |(sequence, tokens)| Part { sequence, first: depth + step, tokens, wanted: &[0] };
            let parts: Vec<Part<'_>> = tokens.chunks(1).enumerate().map(part).collect();
            time += self.rig.step(&parts)?;
        }
        Ok(time)
    }

    fn prefill_test(&mut self, prompt: usize, depth: usize) -> anyhow::Result<TestReport> {
        self.prefill(depth, prompt.min(self.plan.batch), true)?;
        let mut runs = Vec::new();
        for _ in 0..self.plan.repeats {
            runs.push(self.prefill(depth, prompt, true)?);
        }
        Ok(test_report(prompt, 0, depth, 1, &runs))
    }

    fn decode_test(&mut self, depth: usize, streams: usize) -> anyhow::Result<TestReport> {
        let steps = self.plan.generate;
        self.decode(depth, streams, 1)?;
        let mut runs = Vec::new();
        for _ in 0..self.plan.repeats {
            runs.push((steps, self.decode(depth, streams, steps)?));
        }
        Ok(test_report(0, steps, depth, streams, &runs))
    }
}

fn test_report(
    prompt: usize,
    generate: usize,
    depth: usize,
    streams: usize,
    runs: &[(usize, StepTime)],
) -> TestReport {
    let tokens = (prompt + generate * streams) as f64;
    let each: Vec<f64> = runs.iter().map(|(_, time)| tokens / time.total().as_secs_f64()).collect();
    let steps = runs.iter().map(|(steps, _)| steps).sum::<usize>().max(1) as f64;
    let a_step = |part: fn(&StepTime) -> Duration| {
        runs.iter().map(|(_, time)| part(time).as_secs_f64()).sum::<f64>() * 1e3 / steps
    };
    TestReport {
        name: name(prompt, generate, depth, streams),
        prompt,
        generate,
        depth,
        streams,
        tokens_per_second: Spread::of(&each),
        each,
        body_ms: a_step(|time| time.body),
        head_ms: a_step(|time| time.head),
    }
}

fn name(prompt: usize, generate: usize, depth: usize, streams: usize) -> String {
    let mut name = if prompt > 0 { format!("pp{prompt}") } else { format!("tg{generate}") };
    if streams > 1 {
        name.push_str(&format!(" x{streams}"));
    }
    if depth > 0 {
        name.push_str(&format!(" @ d{depth}"));
    }
    name
}

/// What was measured, for people.
pub fn table(report: &ModelReport) -> String {
    let mb = |bytes: usize| bytes as f64 / 1e6;
    let mut text = format!(
        "{} ({}, mostly {}) on {} {} with {} threads\n{:.0} MB in the file, {:.0} MB packed in {:.1} s{}\n\n",
        report.model,
        report.architecture,
        report.quantization,
        report.backend,
        report.isa,
        report.threads,
        mb(report.file_bytes),
        mb(report.weight_bytes),
        report.load_seconds,
        report.resident_bytes.map(|b| format!(", {:.0} MB resident", mb(b))).unwrap_or_default(),
    );
    text.push_str(&format!(
        "{:<18} {:>10} {:>17} {:>14} {:>14}\n",
        "TEST", "TOKENS/S", "MIN-MAX", "LAYERS ms/step", "HEAD ms/step"
    ));
    for test in &report.tests {
        let Spread { median, min, max } = test.tokens_per_second;
        text.push_str(&format!(
            "{:<18} {:>10.1} {:>17} {:>14.2} {:>14.2}\n",
            test.name,
            median,
            format!("{min:.1}-{max:.1}"),
            test.body_ms,
            test.head_ms,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use quarry_cpu::{CpuBackend, CpuOptions};
    use quarry_tiny::{TensorType, TinyModel};

    use super::*;

    fn plan() -> ModelPlan {
        let (prompt, depth, streams) = (vec![40, 0], vec![33, 0], vec![1, 3]);
        ModelPlan { prompt, generate: 3, depth, streams, repeats: 2, batch: 16 }
    }

    #[test]
    fn every_test_runs_at_every_depth() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        TinyModel::qwen3().write(&path, TensorType::Q8_0).unwrap();
        let files = ModelFiles::open(&path).unwrap();
        let mut backend = CpuBackend::new(CpuOptions { threads: 2, isa: None }).unwrap();
        let report = run(&mut backend, 2, &files, &plan(), &mut |_| ()).unwrap();
        let names: Vec<&str> = report.tests.iter().map(|test| test.name.as_str()).collect();
        let expected = ["pp40", "tg3", "tg3 x3", "pp40 @ d33", "tg3 @ d33", "tg3 x3 @ d33"];
        assert_eq!(names, expected);
        for test in &report.tests {
            let Spread { median, min, max } = test.tokens_per_second;
            assert!(0.0 < min && min <= median && median <= max && test.each.len() == 2, "{test:?}");
        }
        assert!(report.quantization == "Q8_0" && report.weight_bytes > 0 && !report.isa.is_empty());
        assert_eq!(table(&report).lines().count(), 4 + expected.len());
    }

    #[test]
    fn impossible_plans_are_refused() {
        for broken in [
            ModelPlan { depth: vec![], ..plan() },
            ModelPlan { batch: 0, ..plan() },
            ModelPlan { streams: vec![0], ..plan() },
            ModelPlan { streams: vec![STREAMS_MAX + 1], ..plan() },
            ModelPlan { repeats: 0, ..plan() },
            ModelPlan { prompt: vec![TOKENS_MAX + 1], ..plan() },
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
        assert!(plan().check().is_ok());
        assert_eq!(plan().positions(), [73, 36, 36]);
    }
}
