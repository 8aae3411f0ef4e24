//! `bench gpu`: what a CUDA device does with real models' shapes, as shares of what was measured of it at most.
//!
//! ```text
//! link      copies within the device, to it and back; products of the tensor cores alone
//! decode    steps of one token for some sequences behind some context: bytes that must be read / time / copies' bandwidth
//! prefill   prompts: multiplications / time / tensor cores' peak
//! switch    warm weights of another model → its first token
//! swap      KV blocks to the host pool and back: bytes / time / the link's rate
//! ```
//! A share is of this device and of this run. Parts stand alone; without any named, all run.

use std::time::Instant;

use anyhow::{Context as _, bail};
pub use quarry_cuda::ProbePlan;
use quarry_cuda::{CudaBackend, CudaOptions};
use quarry_cuda_layout::{Form, decode_bytes};
use quarry_model::backend::{ActivateOptions, Backend as _, ModelFiles, WarmModel};
use quarry_model::executor::SwapDone;
use quarry_model::ids::{BlockId, HostBlockId, SwapId};
use quarry_model::kv::HostPool;
use quarry_model::limits::HOST_UNIT_BYTES;
use quarry_model::plan::{BlockMove, Direction};
use serde::Serialize;

use crate::chart::{Chart, Line};
use crate::model::{self, ModelPlan, TestReport};
use crate::random::Random;
use crate::rig::{Part, Rig};

/// Bytes of KV of a test at most; as many sequences and contexts as fit are run.
const KV_BYTES_MAX: usize = 14 << 30;
/// Bytes that are swapped at once.
const SWAP_BYTES: usize = 512 << 20;
/// How long a swap may take.
const SWAP_SECONDS_MAX: u64 = 60;

/// What to run.
#[derive(Clone, Debug)]
pub struct GpuPlan {
    /// Sequences that decode together.
    pub batches: Vec<usize>,
    /// Tokens in the cache before a decode.
    pub contexts: Vec<usize>,
    /// Prompts' lengths.
    pub prompts: Vec<usize>,
    /// Steps of a decode test.
    pub steps: usize,
    /// Timed runs of each test.
    pub repeats: usize,
    /// How much the probe moves.
    pub probe: ProbePlan,
    /// Which parts.
    pub parts: Parts,
}

/// Parts of the run.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub decode: bool,
    pub prefill: bool,
    pub switch: bool,
    pub swap: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct GpuReport {
    pub device: String,
    /// Rates a second.
    pub link: LinkReport,
    pub models: Vec<ModelReport>,
    /// From one model to the next with weights that are warm, and back.
    pub switches: Vec<SwitchReport>,
}

#[derive(Debug, Serialize)]
pub struct LinkReport {
    pub memory_gb: f64,
    pub to_device_gb: f64,
    pub to_host_gb: f64,
    pub int8_tops: f64,
    pub bf16_tops: f64,
}

#[derive(Debug, Serialize)]
pub struct ModelReport {
    pub model: String,
    pub weight_bytes: usize,
    pub load_seconds: f64,
    pub decode: Vec<DecodeReport>,
    pub prefill: Vec<PrefillReport>,
    pub swap: Option<SwapReport>,
}

#[derive(Debug, Serialize)]
pub struct DecodeReport {
    pub sequences: usize,
    pub context: usize,
    pub tokens_per_second: f64,
    /// That a step must read.
    pub bytes: usize,
    pub share_of_bandwidth: f64,
}

#[derive(Debug, Serialize)]
pub struct PrefillReport {
    pub tokens: usize,
    pub tokens_per_second: f64,
    /// Multiplications and additions of matrices and attention.
    pub operations: f64,
    pub share_of_peak: f64,
}

#[derive(Debug, Serialize)]
pub struct SwapReport {
    pub bytes: usize,
    pub out_gb_per_second: f64,
    pub in_gb_per_second: f64,
    pub out_share_of_link: f64,
    pub in_share_of_link: f64,
}

#[derive(Debug, Serialize)]
pub struct SwitchReport {
    pub from: String,
    pub to: String,
    /// The other one's weights leave, these are uploaded, one token is drawn.
    pub seconds: f64,
}

/// A model that is open, and packed in host memory.
struct Model<'a> {
    name: String,
    files: &'a ModelFiles,
    warm: WarmModel,
    load_seconds: f64,
}

