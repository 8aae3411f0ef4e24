//! Which way a page goes. Pure: the same facts give the same decision, and the decision says why.
//!
//! zero-token where structure says it all · local over a digest · where that leaves fields open, local over the whole page
//! under the threshold, twice · cloud past the threshold or after two local failures, within the budget · else by section,
//! locally. A listing never leaves for its length.

use crate::posting::{PageKind, Route};
use crate::tokens::TokenCount;

/// What is known when the decision is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What the gate made of the page.
    pub kind: PageKind,
    /// Why the page's structure is enough, or what it lacks.
    pub structure: Result<String, String>,
    /// The prompt as it would be sent.
    pub prompt: TokenCount,
    /// `hybrid.threshold_tokens`, or less where the local model takes less.
    pub threshold_tokens: u32,
    /// Fields that the digest left open; `None` before the digest was tried.
    pub digest: Option<Vec<&'static str>>,
    /// Local tries that failed verification or gave no usable answer; a server that answers nobody is none.
    pub local_failures: u32,
    /// The page was read section by section.
    pub is_cut: bool,
    /// Whether the paid endpoint may be asked.
    pub cloud: CloudState,
}

/// The paid endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CloudState {
    /// Switched off.
    Off,
    /// The month has money for this prompt.
    Within,
    /// It has not.
    OverBudget {
        /// Spent or set aside.
        spent_usd: f64,
        /// The budget.
        budget_usd: f64,
    },
    /// It was asked for this page and failed.
    Failed,
}

/// Where a page goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nowhere.
    Stop,
    /// What its structure declares.
    Structure,
    /// The local model over a digest of the page.
    Digest,
    /// The local model over the whole page; the second time with the verifier's problems.
    Local,
    /// The paid model.
    Cloud,
    /// The local model, section by section.
    Sections,
}

impl Way {
    /// As printed.
    pub fn route(self) -> Route {
        match self {
            Self::Stop => Route::None,
            Self::Structure => Route::ZeroToken,
            Self::Digest | Self::Local | Self::Sections => Route::Local,
            Self::Cloud => Route::Cloud,
        }
    }
}

/// A way and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where to.
    pub way: Way,
    /// For people.
    pub reason: String,
}

/// Local tries before a page escalates.
pub const LOCAL_TRIES: u32 = 2;

