//! Stop strings, found across token edges and never leaked in part.

/// Looks for several strings in a stream of text; the one that is whole first ends it.
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

/// What a piece of text led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that is certainly before any stop string.
    pub emit: String,
    /// A stop string was found; nothing more is emitted.
    pub stopped: bool,
}

impl StopMatcher {
    /// Empty strings stop nothing.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|s| !s.is_empty()).collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes text in.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.stopped {
            return StopStep { emit: String::new(), stopped: true };
        }
        if self.stops.is_empty() {
            return StopStep { emit: text.to_owned(), stopped: false };
        }
        self.held.push_str(text);
        if let Some(at) = self.found() {
            self.stopped = true;
            self.held.truncate(at);
            return StopStep { emit: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        StopStep { emit: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Where the stop string that is whole first begins; the longest where several end there. By their ends, so that
    /// it does not matter in which pieces the text came.
    fn found(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop.len())));
        found.min_by_key(|(at, len)| (at + len, *at)).map(|(at, _)| at)
    }

    /// The end came without a stop string: what was held is text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }
}

/// Bytes of the longest end of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .find(|&n| {
            text.is_char_boundary(text.len() - n)
                && stop.as_bytes().starts_with(&text.as_bytes()[text.len() - n..])
        })
        .unwrap_or(0)
}