/// Runs the plan over the models; `progress` hears what runs.
///
/// # Errors
/// No device, or what it says.
pub fn run(
    files: &[ModelFiles],
    plan: &GpuPlan,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<GpuReport> {
    let backend = &mut CudaBackend::new(CudaOptions::default()).context("the device")?;
    progress("link");
    let link = backend.probe(plan.probe).context("the probe")?;
    let link = LinkReport {
        memory_gb: link.memory_bytes / 1e9,
        to_device_gb: link.to_device_bytes / 1e9,
        to_host_gb: link.to_host_bytes / 1e9,
        int8_tops: link.int8_operations / 1e12,
        bf16_tops: link.bf16_operations / 1e12,
    };
    let device = backend.device_name().to_owned();
    let mut report = GpuReport { device, link, models: Vec::new(), switches: Vec::new() };
    let mut models = Vec::new();
    for files in files {
        let name = files.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        progress(&format!("{name}: packing"));
        let begun = Instant::now();
        let warm = backend.loader().warm(files, &mut |_| ())?;
        let load_seconds = begun.elapsed().as_secs_f64();
        models.push(Model { name, files, warm, load_seconds });
    }
    for model in &models {
        let measured = measure(backend, model, plan, &report.link, progress)?;
        report.models.push(measured);
    }
    if plan.parts.switch {
        progress("switches");
        report.switches = switches(backend, &models)?;
    }
    Ok(report)
}

fn measure(
    backend: &mut CudaBackend,
    model: &Model<'_>,
    plan: &GpuPlan,
    link: &LinkReport,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<ModelReport> {
    let mut report = ModelReport {
        model: model.name.clone(),
        weight_bytes: model.warm.bytes,
        load_seconds: model.load_seconds,
        decode: Vec::new(),
        prefill: Vec::new(),
        swap: None,
    };
    let mut tell = |what: &str| progress(&format!("{}: {what}", model.name));
    if plan.parts.decode {
        for &context in &plan.contexts {
            for test in decode_tests(backend, model, plan, context, &mut tell)? {
                report.decode.push(decode_report(model.files, &test, link));
            }
        }
    }
    if plan.parts.prefill {
        for test in prefill_tests(backend, model, plan, &mut tell)? {
            report.prefill.push(prefill_report(model.files, &test, link));
        }
    }
    if plan.parts.swap {
        tell("swap");
        report.swap = Some(swap(backend, model, link)?);
    }
    Ok(report)
}

fn decode_tests(
    backend: &mut CudaBackend,
    model: &Model<'_>,
    plan: &GpuPlan,
    context: usize,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<TestReport>> {
    let position_bytes = quarry_cuda_layout::KvShape::new(&model.files.spec, 1).position_bytes();
    let positions = context + plan.steps + model::BLOCK_TOKENS;
    let fits = |batch: &&usize| **batch * positions * position_bytes <= KV_BYTES_MAX;
    let streams: Vec<usize> = plan.batches.iter().filter(fits).copied().collect();
    if streams.is_empty() || positions > model.files.spec.context_tokens_max {
        return Ok(Vec::new());
    }
    let steps = ModelPlan {
        prompt: vec![0],
        generate: plan.steps,
        depth: vec![context],
        streams,
        repeats: plan.repeats,
        batch: model::BATCH_TOKENS,
    };
    Ok(model::run_warm(backend, 0, model.files, &model.warm, &steps, progress)?.tests)
}

fn prefill_tests(
    backend: &mut CudaBackend,
    model: &Model<'_>,
    plan: &GpuPlan,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<TestReport>> {
    let most = model.files.spec.context_tokens_max;
    let prompt: Vec<usize> = plan.prompts.iter().copied().filter(|&tokens| tokens <= most).collect();
    if prompt.is_empty() {
        return Ok(Vec::new());
    }
    let batch = prompt.iter().copied().max().unwrap_or(1);
    let steps =
        ModelPlan { prompt, generate: 0, depth: vec![0], streams: vec![1], repeats: plan.repeats, batch };
    Ok(model::run_warm(backend, 0, model.files, &model.warm, &steps, progress)?.tests)
}

fn decode_report(files: &ModelFiles, test: &TestReport, link: &LinkReport) -> DecodeReport {
    // In the middle of the test.
    let positions = test.depth + test.generate / 2 + 1;
    let bytes = decode_bytes(&files.spec, files.weights.tensors(), test.streams, positions).sum();
    let tokens_per_second = test.tokens_per_second.median;
    let steps_per_second = tokens_per_second / test.streams as f64;
    DecodeReport {
        sequences: test.streams,
        context: test.depth,
        tokens_per_second,
        bytes,
        share_of_bandwidth: steps_per_second * bytes as f64 / (link.memory_gb * 1e9),
    }
}

fn prefill_report(files: &ModelFiles, test: &TestReport, link: &LinkReport) -> PrefillReport {
    let spec = &files.spec;
    let layers = files.weights.tensors().iter().filter(|tensor| tensor.name.starts_with("blk."));
    let matrices: Vec<_> = layers.filter(|tensor| tensor.shape.len() == 2).collect();
    let elements: usize = matrices.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let tokens = test.prompt as f64;
    // Scores and values of half of the square of positions, for each query head.
    let attention = 4.0 * tokens * tokens / 2.0 * (spec.layers * spec.heads * spec.head_dim) as f64;
    let operations = 2.0 * elements as f64 * tokens + attention;
    let is_integer = matrices.first().is_some_and(|tensor| Form::of(tensor.kind).is_integer());
    let peak = if is_integer { link.int8_tops } else { link.bf16_tops } * 1e12;
    let seconds = tokens / test.tokens_per_second.median;
    PrefillReport {
        tokens: test.prompt,
        tokens_per_second: test.tokens_per_second.median,
        operations,
        share_of_peak: operations / seconds / peak,
    }
}

fn switches(backend: &mut CudaBackend, models: &[Model<'_>]) -> anyhow::Result<Vec<SwitchReport>> {
    let mut reports = Vec::new();
    let Some((first, _)) = models.split_first() else { return Ok(reports) };
    // Round all of them once, and back to the first.
    let mut before = first;
    let mut active = Some(first_token(backend, first)?);
    for model in models.iter().skip(1).chain([first]).filter(|_| models.len() > 1) {
        let begun = Instant::now();
        drop(active.take());
        active = Some(first_token(backend, model)?);
        let seconds = begun.elapsed().as_secs_f64();
        reports.push(SwitchReport { from: before.name.clone(), to: model.name.clone(), seconds });
        before = model;
    }
    Ok(reports)
}

/// Weights come, one token is drawn.
fn first_token(backend: &mut CudaBackend, model: &Model<'_>) -> anyhow::Result<Rig> {
    let mut rig = Rig::new(backend, model.files, &model.warm, &[model::BLOCK_TOKENS], 1)?;
    let tokens = Random::new(1).tokens(model.files.spec.vocab, 1);
    rig.step(&[Part { sequence: 0, first: 0, tokens: &tokens, wanted: &[0] }])?;
    Ok(rig)
}

fn swap(backend: &mut CudaBackend, model: &Model<'_>, link: &LinkReport) -> anyhow::Result<SwapReport> {
    let options =
        ActivateOptions { block_tokens: model::BLOCK_TOKENS, batch_tokens_max: 1, batch_rows_max: 1 };
    let block_bytes = backend.cost(&model.files.spec, model.files, &options).block_bytes;
    let unit = HOST_UNIT_BYTES as usize;
    let host_bytes = block_bytes.next_multiple_of(unit);
    let blocks = (SWAP_BYTES / host_bytes).clamp(1, 4096);
    let arena = backend.arena(block_bytes, blocks)?;
    let mut kv = backend.kv_blocks(&model.files.spec, &arena, options.block_tokens)?;
    let host = HostPool::new(blocks * host_bytes)?;
    let mut seconds = |direction| -> anyhow::Result<f64> {
        let place = |block: usize| BlockMove {
            device: BlockId(block as u32),
            host: HostBlockId((block * host_bytes / unit) as u32),
            direction,
        };
        let moves: Vec<BlockMove> = (0..blocks).map(place).collect();
        let mut best = f64::INFINITY;
        // The first one page-locks the pool.
        for repeat in 0..4 {
            let begun = Instant::now();
            kv.swap(SwapId(repeat), &host, &moves)?;
            let mut done: Vec<SwapDone> = Vec::new();
            while done.is_empty() {
                kv.poll(&mut done);
                if begun.elapsed().as_secs() > SWAP_SECONDS_MAX {
                    bail!("a swap of {blocks} blocks did not end");
                }
                std::thread::yield_now();
            }
            if let Some(swap) = done.pop() {
                swap.result?;
                best = if repeat > 0 { best.min(swap.seconds) } else { best };
            }
        }
        Ok(best)
    };
    let bytes = blocks * block_bytes;
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let (out, back) = (rate(seconds(Direction::Out)?), rate(seconds(Direction::In)?));
    Ok(SwapReport {
        bytes,
        out_gb_per_second: out,
        in_gb_per_second: back,
        out_share_of_link: out / link.to_host_gb,
        in_share_of_link: back / link.to_device_gb,
    })
}

/// What was measured, for people.
pub fn table(report: &GpuReport) -> String {
    let LinkReport { memory_gb, to_device_gb, to_host_gb, int8_tops, bf16_tops } = report.link;
    let mut text = format!(
        "{}\nmemory {memory_gb:.0} GB/s, to it {to_device_gb:.1}, back {to_host_gb:.1}; tensor cores {int8_tops:.0} Tops of int8, \
         {bf16_tops:.0} of bf16\n",
        report.device
    );
    for model in &report.models {
        text.push_str(&format!(
            "\n{}: {:.0} MB packed in {:.1} s\n{:<28} {:>12} {:>12}\n",
            model.model,
            model.weight_bytes as f64 / 1e6,
            model.load_seconds,
            "TEST",
            "TOKENS/S",
            "OF MOST"
        ));
        let mut row = |name: String, rate: f64, share: f64| {
            text.push_str(&format!("{name:<28} {rate:>12.1} {:>11.1}%\n", 100.0 * share));
        };
        for test in &model.decode {
            let name = format!("decode x{} behind {}", test.sequences, test.context);
            row(name, test.tokens_per_second, test.share_of_bandwidth);
        }
        for test in &model.prefill {
            row(format!("prefill {}", test.tokens), test.tokens_per_second, test.share_of_peak);
        }
        if let Some(swap) = &model.swap {
            let SwapReport {
                out_gb_per_second, in_gb_per_second, out_share_of_link, in_share_of_link, ..
            } = swap;
            let (out, back) = (100.0 * out_share_of_link, 100.0 * in_share_of_link);
            text.push_str(&format!(
                "swap out {out_gb_per_second:.1} GB/s ({out:.0}%), in {in_gb_per_second:.1} GB/s ({back:.0}%)\n"
            ));
        }
    }
    for switch in &report.switches {
        text.push_str(&format!("{} → {}: {:.3} s\n", switch.from, switch.to, switch.seconds));
    }
    text
}

/// Pictures by their file's name.
pub fn charts(report: &GpuReport) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for model in &report.models {
        let mut batches: Vec<usize> = model.decode.iter().map(|test| test.sequences).collect();
        batches.sort_unstable();
        batches.dedup();
        let mut contexts: Vec<usize> = model.decode.iter().map(|test| test.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let mut decode = |name: &str, values_title: &str, value: &dyn Fn(&DecodeReport) -> f64| {
            let line = |context: &usize| Line {
                name: format!("behind {context}"),
                points: batches
                    .iter()
                    .enumerate()
                    .filter_map(|(at, batch)| {
                        let of = |test: &&DecodeReport| (test.sequences, test.context) == (*batch, *context);
                        Some((at, value(model.decode.iter().find(of)?)))
                    })
                    .collect(),
            };
            let title = format!("{} on {}: decode", model.model, report.device);
            let chart = Chart {
                title: &title,
                categories_title: "sequences together",
                values_title,
                categories: batches.iter().map(ToString::to_string).collect(),
                lines: contexts.iter().map(line).collect(),
            };
            out.push((format!("{}-{name}.svg", model.model), chart.svg()));
        };
        if !batches.is_empty() {
            decode("decode", "tokens a second, all together", &|test| test.tokens_per_second);
            decode("bandwidth", "% of the measured bandwidth", &|test| 100.0 * test.share_of_bandwidth);
        }
    }
    out
}
