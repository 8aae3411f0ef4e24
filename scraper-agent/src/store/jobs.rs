//! Jobs, each once, with every page that showed it.
//!
//! A job is a candidate until it is declared or read from its own page, and never becomes one again. One whose own page
//! turned out to be gone is marked with the time, until its page is a posting again.

use rusqlite::{Connection, OptionalExtension as _, params};
use url::Url;

use crate::attempt::{PageReport, Refusal};
use crate::error::AgentError;
use crate::posting::{PageKind, Posting, Standing};
use crate::store::fill::fill;
use crate::store::json::{from_json, to_json};
use crate::store::{Store, identity_key, url_key};

/// A job's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub(super) i64);

/// A job as kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// Its row.
    pub id: JobId,
    /// What tells it from others.
    pub key: String,
    /// The richest reading, with the job's standing.
    pub posting: Posting,
    /// When its own page was found to be gone or no posting, in seconds of the epoch; such a job is not open.
    pub gone_at: Option<i64>,
    /// Pages that showed it.
    pub observations: u32,
}

impl Store {
    /// All jobs, oldest first, those that are gone included.
    pub async fn jobs(&self) -> Result<Vec<StoredJob>, AgentError> {
        self.thread.call(|connection| jobs(connection)).await
    }
}

fn jobs(connection: &Connection) -> Result<Vec<StoredJob>, AgentError> {
    let sql = "SELECT id, key, posting, standing, gone_at,
        (SELECT count(*) FROM observations WHERE job = jobs.id) FROM jobs ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (posting, standing): (String, String) = (row.get(2)?, row.get(3)?);
        Ok((row.get(0)?, row.get(1)?, posting, standing, row.get(4)?, row.get(5)?))
    })?;
    rows.map(|row| {
        let (id, key, posting, standing, gone_at, observations) = row?;
        let posting = Posting { standing: standing_of(&standing), ..from_json("job", &posting)? };
        Ok(StoredJob { id: JobId(id), key, posting, gone_at, observations })
    })
    .collect()
}

fn standing_of(column: &str) -> Standing {
    if column == CANDIDATE { Standing::Candidate } else { Standing::Confirmed }
}

const CANDIDATE: &str = "candidate";
const CONFIRMED: &str = "confirmed";

struct Known {
    id: i64,
    posting: Posting,
    direct: bool,
    is_confirmed: bool,
}

/// Notes what a page showed, and what it says of the job whose page it is, within the page's transaction. `text` is the
/// row of its cleaned text.
pub(super) fn observe(
    connection: &Connection,
    page: i64,
    text: Option<i64>,
    report: &PageReport,
    now: i64,
) -> Result<(), AgentError> {
    let result = &report.page;
    if let Some(refusal) = report.refusal {
        mark_gone(connection, &result.source, refusal, now)?;
    }
    let direct = result.kind == PageKind::Posting;
    for (index, posting) in result.postings.iter().enumerate() {
        // What nothing tells apart is kept as this page's own.
        let key = identity_key(posting).unwrap_or_else(|| format!("page:{}#{index}", result.source));
        if direct && result.postings.len() == 1 {
            adopt_candidate(connection, &result.source, &key)?;
        }
        let job = match known(connection, &key)? {
            Some(known) => {
                renew(connection, &known, posting, direct, now)?;
                known.id
            }
            None => insert(connection, &key, posting, direct, now)?,
        };
        // A page that was left for later shows its jobs a second time.
        let sql = "INSERT INTO observations (job, page, at, posting, text) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO UPDATE SET at = ?3, posting = ?4, text = ?5";
        connection.execute(sql, params![job, page, now, to_json("posting", posting)?, text])?;
    }
    Ok(())
}

/// A record's page may name another address as its posting's own: the candidate of the record is the same job.
fn adopt_candidate(connection: &Connection, source: &str, key: &str) -> Result<(), AgentError> {
    let Ok(url) = Url::parse(source) else { return Ok(()) };
    let record_key = url_key(&url);
    if record_key == key {
        return Ok(());
    }
    let sql = "SELECT id FROM jobs WHERE key = ?1 AND standing = ?2";
    let candidate: Option<i64> =
        connection.query_row(sql, [record_key.as_str(), CANDIDATE], |row| row.get(0)).optional()?;
    let Some(candidate) = candidate else { return Ok(()) };
    match known(connection, key)? {
        None => {
            connection.execute("UPDATE jobs SET key = ?2 WHERE id = ?1", params![candidate, key])?;
        }
        Some(job) => {
            // A page that showed both has shown the job.
            let sql = "UPDATE OR IGNORE observations SET job = ?2 WHERE job = ?1";
            connection.execute(sql, [candidate, job.id])?;
            connection.execute("DELETE FROM observations WHERE job = ?1", [candidate])?;
            connection.execute("DELETE FROM jobs WHERE id = ?1", [candidate])?;
        }
    }
    Ok(())
}

