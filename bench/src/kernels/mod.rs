//! `bench kernels`: the kernels of each instruction set beside what the machine can do at most.
//!
//! ```text
//! limits      the dot instruction, products of 16-bit pairs, memory read in order: same threads, same minute
//! product     per weight format, shape and rows of activations: operations and bytes of packed weights a second
//! attention   one position, and 512, behind so many keys: 7 query heads of 64 on a KV head
//! rows        norm with quantization, SiLU: bytes a second, from cache
//! ```
//! Weights and keys are taken in turns from more memory than caches hold, as a step of a model does. How a pass is
//! timed is in [`measure`].

mod measure;

use anyhow::bail;
use quarry_cpu::isa::{Isa, Kernels};
use quarry_cpu::limits;
use quarry_formats::quant::TensorType;
use serde::Serialize;

use crate::spread::Spread;
use measure::Measure;

/// Of a list at most.
const LIST_MAX: usize = 64;
/// Rows or columns of a shape, rows of activations, keys of a cache, at most.
const SIDE_MAX: usize = 1 << 20;
/// Weights of a matrix at most.
const WEIGHTS_MAX: usize = 1 << 29;
/// Repeats, threads and megabytes at most.
const REPEATS_MAX: usize = 1000;
const THREADS_MAX: usize = 1024;
const COLD_BYTES_MAX: usize = 16 << 30;

/// What to run.
#[derive(Clone, Debug)]
pub struct KernelPlan {
    /// Instruction sets, all of which this machine has.
    pub isas: Vec<Isa>,
    /// Weight formats.
    pub formats: Vec<TensorType>,
    /// Output rows and input columns of matrices.
    pub shapes: Vec<(usize, usize)>,
    /// Rows of activations of a product.
    pub rows: Vec<usize>,
    /// Keys before the queries of attention.
    pub depths: Vec<usize>,
    /// Threads that share all work.
    pub threads: usize,
    /// Timed passes of each figure.
    pub repeats: usize,
    /// Bytes of weights or keys that passes take in turns: several times what the caches hold.
    pub cold_bytes: usize,
}

impl KernelPlan {
    fn check(&self) -> anyhow::Result<()> {
        let lengths =
            [self.isas.len(), self.formats.len(), self.shapes.len(), self.rows.len(), self.depths.len()];
        if lengths.iter().any(|&length| length > LIST_MAX) || self.isas.is_empty() {
            bail!("lists have {LIST_MAX} entries at most");
        }
        if let Some(missing) = self.isas.iter().find(|isa| !isa.is_available()) {
            bail!("this machine has no {}", missing.name());
        }
        let fits = |&(rows, columns): &(usize, usize)| {
            (1..=SIDE_MAX).contains(&rows)
                && (1..=SIDE_MAX).contains(&columns)
                && rows * columns <= WEIGHTS_MAX
        };
        if !self.shapes.iter().all(fits) {
            bail!("a shape has 1 to {WEIGHTS_MAX} weights");
        }
        if self.rows.iter().any(|&rows| rows == 0 || rows > SIDE_MAX / 64)
            || self.depths.iter().any(|&depth| depth > SIDE_MAX)
        {
            bail!("rows are 1 to {}, depths at most {SIDE_MAX}", SIDE_MAX / 64);
        }
        if self.repeats == 0 || self.repeats > REPEATS_MAX {
            bail!("repeats are 1 to {REPEATS_MAX}");
        }
        if self.threads == 0 || self.threads > THREADS_MAX || self.cold_bytes > COLD_BYTES_MAX {
            bail!("threads are 1 to {THREADS_MAX}, cold memory at most {} MB", COLD_BYTES_MAX >> 20);
        }
        Ok(())
    }

