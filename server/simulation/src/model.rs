//! The fake model: what a step's rows say, and the guesses of what comes next.

use std::collections::BTreeMap;

use quarry_core::ids::{ModelId, RequestId, StepId, TokenId};
use quarry_core::plan::{RowOutcome, StepOutcome};
use quarry_core::verdict::Verdict;

use crate::device::{Device, Work};
use crate::oracle::{answer, content};
use crate::rng::mix;

/// Runs every row; the contents of each one's last position and of its draft's.
pub fn run_all(device: &mut Device, model: ModelId, works: &[Work]) -> Vec<Vec<u64>> {
    works.iter().map(|work| device.run(model, work)).collect()
}

pub fn outcome(
    id: StepId,
    model: ModelId,
    works: &[Work],
    contents: &[Vec<u64>],
    verdicts: &mut BTreeMap<RequestId, Verdict>,
) -> StepOutcome {
    let sampling = works.iter().zip(contents).filter(|(work, _)| work.row.samples);
    let rows = sampling.map(|(work, contents)| {
        let draft = work.row.draft();
        let verdict = verdicts.get_mut(&work.row.request).expect("asked for");
        let mut tokens = Vec::new();
        // On as long as what came is what the draft says.
        while verdict.reason().is_none() && tokens.len() <= draft.len() && draft.starts_with(&tokens) {
            let answer = answer(contents[tokens.len()]);
            let comes = std::iter::once(answer.token).chain(answer.forced);
            tokens.extend(comes.take_while(|token| verdict.takes(*token)));
            if answer.stops {
                verdict.stop();
            }
        }
        let finish = verdict.reason();
        let known = &work.tokens[..work.row.end as usize];
        let draft = guess(model, work.salt, &[known, &tokens].concat());
        RowOutcome { sequence: work.row.sequence, tokens, draft, finish }
    });
    StepOutcome { id, rows: rows.collect() }
}

/// What comes after these tokens, often with a mistake in it.
fn guess(model: ModelId, salt: u64, tokens: &[TokenId]) -> Vec<TokenId> {
    let mut last = tokens.iter().fold(None, |before, &token| Some(content(model, salt, before, token)));
    let mut draft = Vec::new();
    let seed = mix(last.expect("prompts are not empty") ^ 5);
    while draft.len() < (seed % 8) as usize {
        let answer = answer(last.expect("set"));
        for token in std::iter::once(answer.token).chain(answer.forced) {
            last = Some(content(model, salt, last, token));
            draft.push(token);
        }
    }
    if !draft.is_empty() && (seed >> 8).is_multiple_of(2) {
        let at = (seed >> 16) as usize % draft.len();
        draft[at] ^= 1;
    }
    draft
}
