//! What proves a job's values: the quoted words, from the text that the page had when it was read.

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::AgentError;
use crate::posting::{Evidence, Posting};
use crate::store::json::from_json;
use crate::store::texts::unpack;
use crate::store::{JobId, Store};

/// One span that proves one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Field of the posting.
    pub field: String,
    /// Where the value was found.
    pub evidence: Evidence,
    /// Path or address of the page.
    pub page: String,
    /// The words, for evidence in text; `None` elsewhere, and where the text made room.
    pub quote: Option<String>,
    /// Version of the cleaner that made the text, where it is kept.
    pub cleaner: Option<u32>,
}

/// A page that showed the job, with its text where that is kept.
struct Seen {
    page: String,
    posting: Posting,
    text: Option<(String, u32)>,
}

impl Store {
    /// Proofs of each field of a job, by field. Empty where there is no such job.
    ///
    /// # Errors
    /// The database's.
    pub async fn evidence(&self, job: JobId) -> Result<Vec<Proof>, AgentError> {
        self.thread.call(move |connection| evidence(connection, job)).await
    }
}

fn evidence(connection: &Connection, job: JobId) -> Result<Vec<Proof>, AgentError> {
    let sql = "SELECT posting FROM jobs WHERE id = ?1";
    let json: Option<String> = connection.query_row(sql, [job.0], |row| row.get(0)).optional()?;
    let Some(json) = json else { return Ok(Vec::new()) };
    let posting: Posting = from_json("job", &json)?;
    let seen = seen(connection, job)?;
    let mut proofs = Vec::new();
    for (field, spans) in &posting.evidence {
        // The job's values were taken over from its pages field by field: the newest page with just this evidence, if
        // possible one whose text is kept.
        let mut from = seen.iter().filter(|seen| seen.posting.evidence.get(field) == Some(spans));
        let newest = from.clone().next();
        let Some(from) = from.find(|seen| seen.text.is_some()).or(newest) else { continue };
        proofs.extend(spans.iter().map(|span| proof(field, span, from)));
    }
    Ok(proofs)
}

fn seen(connection: &Connection, job: JobId) -> Result<Vec<Seen>, AgentError> {
    let sql = "SELECT pages.source, observations.posting, texts.body, texts.cleaner FROM observations
        JOIN pages ON pages.id = observations.page LEFT JOIN texts ON texts.id = observations.text
        WHERE observations.job = ?1 ORDER BY observations.at DESC, observations.page DESC LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([job.0, SEEN_MAX], |row| {
        let text: (Option<Vec<u8>>, Option<u32>) = (row.get(2)?, row.get(3)?);
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, text))
    })?;
    rows.map(|row| {
        let (page, json, (body, cleaner)) = row?;
        let text = body.as_deref().and_then(unpack).zip(cleaner);
        Ok(Seen { page, posting: from_json("posting", &json)?, text })
    })
    .collect()
}

/// Pages of one job that are looked through, the newest first.
const SEEN_MAX: i64 = 100;

fn proof(field: &str, span: &Evidence, from: &Seen) -> Proof {
    let quote = from.text.as_ref().and_then(|(text, _)| text.get(span.start?..span.end?));
    Proof {
        field: field.to_owned(),
        evidence: span.clone(),
        page: from.page.clone(),
        quote: quote.map(str::to_owned),
        cleaner: from.text.as_ref().map(|(_, cleaner)| *cleaner),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::attempt::PageReport;
    use crate::clean;
    use crate::config::StorageConfig;
    use crate::posting::{EvidenceSource, PageKind, Standing};
    use crate::store::{Finished, Found};

    fn text_span(start: usize, end: usize) -> Evidence {
        Evidence { source: EvidenceSource::Text, pointer: None, start: Some(start), end: Some(end) }
    }

    fn report(source: &str, kind: PageKind, markdown: &str, fields: &[(&str, &str)]) -> PageReport {
        let mut report = PageReport::failed(source.into(), "seed".into(), String::new());
        let value =
            |field: &str| fields.iter().find(|(name, _)| *name == field).map(|(_, v)| (*v).to_owned());
        let evidence = fields.iter().map(|(field, value)| {
            let at = markdown.find(value).unwrap();
            ((*field).to_owned(), vec![text_span(at, at + value.len())])
        });
        let posting = Posting {
            standing: Standing::Candidate,
            title: value("title"),
            company: value("company"),
            url: Some("https://a.example/jobs/1".into()),
            evidence: evidence.collect::<BTreeMap<_, _>>(),
            ..Posting::default()
        };
        report.page.kind = kind;
        report.page.postings = vec![posting];
        report.markdown = markdown.into();
        report
    }

    async fn read(store: &Store, key: &str, report: PageReport) {
        let found = Found {
            source: report.page.source.clone(),
            host: String::new(),
            why: "seed".into(),
            depth: 0,
            paging: 0,
            score: 0,
        };
        let run = store.begin_run(key.to_owned(), vec![found], 1).await.unwrap();
        let lease = store.lease(run, &[], 1, 9).await.unwrap().unwrap();
        let done = Finished { report: Arc::new(report), links: Vec::new(), pages_max: 9 };
        assert!(store.finish(run, &lease, done, 1).await.unwrap());
    }

    #[tokio::test]
    async fn each_field_is_quoted_from_the_page_that_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig { data_dir: folder.path().to_owned(), ..StorageConfig::default() };
        let store = Store::open(&config).await.unwrap();
        let listing = "# Offene Stellen\n* Ingénieur bei Käthe GmbH\n";
        let fields = [("title", "Ingénieur"), ("company", "Käthe GmbH")];
        read(&store, "a", report("https://a.example/jobs", PageKind::Listing, listing, &fields)).await;
        let own = "# Ingénieur für Pumpen\n";
        let fields = [("title", "Ingénieur für Pumpen")];
        read(&store, "b", report("https://a.example/jobs/1", PageKind::Posting, own, &fields)).await;
        let job = store.jobs().await.unwrap().remove(0);
        let proofs = store.evidence(job.id).await.unwrap();
        let told: Vec<_> = proofs
            .iter()
            .map(|p| (p.field.as_str(), p.page.as_str(), p.quote.as_deref(), p.cleaner))
            .collect();
        let version = Some(clean::VERSION);
        let expected = [
            ("company", "https://a.example/jobs", Some("Käthe GmbH"), version),
            ("title", "https://a.example/jobs/1", Some("Ingénieur für Pumpen"), version),
        ];
        assert_eq!(told, expected);
        assert_eq!(store.evidence(JobId(99)).await.unwrap(), []);
        // Within a bound that holds no text at all, evidence stays and only its words are missing.
        store.close().await;
        let poor = tempfile::tempdir().unwrap();
        let config = StorageConfig { data_dir: poor.path().to_owned(), evidence_bytes_max: 0, ..config };
        let store = Store::open(&config).await.unwrap();
        read(&store, "a", report("https://a.example/jobs/1", PageKind::Posting, own, &fields)).await;
        let job = store.jobs().await.unwrap().remove(0);
        let proofs = store.evidence(job.id).await.unwrap();
        assert_eq!((proofs.len(), &proofs[0].quote, proofs[0].cleaner), (1, &None, None));
    }
}
