//! The agent over one data folder: its store, its models, and what it knows of hosts, shared by all its runs.

use std::sync::Arc;

use chrono::Utc;
use quarry_client::{Client, ClientOptions};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::attempt::PageReport;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::extract::{LocalModel, Models, Resources, cloud};
use crate::fetch::cache::PageCache;
use crate::fetch::{FetchedPage, Fetcher, Hosts, rebuildable};
use crate::pipeline::{self, Fetched};
use crate::run::Run;
use crate::seed::Seed;
use crate::standing;
use crate::store::{Found, Store};
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
    /// Ask no model: say where each page would go and with how many tokens. Nothing of the run is kept.
    pub dry_run: bool,
}

/// The agent over one data folder and one set of models.
pub struct Agent {
    resources: Arc<Resources>,
    hosts: Arc<Hosts>,
    fetcher: Arc<Fetcher>,
}

impl Agent {
    /// Opens the data folder.
    ///
    /// # Errors
    /// A setting that makes no sense, a folder that cannot be used, a store of a newer program.
    pub async fn new(config: AgentConfig, models: Models) -> Result<Self, AgentError> {
        config.check()?;
        let store = Arc::new(Store::open(&config.storage).await?);
        let to_open = config.clone();
        let opened = tokio::task::spawn_blocking(move || open_hosts(&to_open)).await;
        let (hosts, cache) = opened.map_err(|error| AgentError::Worker(error.to_string()))??;
        let fetcher = Arc::new(Fetcher::new(&config.scraping, Arc::clone(&hosts), cache)?);
        Ok(Self { resources: Arc::new(Resources { config, store, models }), hosts, fetcher })
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
            Some(base_url) => Some(local_model(&config, base_url).await?),
        };
        let cloud = match &config.cloud {
            config if config.enabled => {
                let client: Arc<dyn crate::chat::Chat> = Arc::new(cloud::client(config)?);
                Some(client)
            }
            _ => None,
        };
        Self::new(config, Models { local, cloud }).await
    }

    /// As it was told.
    pub fn config(&self) -> &AgentConfig {
        &self.resources.config
    }

    /// What it keeps.
    pub fn store(&self) -> &Arc<Store> {
        &self.resources.store
    }

    /// Finishes what is being stored and closes the data folder.
    pub async fn close(&self) {
        self.hosts.save().await;
        self.resources.store.close().await;
    }

    /// Reads one page that was already got, outside of any run; nothing is stored but what it cost.
    pub async fn process(&self, source: &str, why: &str, page: FetchedPage, dry_run: bool) -> PageReport {
        let found = Found {
            source: source.to_owned(),
            host: String::new(),
            why: why.to_owned(),
            depth: 0,
            paging: 0,
            score: 0,
        };
        pipeline::read(&self.resources, Fetched { found, page }, dry_run).await.report
    }

    /// Reads the seeds and what they lead to. A page that fails is a result that says why. The same call after a kill
    /// or an error goes on with what is left. A dry run keeps its queue in memory: it begins anew each time, and leaves
    /// the store as it was.
    ///
    /// # Errors
    /// The store's failure, and [`AgentError::LocalServer`] where the local model's server failed several pages in a
    /// row.
    pub async fn scrape(
        &self,
        seeds: &[Seed],
        options: ScrapeOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<PageReport>, AgentError> {
        let store =
            if options.dry_run { Arc::new(Store::in_memory().await?) } else { Arc::clone(self.store()) };
        let (seeds, resources) = (seeds.to_vec(), Arc::clone(&self.resources));
        // Folders are walked and names of runs hashed beside the async threads.
        let begun = tokio::task::spawn_blocking(move || begin(&seeds, &resources)).await;
        let (pages, key) = begun.map_err(|error| AgentError::Worker(error.to_string()))??;
        let id = store.begin_run(key, pages, Utc::now().timestamp()).await?;
        self.hosts.begin_run();
        let run =
            Run::new(Arc::clone(&self.resources), Arc::clone(&self.fetcher), store, id, options, progress);
        let reports = run.drive().await;
        self.hosts.save().await;
        let mut reports = reports?;
        standing::settle(&mut reports);
        Ok(reports)
    }
}

/// The seeds' pages, and the name of the run: seeds and all that decides which pages are read and how.
fn begin(seeds: &[Seed], resources: &Resources) -> Result<(Vec<Found>, String), AgentError> {
    let mut pages = Vec::new();
    for seed in seeds {
        pages.extend(seed.pages(&resources.config.scraping)?);
    }
    let sources: Vec<&str> = pages.iter().map(|page| page.source.as_str()).collect();
    let model = resources.models.local.as_ref().map(|local| local.name.as_str());
    let json = serde_json::to_vec(&(&sources, &resources.config, model))
        .map_err(|source| AgentError::Stored { what: "run key", source })?;
    let key = Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((pages, key))
}

async fn local_model(config: &AgentConfig, base_url: &str) -> Result<LocalModel, AgentError> {
    let client = Client::new(ClientOptions::new(base_url))?;
    let name = match &config.hybrid.model {
        Some(name) => name.clone(),
        None => {
            let first = client.models().await?.into_iter().next();
            first.ok_or_else(|| AgentError::NoModel { server: base_url.to_owned() })?.id
        }
    };
    let counter = Arc::new(ServerCounter::new(client.clone()));
    Ok(LocalModel { name, chat: Arc::new(client), counter, can_judge: Arc::default() })
}

/// What is known of hosts, and the page cache. Another process may hold the database of both; what is in it can be got
/// again.
fn open_hosts(config: &AgentConfig) -> Result<(Arc<Hosts>, Option<Arc<PageCache>>), AgentError> {
    let folder = config.storage.data_dir.join("page-cache");
    let open = || {
        let db = rebuildable::open(&folder)?;
        let hosts = Hosts::new(&config.scraping, Some(&db))?;
        let cache = PageCache::open(&db, config.storage.page_cache_bytes_max)?;
        Ok::<_, AgentError>((hosts, cache))
    };
    match open() {
        Ok((hosts, cache)) => Ok((Arc::new(hosts), Some(Arc::new(cache)))),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "running without the page cache");
            Ok((Arc::new(Hosts::new(&config.scraping, None)?), None))
        }
    }
}
