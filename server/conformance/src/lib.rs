//! The suite every executor must pass, over small random models of every family. A new executor joins with one test:
//!
//! ```text
//! quarry_conformance::run(&Suite {
//!     subject: &|| Box::new(MyBackend::new()),
//!     oracle: &|| Box::new(ReferenceBackend),
//!     exact: true,
//!     block_tokens: 16,
//!     kinds: &TensorType::ALL,
//! })
//! .assert_passed();
//! ```
//! Golden logits are compared within the executor's own bound (`Caps::logits_error_max`). Alone or batched, whole or
//! in chunks, before or after a swap: an `exact` executor gives the same **bits**.
#![forbid(unsafe_code)]

mod ahead;
mod arena;
mod compare;
mod drawing;
mod golden;
mod paging;
mod refusals;
mod report;
mod rig;
mod shapes;
mod swapping;

use quarry_model::backend::Backend;
use quarry_tiny::{HubWeights, StoredType, TensorType, TinyModel};

pub use report::{CaseResult, Report};

use crate::rig::{Bench, TinyForm};

/// What a case says when it fails.
type Outcome = Result<(), String>;

/// What is tested against what.
#[derive(Clone, Copy)]
pub struct Suite<'a> {
    /// Makes the back end under test.
    pub subject: &'a dyn Fn() -> Box<dyn Backend>,
    /// Makes the one it is compared with.
    pub oracle: &'a dyn Fn() -> Box<dyn Backend>,
    /// Whether equal work gives equal bits, however it is arranged.
    pub exact: bool,
    /// KV positions per block.
    pub block_tokens: usize,
    /// Weight types to compare with the oracle; the other cases run with the first.
    pub kinds: &'a [TensorType],
}

type Case = (&'static str, fn(&mut Bench<'_>) -> Outcome);

/// Every case but the comparison of weight types.
const CASES: [Case; 25] = [
    ("golden logits", golden::golden_logits),
    ("hidden states", golden::hidden),
    ("one token alone", shapes::single_token),
    ("ragged rows as alone", shapes::ragged_rows),
    ("prefill beside decode", shapes::mixed),
    ("chunks of 1, 7, 64", shapes::chunks),
    ("batch at its bounds", shapes::full_batch),
    ("wanted positions", shapes::wanted),
    ("shuffled blocks", paging::shuffled),
    ("shared prefix blocks", paging::shared_prefix),
    ("copied blocks", paging::copied),
    ("copies in order", paging::copies_in_order),
    ("swap out and in elsewhere", swapping::round_trip),
    ("swaps polled late", swapping::late_polls),
    ("swapped blocks outlive the executor", swapping::outlives),
    ("sampler parameters", drawing::parameters),
    ("greedy is the argmax", drawing::greedy_is_argmax),
    ("masks", drawing::masks),
    ("logits only where kept", drawing::kept),
    ("steps ahead", ahead::as_one_by_one),
    ("bad steps ahead", ahead::refused),
    ("bad batches", refusals::batches),
    ("bad tickets", refusals::tickets),
    ("bad moves", refusals::moves),
    ("arena", arena::arena),
];

/// The same models as hub folders. F32 is compared with the golden logits, the others with the oracle.
const FORMS: [(&str, TinyForm); 5] = [
    ("folder, F32", TinyForm::Hub(HubWeights::Plain(StoredType::F32), 1)),
    ("folder, F32 in 3 files", TinyForm::Hub(HubWeights::Plain(StoredType::F32), 3)),
    ("folder, F16", TinyForm::Hub(HubWeights::Plain(StoredType::F16), 1)),
    ("folder, BF16", TinyForm::Hub(HubWeights::Plain(StoredType::BF16), 2)),
    ("folder, AWQ", TinyForm::Hub(HubWeights::Awq, 2)),
];

/// Runs every case on every tiny model, the first and last model in every weight type, and every model as a hub folder.
pub fn run(suite: &Suite<'_>) -> Report {
    run_on(&TinyModel::all(), suite)
}

/// The same on these models alone: for a second way of doing what [`run`] was passed with.
pub fn run_on(models: &[TinyModel], suite: &Suite<'_>) -> Report {
    let among =
        |some: &[TinyModel]| models.iter().copied().filter(|model| some.contains(model)).collect::<Vec<_>>();
    let mut report = Report::default();
    let first = suite.kinds.first().copied().unwrap_or(TensorType::F32);
    for &model in models {
        let mut bench = match Bench::open(suite, model, TinyForm::Gguf(first)) {
            Ok(bench) => bench,
            Err(error) => {
                report.add(model.name, "open", Err(error));
                continue;
            }
        };
        for (name, case) in CASES {
            report.add(model.name, name, case(&mut bench));
        }
    }
    for model in among(&[TinyModel::qwen3(), TinyModel::llama()]) {
        for &kind in suite.kinds {
            let bench = Bench::open(suite, model, TinyForm::Gguf(kind));
            report.add(model.name, kind.name(), bench.and_then(|mut bench| golden::as_oracle(&mut bench)));
        }
    }
    for &model in models {
        for (name, form) in FORMS {
            let bench = Bench::open(suite, model, form);
            report.add(model.name, name, bench.and_then(|mut bench| golden::golden_logits(&mut bench)));
        }
    }
    // Not llama's random weights: sharper attention lifts their 8-bit rounding, which is at the bound already, over it.
    for model in among(&[TinyModel::qwen3(), TinyModel::qwen3_tied(), TinyModel::qwen2()]) {
        let bench = Bench::open(suite, model, TinyForm::Yarn);
        report.add(model.name, "YaRN", bench.and_then(|mut bench| golden::with_yarn(&mut bench)));
    }
    report
}