/// Decides.
pub fn decide(facts: &Facts) -> Decision {
    let to = |way, reason: String| Decision { way, reason };
    match facts.kind {
        PageKind::None => return to(Way::Stop, "the page is no posting and no listing".to_owned()),
        PageKind::Hub => return to(Way::Stop, "the page only links to openings elsewhere".to_owned()),
        PageKind::Posting | PageKind::Listing => {}
    }
    let lacks = match &facts.structure {
        Ok(why) => return to(Way::Structure, why.clone()),
        Err(lacks) => lacks,
    };
    let about = if facts.prompt.is_exact { "" } else { "about " };
    let length = format!("prompt of {about}{} tokens", facts.prompt.tokens);
    let threshold = facts.threshold_tokens;
    let fits = facts.prompt.tokens <= threshold;
    if facts.kind == PageKind::Listing {
        return if facts.local_failures == 0 {
            to(Way::Local, format!("{lacks}; the model labels one record"))
        } else {
            to(Way::Stop, "the records could not be labelled".to_owned())
        };
    }
    let Some(left_open) = &facts.digest else {
        return to(Way::Digest, format!("{lacks}; a digest of the page first"));
    };
    let lacks = if left_open.is_empty() {
        lacks.clone()
    } else {
        format!("the digest leaves {} open", left_open.join(", "))
    };
    if fits && facts.local_failures < LOCAL_TRIES {
        let again = if facts.local_failures > 0 { "; second try with the verifier's problems" } else { "" };
        return to(Way::Local, format!("{lacks}; {length} within {threshold}{again}"));
    }
    let why = if fits {
        format!("{} local tries failed", facts.local_failures)
    } else {
        format!("{lacks}; {length} over {threshold}")
    };
    let no_cloud = match facts.cloud {
        CloudState::Within => return to(Way::Cloud, why),
        CloudState::Off => "the cloud is switched off".to_owned(),
        CloudState::Failed => "the cloud gave no answer".to_owned(),
        CloudState::OverBudget { spent_usd, budget_usd } => {
            format!("the month's budget is used up ({spent_usd:.2} of {budget_usd:.2} USD)")
        }
    };
    if !fits && !facts.is_cut {
        return to(Way::Sections, format!("{why}; {no_cloud}, so section by section"));
    }
    to(Way::Stop, format!("{why}; {no_cloud}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            kind: PageKind::Posting,
            structure: Err("no structured data".into()),
            prompt: TokenCount { tokens: 1000, is_exact: true, prompt_tokens_max: None },
            threshold_tokens: 8000,
            digest: Some(vec!["company"]),
            local_failures: 0,
            is_cut: false,
            cloud: CloudState::Within,
        }
    }

    #[test]
    fn the_cheapest_way_that_can_work() {
        let way = |facts: Facts| decide(&facts).way;
        let long = TokenCount { tokens: 8001, is_exact: true, prompt_tokens_max: None };
        assert_eq!(way(Facts { structure: Ok("JSON-LD".into()), ..facts() }), Way::Structure);
        assert_eq!(way(Facts { digest: None, ..facts() }), Way::Digest);
        assert_eq!(
            way(Facts { digest: None, prompt: long, ..facts() }),
            Way::Digest,
            "of a long page as well"
        );
        assert_eq!(way(facts()), Way::Local);
        assert_eq!(way(Facts { local_failures: 1, ..facts() }), Way::Local);
        assert_eq!(way(Facts { local_failures: 2, ..facts() }), Way::Cloud);
        assert_eq!(way(Facts { local_failures: 2, cloud: CloudState::Off, ..facts() }), Way::Stop);
        assert_eq!(way(Facts { prompt: long, ..facts() }), Way::Cloud);
        assert_eq!(way(Facts { prompt: long, cloud: CloudState::Off, ..facts() }), Way::Sections);
        assert_eq!(
            way(Facts { prompt: long, cloud: CloudState::Off, local_failures: 1, ..facts() }),
            Way::Sections,
            "a page that turned out too long is cut all the same"
        );
        assert_eq!(way(Facts { prompt: long, cloud: CloudState::Off, is_cut: true, ..facts() }), Way::Stop);
        assert_eq!(way(Facts { kind: PageKind::Hub, ..facts() }), Way::Stop);
        assert_eq!(way(Facts { kind: PageKind::None, structure: Ok("x".into()), ..facts() }), Way::Stop);
        assert_eq!(
            way(Facts { prompt: long, kind: PageKind::Listing, ..facts() }),
            Way::Local,
            "never for its length"
        );
    }

    #[test]
    fn a_refusal_names_the_budget() {
        let cloud = CloudState::OverBudget { spent_usd: 4.99, budget_usd: 5.0 };
        let decision = decide(&Facts { local_failures: 2, cloud, ..facts() });
        assert_eq!(decision.way, Way::Stop);
        assert!(decision.reason.contains("4.99 of 5.00"), "{}", decision.reason);
    }

    #[test]
    fn every_page_comes_to_an_end() {
        // Each step either stops or adds a failure; no facts may be answered for ever.
        for kind in [PageKind::Posting, PageKind::Listing] {
            for tokens in [1, 100_000] {
                for cloud in [CloudState::Off, CloudState::Within] {
                    let prompt = TokenCount { tokens, is_exact: true, prompt_tokens_max: None };
                    let mut facts = Facts { kind, prompt, cloud, digest: None, ..facts() };
                    let mut steps = 0;
                    loop {
                        match decide(&facts).way {
                            Way::Stop | Way::Structure => break,
                            Way::Cloud => facts.cloud = CloudState::Failed,
                            Way::Digest => facts.digest = Some(Vec::new()),
                            Way::Local => facts.local_failures += 1,
                            Way::Sections => facts.is_cut = true,
                        }
                        steps += 1;
                        assert!(steps < 6, "{facts:?}");
                    }
                }
            }
        }
    }
}
