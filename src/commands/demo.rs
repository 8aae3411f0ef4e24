//! `quarry demo`: everything at once on this machine, over a small career site that the binary carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use quarry_agent::agent::{Agent, ScrapeOptions};
use quarry_agent::seed::Seed;
use quarry_agent::{output, sample_site};
use tokio::net::TcpListener;

use crate::cli::DemoArgs;
use crate::config::{Config, Environment};
use crate::host::Host;
use crate::inference;
use crate::progress::{PageProgress, line_width};

/// Between two requests to the sample site, in milliseconds: it is ours.
const DELAY_MS: u64 = 1;

/// Model, server, site, crawl, table; then stays up until a signal.
pub async fn run(args: DemoArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let server = start_server(&args, &config, environment).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let site = format!("http://{}/", listener.local_addr()?);
    let serving_site = tokio::spawn(sample_site::serve(listener));

    eprintln!("server       {}/v1", server.url());
    eprintln!("sample site  {site}");
    // Its own data folder: a second demo starts afresh, and a user's jobs stay what they are.
    let data = tempfile::tempdir()?;
    let mut agent_config = config.agent();
    agent_config.storage.data_dir = data.path().to_owned();
    agent_config.scraping.allow_private = true;
    agent_config.scraping.delay_ms_min = DELAY_MS;
    agent_config.cloud.enabled = false;
    let agent = Agent::connect(agent_config, Some(&format!("{}/v1", server.url()))).await?;
    let progress = PageProgress::new("pages");
    let scraped = agent.scrape(&[Seed::parse(&site)?], ScrapeOptions::default(), &progress).await;
    progress.finish();
    agent.close().await;
    output::write(output::Format::Table, &scraped?, line_width(), &mut std::io::stdout().lock())?;

    if args.once {
        server.shut_down().await?;
    } else {
        eprintln!("\nThe server and the site stay up; Ctrl-C ends both. Try:");
        eprintln!("  curl {}/v1/models", server.url());
        eprintln!(
            "  quarry scrape {site}jobs/plain.html --explain --server {}  (with scraping.allow_private)",
            server.url()
        );
        server.until_signal().await?;
    }
    serving_site.abort();
    Ok(ExitCode::SUCCESS)
}

/// On the configured port, or on a free one where that is taken.
async fn start_server(args: &DemoArgs, config: &Config, environment: &Environment) -> anyhow::Result<Host> {
    let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), config.server.port);
    let is_free = TcpListener::bind(wanted).await.is_ok();
    let address = if is_free { wanted } else { SocketAddr::new(wanted.ip(), 0) };
    inference::start(args.model.as_deref(), address, config, environment).await
}
