//! One run: from the queue to results, over two pools.
//!
//! Fetches (polite, few per host) fill a short line of fetched pages, readings (wide, so that the server can batch)
//! empty it; each is a task of its own, and this loop hands pages from one to the other. The queue is the store, so a
//! run that was killed goes on where it was. Whoever drops the run ends its tasks.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::FutureExt as _;
use tokio::task::JoinSet;

use crate::agent::{Progress, ScrapeOptions};
use crate::attempt::PageReport;
use crate::config::ScrapingConfig;
use crate::error::AgentError;
use crate::extract::Resources;
use crate::fetch::Fetcher;
use crate::pipeline::{self, Done, Fetched};
use crate::posting::Route;
use crate::store::{Finished, Found, Lease, RunId, Store};

/// Fetched pages waiting to be read, per reading slot; more would only hold memory.
const READY_PER_READER: usize = 2;
/// Pages in a row that the local model's server failed, after which a run ends: fetching on would only leave pages.
const LOCAL_SERVER_FAILURES_MAX: u32 = 5;
/// How long to wait, on average, before looking again for pages that another process holds.
const FOREIGN_LEASE_POLL: Duration = Duration::from_millis(500);

/// One run under way.
pub struct Run<'a> {
    resources: Arc<Resources>,
    fetcher: Arc<Fetcher>,
    /// Where queue and results are; not the agent's own in a dry run.
    store: Arc<Store>,
    id: RunId,
    options: ScrapeOptions,
    progress: &'a dyn Progress,
    /// Pages under way, by source.
    leases: HashMap<String, Lease>,
    fetching: JoinSet<Got>,
    ready: VecDeque<Fetched>,
    reading: JoinSet<Done>,
    bytes: u64,
    /// In a row, up to now.
    local_server_failures: u32,
}

/// What came out of the fetching pool, and the host that has a slot again.
struct Got {
    host: String,
    page: Result<Fetched, Done>,
}

