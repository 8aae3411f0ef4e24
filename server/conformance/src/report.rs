//! What passed and what did not.

use std::fmt;

/// One case on one model.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The tiny model.
    pub model: &'static str,
    /// The case, or the weight type.
    pub case: &'static str,
    /// Why it failed.
    pub failure: Option<String>,
}

/// All cases that ran.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In order.
    pub results: Vec<CaseResult>,
}

impl Report {
    pub(crate) fn add(&mut self, model: &'static str, case: &'static str, outcome: Result<(), String>) {
        self.results.push(CaseResult { model, case, failure: outcome.err() });
    }

    /// Panics with a table of failures, if there are any.
    ///
    /// # Panics
    /// See above; it is what a test wants.
    pub fn assert_passed(&self) {
        assert!(!self.results.is_empty(), "no case ran");
        assert!(self.results.iter().all(|result| result.failure.is_none()), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: Vec<_> = self.results.iter().filter(|result| result.failure.is_some()).collect();
        writeln!(f, "{} of {} cases failed", failed.len(), self.results.len())?;
        for CaseResult { model, case, failure } in failed {
            writeln!(f, "  {model:12} {case:28} {}", failure.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }
}