fn known(connection: &Connection, key: &str) -> Result<Option<Known>, AgentError> {
    let sql = "SELECT id, posting, direct, standing FROM jobs WHERE key = ?1";
    let row = connection
        .query_row(sql, [key], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, String>(3)?))
        })
        .optional()?;
    let Some((id, posting, direct, standing)) = row else { return Ok(None) };
    let is_confirmed = standing_of(&standing) == Standing::Confirmed;
    Ok(Some(Known { id, posting: from_json("job", &posting)?, direct, is_confirmed }))
}

fn renew(
    connection: &Connection,
    known: &Known,
    seen: &Posting,
    direct: bool,
    now: i64,
) -> Result<(), AgentError> {
    let (best, rest) = if direct || !known.direct { (seen, &known.posting) } else { (&known.posting, seen) };
    let mut merged = fill(best.clone(), rest);
    let says_open = direct || seen.standing == Standing::Confirmed;
    merged.standing = if says_open || known.is_confirmed { Standing::Confirmed } else { Standing::Candidate };
    // A listing may name what is long gone; the page itself, or a declaration, opens it again.
    let sql =
        "UPDATE jobs SET title = ?2, company = ?3, posting = ?4, direct = ?5, last_seen = ?6, standing = ?7,
        gone_at = CASE WHEN ?8 THEN NULL ELSE gone_at END WHERE id = ?1";
    let json = to_json("posting", &merged)?;
    let standing = column(merged.standing);
    let direct = direct || known.direct;
    connection.execute(
        sql,
        params![known.id, merged.title, merged.company, json, direct, now, standing, says_open],
    )?;
    Ok(())
}

fn insert(
    connection: &Connection,
    key: &str,
    seen: &Posting,
    direct: bool,
    now: i64,
) -> Result<i64, AgentError> {
    let standing = if direct { Standing::Confirmed } else { seen.standing };
    let json = to_json("posting", &Posting { standing, ..seen.clone() })?;
    let sql = "INSERT INTO jobs (key, title, company, posting, direct, first_seen, last_seen, standing)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)";
    connection.execute(sql, params![key, seen.title, seen.company, json, direct, now, column(standing)])?;
    Ok(connection.last_insert_rowid())
}

/// The job whose own page this is: gone is gone, while a page that is no posting refutes a candidate only.
fn mark_gone(connection: &Connection, source: &str, refusal: Refusal, now: i64) -> Result<(), AgentError> {
    let Ok(url) = Url::parse(source) else { return Ok(()) };
    let sql = "UPDATE jobs SET gone_at = ?2 WHERE key = ?1 AND gone_at IS NULL AND (?3 OR standing = ?4)";
    let is_gone = refusal == Refusal::Gone;
    connection.execute(sql, params![url_key(&url), now, is_gone, CANDIDATE])?;
    Ok(())
}

