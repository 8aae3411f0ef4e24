//! Tries that see a part of the page: a digest of it first, and sections where it is too long for one prompt.

use super::{Answered, Extraction, Outcome, result_of};
use crate::attempt::{Attempt, AttemptResult};
use crate::chat::ChatErrorKind;
use crate::extract::sections;
use crate::facts::Field;
use crate::posting::{Posting, Route};
use crate::words::{self, List};

/// Sections shorter than this would hold too little to be read by themselves.
const SECTION_BYTES_MIN: usize = 400;
/// How often a page is cut, each time into shorter sections.
const SECTION_CUTS_MAX: usize = 3;

impl Extraction<'_> {
    /// One try with the local model over the few hundred tokens that most likely hold the facts.
    pub async fn digest(&mut self, reason: String) {
        let request = self.posting_request(&self.reading.digest());
        if self.plans(Route::Local, &reason) {
            return;
        }
        let answered = self.ask_local(&request).await;
        self.note_server(&answered);
        let checked = self.check(answered.text.as_ref()).await;
        let left_open =
            checked.as_ref().map_or_else(|_| Vec::new(), |checked| missing(&checked.resolved.posting));
        let is_whole =
            checked.as_ref().is_ok_and(|checked| left_open.is_empty() && checked.problems.is_empty());
        self.digest = Some(left_open);
        let result = match &checked {
            Ok(checked) if is_whole => {
                AttemptResult::Done(usize::from(checked.resolved.posting.title.is_some()))
            }
            Ok(checked) => {
                let open = self.digest.iter().flatten().map(|field| format!("{field} is still open"));
                AttemptResult::Refused(checked.problems.iter().cloned().chain(open).collect())
            }
            Err(why) => AttemptResult::Failed(why.clone()),
        };
        let Answered { text, tokens, seconds } = answered;
        self.attempts.push(Attempt {
            route: Route::Local,
            reason: reason.clone(),
            tokens,
            cost_usd: 0.0,
            seconds,
            result,
        });
        match checked {
            Ok(checked) if is_whole => {
                let postings = vec![checked.resolved.posting.clone()];
                let outcome = Outcome::new(Route::Local, reason, postings, checked.notes);
                self.outcome = Some(outcome.because(&checked.resolved));
            }
            Ok(checked) => {
                // That a digest does not say everything is no failure; that its answer is wrong is one.
                if !checked.problems.is_empty() {
                    self.local_failures += 1;
                    self.refused = text.ok().map(|answer| (answer, checked.problems.clone()));
                }
                self.best = Some((Route::Local, checked));
            }
            Err(_) if self.local_server_failure.is_some() => {}
            Err(why) => {
                self.local_failures += u32::from(!self.is_too_long);
                self.refused = text.ok().map(|answer| (answer, vec![why]));
            }
        }
    }

    /// The local model, piece by piece, joined by field. Pieces that the server finds too long are cut again, shorter.
    pub async fn sections(&mut self, reason: String) {
        if self.plans(Route::Local, &reason) {
            return;
        }
        self.is_cut = true;
        let markdown = self.reading.markdown();
        let mut bytes_max = self.section_bytes(markdown.len());
        let (mut found, mut is_cut_off, mut count) = (Vec::new(), false, 0);
        for _ in 0..SECTION_CUTS_MAX {
            let (pieces, cut_off) =
                sections::cut(markdown, bytes_max, self.resources.config.hybrid.chunks_max);
            (is_cut_off, count) = (cut_off, pieces.len());
            let asked = pieces.iter().map(|piece| {
                let request = self.posting_request(piece);
                let this = &*self;
                async move { this.ask_local(&request).await }
            });
            let answers = futures::future::join_all(asked).await;
            found.clear();
            let mut is_too_long = false;
            for (index, answered) in answers.into_iter().enumerate() {
                self.note_server(&answered);
                is_too_long |=
                    answered.text.as_ref().is_err_and(|error| error.kind == ChatErrorKind::TooLong);
                let checked = self.check(answered.text.as_ref()).await;
                self.attempts.push(Attempt {
                    route: Route::Local,
                    reason: format!("section {} of {count}", index + 1),
                    tokens: answered.tokens,
                    cost_usd: 0.0,
                    seconds: answered.seconds,
                    result: result_of(&checked),
                });
                found.extend(checked.ok());
            }
            if self.local_server_failure.is_some() {
                return;
            }
            if !is_too_long {
                break;
            }
            bytes_max = (bytes_max / 2).max(1);
        }
        // That a later section names no title is no news.
        let is_news = |problem: &&String| !problem.starts_with("title: every");
        let mut warnings: Vec<String> =
            found.iter().flat_map(|checked| checked.problems.iter().filter(is_news).cloned()).collect();
        if is_cut_off {
            warnings.push(format!("only the first {count} sections were read (hybrid.chunks_max)"));
        }
        let joined = found
            .into_iter()
            .map(|checked| checked.resolved.posting)
            .reduce(|first, next| crate::store::fill(first, &next));
        match joined.filter(|posting| posting.title.is_some()) {
            Some(posting) => {
                self.outcome = Some(Outcome::new(Route::Local, reason, vec![posting], warnings));
            }
            None => self.local_failures += 1,
        }
    }

    /// Bytes of a section: what the room holds at the page's own bytes a token. Half of the room is left for the shared
    /// part and for text denser than the page's mean.
    fn section_bytes(&self, page_bytes: usize) -> usize {
        let tokens = self.prompt.map_or(1, |prompt| prompt.tokens).max(1);
        // A count that the server found too small was an estimate.
        let room = if self.is_too_long { self.room().min(tokens) / 2 } else { self.room() };
        let share = f64::from(room / 2) / f64::from(tokens);
        ((page_bytes as f64 * share.min(0.5)) as usize).max(SECTION_BYTES_MIN)
    }
}

/// Of who, what and where, the fields that a posting lacks.
fn missing(posting: &Posting) -> Vec<&'static str> {
    let fields = [
        (Field::Title, posting.title.is_none()),
        (Field::Company, posting.company.is_none()),
        // A country alone is where a job may be, not yet where it is.
        (Field::Locations, !names_a_place(posting) && posting.remote != Some(true)),
    ];
    fields.into_iter().filter(|(_, is_missing)| *is_missing).map(|(field, _)| field.name()).collect()
}

fn names_a_place(posting: &Posting) -> bool {
    posting.locations.iter().any(|place| !words::is(List::Countries, place))
}
