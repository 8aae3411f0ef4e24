//! Jobs, each once, with every page that showed it.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::attempt::PageResult;
use crate::error::AgentError;
use crate::posting::{PageKind, Posting};
use crate::store::queue::{from_json, to_json};
use crate::store::{Store, identity_key};

/// A job as kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// What tells it from others.
    pub key: String,
    /// The richest reading.
    pub posting: Posting,
    /// Pages that showed it.
    pub observations: u32,
}

impl Store {
    /// All jobs, oldest first.
    pub fn jobs(&self) -> Result<Vec<StoredJob>, AgentError> {
        let connection = self.lock();
        let sql = "SELECT key, posting, (SELECT count(*) FROM observations WHERE job = jobs.id) FROM jobs ORDER BY id";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?))
        })?;
        rows.map(|row| {
            let (key, posting, observations) = row?;
            Ok(StoredJob { key, posting: from_json("job", &posting)?, observations })
        })
        .collect()
    }
}

/// Notes what a page showed, within the page's transaction.
pub fn observe(connection: &Connection, page: i64, result: &PageResult, now: i64) -> Result<(), AgentError> {
    let direct = result.kind == PageKind::Posting;
    for (index, posting) in result.postings.iter().enumerate() {
        // What nothing tells apart is kept as this page's own.
        let key = identity_key(posting).unwrap_or_else(|| format!("page:{}#{index}", result.source));
        let sql = "SELECT id, posting, direct FROM jobs WHERE key = ?1";
        let known = connection
            .query_row(sql, [&key], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
            })
            .optional()?;
        let seen = to_json("posting", posting)?;
        let job = match known {
            Some((id, stored, stored_direct)) => {
                let stored: Posting = from_json("job", &stored)?;
                let (best, rest) =
                    if direct || !stored_direct { (posting, &stored) } else { (&stored, posting) };
                let merged = fill(best.clone(), rest);
                let sql = "UPDATE jobs SET title = ?2, company = ?3, posting = ?4, direct = ?5, last_seen = ?6 WHERE id = ?1";
                let json = to_json("posting", &merged)?;
                connection.execute(
                    sql,
                    params![id, merged.title, merged.company, json, direct || stored_direct, now],
                )?;
                id
            }
            None => {
                let sql = "INSERT INTO jobs (key, title, company, posting, direct, first_seen, last_seen)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
                connection.execute(sql, params![key, posting.title, posting.company, seen, direct, now])?;
                connection.last_insert_rowid()
            }
        };
        let sql = "INSERT OR IGNORE INTO observations (job, page, at, posting) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(sql, params![job, page, now, seen])?;
    }
    Ok(())
}

/// What `best` lacks, `rest` gives, with its evidence.
pub(crate) fn fill(mut best: Posting, rest: &Posting) -> Posting {
    macro_rules! take {
        ($($field:ident),*) => { $(
            if best.$field.is_none() && rest.$field.is_some() {
                best.$field = rest.$field.clone();
                take_evidence(&mut best, rest, stringify!($field));
            }
        )* };
    }
    take!(title, company, workplace, remote, employment_type, seniority, salary, date_posted, valid_through);
    take!(apply_url, url, description, language);
    if best.locations.is_empty() {
        best.locations.clone_from(&rest.locations);
        take_evidence(&mut best, rest, "locations");
    }
    if best.skills.is_empty() {
        best.skills.clone_from(&rest.skills);
        take_evidence(&mut best, rest, "skills");
    }
    best
}

fn take_evidence(best: &mut Posting, rest: &Posting, field: &str) {
    if let Some(evidence) = rest.evidence.get(field) {
        best.evidence.insert(field.to_owned(), evidence.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::PageReport;
    use crate::store::Found;

    fn posting(title: &str, company: Option<&str>) -> Posting {
        Posting {
            title: Some(title.into()),
            company: company.map(Into::into),
            url: Some("https://a.example/jobs/1".into()),
            ..Posting::default()
        }
    }

    #[test]
    fn a_job_seen_twice_is_one_job_and_its_own_page_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let entry = |source: &str| Found {
            source: source.into(),
            host: String::new(),
            why: "seed".into(),
            depth: 0,
            paging: 0,
            score: 0,
        };
        let run = store.begin_run("k", &[entry("listing"), entry("single")], 0).unwrap();
        for (kind, found) in [
            (PageKind::Listing, posting("Engineer …", Some("Acme"))),
            (PageKind::Posting, posting("Engineer, Storage", None)),
        ] {
            let lease = store.lease(run, &[], 0, 9).unwrap().unwrap();
            let mut report = PageReport::failed(lease.entry.source.clone(), "seed".into(), String::new());
            report.page.kind = kind;
            report.page.postings = vec![found];
            assert!(store.finish(run, &lease, &report, &[], 9, 1).unwrap());
        }
        let jobs = store.jobs().unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].observations, 2);
        assert_eq!(jobs[0].posting.title.as_deref(), Some("Engineer, Storage"));
        assert_eq!(jobs[0].posting.company.as_deref(), Some("Acme"));
    }
}