fn column(standing: Standing) -> &'static str {
    match standing {
        Standing::Confirmed => CONFIRMED,
        Standing::Candidate => CANDIDATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Finished, Found};
    use std::sync::Arc;

    const OWN: &str = "https://a.example/jobs/1";

    fn posting(title: &str, company: Option<&str>, standing: Standing) -> Posting {
        Posting {
            standing,
            title: Some(title.into()),
            company: company.map(Into::into),
            url: Some(OWN.into()),
            ..Posting::default()
        }
    }

    fn page(source: &str, kind: PageKind, postings: Vec<Posting>, refusal: Option<Refusal>) -> PageReport {
        let mut report = PageReport::failed(source.into(), "seed".into(), String::new());
        report.page.kind = kind;
        report.page.postings = postings;
        report.refusal = refusal;
        report
    }

    /// Reads these pages one after another, each in a run of its own; gives the one job after each of them.
    async fn after_each(reports: Vec<PageReport>) -> Vec<StoredJob> {
        let store = Store::in_memory().await.unwrap();
        let mut seen = Vec::new();
        for (number, report) in reports.into_iter().enumerate() {
            let (now, key) = (number as i64, number.to_string());
            let found = Found {
                source: report.page.source.clone(),
                host: String::new(),
                why: "seed".into(),
                depth: 0,
                paging: 0,
                score: 0,
            };
            let run = store.begin_run(key, vec![found], now).await.unwrap();
            let lease = store.lease(run, &[], now, 9).await.unwrap().unwrap();
            let done = Finished { report: Arc::new(report), links: Vec::new(), pages_max: 9 };
            assert!(store.finish(run, &lease, done, now).await.unwrap());
            let mut jobs = store.jobs().await.unwrap();
            assert_eq!(jobs.len(), 1, "{jobs:#?}");
            seen.append(&mut jobs);
        }
        seen
    }

    #[tokio::test]
    async fn a_job_seen_twice_is_one_job_and_its_own_page_wins() {
        let listed = posting("Engineer …", Some("Acme"), Standing::Candidate);
        let own = posting("Engineer, Storage", None, Standing::Confirmed);
        let pages = vec![
            page("https://a.example/jobs", PageKind::Listing, vec![listed.clone()], None),
            page(OWN, PageKind::Posting, vec![own], None),
            page("https://a.example/jobs", PageKind::Listing, vec![listed], None),
        ];
        let jobs = after_each(pages).await;
        let standings: Vec<Standing> = jobs.iter().map(|job| job.posting.standing).collect();
        assert_eq!(standings, [Standing::Candidate, Standing::Confirmed, Standing::Confirmed]);
        let last = &jobs[2];
        assert_eq!(last.observations, 3);
        assert_eq!(last.posting.title.as_deref(), Some("Engineer, Storage"));
        assert_eq!(last.posting.company.as_deref(), Some("Acme"));
    }

    #[tokio::test]
    async fn a_record_whose_page_names_another_address_is_the_same_job() {
        let listed = || {
            let record = posting("Engineer", Some("Acme"), Standing::Candidate);
            page("https://a.example/jobs", PageKind::Listing, vec![record], None)
        };
        let own = || {
            let url = Some("https://a.example/openings/engineer".to_owned());
            let posting = Posting { url, ..posting("Engineer", None, Standing::Confirmed) };
            page(OWN, PageKind::Posting, vec![posting], None)
        };
        let jobs = after_each(vec![listed(), own()]).await;
        assert_eq!(jobs[1].id, jobs[0].id);
        assert_eq!(
            (jobs[1].key.as_str(), jobs[1].observations),
            ("url:https://a.example/openings/engineer", 2)
        );
        assert_eq!(jobs[1].posting.standing, Standing::Confirmed);
        assert_eq!(jobs[1].posting.company.as_deref(), Some("Acme"));
    }

    #[tokio::test]
    async fn a_job_whose_page_is_gone_is_not_open_until_its_page_is_a_posting_again() {
        let listed = || {
            let record = posting("Engineer", None, Standing::Candidate);
            page("https://a.example/jobs", PageKind::Listing, vec![record], None)
        };
        let own = || page(OWN, PageKind::Posting, vec![posting("Engineer", None, Standing::Confirmed)], None);
        let refused = |refusal| page(OWN, PageKind::None, Vec::new(), Some(refusal));
        let gone_at = |jobs: Vec<StoredJob>| jobs.into_iter().map(|job| job.gone_at).collect::<Vec<_>>();

        // No posting: a candidate falls, and a listing that still names it changes nothing.
        let pages = vec![listed(), refused(Refusal::NoPosting), listed(), refused(Refusal::Gone), own()];
        assert_eq!(gone_at(after_each(pages).await), [None, Some(1), Some(1), Some(1), None]);
        // What was read as a posting once is refuted only by a page that says that it is gone.
        let pages = vec![own(), refused(Refusal::NoPosting), refused(Refusal::Gone), listed(), own()];
        assert_eq!(gone_at(after_each(pages).await), [None, None, Some(2), Some(2), None]);
        // A page that was got without a verdict (it could not be read) says nothing.
        let pages = vec![listed(), page(OWN, PageKind::None, Vec::new(), None)];
        assert_eq!(gone_at(after_each(pages).await), [None, None]);
    }
}
