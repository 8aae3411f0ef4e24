//! Every bound of the edge, in one place. What a model bounds (prompt, context) is the model's; what the engine
//! bounds (queue) is the engine's.

use std::time::Duration;

/// Open connections. More cost a file descriptor and some KiB each; fewer let clients wait for each other.
pub const CONNECTIONS_MAX_DEFAULT: usize = 1024;

/// Bounds of the HTTP edge; checked by [`Limits::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body. Default 16 MiB: some four million tokens, far past any context here.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are being read or turned into prompts; at least one body's. Default 256 MiB.
    pub bodies_bytes_max: usize,
    /// To read a body, so that a slow sender holds no handler for ever. Default 60 s.
    pub body_timeout: Duration,
    /// Bytes of a request's head, which is as much as is read ahead. Default 64 KiB.
    pub head_bytes_max: usize,
    /// To send a whole head, the wait for it included: what is slower, or silent between two requests, is closed.
    /// Default 30 s.
    pub head_timeout: Duration,
    /// Open connections; see [`CONNECTIONS_MAX_DEFAULT`].
    pub connections_max: usize,
    /// Connections beyond these, for `/health`, `/ready` and `/metrics` alone: other requests on them get 503, and
    /// each is closed after one answer. Further ones wait unaccepted. Default 8.
    pub reserved_connections_max: usize,
    /// To send a whole request on one of these. Default 1 s.
    pub reserved_request_timeout: Duration,
    /// Requests whose prompts are rendered and tokenized at once, each on its own thread. Default 4.
    pub preparing_max: usize,
    /// Messages of one conversation. Default 4096.
    pub messages_max: usize,
    /// Strings in `stop`. Default 4, as OpenAI has it.
    pub stop_strings_max: usize,
    /// Bytes of one string in `stop`; so much of an answer may be held back. Default 256.
    pub stop_string_bytes_max: usize,
    /// Entries of `stop_token_ids`. Default 64.
    pub stop_tokens_max: usize,
    /// The smallest `priority` a request may have; smaller runs earlier, and a server without keys cannot tell who may
    /// overtake. Default 0: a request may only step back.
    pub priority_min: i32,
    /// The longest `deadline_ms` that a request may have. Default a day.
    pub deadline_max: Duration,
    /// Time a stream's status waits for the first event, so that what the engine refuses at once gets its own
    /// status rather than an error in mid-stream. Default 250 ms.
    pub first_event_wait: Duration,
    /// Time in which a client must take something of what it is sent; who reads slower is cut off. Default 60 s.
    pub write_timeout: Duration,
    /// Silence after which a stream sends a comment, so that nobody on the way closes it. Default 10 s.
    pub keep_alive: Duration,
    /// What a client is told to wait while the server loads or shuts down, in seconds. Default 5.
    pub retry_after_not_ready_s: u32,
    /// Time that running requests have to finish after a shutdown was asked. Default 30 s.
    pub drain: Duration,
    /// Time that connections have to close after that. Default 5 s.
    pub close: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 << 20,
            bodies_bytes_max: 256 << 20,
            body_timeout: Duration::from_secs(60),
            head_bytes_max: 64 << 10,
            head_timeout: Duration::from_secs(30),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            reserved_connections_max: 8,
            reserved_request_timeout: Duration::from_secs(1),
            preparing_max: 4,
            messages_max: 4096,
            stop_strings_max: 4,
            stop_string_bytes_max: 256,
            stop_tokens_max: 64,
            priority_min: 0,
            deadline_max: Duration::from_secs(24 * 60 * 60),
            first_event_wait: Duration::from_millis(250),
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            retry_after_not_ready_s: 5,
            drain: Duration::from_secs(30),
            close: Duration::from_secs(5),
        }
    }
}

/// A bound that lets nothing through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit {name} is zero, or less than can work")]
pub struct LimitError {
    /// Which.
    pub name: &'static str,
}

/// The least that the HTTP implementation takes for [`Limits::head_bytes_max`].
const HEAD_BYTES_MIN: usize = 8 << 10;

impl Limits {
    /// No bound may be zero but the waits before a stream's status and at the end; a head must have 8 KiB.
    ///
    /// # Errors
    /// [`LimitError`] names the bound.
    pub fn check(&self) -> Result<(), LimitError> {
        let zeros = [
            ("body_bytes_max", self.body_bytes_max == 0),
            ("bodies_bytes_max", self.bodies_bytes_max < self.body_bytes_max),
            ("write_timeout", self.write_timeout.is_zero()),
            ("body_timeout", self.body_timeout.is_zero()),
            ("head_bytes_max", self.head_bytes_max < HEAD_BYTES_MIN),
            ("head_timeout", self.head_timeout.is_zero()),
            ("connections_max", self.connections_max == 0),
            ("reserved_connections_max", self.reserved_connections_max == 0),
            ("reserved_request_timeout", self.reserved_request_timeout.is_zero()),
            ("preparing_max", self.preparing_max == 0),
            ("messages_max", self.messages_max == 0),
            ("stop_strings_max", self.stop_strings_max == 0),
            ("stop_string_bytes_max", self.stop_string_bytes_max == 0),
            ("deadline_max", self.deadline_max.is_zero()),
            ("keep_alive", self.keep_alive.is_zero()),
        ];
        match zeros.into_iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(LimitError { name }),
            None => Ok(()),
        }
    }
}
