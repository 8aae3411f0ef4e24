//! The question to the local model where structure leaves open what a page is: a digest of a few hundred tokens, and an
//! answer of one word.

use serde_json::{Value, json};

use crate::clean::Cleaned;
use crate::facts::lines;
use crate::listing::RecordGroup;
use crate::posting::PageKind;

/// Headings that are shown.
const HEADINGS_MAX: usize = 14;
/// Records that are shown.
const RECORDS_MAX: usize = 4;
/// First lines that are shown.
const LINES_MAX: usize = 8;
/// Characters of one line.
const LINE_CHARS_MAX: usize = 110;

/// What the model is told first, the same for every page.
pub const SYSTEM: &str = "You read a digest of a web page and say what kind of page it is.";

/// What it is asked, behind the digest.
pub const QUESTION: &str = "What is this page? Answer with JSON.
posting: it advertises exactly one open job, with what the person will do or must bring.
listing: it lists several open jobs by their titles.
hub: it is about working at a company, its people, benefits or events, and names no open job.
none: anything else.";

/// Invented pages of known kinds. A model that cannot sort these is not asked about real ones: small models answer the same
/// whatever they are shown.
pub const SAMPLES: [(PageKind, &str); 8] = [
    (
        PageKind::Posting,
        "Address: https://lumengrove.example/jobs/4411\nTitle: Greenhouse Technician - Lumengrove\nHeadings:\n\
        - Greenhouse Technician\n- What you will do\n- What you bring\nFirst lines:\n- Full-time, Aldbrook\n\
        - You keep pumps, lamps and sensors of four greenhouses running.\n- Apply now\n",
    ),
    (
        PageKind::Posting,
        "Address: https://www.hafenkontor.example/stellen/buchhalter\nTitle: Buchhalter (m/w/d) in Teilzeit\nHeadings:\n\
        - Buchhalter (m/w/d)\n- Ihre Aufgaben\n- Ihr Profil\nFirst lines:\n- Hafenkontor GmbH, Kiel\n\
        - Sie buchen Rechnungen und bereiten den Monatsabschluss vor.\n- Jetzt bewerben\n",
    ),
    (
        PageKind::Listing,
        "Address: https://careers.tallowby.example/openings\nTitle: Open positions - Tallowby\nHeadings:\n- Open positions\n\
        First lines:\n- 12 open positions\n- Filter by team\n12 repeated records, such as:\n\
        - Data Engineer | Leeds | Full-time\n- Product Designer | Remote\n- Payroll Specialist | Leeds | Part-time\n",
    ),
    (
        PageKind::Listing,
        "Address: https://emploi.rivegrise.example/offres\nTitle: Nos offres d'emploi\nHeadings:\n- Nos offres d'emploi\n\
        First lines:\n- 5 offres\n5 repeated records, such as:\n- Infirmier de nuit (H/F) | Nantes | CDI\n\
        - Cuisinier (H/F) | Rennes | CDD\n- Agent d'accueil (H/F) | Nantes | CDI\n",
    ),
    (
        PageKind::Hub,
        "Address: https://www.tallowby.example/careers\nTitle: Careers at Tallowby\nHeadings:\n- Why people stay\n\
        - Our benefits\n- Meet the team\nFirst lines:\n- 30 days of leave, a pension and a bicycle.\n\
        - Maya, Data Engineer: \"I learned more here in a year than in five before.\"\n",
    ),
    (
        PageKind::Hub,
        "Address: https://www.hafenkontor.example/karriere/ausbildung\nTitle: Ausbildung bei Hafenkontor\nHeadings:\n\
        - Lernen am Hafen\n- So läuft die Bewerbung\nFirst lines:\n\
        - Seit 1962 bilden wir aus. Fragen beantwortet Frau Ahrens.\n- Derzeit sind alle Plätze vergeben.\n",
    ),
    (
        PageKind::None,
        "Address: https://shop.fennwick.example/boots\nTitle: Waterproof boots - Fennwick\nHeadings:\n- Boots\n\
        First lines:\n- Free delivery from 40 GBP\n9 repeated records, such as:\n- Marsh boot | 89.00 GBP | Add to basket\n\
        - Tide boot | 120.00 GBP | Add to basket\n",
    ),
    (
        PageKind::None,
        "Address: https://www.aldbrook.example/news/bridge\nTitle: New bridge opens in May\nHeadings:\n\
        - New bridge opens in May\nFirst lines:\n- By our reporter, 3 April\n\
        - The town's second bridge will carry trams and bicycles, the council said.\n",
    ),
];

/// The schema of the answer.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["kind"],
        "properties": { "kind": { "enum": ["posting", "listing", "hub", "none"] } },
    })
}

/// What the model is shown of a page.
pub fn digest(cleaned: &Cleaned, groups: &[RecordGroup], address: &str) -> String {
    let mut text = format!("Address: {}\n", cut(address));
    let meta = &cleaned.meta;
    for (name, value) in [("Title", &meta.title), ("Description", &meta.description)] {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {}\n", cut(value)));
        }
    }
    let lines = lines(&cleaned.markdown);
    let headings: Vec<&str> = lines.iter().filter(|line| line.level > 0).map(|line| line.text).collect();
    if !headings.is_empty() {
        text.push_str("Headings:\n");
        headings
            .iter()
            .take(HEADINGS_MAX)
            .for_each(|heading| text.push_str(&format!("- {}\n", cut(heading))));
    }
    text.push_str("First lines:\n");
    let first = lines.iter().filter(|line| line.level == 0).take(LINES_MAX);
    first.for_each(|line| text.push_str(&format!("- {}\n", cut(line.text))));
    if let Some(group) = groups.first().filter(|group| group.records.len() > 1) {
        text.push_str(&format!("{} repeated records, such as:\n", group.records.len()));
        for record in group.records.iter().take(RECORDS_MAX) {
            let fields: Vec<&str> = record.fields.iter().take(4).map(|field| field.text.as_str()).collect();
            text.push_str(&format!("- {}\n", cut(&fields.join(" | "))));
        }
    }
    text
}

fn cut(text: &str) -> String {
    text.chars().take(LINE_CHARS_MAX).collect()
}

/// The kind that the model answered.
pub fn read_answer(answer: &str) -> Option<PageKind> {
    #[derive(serde::Deserialize)]
    struct Answer {
        kind: PageKind,
    }
    serde_json::from_str::<Answer>(answer.trim()).ok().map(|answer| answer.kind)
}
