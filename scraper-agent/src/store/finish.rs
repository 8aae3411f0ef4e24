//! A finished page: its report, attempts, jobs, text and links in one transaction with its row of the queue.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::attempt::{Attempt, PageReport};
use crate::error::AgentError;
use crate::store::json::to_json;
use crate::store::queue::enqueue;
use crate::store::texts::{self, PackedText};
use crate::store::{Found, Lease, RunId, Store, jobs};

/// What a page came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its result with all that led to it.
    pub report: Arc<PageReport>,
    /// What it leads to.
    pub links: Vec<Found>,
    /// Pages of the run at most; links beyond are left out.
    pub pages_max: usize,
}

impl Store {
    /// Writes a page's result, its attempts, its jobs and what it led to, all or nothing. False where the lease was
    /// lost: another process finished, or will finish, the page.
    ///
    /// # Errors
    /// The database's; [`AgentError::Worker`] where the result could not be made ready.
    pub async fn finish(
        &self,
        run: RunId,
        lease: &Lease,
        done: Finished,
        now: i64,
    ) -> Result<bool, AgentError> {
        let report = Arc::clone(&done.report);
        // Long texts take a moment to pack: neither here nor on the database's thread.
        let ready = tokio::task::spawn_blocking(move || {
            let json = to_json("report", &*report)?;
            let text = (!report.page.postings.is_empty()).then(|| PackedText::of(&report.markdown));
            Ok::<_, AgentError>((json, text.transpose()?))
        });
        let (json, text) = ready.await.map_err(|error| AgentError::Worker(error.to_string()))??;
        let (page, number, texts_max) = (lease.page, lease.number, self.evidence_bytes_max);
        let write = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let sql = "UPDATE pages SET state = 'done', report = ?3, left_for_later = ?4
                WHERE id = ?1 AND lease = ?2 AND state = 'leased'";
            if transaction.execute(sql, params![page, number, json, done.report.left_for_later])? == 0 {
                return Ok(false);
            }
            add_attempts(&transaction, page, &done.report.attempts, now)?;
            let text =
                text.map(|text| texts::keep(&transaction, &text, texts_max, now)).transpose()?.flatten();
            jobs::observe(&transaction, page, text, &done.report, now)?;
            let count = "SELECT count(*) FROM pages WHERE run = ?1";
            for link in &done.links {
                let pages: u32 = transaction.query_row(count, [run.0], |row| row.get(0))?;
                if pages as usize >= done.pages_max {
                    break;
                }
                enqueue(&transaction, run.0, link)?;
            }
            transaction.commit()?;
            Ok(true)
        };
        self.thread.call(write).await
    }
}