impl<'a> Run<'a> {
    /// Nothing done yet.
    pub fn new(
        resources: Arc<Resources>,
        fetcher: Arc<Fetcher>,
        store: Arc<Store>,
        id: RunId,
        options: ScrapeOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            resources,
            fetcher,
            store,
            id,
            options,
            progress,
            leases: HashMap::new(),
            fetching: JoinSet::new(),
            ready: VecDeque::new(),
            reading: JoinSet::new(),
            bytes: 0,
            local_server_failures: 0,
        }
    }

    /// Reads until no page is left; gives all results in the order in which pages were found.
    pub async fn drive(mut self) -> Result<Vec<PageReport>, AgentError> {
        let lease_seconds = self.resources.config.storage.lease_seconds;
        let mut hosts: HashMap<String, usize> = HashMap::new();
        let mut heartbeat = tokio::time::interval(Duration::from_secs_f64(lease_seconds as f64 / 3.0));
        loop {
            self.start_reading();
            self.start_fetching(&mut hosts).await?;
            if self.fetching.is_empty() && self.reading.is_empty() {
                let state = self.store.run_state(self.id).await?;
                if state.queued == 0 && state.leased == 0 {
                    self.store.finish_run(self.id, now()).await?;
                    return self.store.reports(self.id).await;
                }
                // Another process holds the rest; its leases end with it.
                tokio::time::sleep(FOREIGN_LEASE_POLL.mul_f64(0.5 + fastrand::f64())).await;
                continue;
            }
            tokio::select! {
                Some(got) = self.fetching.join_next() => {
                    let Got { host, page } = joined(got)?;
                    if let Some(count) = hosts.get_mut(&host) {
                        *count -= 1;
                    }
                    hosts.retain(|_, count| *count > 0);
                    match page {
                        Ok(fetched) => {
                            self.bytes += fetched.page.bytes.len() as u64;
                            self.ready.push_back(fetched);
                        }
                        Err(done) => self.keep(done).await?,
                    }
                }
                Some(done) = self.reading.join_next() => self.keep(joined(done)?).await?,
                _ = heartbeat.tick() => self.store.extend(self.leases.values(), now(), lease_seconds).await?,
            }
        }
    }

    fn start_reading(&mut self) {
        while self.reading.len() < self.resources.config.scraping.extractions_in_flight
            && let Some(page) = self.ready.pop_front()
        {
            let (resources, dry_run) = (Arc::clone(&self.resources), self.options.dry_run);
            let found = page.found.clone();
            self.reading.spawn(caught(found, async move { pipeline::read(&resources, page, dry_run).await }));
        }
    }

    /// Takes pages as long as there is room for them and a host that may be asked.
    async fn start_fetching(&mut self, hosts: &mut HashMap<String, usize>) -> Result<(), AgentError> {
        let resources = Arc::clone(&self.resources);
        let (scraping, storage) = (&resources.config.scraping, &resources.config.storage);
        let ready_max = scraping.extractions_in_flight * READY_PER_READER;
        while self.fetching.len() < scraping.fetches_in_flight
            && self.ready.len() + self.fetching.len() < ready_max
        {
            let busy = busy_hosts(hosts, scraping);
            let lease = self.store.lease(self.id, &busy, now(), storage.lease_seconds).await?;
            let Some(lease) = lease else { return Ok(()) };
            let found = lease.entry.clone();
            *hosts.entry(found.host.clone()).or_default() += 1;
            self.leases.insert(found.source.clone(), lease);
            self.progress.started(&found.source);
            let (resources, fetcher, bytes) =
                (Arc::clone(&self.resources), Arc::clone(&self.fetcher), self.bytes);
            self.fetching.spawn(async move {
                let host = found.host.clone();
                let config = &resources.config.scraping;
                let way = async {
                    match pipeline::allow(found.clone(), bytes, config) {
                        Ok(allowed) => pipeline::fetch(allowed, &fetcher, config).await,
                        Err(refused) => Err(refused),
                    }
                };
                let page = AssertUnwindSafe(way).catch_unwind().await;
                Got { host, page: page.unwrap_or_else(|_| Err(pipeline::fail(found, PANICKED.to_owned()))) }
            });
        }
        Ok(())
    }

    /// Stored, then announced.
    async fn keep(&mut self, done: Done) -> Result<(), AgentError> {
        let Some(lease) = self.leases.remove(&done.found.source) else { return Ok(()) };
        let report = Arc::new(done.report);
        let pages_max = self.resources.config.scraping.pages_max;
        let finished = Finished { report: Arc::clone(&report), links: done.links, pages_max };
        if self.store.finish(self.id, &lease, finished, now()).await? {
            let page = &report.page;
            tracing::info!(
                page = %page.source,
                kind = ?page.kind,
                route = ?page.route,
                postings = page.postings.len(),
                seconds = page.seconds,
                "page finished"
            );
            let state = self.store.run_state(self.id).await?;
            self.progress.finished(&report, state.done, state.done + state.leased + state.queued);
        }
        self.note_local_server(&report)
    }

    /// Ends the run where the local model's server fails page after page.
    fn note_local_server(&mut self, report: &PageReport) -> Result<(), AgentError> {
        match &report.local_server_failure {
            Some(why) => {
                self.local_server_failures += 1;
                if self.local_server_failures >= LOCAL_SERVER_FAILURES_MAX {
                    let failures = self.local_server_failures;
                    return Err(AgentError::LocalServer { failures, why: why.clone() });
                }
            }
            None if report.attempts.iter().any(|attempt| attempt.route == Route::Local) => {
                self.local_server_failures = 0;
            }
            None => {}
        }
        Ok(())
    }
}

fn busy_hosts(hosts: &HashMap<String, usize>, config: &ScrapingConfig) -> Vec<String> {
    let full = hosts.iter().filter(|(host, count)| !host.is_empty() && **count >= config.per_host);
    full.map(|(host, _)| host.clone()).collect()
}

const PANICKED: &str = "this page made the agent panic";

/// A panic on a page's way is that page's failure.
async fn caught(found: Found, way: impl Future<Output = Done>) -> Done {
    let done = AssertUnwindSafe(way).catch_unwind().await;
    done.unwrap_or_else(|_| pipeline::fail(found, PANICKED.to_owned()))
}

/// A task's result. Panics are caught inside, and nobody ends a task of a run that goes on.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, AgentError> {
    result.map_err(|error| AgentError::Worker(error.to_string()))
}

fn now() -> i64 {
    Utc::now().timestamp()
}