    /// The lengths of rows that the shapes speak of, each once.
    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.shapes.iter().map(|&(_, columns)| columns).collect();
        widths.sort_unstable();
        widths.dedup();
        widths
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct KernelReport {
    /// Threads that ran.
    pub threads: usize,
    /// Bytes that passes took in turns.
    pub cold_bytes: usize,
    /// Each instruction set.
    pub sets: Vec<SetReport>,
}

/// One instruction set. Operations and bytes are in thousand millions a second; a multiply-add is two operations.
#[derive(Debug, Serialize)]
pub struct SetReport {
    /// Its name.
    pub isa: &'static str,
    /// Of the dot instruction alone.
    pub dot_limit: Option<f64>,
    /// Of products of 16-bit pairs alone.
    pub pair_limit: Option<f64>,
    /// Of memory read in order.
    pub read_limit: f64,
    /// Every kernel.
    pub figures: Vec<Figure>,
}

/// One kernel with one size.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Names it in tables and plots.
    pub name: String,
    /// `product`, `attention`, `norm+quantize` or `silu`.
    pub kernel: &'static str,
    /// Operations.
    pub gops: Option<Spread>,
    /// Bytes: packed weights of a product, keys and values of attention, rows read and written otherwise.
    pub gbs: Option<Spread>,
    /// The median's share of the limit of the instruction that the kernel is made of.
    pub of_operations: Option<f64>,
    /// The median's share of the limit of memory; `None` where data is in the caches.
    pub of_read: Option<f64>,
}

/// What a kernel does once, and how long that took, each time.
struct Timed {
    kernel: &'static str,
    name: String,
    operations: Option<f64>,
    bytes: Option<f64>,
    is_cold: bool,
    seconds: Vec<f64>,
}

impl Timed {
    fn figure(&self, limit: Option<f64>, read_limit: f64) -> Figure {
        let rate = |amount: Option<f64>| {
            let each = |amount: f64| self.seconds.iter().map(|s| amount / s / 1e9).collect::<Vec<f64>>();
            amount.map(|amount| Spread::of(&each(amount)))
        };
        let (gops, gbs) = (rate(self.operations), rate(self.bytes));
        Figure {
            name: self.name.clone(),
            kernel: self.kernel,
            of_operations: gops.as_ref().zip(limit).map(|(gops, limit)| gops.median / limit),
            of_read: gbs.as_ref().filter(|_| self.is_cold).map(|gbs| gbs.median / read_limit),
            gops,
            gbs,
        }
    }
}

/// Measures everything; `progress` hears what comes next.
pub fn run(plan: &KernelPlan, progress: &mut dyn FnMut(&str)) -> anyhow::Result<KernelReport> {
    plan.check()?;
    let mut measure = Measure::new(plan.threads, plan.repeats, plan.cold_bytes);
    let threads = measure.threads.count();
    let mut sets = Vec::new();
    for &isa in &plan.isas {
        progress(&format!("{}: limits", isa.name()));
        sets.push(SetReport {
            isa: isa.name(),
            dot_limit: limits::dot_limit(isa, &mut measure.threads).map(|limit| limit / 1e9),
            pair_limit: limits::pair_limit(isa, &mut measure.threads).map(|limit| limit / 1e9),
            read_limit: limits::read_limit(plan.cold_bytes, &mut measure.threads)? / 1e9,
            figures: Vec::new(),
        });
    }
    let kernels: Vec<Kernels> = plan.isas.iter().filter_map(|&isa| Kernels::new(isa)).collect();
    let mut sets_and_kernels: Vec<(&mut SetReport, Kernels)> = sets.iter_mut().zip(kernels).collect();

    // Weights are packed once for all sets, which read the same form.
    for &format in &plan.formats {
        for &(rows, columns) in &plan.shapes {
            let block = format.block_elements();
            if !columns.is_multiple_of(block) {
                progress(&format!("{} has blocks of {block}: no {rows}x{columns}", format.name()));
                continue;
            }
            progress(&format!("{} {rows}x{columns}", format.name()));
            let copies = measure.weights(format, rows, columns)?;
            for (set, kernels) in &mut sets_and_kernels {
                for &count in &plan.rows {
                    let timed = measure.product(*kernels, &copies, format, count)?;
                    set.figures.push(timed.figure(set.dot_limit, set.read_limit));
                }
            }
        }
    }
    progress("attention");
    let cache = measure.cache(plan.depths.iter().copied().max().unwrap_or_default());
    for &depth in &plan.depths {
        for (set, kernels) in &mut sets_and_kernels {
            // One key and no other tells nothing of decode.
            let counts: &[usize] = if depth == 0 { &[measure::PREFILL] } else { &[1, measure::PREFILL] };
            for &count in counts {
                let timed = measure.attention(*kernels, &cache, depth, count)?;
                set.figures.push(timed.figure(set.pair_limit, set.read_limit));
            }
        }
    }
    progress("rows");
    for width in plan.widths() {
        for (set, kernels) in &mut sets_and_kernels {
            for timed in [measure.norm(*kernels, width)?, measure.silu(*kernels, width)?] {
                set.figures.push(timed.figure(None, set.read_limit));
            }
        }
    }
    Ok(KernelReport { threads, cold_bytes: plan.cold_bytes, sets })
}

