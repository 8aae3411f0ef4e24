//! Runs, and the queue of each with leases.
//!
//! A lease is a number that rises with each taking; only its holder may finish the page, so a holder that was
//! thought dead and comes back finds its number stale and changes nothing.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::attempt::PageReport;
use crate::error::AgentError;
use crate::store::Store;
use crate::store::json::{from_json, to_json};

/// One call of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(pub(super) i64);

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
    pub(super) page: i64,
    pub(super) number: i64,
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
    pub async fn begin_run(&self, key: String, seeds: Vec<Found>, now: i64) -> Result<RunId, AgentError> {
        self.thread.call(move |connection| begin_run(connection, &key, &seeds, now)).await
    }

    /// Takes the best waiting page whose host is not in `busy_hosts`; an expired lease counts as waiting.
    pub async fn lease(
        &self,
        run: RunId,
        busy_hosts: &[String],
        now: i64,
        seconds: u64,
    ) -> Result<Option<Lease>, AgentError> {
        let busy = to_json("host list", &busy_hosts)?;
        self.thread.call(move |connection| lease(connection, run, &busy, now, seconds)).await
    }

    /// A sign of life for pages under way.
    pub async fn extend<'a>(
        &self,
        leases: impl Iterator<Item = &'a Lease>,
        now: i64,
        seconds: u64,
    ) -> Result<(), AgentError> {
        let leases: Vec<(i64, i64)> = leases.map(|lease| (lease.page, lease.number)).collect();
        let extend = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for (page, number) in leases {
                let sql =
                    "UPDATE pages SET lease_until = ?3 WHERE id = ?1 AND lease = ?2 AND state = 'leased'";
                transaction.execute(sql, params![page, number, until(now, seconds)])?;
            }
            transaction.commit()?;
            Ok(())
        };
        self.thread.call(extend).await
    }

    /// How far the run is.
    pub async fn run_state(&self, run: RunId) -> Result<RunState, AgentError> {
        self.thread.call(move |connection| run_state(connection, run)).await
    }

    /// The next call with the same key begins anew.
    pub async fn finish_run(&self, run: RunId, now: i64) -> Result<(), AgentError> {
        let finish = move |connection: &mut Connection| {
            connection.execute("UPDATE runs SET finished_at = ?2 WHERE id = ?1", params![run.0, now])?;
            Ok(())
        };
        self.thread.call(finish).await
    }

    /// The finished pages, in the order they were found.
    pub async fn reports(&self, run: RunId) -> Result<Vec<PageReport>, AgentError> {
        let read = move |connection: &mut Connection| {
            let sql = "SELECT report FROM pages WHERE run = ?1 AND state = 'done' ORDER BY id";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([run.0], |row| row.get::<_, String>(0))?;
            rows.map(|row| from_json("report", &row?)).collect()
        };
        self.thread.call(read).await
    }

    /// Attempts at all pages of the run, for the tests of killed processes.
    pub async fn attempt_count(&self, run: RunId) -> Result<u32, AgentError> {
        let sql = "SELECT count(*) FROM attempts JOIN pages ON pages.id = attempts.page WHERE pages.run = ?1";
        self.thread.call(move |connection| Ok(connection.query_row(sql, [run.0], |row| row.get(0))?)).await
    }
}

fn begin_run(connection: &mut Connection, key: &str, seeds: &[Found], now: i64) -> Result<RunId, AgentError> {
    let transaction = connection.transaction()?;
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
            transaction.execute("INSERT INTO runs (key, started_at) VALUES (?1, ?2)", params![key, now])?;
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

fn lease(
    connection: &mut Connection,
    run: RunId,
    busy: &str,
    now: i64,
    seconds: u64,
) -> Result<Option<Lease>, AgentError> {
    let transaction = connection.transaction()?;
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
        transaction.execute(sql, params![lease.page, lease.number, until(now, seconds)])?;
    }
    transaction.commit()?;
    Ok(taken)
}

fn until(now: i64, seconds: u64) -> i64 {
    now.saturating_add_unsigned(seconds)
}

fn run_state(connection: &Connection, run: RunId) -> Result<RunState, AgentError> {
    let mut statement =
        connection.prepare("SELECT state, count(*) FROM pages WHERE run = ?1 GROUP BY state")?;
    let mut state = RunState::default();
    for row in statement.query_map([run.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))? {
        match row? {
            (name, count) if name == "queued" => state.queued = count as usize,
            (name, count) if name == "leased" => state.leased = count as usize,
            (_, count) => state.done = count as usize,
        }
    }
    Ok(state)
}

/// A page that the run has already is left as it is.
pub(super) fn enqueue(connection: &Connection, run: i64, page: &Found) -> Result<(), AgentError> {
    let sql = "INSERT OR IGNORE INTO pages (run, source, host, found, depth, paging, score)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection
        .execute(sql, params![run, page.source, page.host, page.why, page.depth, page.paging, page.score])?;
    Ok(())
}
