//! What `quarry models fit` prints, and the tables that it shares with docs/GPU.md.

use serde_json::{Value, json};

use super::Candidate;
use super::bounds::Load;
use super::cards::CARDS;
use super::ledger::{Pair, Terms};
use super::table::Table;

/// Tokens of a conversation that is counted.
const CONVERSATION_TOKENS: usize = 8192;
/// Where a model does not fit.
const NONE: &str = "-";

pub fn gib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 30))
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

/// Each model alone on a device of so many bytes.
pub fn holding(terms: &Terms, device_bytes: u64, models: &[Candidate]) -> Table {
    let head = [
        "model",
        "type",
        "weights GiB",
        "scratch MiB",
        "KV KiB/token",
        "KV cache GiB",
        "tokens",
        "context",
        "8k chats",
    ];
    let mut table = Table::new(2, head);
    for model in models {
        let cost = model.cost(terms);
        let per_token = cost.block_bytes / terms.options.block_tokens / 1024;
        let fit = terms.fit(device_bytes, model);
        let mut row = vec![model.name.clone(), model.quantization.clone()];
        row.extend([gib(cost.weight_bytes as u64), mib(cost.scratch_bytes as u64), per_token.to_string()]);
        match fit {
            Some(fit) => row.extend([
                gib(fit.kv_bytes),
                fit.positions.to_string(),
                fit.context_tokens.to_string(),
                (fit.positions / CONVERSATION_TOKENS).to_string(),
            ]),
            None => row.extend([NONE; 4].map(str::to_owned)),
        }
        table.row(row);
    }
    table
}

/// Two models on a device, in words.
pub fn pair(terms: &Terms, device_bytes: u64, models: [&Candidate; 2]) -> String {
    match terms.pair(device_bytes, models) {
        Some(Pair::AtOnce { kv_bytes }) => format!("at once, {} GiB of KV", gib(kv_bytes)),
        Some(Pair::InTurns { kv_bytes }) => format!("in turns, {} GiB of KV", gib(kv_bytes)),
        None => NONE.to_owned(),
    }
}

/// Tokens a second at most, of each model on each card that holds it.
pub fn bounds(terms: &Terms, load: Load, models: &[Candidate]) -> Table {
    let head = ["model", "type", "GB/step"].into_iter().chain(CARDS.iter().map(|card| card.short));
    let mut table = Table::new(2, head);
    for model in models {
        let on = |card: &super::cards::Card| match terms.fit(card.bytes(), model) {
            Some(fit)
                if load.streams * load.context <= fit.positions && load.context <= fit.context_tokens =>
            {
                format!("{:.0}", load.tokens_max(model, card.bandwidth))
            }
            _ => NONE.to_owned(),
        };
        let step = format!("{:.2}", load.bytes(model) as f64 / 1e9);
        let row = [model.name.clone(), model.quantization.clone(), step];
        table.row(row.into_iter().chain(CARDS.iter().map(on)));
    }
    table
}

/// For a terminal.
pub fn text(terms: &Terms, device_bytes: u64, load: Load, models: &[Candidate]) -> String {
    let mut out = format!(
        "A device of {} GiB, of which {:.0} % (server.gpu_memory_utilization) may be taken: {} GiB.\n\
         Counted in bytes as the CUDA back end places them; measured on no card.\n\n{}",
        gib(device_bytes),
        terms.utilization * 100.0,
        gib(terms.budget_bytes(device_bytes)),
        holding(terms, device_bytes, models).text()
    );
    if models.len() > 1 && models.len() <= PAIRS_OF_MAX {
        out.push_str("\nTwo models on this device:\n");
        for (index, first) in models.iter().enumerate() {
            for second in &models[index + 1..] {
                let how = pair(terms, device_bytes, [first, second]);
                out.push_str(&format!("{} and {}: {how}\n", first.name, second.name));
            }
        }
    }
    let Load { streams, context, .. } = load;
    out.push_str(&format!(
        "\nBound, not a measurement: tokens/s of {streams} conversation(s) of {context} tokens together, at most, if a step\n\
         took no longer than its bytes at the card's bandwidth (launches come on top; without drafts).\n{}",
        bounds(terms, load, models).text()
    ));
    out
}

/// More models than this are not looked at in pairs.
const PAIRS_OF_MAX: usize = 6;

/// The same for programs, in bytes.
pub fn json(terms: &Terms, device_bytes: u64, load: Load, models: &[Candidate]) -> Value {
    let of = |model: &Candidate| {
        let cost = model.cost(terms);
        let fit = terms.fit(device_bytes, model);
        let on = |card: &super::cards::Card| json!({"card": card.name, "tokens_per_second_max": load.tokens_max(model, card.bandwidth)});
        json!({
            "name": model.name,
            "quantization": model.quantization,
            "weight_bytes": cost.weight_bytes,
            "scratch_bytes": cost.scratch_bytes,
            "kv_block_bytes": cost.block_bytes,
            "kv_bytes": fit.map(|fit| fit.kv_bytes),
            "positions": fit.map(|fit| fit.positions),
            "context_tokens": fit.map(|fit| fit.context_tokens),
            "step_bytes": load.bytes(model),
            "bounds": CARDS.iter().map(on).collect::<Vec<_>>(),
        })
    };
    json!({
        "device_bytes": device_bytes,
        "budget_bytes": terms.budget_bytes(device_bytes),
        "block_tokens": terms.options.block_tokens,
        "models": models.iter().map(of).collect::<Vec<_>>(),
    })
}
