//! `quarry scrape` killed again and again: nothing is lost and nothing comes twice.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use quarry_agent::config::StorageConfig;
use quarry_agent::store::Store;

const PAGES: usize = 40;

/// A page whose data says all, so that no model is asked.
fn page(number: usize) -> String {
    let text = format!("Pump engineer number {number} builds pumps for harbours and rivers. ").repeat(20);
    format!(
        r#"<title>Pump Engineer {number}</title><script type="application/ld+json">{{"@context": "https://schema.org",
        "@type": "JobPosting", "title": "Pump Engineer {number}", "datePosted": "2026-11-01", "employmentType":
        "FULL_TIME", "url": "https://acme.example/jobs/{number}", "description": "{text}",
        "hiringOrganization": {{"@type": "Organization", "name": "Acme Pumps"}}, "jobLocation": {{"@type": "Place",
        "address": {{"@type": "PostalAddress", "addressLocality": "Bristol", "addressCountry": "GB"}}}}}}</script>
        <h1>Pump Engineer {number}</h1><p>Acme Pumps, Bristol</p><p>{text}</p>"#
    )
}

/// A server that lists one model and is asked nothing else.
fn model_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            // A client that was killed has gone.
            if stream.read(&mut request).is_err() {
                continue;
            }
            let body = r#"{"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "x", "created": 0}]}"#;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            drop(write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    format!("http://{address}")
}

fn scrape(home: &Path, server: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    command.args(["scrape", "pages", "--format", "json", "--server", server]).current_dir(home);
    command.env("QUARRY__STORAGE__LEASE_SECONDS", "1").env("QUARRY__SCRAPING__EXTRACTIONS_IN_FLIGHT", "3");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn pages_and_jobs_come_once_however_often_the_process_dies() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("pages")).unwrap();
    for number in 0..PAGES {
        std::fs::write(home.path().join(format!("pages/{number:02}.html")), page(number)).unwrap();
    }
    let server = model_server();
    // Killed before anything was read, while some is being written, and when much is.
    for pages_before in [0, 1, 3, 7, 11] {
        let mut child = scrape(home.path(), &server);
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = told.map_while(Result::ok).filter(|line| line.contains(" postings, "));
        assert_eq!(told.take(pages_before).count(), pages_before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = scrape(home.path(), &server).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = String::from_utf8_lossy(&output.stderr).matches(" postings, ").count();
    assert!(again <= PAGES - (1 + 3 + 7 + 11), "{again} pages were read again");
    let pages: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let sources: BTreeSet<&str> = pages.iter().map(|page| page["source"].as_str().unwrap()).collect();
    assert_eq!((pages.len(), sources.len()), (PAGES, PAGES));
    assert!(pages.iter().all(|page| page["route"] == "zero-token"), "{pages:#?}");

    let config = StorageConfig { data_dir: home.path().join("quarry-data"), ..StorageConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let jobs = runtime.block_on(async { Store::open(&config).await.unwrap().jobs().await.unwrap() });
    assert_eq!(jobs.len(), PAGES);
    assert!(jobs.iter().all(|job| job.observations == 1), "{jobs:#?}");
}