/// What was measured, for people.
pub fn table(report: &KernelReport) -> String {
    let mut text = String::new();
    for set in &report.sets {
        let limit = |name: &str, limit: Option<f64>| limit.map(|l| format!("{name} {l:.0} GOP/s, "));
        text.push_str(&format!(
            "{} with {} threads; limits: {}{}read {:.1} GB/s\n\n{:<28} {:>9} {:>16} {:>8} {:>9} {:>8}\n",
            set.isa,
            report.threads,
            limit("dot", set.dot_limit).unwrap_or_default(),
            limit("pairs", set.pair_limit).unwrap_or_default(),
            set.read_limit,
            "KERNEL",
            "GOP/S",
            "MIN-MAX",
            "OF LIMIT",
            "GB/S",
            "OF READ",
        ));
        for figure in &set.figures {
            let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let share = |share: Option<f64>| cell(share.map(|share| format!("{:.0} %", share * 100.0)));
            text.push_str(&format!(
                "{:<28} {:>9} {:>16} {:>8} {:>9} {:>8}\n",
                figure.name,
                cell(figure.gops.as_ref().map(|gops| format!("{:.1}", gops.median))),
                cell(figure.gops.as_ref().map(|gops| format!("{:.1}-{:.1}", gops.min, gops.max))),
                share(figure.of_operations),
                cell(figure.gbs.as_ref().map(|gbs| format!("{:.2}", gbs.median))),
                share(figure.of_read),
            ));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> KernelPlan {
        KernelPlan {
            isas: Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect(),
            formats: vec![TensorType::Q5_0, TensorType::Q4K],
            shapes: vec![(33, 96), (16, 256)],
            rows: vec![1, 20],
            depths: vec![0, 40],
            threads: 2,
            repeats: 2,
            cold_bytes: 1 << 20,
        }
    }

    #[test]
    fn every_kernel_of_every_set_runs() {
        let mut said = Vec::new();
        let report = run(&plan(), &mut |what| said.push(what.to_owned())).unwrap();
        assert_eq!(report.sets.len(), plan().isas.len());
        let names = [
            "Q5_0 33x96 x1",
            "Q5_0 33x96 x20",
            "Q5_0 16x256 x1",
            "Q5_0 16x256 x20",
            "Q4_K 16x256 x1",
            "Q4_K 16x256 x20",
            "prefill 512 at 0",
            "decode at 40",
            "prefill 512 at 40",
            "norm+quantize 96",
            "silu+quantize 96",
            "norm+quantize 256",
            "silu+quantize 256",
        ];
        assert!(said.iter().any(|line| line == "Q4_K has blocks of 256: no 33x96"), "{said:?}");
        for set in &report.sets {
            assert_eq!(set.figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), names);
            for figure in &set.figures {
                let rates = figure.gops.iter().chain(&figure.gbs);
                assert!(rates.clone().all(|rate| rate.min > 0.0 && rate.min <= rate.max), "{figure:?}");
                assert!(rates.count() > 0, "{figure:?}");
                let has_limit = figure.gops.is_some() && set.isa != "portable";
                assert_eq!(figure.of_operations.is_some(), has_limit, "{figure:?}");
            }
        }
        assert_eq!(table(&report).lines().count(), report.sets.len() * (names.len() + 4));
    }

    #[test]
    fn impossible_plans_are_refused() {
        for broken in [
            KernelPlan { isas: vec![], ..plan() },
            KernelPlan { shapes: vec![(0, 32)], ..plan() },
            KernelPlan { shapes: vec![(SIDE_MAX, SIDE_MAX)], ..plan() },
            KernelPlan { rows: vec![0], ..plan() },
            KernelPlan { depths: vec![SIDE_MAX + 1], ..plan() },
            KernelPlan { threads: 0, ..plan() },
            KernelPlan { repeats: 0, ..plan() },
            KernelPlan { cold_bytes: COLD_BYTES_MAX + 1, ..plan() },
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
        assert!(plan().check().is_ok());
    }
}