fn add_attempts(
    connection: &Connection,
    page: i64,
    attempts: &[Attempt],
    now: i64,
) -> Result<(), AgentError> {
    // A page that was left for later has earlier attempts.
    let sql = "SELECT count(*) FROM attempts WHERE page = ?1";
    let earlier: i64 = connection.query_row(sql, [page], |row| row.get(0))?;
    for (number, attempt) in attempts.iter().enumerate() {
        let sql = "INSERT INTO attempts (page, number, at, route, reason, prompt_tokens, completion_tokens,
            cost_usd, seconds, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        connection.execute(
            sql,
            params![
                page,
                earlier + number as i64,
                now,
                to_json("route", &attempt.route)?.trim_matches('"'),
                attempt.reason,
                attempt.tokens.prompt,
                attempt.tokens.completion,
                attempt.cost_usd,
                attempt.seconds,
                to_json("attempt", &attempt.result)?,
            ],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;
    use crate::store::RunState;

    const PAGES_MAX: usize = 4;

    fn entry(source: &str, host: &str, score: i32) -> Found {
        Found { source: source.into(), host: host.into(), why: "seed".into(), depth: 0, paging: 0, score }
    }

    fn report(source: &str) -> PageReport {
        PageReport::failed(source.into(), "seed".into(), "test".into())
    }

    fn done(report: PageReport, links: &[Found]) -> Finished {
        Finished { report: Arc::new(report), links: links.to_vec(), pages_max: PAGES_MAX }
    }

    async fn begin(store: &Store, key: &str, seeds: &[Found], now: i64) -> RunId {
        store.begin_run(key.to_owned(), seeds.to_vec(), now).await.unwrap()
    }

    async fn take(store: &Store, run: RunId, busy: &[&str], now: i64) -> Option<Lease> {
        let busy: Vec<String> = busy.iter().map(|host| (*host).to_owned()).collect();
        store.lease(run, &busy, now, 10).await.unwrap()
    }

    #[tokio::test]
    async fn best_first_without_busy_hosts_and_finished_once() {
        let store = Store::in_memory().await.unwrap();
        let run = begin(&store, "k", &[entry("a", "h", 1), entry("b", "h", 5), entry("c", "g", 3)], 0).await;
        let b = take(&store, run, &[], 0).await.unwrap();
        assert_eq!(b.entry.source, "b");
        let c = take(&store, run, &["h"], 0).await.unwrap();
        assert_eq!(c.entry.source, "c");
        assert!(take(&store, run, &["h"], 0).await.is_none());
        let links = [entry("d", "h", 9), entry("a", "h", 9)];
        assert!(store.finish(run, &b, done(report("b"), &links), 1).await.unwrap());
        assert!(!store.finish(run, &b, done(report("b"), &[]), 1).await.unwrap(), "finished twice");
        assert_eq!(store.run_state(run).await.unwrap(), RunState { queued: 2, leased: 1, done: 1 });
        store.finish(run, &c, done(report("c"), &[entry("e", "h", 9)]), 1).await.unwrap();
        assert_eq!(store.run_state(run).await.unwrap().queued, 2, "the page budget holds");
    }

    #[tokio::test]
    async fn an_expired_lease_passes_on_and_its_old_holder_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig { data_dir: folder.path().to_owned(), ..StorageConfig::default() };
        let first = Store::open(&config).await.unwrap();
        let seeds = [entry("a", "h", 1)];
        let run = begin(&first, "k", &seeds, 0).await;
        let old = take(&first, run, &[], 0).await.unwrap();
        first.extend([&old].into_iter(), 5, 10).await.unwrap();
        let second = Store::open(&config).await.unwrap();
        assert_eq!(begin(&second, "k", &seeds, 11).await, run, "the run is continued");
        assert!(take(&second, run, &[], 11).await.is_none(), "extended until 15");
        let new = take(&second, run, &[], 16).await.unwrap();
        assert!(!first.finish(run, &old, done(report("a"), &[]), 16).await.unwrap());
        assert!(second.finish(run, &new, done(report("a"), &[]), 16).await.unwrap());
        assert_eq!(second.reports(run).await.unwrap().len(), 1);
        second.finish_run(run, 17).await.unwrap();
        assert_ne!(begin(&second, "k", &[], 18).await, run);
    }

    #[tokio::test]
    async fn what_was_left_for_later_waits_again() {
        let store = Store::in_memory().await.unwrap();
        let read = async |run, left_for_later| {
            let lease = take(&store, run, &[], 0).await.unwrap();
            let attempt = Attempt {
                route: crate::posting::Route::Local,
                reason: String::new(),
                tokens: Default::default(),
                cost_usd: 0.0,
                seconds: 0.0,
                result: crate::attempt::AttemptResult::Planned,
            };
            let report =
                PageReport { left_for_later, attempts: vec![attempt], ..report(&lease.entry.source) };
            assert!(store.finish(run, &lease, done(report, &[]), 1).await.unwrap());
            lease.entry.source
        };
        let seeds = [entry("seed", "h", 9)];
        let run = begin(&store, "k", &[seeds[0].clone(), entry("found", "h", 1)], 0).await;
        assert_eq!((read(run, false).await, read(run, true).await), ("seed".to_owned(), "found".to_owned()));
        assert!(take(&store, run, &[], 0).await.is_none(), "not twice by one call");
        assert_eq!(store.reports(run).await.unwrap().len(), 2, "a page left is a result that says why");
        // A later call continues the run that is not finished, with this page alone.
        assert_eq!(begin(&store, "k", &seeds, 2).await, run);
        assert_eq!(read(run, true).await, "found");
        assert!(take(&store, run, &[], 0).await.is_none());
        assert_eq!(store.attempt_count(run).await.unwrap(), 3, "each reading's attempts are kept");
        store.finish_run(run, 3).await.unwrap();
        // A run after it reads the seeds, and the page though no seed leads to it any more.
        let next = begin(&store, "k", &seeds, 4).await;
        assert_ne!(next, run);
        assert_eq!(
            (read(next, false).await, read(next, false).await),
            ("seed".to_owned(), "found".to_owned())
        );
        store.finish_run(next, 5).await.unwrap();
        let last = begin(&store, "k", &seeds, 6).await;
        assert_eq!(read(last, false).await, "seed");
        assert!(take(&store, last, &[], 0).await.is_none(), "what was read is not carried on");
        let other = begin(&store, "other", &[], 6).await;
        assert!(take(&store, other, &[], 0).await.is_none());
    }
}
