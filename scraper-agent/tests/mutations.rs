//! Broken pages: cut, flipped, doubled and shuffled bytes of the sample site's pages are read without a panic, in
//! bounded time, and what is said of them stands on them.

use chrono::Utc;
use quarry_agent::fetch::FetchedPage;
use quarry_agent::reading::Reading;
use url::Url;

const PAGES: [&str; 6] = [
    include_str!("../sample-site/jobs/index.html"),
    include_str!("../sample-site/jobs/plain.html"),
    include_str!("../sample-site/jobs/right.html"),
    include_str!("../sample-site/jobs/shell.html"),
    include_str!("../sample-site/jobs/ukrainian.html"),
    include_str!("../sample-site/jobs/thousands.html"),
];
const ROUNDS: u64 = 400;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn mutate(page: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = page.as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let (at, len) = (random.below(bytes.len()), 1 + random.below(400));
        let end = (at + len).min(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => drop(bytes.drain(at..end)),
            _ => {
                let marks = [
                    &b"<div>"[..],
                    b"</",
                    b"<script>",
                    b"{\"@type\":\"JobPosting\"",
                    b"\"",
                    b"&#x1F;",
                    b"\xff",
                ];
                let mark = marks[random.below(marks.len())];
                bytes.splice(at..at, mark.iter().copied());
            }
        }
        if bytes.is_empty() {
            bytes.push(b' ');
        }
    }
    bytes
}

fn read(bytes: Vec<u8>) -> Reading {
    Reading::of(&FetchedPage {
        url: Url::parse("https://jobs.example.com/openings").unwrap(),
        bytes,
        content_type: Some("text/html".to_owned()),
        fetched_at: Utc::now(),
        from_cache: false,
        redirects: 0,
    })
}

#[test]
fn mutated_pages_are_read_and_evidence_stays_inside() {
    let mut random = Random(7);
    for round in 0..ROUNDS {
        let page = PAGES[round as usize % PAGES.len()];
        let reading = read(mutate(page, &mut random));
        let answer = r#"{"title": "Mechanical Design Engineer", "company": "Saltmarsh Robotics", "salary": "€52,000"}"#;
        let mut postings = reading.declared().0;
        postings.extend(reading.check(answer).map(|checked| checked.resolved.posting));
        let length = reading.markdown().len();
        for evidence in postings.iter().flat_map(|posting| posting.evidence.values().flatten()) {
            let span = evidence.start.zip(evidence.end);
            assert!(
                span.is_none_or(|(start, end)| start <= end && end <= length),
                "round {round}: {evidence:?}"
            );
            let is_text = span.is_none_or(|(start, end)| reading.markdown().get(start..end).is_some());
            assert!(is_text, "round {round}: {evidence:?} cuts a letter");
        }
    }
}

#[test]
fn depth_and_breadth_are_bounded() {
    for unit in ["<div>", "<ul><li><a href=x>", "<table><tr><td>", "<script>", "<!--", "&amp;", "<b><p>"] {
        let page = unit.repeat((5 << 20) / unit.len());
        let reading = read(page.into_bytes());
        assert!(reading.markdown().len() <= 8 << 20);
    }
}
