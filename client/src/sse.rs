//! Server-sent events: bytes in, events out, whatever the cuts between the pieces.
//!
//! Source of the format: WHATWG HTML, "Server-sent events", section "Interpreting an event stream". Lines end with
//! LF, CR or CRLF; an empty line ends an event; `data` lines are joined by LF; a line that begins with `:` is a
//! comment; an event that is not ended when the stream is, is dropped. `id` and `retry` are for reconnecting
//! browsers and are ignored.

use std::collections::VecDeque;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, empty where there was none.
    pub name: String,
    /// The `data` lines, joined by LF.
    pub data: String,
}

/// An event is longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {bytes_max} bytes")]
pub struct EventTooLarge {
    /// The bound.
    pub bytes_max: usize,
}

/// Cuts a stream of bytes into events.
#[derive(Debug)]
pub struct Parser {
    bytes_max: usize,
    line: Vec<u8>,
    /// The last byte was a CR: a LF right after it belongs to the same line end.
    after_cr: bool,
    first_line: bool,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    ready: VecDeque<Event>,
}

impl Parser {
    /// A parser that holds at most `bytes_max` bytes of an unfinished event.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_cr: false,
            first_line: true,
            name: String::new(),
            data: Vec::new(),
            has_data: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes in a piece of the stream. Events it completes wait for [`Self::next`].
    ///
    /// # Errors
    /// [`EventTooLarge`]: the stream is of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                return self.extend_line(rest);
            };
            self.extend_line(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            self.end_line();
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    /// The next complete event.
    #[expect(clippy::should_implement_trait, reason = "None means not yet, so this is no iterator")]
    pub fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.line.len() + self.data.len() + bytes.len() > self.bytes_max {
            return Err(EventTooLarge { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.end_event();
        } else if line[0] != b':' {
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"data" => {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.has_data = true;
                    self.data.extend_from_slice(value);
                }
                b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
                _ => {}
            }
        }
        // The allocation is kept for the next line.
        line.clear();
        self.line = line;
    }

    fn end_event(&mut self) {
        let name = std::mem::take(&mut self.name);
        if std::mem::take(&mut self.has_data) {
            let data = String::from_utf8_lossy(&self.data).into_owned();
            self.ready.push_back(Event { name, data });
        }
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::new(1 << 16);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece).unwrap();
            events.extend(std::iter::from_fn(|| parser.next()));
        }
        events
    }

    fn data(events: &[Event]) -> Vec<&str> {
        events.iter().map(|e| e.data.as_str()).collect()
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let text = "\u{feff}: ping\ndata: a\n\ndata:b\r\ndata:  c\r\n\r\nevent: x\rid: 7\rdata\r\r\n: end\n\ndata: lost";
        let events = parse(&[text.as_bytes()]);
        assert_eq!(data(&events), ["a", "b\n c", ""]);
        assert_eq!(events[2].name, "x");
    }

    #[test]
    fn the_bound_holds_over_lines_and_pieces() {
        let mut parser = Parser::new(10);
        assert!(parser.push(b"data: 123\n\n").is_ok());
        assert!(parser.push(b"data: 45").is_ok());
        assert_eq!(parser.push(b"6789"), Err(EventTooLarge { bytes_max: 10 }));
        let mut parser = Parser::new(16);
        let lines = (0..9).try_for_each(|_| parser.push(b"data: xx\n"));
        assert_eq!(lines, Err(EventTooLarge { bytes_max: 16 }));
    }

    prop_compose! {
        fn line_end()(which in 0..3usize) -> &'static str { ["\n", "\r\n", "\r"][which] }
    }

    proptest! {
        /// Whatever the data, the line ends, the comments between and the cuts: the same events come out.
        #[test]
        fn cuts_and_line_ends_do_not_matter(
            payloads in prop::collection::vec("[^\r\n]{0,24}", 0..8),
            ends in prop::collection::vec(line_end(), 24),
            comments in prop::collection::vec(any::<bool>(), 8),
            cuts in prop::collection::vec(0..400usize, 0..12),
        ) {
            let mut text = String::new();
            let mut ends = ends.into_iter().cycle();
            for (payload, comment) in payloads.iter().zip(comments) {
                if comment {
                    text.push_str(": keep-alive");
                    text.push_str(ends.next().unwrap());
                }
                // A lone CR followed by a LF would read as one line end, so an event uses one kind.
                let end = ends.next().unwrap();
                text.push_str(&format!("data: {payload}{end}{end}"));
                if end == "\r" {
                    text.push_str(":\r");
                }
            }
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let events = parse(&pieces);
            prop_assert_eq!(data(&events), payloads.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(parse(&[bytes]), events);
        }

        /// No bytes make it panic or hold more than its bound.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), bound in 1..64usize) {
            let mut parser = Parser::new(bound);
            let _ = parser.push(&bytes);
            prop_assert!(parser.line.len() + parser.data.len() <= bound + 1);
        }
    }
}
