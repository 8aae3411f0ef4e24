//! What speaks for a posting and for a listing: mostly structure (headings and lists, forms, labelled facts, links,
//! repetition, addresses), words only adding.

use scraper::{ElementRef, Selector};
use url::Url;

use crate::clean::Cleaned;
use crate::document::{Document, collapse, visible_text};
use crate::facts::{Line, label, lines};
use crate::job_title::{is_general, names_one_job, reads_like_job};
use crate::listing::{RecordGroup, address};
use crate::normalize;
use crate::page::fold;
use crate::words::{List, Text};

/// Lines longer than this are prose, not a statement of one fact.
const FACT_CHARS_MAX: usize = 140;
/// Lines in which a page without a heading names its job.
const HEAD_LINES: usize = 15;
/// Characters of a line that heads a part of a posting.
const HEADING_CHARS_MAX: usize = 70;
/// Words for the reader among a hundred, from which a text speaks to one, and how many at least.
const READER_PERCENT: usize = 2;
const READER_WORDS_MIN: usize = 3;
/// Headings of a posting's or a career page's parts; they name no job.
const SECTIONS: [List; 5] =
    [List::SectionTasks, List::SectionProfile, List::SectionOffer, List::SectionEmployer, List::SectionApply];
/// Links and buttons whose text is looked at.
const CONTROLS_MAX: usize = 2_000;

/// What speaks for a posting and for a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Parts headed "your tasks" and the like.
    pub tasks: bool,
    /// Parts headed "your profile" and the like.
    pub profile: bool,
    /// Parts headed "we offer", "how to apply" and the like.
    pub offer: bool,
    /// Headed parts that hold a list.
    pub lists: usize,
    /// The address names one job.
    pub posting_url: bool,
    /// The address is made of a title's words, below something about jobs.
    pub title_url: bool,
    /// The address names a list.
    pub listing_url: bool,
    /// A link or button to apply.
    pub apply: bool,
    /// Its sentences speak to the reader, as postings do.
    pub speaks_to_reader: bool,
    /// A form that takes a file.
    pub takes_files: bool,
    /// First-level headings.
    pub headings: usize,
    /// Labelled facts of different kinds ("Location: …").
    pub labels: usize,
    /// A short line that states pay.
    pub pay: bool,
    /// A short line that states the kind of contract.
    pub contract: bool,
    /// A short line that states when it was posted.
    pub dated: bool,
    /// Records of the largest group of jobs.
    pub records: usize,
    /// Their share of the page's text, in percent.
    pub records_percent: usize,
    /// Title or heading speak of jobs in general.
    pub is_about_jobs: bool,
    /// The heading speaks of people rather than of a job.
    pub is_about_people: bool,
    /// The first heading or the title reads like one job's name.
    pub job_title: bool,
    /// It speaks of jobs in general as well ("PhD position", but also "Engineering jobs").
    pub is_general_title: bool,
    /// A short line among the first reads like one job's name.
    pub job_line: bool,
    /// That heading is the page's title as well.
    pub is_titled: bool,
}

/// Reads the signals off a page.
pub fn signals(url: &Url, document: &Document, cleaned: &Cleaned, groups: &[RecordGroup]) -> Signals {
    let canonical = cleaned.meta.canonical.as_deref().and_then(|text| Url::parse(text).ok());
    let url = canonical.as_ref().filter(|canonical| canonical.host() == url.host()).unwrap_or(url);
    let title = cleaned.meta.title.as_deref().unwrap_or("");
    let all = lines(&cleaned.markdown);
    let heading = cleaned.headings.first().map_or("", String::as_str);
    let named = if heading.is_empty() { title } else { heading };
    let heads = format!("{title}\n{}", cleaned.headings.join("\n"));
    let heads = Text::new(&heads);
    let largest = groups.iter().filter(|group| group.is_jobs()).max_by_key(|group| group.records.len());
    let mut signals = Signals {
        posting_url: address::names_one_job(url),
        title_url: address::is_made_of_a_title(url),
        listing_url: address::names_a_list(url),
        headings: cleaned.headings.len(),
        records: largest.map_or(0, |group| group.records.len()),
        records_percent: largest
            .map_or(0, |group| group.chars() * 100 / cleaned.markdown.chars().count().max(1)),
        is_about_jobs: heads.has(List::Jobs) || heads.has(List::General),
        is_about_people: Text::new(heading).has(List::People),
        job_title: reads_like_job(named) && !Text::new(named).has(List::General),
        is_general_title: Text::new(named).has(List::Jobs),
        job_line: all.iter().take(HEAD_LINES).any(|line| !line.is_prose() && names_one_job(line.text)),
        is_titled: !heading.is_empty()
            && [title, cleaned.meta.og_title.as_deref().unwrap_or("")]
                .iter()
                .any(|t| fold(t).contains(&fold(heading))),
        ..Signals::default()
    };
    read_lines(&all, &mut signals);
    let reader = Text::new(&cleaned.markdown).find_all(List::SecondPerson).len();
    let words = cleaned.markdown.split_whitespace().count();
    signals.speaks_to_reader = reader >= READER_WORDS_MIN && reader * 100 >= words * READER_PERCENT;
    read_controls(document, &mut signals);
    signals
}

