//! docs/GPU.md: which card runs which model, for the default configuration. `quarry models fit --page` prints it, and a
//! test compares it, so that no figure of it can go stale.

use quarry_models::Registry;

use super::Candidate;
use super::bounds::Load;
use super::cards::CARDS;
use super::ledger::Terms;
use super::report::{bounds, gib, holding, pair};
use super::table::Table;
use crate::config::Config;

/// Memory of devices, GiB.
const SIZES: [f64; 8] = [8.0, 12.0, 16.0, 22.5, 24.0, 32.0, 45.0, 80.0];
/// The size that is shown in full.
const SHOWN_GIB: f64 = 16.0;
/// Pairs of models that somebody may want side by side.
const PAIRS: [[&str; 2]; 6] = [
    ["qwen3-4b-instruct-2507-q4_k_m", "qwen3-4b-thinking-2507-q4_k_m"],
    ["qwen3-4b-awq", "qwen3-8b-awq"],
    ["qwen3-4b-awq", "qwen3-14b-awq"],
    ["qwen3-8b-awq", "qwen3-14b-awq"],
    ["qwen3-4b-instruct-2507-bf16", "qwen3-4b-thinking-2507-bf16"],
    ["qwen3-8b-bf16", "qwen3-14b-awq"],
];

const HEAD: &str = "\
# Running on a GPU

Made by `quarry models fit --page`; a test compares it with the code.

A program with the feature `cuda` looks for a CUDA device when it starts and computes there. `server.device` says which
(`auto`, `cuda`, `cuda:1`, `cuda:GPU-UUID`, `cpu`), `server.gpu_memory_utilization` how much of its memory may be taken.

## What is measured here, and what is not

Nothing on this page was measured. The CUDA back end has never run on a card. What it was checked with:

- **Sizes** are exact: the functions that make these tables are those by which the back end places weights, scratch and KV
  blocks. Tests compare them with what the server charges, and with what the back end allocates, for a small model on a
  driver that runs the kernels on the CPU.
- **Bytes of a decode step** follow from the sizes; a test counts what the kernels load on that driver and allows 5 % more.
- **Speeds are bounds**: a card's bandwidth, as its maker gives it, over the bytes of a step that makes one token for each
  conversation. No such step is faster; how near ours come is not known. Launches, activations, drawing and the host come on
  top, and are most of it for small models. Drafts, which make several tokens in a step where they are right, are left out.

The driver's own context takes some hundred MiB of every card, and a desktop more: that is what the share of 85 % leaves
room for.

";

/// The page.
pub fn page() -> String {
    let terms = Terms::of(&Config::default().server);
    let registry = Registry::new("unused");
    let models: Vec<Candidate> = registry.manifests().iter().filter_map(Candidate::known).collect();
    let mut out = HEAD.to_owned();
    out.push_str(&format!(
        "## The longest conversation\n\n\
         Tokens of prompt and answer of one conversation, by the memory of the device (GiB, as the driver reports it) and\n\
         the default of `gpu_memory_utilization`, {}. `-`: it does not run there.\n\n",
        terms.utilization
    ));
    out.push_str(&contexts(&terms, &models).markdown());
    out.push_str(&format!(
        "\n## In full, for a device of {SHOWN_GIB} GiB\n\n\
         Of {SHOWN_GIB} GiB {} GiB may be taken. What weights and scratch leave is KV cache, shared by all conversations and\n\
         cached prefixes; `tokens` is what it holds. Other sizes, files and settings: `quarry models fit --vram SIZE`.\n\n",
        gib(terms.budget_bytes(bytes(SHOWN_GIB)))
    ));
    out.push_str(&holding(&terms, bytes(SHOWN_GIB), &models).markdown());
    out.push_str(
        "\n## Two models\n\n\
         At once: the weights of both are on the device, and steps of both take turns without moving anything. In turns: the\n\
         KV cache is what the larger one leaves; the weights of the other wait in host memory (within `server.memory`, where it\n\
         is set) and change places with it when its requests come. Conversations of both stay in the KV cache or in\n\
         `server.swap_space`.\n\n",
    );
    out.push_str(&pairs(&terms, &models).markdown());
    for (load, words) in [
        (Load { streams: 1, context: 1024, holding: terms.holding }, "one conversation of 1,024 tokens"),
        (
            Load { streams: 8, context: 2048, holding: terms.holding },
            "eight conversations of 2,048 tokens, all of them together",
        ),
    ] {
        out.push_str(&format!(
            "\n## Bound on tokens a second: {words}\n\n\
             A bound, not a measurement; columns are the cards below. `-`: it does not fit.\n\n"
        ));
        out.push_str(&bounds(&terms, load, &models).markdown());
    }
    out.push_str(
        "\n## Cards\n\nAs their makers' data sheets have it; memory about as the driver reports it.\n\n",
    );
    out.push_str(&cards().markdown());
    out
}

fn bytes(gib: f64) -> u64 {
    (gib * f64::from(1 << 30)) as u64
}

fn contexts(terms: &Terms, models: &[Candidate]) -> Table {
    let sizes = SIZES.iter().map(|gib| format!("{gib} GiB"));
    let mut table = Table::new(2, ["model".to_owned(), "type".to_owned()].into_iter().chain(sizes));
    for model in models {
        let on = |gib: &f64| match terms.fit(bytes(*gib), model) {
            Some(fit) => fit.context_tokens.to_string(),
            None => "-".to_owned(),
        };
        let names = [model.name.clone(), model.quantization.clone()];
        table.row(names.into_iter().chain(SIZES.iter().map(on)));
    }
    table
}

fn pairs(terms: &Terms, models: &[Candidate]) -> Table {
    let sizes = SIZES.iter().map(|gib| format!("{gib} GiB"));
    let mut table = Table::new(1, std::iter::once("models".to_owned()).chain(sizes));
    for names in PAIRS {
        let [Some(first), Some(second)] = names.map(|name| models.iter().find(|model| model.name == name))
        else {
            continue;
        };
        let both = std::iter::once(names.join(", "));
        table.row(both.chain(SIZES.iter().map(|gib| pair(terms, bytes(*gib), [first, second]))));
    }
    table
}

fn cards() -> Table {
    let mut table = Table::new(2, ["column", "card", "memory GiB", "GB/s"]);
    for card in &CARDS {
        let (gib, bandwidth) = (card.gib.to_string(), card.bandwidth.to_string());
        table.row([card.short.to_owned(), card.name.to_owned(), gib, bandwidth]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_what_the_code_says() {
        let committed = include_str!("../../docs/GPU.md");
        assert!(committed == page(), "stale; run: quarry models fit --page > docs/GPU.md");
    }

    #[test]
    fn every_pair_is_of_known_models() {
        let registry = Registry::new("unused");
        assert!(PAIRS.iter().flatten().all(|name| registry.manifest(name).is_ok()));
    }
}
