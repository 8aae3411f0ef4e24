//! The agent: a run from seeds to results, over two pools.
//!
//! One task drives both: fetches (polite, few per host) fill a short line of fetched pages, readings (wide, so that
//! the server can batch) empty it. The queue is the store, so a run that was killed goes on where it was.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use quarry_client::{Client, ClientOptions};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::attempt::PageReport;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::extract::{LocalModel, Models, cloud};
use crate::fetch::cache::PageCache;
use crate::fetch::{FetchedPage, Fetcher};
use crate::pipeline::{self, Done, Fetched};
use crate::posting::Route;
use crate::seed::Seed;
use crate::store::{Found, Lease, RunId, Store};
use crate::tokens::ServerCounter;

/// Hears how a run goes on.
pub trait Progress: Sync {
    /// A page is about to be got.
    fn started(&self, source: &str);
    /// A page is finished and stored; `known` pages are known so far.
    fn finished(&self, report: &PageReport, done: usize, known: usize);
}

/// Hears nothing.
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str) {}
    fn finished(&self, _: &PageReport, _: usize, _: usize) {}
}

/// What one run shall do beside the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrapeOptions {
    /// Ask no model: say where each page would go and with how many tokens.
    pub dry_run: bool,
}

/// The agent over one data folder and one set of models.
pub struct Agent {
    config: AgentConfig,
    store: Arc<Store>,
    cache: Option<Arc<PageCache>>,
    models: Models,
}

/// Fetched pages waiting to be read, per reading slot; more would only hold memory.
const READY_PER_READER: usize = 2;
/// Pages in a row that the local model's server failed, after which a run ends: fetching on would only leave pages.
const LOCAL_SERVER_FAILURES_MAX: u32 = 5;
/// How long to wait before looking again for pages that another process holds.
const FOREIGN_LEASE_POLL: Duration = Duration::from_millis(500);