fn read_lines(lines: &[Line<'_>], signals: &mut Signals) {
    let mut labels = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let chars = line.text.chars().count();
        if chars > FACT_CHARS_MAX {
            continue;
        }
        let text = Text::new(line.text);
        if let Some((field, _)) = label(line)
            && !labels.contains(&field)
        {
            labels.push(field);
        }
        signals.pay |= normalize::salary(line.text).is_some_and(|pay| pay.is_pay());
        signals.contract |= normalize::employment(line.text).is_some();
        signals.dated |= text.begins_with(List::Posted).is_some() || text.has(List::Ago);
        // "Requirements: three years …"
        let opens = |list| {
            text.begins_with(list).is_some_and(|end| line.text[end..].trim_start().starts_with([':', '：']))
        };
        signals.tasks |= opens(List::SectionTasks);
        signals.profile |= opens(List::SectionProfile);
        signals.offer |= opens(List::SectionOffer);
        // A heading, or a line that introduces a list.
        let is_followed = lines.get(index + 1).is_some_and(|next| next.is_item && !line.is_item);
        if chars > HEADING_CHARS_MAX
            || line.level == 1
            || line.level == 0 && !is_followed && !line.text.ends_with(':')
        {
            continue;
        }
        signals.lists += usize::from(is_followed);
        signals.tasks |= text.has(List::SectionTasks);
        signals.profile |= text.has(List::SectionProfile);
        signals.offer |= text.has(List::SectionOffer) || text.has(List::SectionApply);
    }
    signals.labels = labels.len();
}

fn read_controls(document: &Document, signals: &mut Signals) {
    let Ok(selector) = Selector::parse("a, button, input[type=submit], input[type=file]") else { return };
    for element in document.html.select(&selector).take(CONTROLS_MAX) {
        if element.value().attr("type") == Some("file") {
            signals.takes_files = true;
        }
        signals.apply |= !signals.apply && Text::new(&said(element)).begins_with(List::Apply).is_some();
    }
}

fn said(control: ElementRef<'_>) -> String {
    let text = collapse(&visible_text(*control));
    if !text.is_empty() {
        return text.chars().take(HEADING_CHARS_MAX).collect();
    }
    let attribute = |name| control.value().attr(name).map(str::to_owned);
    attribute("value").or_else(|| attribute("aria-label")).unwrap_or_default()
}

/// Whether at least half of the largest group's records say more of a job than their repetition does: each has a name that
/// is no general one, names a job or leads to one's own address, and leads to jobs, can be applied for, or states a fact.
pub fn are_evident(groups: &[RecordGroup]) -> bool {
    let largest = groups.iter().filter(|group| group.is_jobs()).max_by_key(|group| group.records.len());
    largest.is_some_and(|group| {
        let evident = group.records.iter().filter(|record| {
            let name = record.name().map_or("", |name| name.text.as_str());
            let words = Text::new(name);
            let is_part = SECTIONS.iter().any(|section| words.has(*section));
            let is_job = names_one_job(name) || record.leads_to_one_job() && !is_general(name);
            is_job
                && !is_part
                && !record.is_menu()
                && (record.leads_to_job() || record.states_fact() || record.can_be_applied_for())
        });
        evident.count() * 2 >= group.records.len()
    })
}
