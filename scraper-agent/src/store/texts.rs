//! The cleaned texts that evidence points into, each once, within a bound.
//!
//! Offsets mean something only in the text of the cleaner that gave them, so a text is kept with the cleaner's version.
//! When a new one needs room, texts that no observation points to go first, then those that only superseded
//! observations point to, then the others, the oldest first each time.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::clean;
use crate::document::HTML_BYTES_MAX;
use crate::error::AgentError;

/// Bytes of a text that are read back at most: a page's text is shorter than the page, but for markdown's own signs.
const TEXT_BYTES_MAX: u64 = 4 * HTML_BYTES_MAX as u64;

/// One part in so many is freed beyond what is needed, so that room is not looked for again for every page.
const SPARE_PART: u64 = 16;

/// A text ready to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedText {
    /// SHA-256 of the text.
    hash: Vec<u8>,
    /// Deflate.
    body: Vec<u8>,
}

impl PackedText {
    /// Hashes and packs.
    pub fn of(text: &str) -> Result<Self, AgentError> {
        let failed = |error: std::io::Error| AgentError::Worker(format!("a text cannot be packed: {error}"));
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).map_err(failed)?;
        let body = encoder.finish().map_err(failed)?;
        Ok(Self { hash: Sha256::digest(text.as_bytes()).to_vec(), body })
    }
}

/// The text again; `None` where the body was damaged.
pub(super) fn unpack(body: &[u8]) -> Option<String> {
    let mut text = String::new();
    DeflateDecoder::new(body).take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Keeps a text, within a page's transaction, and gives its row; `None` for one that is larger than the bound.
pub(super) fn keep(
    connection: &Connection,
    text: &PackedText,
    bytes_max: u64,
    now: i64,
) -> Result<Option<i64>, AgentError> {
    let sql = "SELECT id FROM texts WHERE hash = ?1 AND cleaner = ?2";
    let known = connection.query_row(sql, params![text.hash, clean::VERSION], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        connection.execute("UPDATE texts SET at = ?2 WHERE id = ?1", [id, now])?;
        return Ok(Some(id));
    }
    let bytes = text.body.len() as u64;
    if bytes > bytes_max {
        return Ok(None);
    }
    make_room(connection, bytes_max - bytes)?;
    let sql = "INSERT INTO texts (hash, cleaner, body, at) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, params![text.hash, clean::VERSION, text.body, now])?;
    Ok(Some(connection.last_insert_rowid()))
}

/// Deletes, where there are more than `bytes_max`, until there are somewhat fewer.
fn make_room(connection: &Connection, bytes_max: u64) -> Result<(), AgentError> {
    let sum = || connection.query_row("SELECT bytes FROM texts_sum", [], |row| row.get::<_, i64>(0));
    let mut rest = u64::try_from(sum()?).unwrap_or(0);
    if rest <= bytes_max {
        return Ok(());
    }
    let target = bytes_max - bytes_max / SPARE_PART;
    // 0: nothing points here; 1: only observations that a later one of the same job and address supersedes; 2: in use.
    let sql = "SELECT id, length(body) FROM texts ORDER BY
        CASE WHEN NOT EXISTS (SELECT 1 FROM observations WHERE text = texts.id) THEN 0
        WHEN NOT EXISTS (SELECT 1 FROM observations o JOIN pages p ON p.id = o.page WHERE o.text = texts.id
            AND NOT EXISTS (SELECT 1 FROM observations later JOIN pages q ON q.id = later.page
                WHERE later.job = o.job AND q.source = p.source AND later.page > o.page)) THEN 1
        ELSE 2 END, at, id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut leaving: Vec<i64> = Vec::new();
    while rest > target
        && let Some(row) = rows.next()?
    {
        leaving.push(row.get(0)?);
        rest = rest.saturating_sub(u64::from(row.get::<_, u32>(1)?));
    }
    for id in leaving {
        connection.execute("DELETE FROM texts WHERE id = ?1", [id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn texts_come_back_as_they_were() {
        for text in ["", "# Ingénieur\n", &"Stelle ".repeat(10_000)] {
            assert_eq!(unpack(&PackedText::of(text).unwrap().body).as_deref(), Some(text));
        }
        assert_eq!(unpack(b"no deflate"), None);
    }

    /// Text that does not shrink.
    fn noise(seed: u64, bytes: usize) -> String {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect()
    }

    #[test]
    fn the_bound_holds_and_what_nobody_needs_goes_first() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", "ON").unwrap();
        schema::migrate(&mut connection, std::path::Path::new("test")).unwrap();
        let sql = "INSERT INTO runs (id, key, started_at) VALUES (1, 'k', 0), (2, 'k', 0);
            INSERT INTO pages (id, run, source, host, found, depth, paging, score)
                VALUES (1, 1, 'a', '', '', 0, 0, 0), (2, 1, 'b', '', '', 0, 0, 0), (3, 2, 'a', '', '', 0, 0, 0);
            INSERT INTO jobs (id, key, posting, direct, first_seen, last_seen) VALUES (1, 'j', '{}', 1, 0, 0);";
        connection.execute_batch(sql).unwrap();
        const BYTES_MAX: u64 = 3400;
        let add = |seed: u64| {
            let text = PackedText::of(&noise(seed, 1300)).unwrap();
            keep(&connection, &text, BYTES_MAX, seed as i64).unwrap().unwrap()
        };
        let observe = |page: i64, text: i64| {
            let sql = "INSERT INTO observations (job, page, at, posting, text) VALUES (1, ?1, 0, '{}', ?2)";
            connection.execute(sql, [page, text]).unwrap();
        };
        let left = || {
            let mut statement = connection.prepare("SELECT id FROM texts ORDER BY id").unwrap();
            let ids: Vec<i64> =
                statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            let sum: i64 = connection.query_row("SELECT bytes FROM texts_sum", [], |row| row.get(0)).unwrap();
            assert!(sum <= BYTES_MAX as i64, "{sum}");
            ids
        };
        let (first, other) = (add(1), add(2));
        observe(1, first);
        observe(2, other);
        let unread = add(3);
        let newer = add(4);
        assert_eq!(left(), [first, other, newer], "{unread} was the newest but nothing pointed to it");
        observe(3, newer);
        let next = add(5);
        assert_eq!(left(), [other, newer, next], "page 3 is page 1 read again");
        connection.execute("UPDATE texts SET at = 9 WHERE id = ?1", [next]).unwrap();
        let sql = "INSERT INTO pages (id, run, source, host, found, depth, paging, score)
            VALUES (4, 2, 'c', '', '', 0, 0, 0)";
        connection.execute_batch(sql).unwrap();
        observe(4, next);
        let last = add(6);
        assert_eq!(left(), [newer, next, last], "all were in use: the oldest went");
        let lost: u32 = connection
            .query_row("SELECT count(*) FROM observations WHERE text IS NULL", [], |r| r.get(0))
            .unwrap();
        assert_eq!(lost, 2);
        let huge = PackedText::of(&noise(7, 9000)).unwrap();
        assert_eq!(keep(&connection, &huge, BYTES_MAX, 7).unwrap(), None);
        assert_eq!(left(), [newer, next, last]);
        let again = PackedText::of(&noise(6, 1300)).unwrap();
        assert_eq!(keep(&connection, &again, BYTES_MAX, 8).unwrap(), Some(last), "each text once");
    }
}
