//! The tables, version by version. `PRAGMA user_version` says how far a file is.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::AgentError;

/// Each entry brings a file from its index to the next version. Entries are only ever added.
const MIGRATIONS: &[&str] = &[
    r"
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    -- Seeds and options that decide what is read: an unfinished run with the same key is continued.
    key TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX runs_by_key ON runs (key, finished_at);
CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    source TEXT NOT NULL,
    host TEXT NOT NULL,
    found TEXT NOT NULL,
    depth INTEGER NOT NULL,
    paging INTEGER NOT NULL,
    score INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'leased', 'done')),
    lease INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    report TEXT,
    UNIQUE (run, source)
);
CREATE INDEX pages_by_state ON pages (run, state, score DESC, id);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    page INTEGER NOT NULL REFERENCES pages (id),
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    route TEXT NOT NULL,
    reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    seconds REAL NOT NULL,
    result TEXT NOT NULL,
    UNIQUE (page, number)
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    title TEXT,
    company TEXT,
    posting TEXT NOT NULL,
    -- 1 where the posting's own page was read, 0 where only a listing named it.
    direct INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
);
CREATE TABLE observations (
    job INTEGER NOT NULL REFERENCES jobs (id),
    page INTEGER NOT NULL REFERENCES pages (id),
    at INTEGER NOT NULL,
    posting TEXT NOT NULL,
    PRIMARY KEY (job, page)
) WITHOUT ROWID;
CREATE TABLE costs (
    id INTEGER PRIMARY KEY,
    month TEXT NOT NULL,
    at INTEGER NOT NULL,
    model TEXT NOT NULL,
    usd REAL NOT NULL,
    settled INTEGER NOT NULL
);
CREATE INDEX costs_by_month ON costs (month);
",
    r"
-- 1 where a finished page failed for a reason that may pass: the next run of the same key reads it again.
ALTER TABLE pages ADD COLUMN left_for_later INTEGER NOT NULL DEFAULT 0;
",
];

pub fn migrate(connection: &mut Connection, path: &Path) -> Result<(), AgentError> {
    // Immediate: two processes that start together must not both migrate.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len() as u32;
    if found > known {
        return Err(AgentError::StoreVersion { path: path.to_owned(), found, known });
    }
    for sql in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
