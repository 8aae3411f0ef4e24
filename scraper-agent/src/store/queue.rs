//! Runs, and the queue of each with leases.
//!
//! A lease is a number that rises with each taking; only its holder may finish the page, so a holder that was
//! thought dead and comes back finds its number stale and changes nothing.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::attempt::PageReport;
use crate::error::AgentError;
use crate::store::{Store, jobs};

/// One call of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(i64);

/// A page to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path or address.
    pub source: String,
    /// What pace it falls under; empty for files.
    pub host: String,
    /// Why: a seed, or a link and from where.
    pub why: String,
    /// Links from the seed.
    pub depth: u32,
    /// Further pages of one listing so far.
    pub paging: u32,
    /// Higher is read earlier.
    pub score: i32,
}

/// The right to finish a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    page: i64,
    number: i64,
    /// What to read.
    pub entry: Found,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunState {
    /// Waiting.
    pub queued: usize,
    /// Being read, here or by another process.
    pub leased: usize,
    /// Finished.
    pub done: usize,
}

impl Store {
    /// Continues the unfinished run of this key, or begins one with the seeds. What was left for later in it, or in the
    /// last one of this key, waits again.
    pub fn begin_run(&self, key: &str, seeds: &[Found], now: i64) -> Result<RunId, AgentError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let open = "SELECT id FROM runs WHERE key = ?1 AND finished_at IS NULL ORDER BY id DESC LIMIT 1";
        let open: Option<i64> = transaction.query_row(open, [key], |row| row.get(0)).optional()?;
        let run = match open {
            Some(run) => {
                let sql = "UPDATE pages SET state = 'queued', left_for_later = 0
                    WHERE run = ?1 AND state = 'done' AND left_for_later = 1";
                transaction.execute(sql, [run])?;
                run
            }
            None => {
                transaction
                    .execute("INSERT INTO runs (key, started_at) VALUES (?1, ?2)", params![key, now])?;
                transaction.last_insert_rowid()
            }
        };
        for seed in seeds {
            enqueue(&transaction, run, seed)?;
        }
        if open.is_none() {
            let sql = "INSERT OR IGNORE INTO pages (run, source, host, found, depth, paging, score)
                SELECT ?1, source, host, found, depth, paging, score FROM pages WHERE left_for_later = 1
                AND run = (SELECT max(id) FROM runs WHERE key = ?2 AND id < ?1) ORDER BY id";
            transaction.execute(sql, params![run, key])?;
        }
        transaction.commit()?;
        Ok(RunId(run))
    }

    /// Takes the best waiting page whose host is not in `busy_hosts`; an expired lease counts as waiting.
    pub fn lease(
        &self,
        run: RunId,
        busy_hosts: &[String],
        now: i64,
        seconds: u64,
    ) -> Result<Option<Lease>, AgentError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let busy = serde_json::to_string(busy_hosts)
            .map_err(|source| AgentError::Stored { what: "host list", source })?;
        let sql = "SELECT id, lease, source, host, found, depth, paging, score FROM pages
            WHERE run = ?1 AND (state = 'queued' OR (state = 'leased' AND lease_until < ?2))
            AND host NOT IN (SELECT value FROM json_each(?3))
            ORDER BY score DESC, id LIMIT 1";
        let taken = transaction
            .query_row(sql, params![run.0, now, busy], |row| {
                let entry = Found {
                    source: row.get(2)?,
                    host: row.get(3)?,
                    why: row.get(4)?,
                    depth: row.get(5)?,
                    paging: row.get(6)?,
                    score: row.get(7)?,
                };
                Ok(Lease { page: row.get(0)?, number: row.get::<_, i64>(1)? + 1, entry })
            })
            .optional()?;
        if let Some(lease) = &taken {
            let sql = "UPDATE pages SET state = 'leased', lease = ?2, lease_until = ?3 WHERE id = ?1";
            transaction.execute(sql, params![lease.page, lease.number, now + seconds as i64])?;
        }
        transaction.commit()?;
        Ok(taken)
    }

    /// A sign of life for pages under way.
    pub fn extend<'a>(
        &self,
        leases: impl Iterator<Item = &'a Lease>,
        now: i64,
        seconds: u64,
    ) -> Result<(), AgentError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for lease in leases {
            let sql = "UPDATE pages SET lease_until = ?3 WHERE id = ?1 AND lease = ?2 AND state = 'leased'";
            transaction.execute(sql, params![lease.page, lease.number, now + seconds as i64])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes a page's result, its attempts, its jobs and what it led to, all or nothing. False where the lease was
    /// lost: another process finished, or will finish, the page.
    pub fn finish(
        &self,
        run: RunId,
        lease: &Lease,
        report: &PageReport,
        links: &[Found],
        pages_max: usize,
        now: i64,
    ) -> Result<bool, AgentError> {
        let json = to_json("report", report)?;
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "UPDATE pages SET state = 'done', report = ?3, left_for_later = ?4
            WHERE id = ?1 AND lease = ?2 AND state = 'leased'";
        if transaction.execute(sql, params![lease.page, lease.number, json, report.left_for_later])? == 0 {
            return Ok(false);
        }
        // A page that was left for later has earlier attempts.
        let sql = "SELECT count(*) FROM attempts WHERE page = ?1";
        let earlier: i64 = transaction.query_row(sql, [lease.page], |row| row.get(0))?;
        for (number, attempt) in report.attempts.iter().enumerate() {
            let sql =
                "INSERT INTO attempts (page, number, at, route, reason, prompt_tokens, completion_tokens,
                cost_usd, seconds, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
            transaction.execute(
                sql,
                params![
                    lease.page,
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
        jobs::observe(&transaction, lease.page, &report.page, now)?;
        for link in links {
            let count = "SELECT count(*) FROM pages WHERE run = ?1";
            let pages: u32 = transaction.query_row(count, [run.0], |row| row.get(0))?;
            if pages as usize >= pages_max {
                break;
            }
            enqueue(&transaction, run.0, link)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// How far the run is.
    pub fn run_state(&self, run: RunId) -> Result<RunState, AgentError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT state, count(*) FROM pages WHERE run = ?1 GROUP BY state")?;
        let mut state = RunState::default();
        for row in
            statement.query_map([run.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))?
        {
            match row? {
                (name, count) if name == "queued" => state.queued = count as usize,
                (name, count) if name == "leased" => state.leased = count as usize,
                (_, count) => state.done = count as usize,
            }
        }
        Ok(state)
    }

    /// The next call with the same key begins anew.
    pub fn finish_run(&self, run: RunId, now: i64) -> Result<(), AgentError> {
        self.lock().execute("UPDATE runs SET finished_at = ?2 WHERE id = ?1", params![run.0, now])?;
        Ok(())
    }

    /// The finished pages, in the order they were found.
    pub fn reports(&self, run: RunId) -> Result<Vec<PageReport>, AgentError> {
        let connection = self.lock();
        let sql = "SELECT report FROM pages WHERE run = ?1 AND state = 'done' ORDER BY id";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([run.0], |row| row.get::<_, String>(0))?;
        rows.map(|row| from_json("report", &row?)).collect()
    }

    /// Pages of the run that carry this many attempts in all, for the tests of killed processes.
    pub fn attempt_count(&self, run: RunId) -> Result<u32, AgentError> {
        let sql = "SELECT count(*) FROM attempts JOIN pages ON pages.id = attempts.page WHERE pages.run = ?1";
        Ok(self.lock().query_row(sql, [run.0], |row| row.get(0))?)
    }
}

/// A page that the run has already is left as it is.
fn enqueue(connection: &Connection, run: i64, page: &Found) -> Result<(), AgentError> {
    let sql = "INSERT OR IGNORE INTO pages (run, source, host, found, depth, paging, score)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection
        .execute(sql, params![run, page.source, page.host, page.why, page.depth, page.paging, page.score])?;
    Ok(())
}

pub(super) fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<String, AgentError> {
    serde_json::to_string(value).map_err(|source| AgentError::Stored { what, source })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    json: &str,
) -> Result<T, AgentError> {
    serde_json::from_str(json).map_err(|source| AgentError::Stored { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &str, host: &str, score: i32) -> Found {
        Found { source: source.into(), host: host.into(), why: "seed".into(), depth: 0, paging: 0, score }
    }

    fn report(source: &str) -> PageReport {
        PageReport::failed(source.into(), "seed".into(), "test".into())
    }

    #[test]
    fn best_first_without_busy_hosts_and_finished_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let seeds = [entry("a", "h", 1), entry("b", "h", 5), entry("c", "g", 3)];
        let run = store.begin_run("k", &seeds, 0).unwrap();
        let b = store.lease(run, &[], 0, 10).unwrap().unwrap();
        assert_eq!(b.entry.source, "b");
        let c = store.lease(run, &["h".to_owned()], 0, 10).unwrap().unwrap();
        assert_eq!(c.entry.source, "c");
        assert!(store.lease(run, &["h".to_owned()], 0, 10).unwrap().is_none());
        assert!(
            store.finish(run, &b, &report("b"), &[entry("d", "h", 9), entry("a", "h", 9)], 4, 1).unwrap()
        );
        assert!(!store.finish(run, &b, &report("b"), &[], 4, 1).unwrap(), "finished twice");
        assert_eq!(store.run_state(run).unwrap(), RunState { queued: 2, leased: 1, done: 1 });
        store.finish(run, &c, &report("c"), &[entry("e", "h", 9)], 4, 1).unwrap();
        assert_eq!(store.run_state(run).unwrap().queued, 2, "the page budget holds");
    }

    #[test]
    fn an_expired_lease_passes_on_and_its_old_holder_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        let run = first.begin_run("k", &[entry("a", "h", 1)], 0).unwrap();
        let old = first.lease(run, &[], 0, 10).unwrap().unwrap();
        first.extend([&old].into_iter(), 5, 10).unwrap();
        let second = Store::open(folder.path()).unwrap();
        assert_eq!(second.begin_run("k", &[entry("a", "h", 1)], 11).unwrap(), run, "the run is continued");
        assert!(second.lease(run, &[], 11, 10).unwrap().is_none(), "extended until 15");
        let new = second.lease(run, &[], 16, 10).unwrap().unwrap();
        assert!(!first.finish(run, &old, &report("a"), &[], 9, 16).unwrap());
        assert!(second.finish(run, &new, &report("a"), &[], 9, 16).unwrap());
        assert_eq!(second.reports(run).unwrap().len(), 1);
        second.finish_run(run, 17).unwrap();
        assert_ne!(second.begin_run("k", &[], 18).unwrap(), run);
    }

    #[test]
    fn what_was_left_for_later_waits_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let read = |run, left_for_later| {
            let lease = store.lease(run, &[], 0, 10).unwrap().unwrap();
            let attempt = crate::attempt::Attempt {
                route: crate::posting::Route::Local,
                reason: String::new(),
                tokens: Default::default(),
                cost_usd: 0.0,
                seconds: 0.0,
                result: crate::attempt::AttemptResult::Planned,
            };
            let attempts = vec![attempt];
            let report = PageReport { left_for_later, attempts, ..report(&lease.entry.source) };
            assert!(store.finish(run, &lease, &report, &[], 9, 1).unwrap());
            lease.entry.source
        };
        let seeds = [entry("seed", "h", 9)];
        let run = store.begin_run("k", &[seeds[0].clone(), entry("found", "h", 1)], 0).unwrap();
        assert_eq!((read(run, false), read(run, true)), ("seed".to_owned(), "found".to_owned()));
        assert!(store.lease(run, &[], 0, 10).unwrap().is_none(), "not twice by one call");
        assert_eq!(store.reports(run).unwrap().len(), 2, "a page left is a result that says why");
        // A later call continues the run that is not finished, with this page alone.
        assert_eq!(store.begin_run("k", &seeds, 2).unwrap(), run);
        assert_eq!(read(run, true), "found");
        assert!(store.lease(run, &[], 0, 10).unwrap().is_none());
        assert_eq!(store.attempt_count(run).unwrap(), 3, "each reading's attempts are kept");
        store.finish_run(run, 3).unwrap();
        // A run after it reads the seeds, and the page though no seed leads to it any more.
        let next = store.begin_run("k", &seeds, 4).unwrap();
        assert_ne!(next, run);
        assert_eq!((read(next, false), read(next, false)), ("seed".to_owned(), "found".to_owned()));
        store.finish_run(next, 5).unwrap();
        let last = store.begin_run("k", &seeds, 6).unwrap();
        assert_eq!(read(last, false), "seed");
        assert!(store.lease(last, &[], 0, 10).unwrap().is_none(), "what was read is not carried on");
        let other = store.begin_run("other", &[], 6).unwrap();
        assert!(store.lease(other, &[], 0, 10).unwrap().is_none());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.lock().pragma_update(None, "user_version", 999).unwrap();
        drop(store);
        assert!(matches!(Store::open(folder.path()), Err(AgentError::StoreVersion { found: 999, .. })));
    }
}
