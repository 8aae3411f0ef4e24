//! The tables, version by version. `PRAGMA user_version` says how far a file is.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};

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
    r"
-- Cleaned pages that evidence points into, each text of each version of the cleaner once.
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    cleaner INTEGER NOT NULL,
    -- Deflate.
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (hash, cleaner)
);
-- One row: the sum of all bodies, so that the bound is checked without reading them.
CREATE TABLE texts_sum (bytes INTEGER NOT NULL);
INSERT INTO texts_sum VALUES (0);
CREATE TRIGGER texts_inserted AFTER INSERT ON texts BEGIN
    UPDATE texts_sum SET bytes = bytes + length(NEW.body);
END;
CREATE TRIGGER texts_deleted AFTER DELETE ON texts BEGIN
    UPDATE texts_sum SET bytes = bytes - length(OLD.body);
END;
-- Null where the page was read before texts were kept, or its text made room.
ALTER TABLE observations ADD COLUMN text INTEGER REFERENCES texts (id) ON DELETE SET NULL;
CREATE INDEX observations_by_text ON observations (text);
ALTER TABLE jobs ADD COLUMN standing TEXT NOT NULL DEFAULT 'confirmed' CHECK (standing IN ('confirmed', 'candidate'));
-- When its own page was found to be gone, or to be no posting.
ALTER TABLE jobs ADD COLUMN gone_at INTEGER;
-- What only the text of a listing said, nobody has followed.
UPDATE jobs SET standing = 'candidate'
    WHERE direct = 0 AND json_extract(posting, '$.evidence.title[0].source') = 'text';
",
];

/// Brings a database that nobody else opens to this program's version, all or nothing.
pub fn migrate(connection: &mut Connection, path: &Path) -> Result<(), AgentError> {
    let migrations = Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect());
    match migrations.to_latest(connection) {
        Ok(()) => Ok(()),
        Err(rusqlite_migration::Error::MigrationDefinition(
            MigrationDefinitionError::DatabaseTooFarAhead,
        )) => {
            let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Err(AgentError::StoreVersion { path: path.to_owned(), found, known: MIGRATIONS.len() as u32 })
        }
        Err(error) => Err(error.into()),
    }
}

/// As [`migrate`], one process after another: two that start together must not both find the old version.
pub fn migrate_shared(connection: &mut Connection, path: &Path) -> Result<(), AgentError> {
    let lock_path = path.with_extension("lock");
    let lock = File::create(&lock_path).map_err(AgentError::io(&lock_path))?;
    lock.lock().map_err(AgentError::io(&lock_path))?;
    // Let go when the file is closed.
    migrate(connection, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTING_OF_TEXT: &str = r#"{"title": "A", "company": null, "locations": [], "skills": [],
        "evidence": {"title": [{"source": "text", "pointer": null, "start": 0, "end": 1}]}}"#;

    /// A file as the program of that version left it, with a run, a page, two jobs and an observation of each.
    fn file_of_version(path: &Path, version: usize) {
        let connection = Connection::open(path).unwrap();
        for sql in &MIGRATIONS[..version] {
            connection.execute_batch(sql).unwrap();
        }
        connection.pragma_update(None, "user_version", version as u32).unwrap();
        let sql = "INSERT INTO runs (id, key, started_at) VALUES (1, 'k', 5);
            INSERT INTO pages (id, run, source, host, found, depth, paging, score, state)
                VALUES (1, 1, 'http://a.example/', 'h', 'a seed', 0, 0, 100, 'done');
            INSERT INTO jobs (id, key, posting, direct, first_seen, last_seen)
                VALUES (2, 'own', '{}', 1, 6, 7);
            INSERT INTO observations (job, page, at, posting) VALUES (2, 1, 7, '{}');";
        connection.execute_batch(sql).unwrap();
        let sql = "INSERT INTO jobs (id, key, posting, direct, first_seen, last_seen)
            VALUES (1, 'listed', ?1, 0, 6, 7)";
        connection.execute(sql, [POSTING_OF_TEXT]).unwrap();
    }

    #[test]
    fn files_of_each_earlier_version_are_brought_up_with_all_they_hold() {
        for version in 1..MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("quarry.sqlite");
            file_of_version(&path, version);
            let mut connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "foreign_keys", "ON").unwrap();
            migrate_shared(&mut connection, &path).unwrap();
            migrate_shared(&mut connection, &path).unwrap();
            let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(found as usize, MIGRATIONS.len());
            let sql = "SELECT key, standing, gone_at IS NULL,
                (SELECT count(*) FROM observations o WHERE o.job = jobs.id) FROM jobs ORDER BY id";
            let mut statement = connection.prepare(sql).unwrap();
            let jobs =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
            let jobs: Vec<(String, String, bool, u32)> = jobs.unwrap().map(Result::unwrap).collect();
            let expected = [
                ("listed".to_owned(), "candidate".to_owned(), true, 0),
                ("own".to_owned(), "confirmed".to_owned(), true, 1),
            ];
            assert_eq!(jobs, expected, "from version {version}");
            let pages: u32 = connection
                .query_row("SELECT count(*) FROM pages WHERE left_for_later = 0", [], |r| r.get(0))
                .unwrap();
            assert_eq!(pages, 1);
        }
    }

    #[test]
    fn two_that_start_together_both_find_the_tables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarry.sqlite");
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let mut connection = Connection::open(&path).unwrap();
                    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                    migrate_shared(&mut connection, &path).unwrap();
                });
            }
        });
    }

    #[test]
    fn a_newer_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        let error = migrate(&mut connection, Path::new("quarry.sqlite")).unwrap_err();
        assert!(matches!(error, AgentError::StoreVersion { found: 999, .. }), "{error}");
    }
}