impl Agent {
    /// Opens the data folder.
    ///
    /// # Errors
    /// A setting that makes no sense, a folder that cannot be used, a store of a newer program.
    pub fn new(config: AgentConfig, models: Models) -> Result<Self, AgentError> {
        config.check()?;
        let store = Arc::new(Store::open(&config.storage.data_dir)?);
        let folder = config.storage.data_dir.join("page-cache");
        // Another process may hold the cache; what it holds can be fetched again.
        let cache = match PageCache::open(&folder, config.storage.page_cache_bytes_max) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "running without the page cache");
                None
            }
        };
        Ok(Self { config, store, cache, models })
    }

    /// Opens the data folder with the local model of the server at `base_url` (with `/v1`), if there is one, and the
    /// cloud, if it is switched on.
    ///
    /// # Errors
    /// As [`Agent::new`], and a server that cannot be reached or lists no model.
    pub async fn connect(config: AgentConfig, base_url: Option<&str>) -> Result<Self, AgentError> {
        config.check()?;
        let local = match base_url {
            None => None,
            Some(base_url) => {
                let client = Client::new(ClientOptions::new(base_url))?;
                let name = match &config.hybrid.model {
                    Some(name) => name.clone(),
                    None => {
                        let first = client.models().await?.into_iter().next();
                        first.ok_or_else(|| AgentError::NoModel { server: base_url.to_owned() })?.id
                    }
                };
                let counter = Arc::new(ServerCounter::new(client.clone()));
                Some(LocalModel { name, chat: Arc::new(client), counter })
            }
        };
        let cloud = match &config.cloud {
            config if config.enabled => {
                let client: Arc<dyn crate::chat::Chat> = Arc::new(cloud::client(config)?);
                Some(client)
            }
            _ => None,
        };
        Self::new(config, Models { local, cloud })
    }

    /// As it was told.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// What it keeps.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn models(&self) -> &Models {
        &self.models
    }

    /// Reads one page that was already got, outside of any run; nothing is stored but what it cost.
    pub async fn process(
        self: &Arc<Self>,
        source: &str,
        why: &str,
        page: FetchedPage,
        dry_run: bool,
    ) -> PageReport {
        let found = Found {
            source: source.to_owned(),
            host: String::new(),
            why: why.to_owned(),
            depth: 0,
            paging: 0,
            score: 0,
        };
        pipeline::read(self, Fetched { found, page }, dry_run).await.report
    }

    /// Reads the seeds and what they lead to. A page that fails is a result that says why. The same call after a kill or
    /// an error goes on with what is left.
    ///
    /// # Errors
    /// The store's failure, and [`AgentError::LocalServer`] where the local model's server failed several pages in a row.
    pub async fn scrape(
        self: &Arc<Self>,
        seeds: &[Seed],
        options: ScrapeOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<PageReport>, AgentError> {
        let mut pages = Vec::new();
        for seed in seeds {
            pages.extend(seed.pages(&self.config.scraping)?);
        }
        let run = self.store.begin_run(&self.run_key(&pages, options)?, &pages, now())?;
        let fetcher = Fetcher::new(&self.config.scraping, self.cache.clone())?;
        Run { agent: self, run, options, progress, bytes: 0, local_server_failures: 0 }
            .drive(&fetcher)
            .await?;
        self.store.finish_run(run, now())?;
        self.store.reports(run)
    }

    /// Seeds and all that decides which pages are read and how.
    fn run_key(&self, pages: &[Found], options: ScrapeOptions) -> Result<String, AgentError> {
        let sources: Vec<&str> = pages.iter().map(|page| page.source.as_str()).collect();
        let model = self.models.local.as_ref().map(|local| local.name.as_str());
        let parts = (&sources, options, &self.config, model);
        let json =
            serde_json::to_vec(&parts).map_err(|source| AgentError::Stored { what: "run key", source })?;
        Ok(Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn now() -> i64 {
    Utc::now().timestamp()
}

/// One run under way.
struct Run<'a> {
    agent: &'a Arc<Agent>,
    run: RunId,
    options: ScrapeOptions,
    progress: &'a dyn Progress,
    bytes: u64,
    /// In a row, up to now.
    local_server_failures: u32,
}

/// What came out of either pool.
enum Step {
    Got(Box<Result<Fetched, Done>>),
    Read(Box<Done>),
}

impl Run<'_> {
    async fn drive(&mut self, fetcher: &Fetcher) -> Result<(), AgentError> {
        let agent = Arc::clone(self.agent);
        let scraping = &agent.config.scraping;
        let lease_seconds = agent.config.storage.lease_seconds;
        let mut leases: HashMap<String, Lease> = HashMap::new();
        let mut fetching: FuturesUnordered<BoxFuture<'_, Step>> = FuturesUnordered::new();
        let mut reading: FuturesUnordered<BoxFuture<'_, Step>> = FuturesUnordered::new();
        let mut ready: Vec<Fetched> = Vec::new();
        let mut hosts: HashMap<String, usize> = HashMap::new();
        let mut heartbeat = tokio::time::interval(Duration::from_secs_f64(lease_seconds as f64 / 3.0));
        loop {
            while reading.len() < scraping.extractions_in_flight && !ready.is_empty() {
                let page = ready.remove(0);
                let (agent, dry_run) = (Arc::clone(&agent), self.options.dry_run);
                reading.push(Box::pin(async move {
                    Step::Read(Box::new(pipeline::read(&agent, page, dry_run).await))
                }));
            }
            let ready_max = scraping.extractions_in_flight * READY_PER_READER;
            while fetching.len() < scraping.fetches_in_flight && ready.len() + fetching.len() < ready_max {
                let busy: Vec<String> = hosts
                    .iter()
                    .filter(|(host, count)| !host.is_empty() && **count >= scraping.per_host)
                    .map(|(host, _)| host.clone())
                    .collect();
                let Some(lease) = agent.store.lease(self.run, &busy, now(), lease_seconds)? else { break };
                let found = lease.entry.clone();
                *hosts.entry(found.host.clone()).or_default() += 1;
                leases.insert(found.source.clone(), lease);
                self.progress.started(&found.source);
                let bytes = self.bytes;
                let config = &agent.config.scraping;
                fetching.push(Box::pin(async move {
                    let got = match pipeline::allow(found, bytes, config) {
                        Ok(allowed) => pipeline::fetch(allowed, fetcher, config).await,
                        Err(refused) => Err(refused),
                    };
                    Step::Got(Box::new(got))
                }));
            }
            if fetching.is_empty() && reading.is_empty() && ready.is_empty() {
                let state = agent.store.run_state(self.run)?;
                if state.queued == 0 && state.leased == 0 {
                    return Ok(());
                }
                // Another process holds the rest; its leases end with it.
                tokio::time::sleep(FOREIGN_LEASE_POLL).await;
                continue;
            }
            let step = tokio::select! {
                Some(step) = fetching.next() => step,
                Some(step) = reading.next() => step,
                _ = heartbeat.tick() => {
                    agent.store.extend(leases.values(), now(), lease_seconds)?;
                    continue;
                }
            };
            match step {
                Step::Got(got) => {
                    let host = match &*got {
                        Ok(fetched) => &fetched.found.host,
                        Err(done) => &done.found.host,
                    };
                    if let Some(count) = hosts.get_mut(host) {
                        *count -= 1;
                    }
                    hosts.retain(|_, count| *count > 0);
                    match *got {
                        Ok(fetched) => {
                            self.bytes += fetched.page.bytes.len() as u64;
                            ready.push(fetched);
                        }
                        Err(done) => self.keep(&done, &mut leases)?,
                    }
                }
                Step::Read(done) => self.keep(&done, &mut leases)?,
            }
        }
    }

    /// Stored, then announced.
    fn keep(&mut self, done: &Done, leases: &mut HashMap<String, Lease>) -> Result<(), AgentError> {
        let Some(lease) = leases.remove(&done.found.source) else { return Ok(()) };
        let pages_max = self.agent.config.scraping.pages_max;
        if self.agent.store.finish(self.run, &lease, &done.report, &done.links, pages_max, now())? {
            let page = &done.report.page;
            tracing::info!(
                page = %page.source,
                kind = ?page.kind,
                route = ?page.route,
                postings = page.postings.len(),
                seconds = page.seconds,
                "page finished"
            );
            let state = self.agent.store.run_state(self.run)?;
            self.progress.finished(&done.report, state.done, state.done + state.leased + state.queued);
        }
        match &done.report.local_server_failure {
            Some(why) => {
                self.local_server_failures += 1;
                if self.local_server_failures >= LOCAL_SERVER_FAILURES_MAX {
                    let failures = self.local_server_failures;
                    return Err(AgentError::LocalServer { failures, why: why.clone() });
                }
            }
            None if done.report.attempts.iter().any(|attempt| attempt.route == Route::Local) => {
                self.local_server_failures = 0;
            }
            None => {}
        }
        Ok(())
    }
}
