//! Progress bars of long work; plain lines where stderr is no terminal.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use quarry_agent::agent;
use quarry_agent::attempt::PageReport;
use quarry_models::Progress;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Draws a model's pull.
pub struct PullProgress {
    bar: ProgressBar,
    terminal: bool,
    last_line: Instant,
}

impl PullProgress {
    /// For one model.
    pub fn new(name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        Self { bar, terminal, last_line: Instant::now() }
    }

    /// Takes an event in.
    pub fn event(&mut self, event: &Progress<'_>) {
        match event {
            Progress::Waiting { lock } => {
                self.line(&format!("waiting for another pull ({})", lock.display()))
            }
            Progress::Source { source, resumed_bytes } => {
                self.line(&format!("from {source}{}", resumed(*resumed_bytes)));
            }
            Progress::Failed { source, reason } => self.line(&format!("{source} failed: {reason}")),
            Progress::Part { number, of, package } => {
                self.bar.set_message(format!("part {number}/{of} {package}"));
                if !self.terminal {
                    self.line(&format!("part {number} of {of}: {package}"));
                }
            }
            Progress::Bytes { done, total } => self.bytes(*done, *total, "fetched"),
            Progress::Verifying { done, total } => {
                self.bar.set_message("verifying");
                self.bytes(*done, Some(*total), "verified");
            }
        }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn bytes(&mut self, done: u64, total: Option<u64>, verb: &str) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        if !self.terminal && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let of = total.map(|t| format!(" of {}", t / 1_000_000)).unwrap_or_default();
            self.line(&format!("{verb} {}{of} MB", done / 1_000_000));
        }
    }

    fn line(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{}: {text}", self.bar.prefix());
        }
    }
}

/// Draws pages being read.
pub struct PageProgress {
    bar: ProgressBar,
    terminal: bool,
}

impl PageProgress {
    /// Counts `what`.
    pub fn new(what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {pos}/{len} {bar:30} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, terminal }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl agent::Progress for PageProgress {
    fn started(&self, source: &str) {
        self.bar.set_message(source.to_owned());
    }

    fn finished(&self, report: &PageReport, done: usize, known: usize) {
        self.bar.set_length(known as u64);
        self.bar.set_position(done as u64);
        if !self.terminal {
            let page = &report.page;
            eprintln!(
                "{done}/{known} {} ({} postings, {:.1} s)",
                page.source,
                page.postings.len(),
                page.seconds
            );
        }
    }
}

/// Draws seeds being run, from several threads.
pub struct SeedProgress {
    bar: ProgressBar,
    terminal: bool,
    /// Milliseconds from the start to the last line.
    last_line: AtomicU64,
    began: Instant,
}

impl SeedProgress {
    /// Of so many.
    pub fn new(seeds: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(seeds) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("seeds {pos}/{len} {bar:30} {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(seeds);
        Self { bar, terminal, last_line: AtomicU64::new(0), began: Instant::now() }
    }

    /// So many are done.
    pub fn done(&self, done: u64) {
        if self.terminal {
            self.bar.set_position(done);
            return;
        }
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.last_line.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(last) >= LINE_EVERY.as_millis() as u64;
        // Of several threads one says it.
        if is_due && self.last_line.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            eprintln!("{done} of {} seeds", self.bar.length().unwrap_or(done));
        }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Columns of the terminal that stdout is, else enough for every column of a table.
pub fn line_width() -> usize {
    let terminal = console::Term::stdout();
    let columns = if terminal.is_term() { usize::from(terminal.size().1) } else { 160 };
    columns.clamp(60, 240)
}

fn resumed(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(", {} MB are here already", bytes / 1_000_000) }
}
