//! What a page says plainly, read by rules: labelled lines ("Salary: …", "Standort" above "Berlin"), short lines of one
//! fact beside the title ("Full-time", "от 150 000 ₽ за месяц"), the heading that is the title.
//!
//! Small models read prose better than they read layout, so these facts fill what neither the page's data nor the
//! model gave, and settle the title where the heading and the model disagree. Every fact carries its evidence.

use std::sync::LazyLock;

use regex::Regex;

use crate::frontier::site;
use crate::gate::{fold, is_about_jobs};
use crate::listing::is_job_title;
use crate::normalize;
use crate::posting::{EmploymentType, Evidence, EvidenceSource, Posting, Salary, SalaryPeriod, Workplace};
use crate::verify::PageView;

/// Lines around the title that are looked at for facts.
const HEAD_LINES: usize = 24;
/// A longer line is prose, and the head of a posting ends there.
const PROSE_CHARS: usize = 200;
/// Characters of a line that speaks of pay at most.
const PAY_CHARS: usize = 240;
/// Characters of a fact at most.
const FACT_CHARS: usize = 110;
/// Characters of a labelled employer or place at most.
const NAME_CHARS: usize = 80;

fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

/// A label, alone or before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Company,
    Location,
    Employment,
    Workplace,
    Salary,
    Posted,
    Until,
}

static LABELS: LazyLock<Vec<(Label, Regex)>> = LazyLock::new(|| {
    let table = [
        (
            Label::Company,
            r"company( name)?|employer|hiring organi[sz]ation|arbeitgeber|unternehmen|компанія|роботодавець|компания|работодатель|entreprise|employeur|azienda|arbejdsgiver|会社名|企業名|החברה",
        ),
        (
            Label::Location,
            r"(job |work |office )?locations?|place of work|(stand|arbeits|einsatz|dienst)ort|місце роботи|место работы|lieu( de travail)?|localização|ubicación|sede|arbejdssted|勤務地",
        ),
        (
            Label::Employment,
            r"employment( type)?|job type|contract( type)?|type of (contract|employment)|time type|(anstellungs|beschäftigungs|vertrags)art|arbeitszeit|зайнятість|тип зайнятості|занятость|тип занятости|type de contrat|tipo de contrato|雇用形態|ansættelse(sform)?",
        ),
        (
            Label::Workplace,
            r"workplace( type)?|work (mode|model)|remote|формат работы|формат роботи|arbeitsmodell",
        ),
        (
            Label::Salary,
            r"salary( range)?|pay( range)?|compensation|gehalt|vergütung|зарплата|salaire|salario|salário|給与|løn",
        ),
        (
            Label::Posted,
            r"(date )?posted( on| date)?|publish(ed|ing)( on| date)?|posting date|updated|veröffentlicht( am)?|online seit|опубліковано|дата публікації|опубликовано|publié le|publicado( em| el)?|掲載日",
        ),
        (
            Label::Until,
            r"clos(ing|es)( date| on)?|(application )?deadline( for applications?)?|apply (by|before|until)|applications? close|valid (until|through)|bewerbungs(frist|schluss)( bis)?|ansøgningsfrist|дедлайн|date limite|prazo|締切",
        ),
    ];
    let pattern = |words: &str| Regex::new(&format!(r"(?i)^({words})\s*(?:[:：]\s*(.*)|$)")).ok();
    table.into_iter().filter_map(|(label, words)| Some((label, pattern(words)?))).collect()
});
/// A date with the word that says what it is of, on one line.
static POSTED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)^(date )?(posted|published|updated|reposted|veröffentlicht|online seit|опубліковано|опубликован\p{L}*|вакансі\p{L}* від|publié|publicad[oa]|geplaatst)\b",
    )
});
static UNTIL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)^((application )?(closing date|deadline)|closes|apply (by|before|until)|applications? close|bewerbungs(frist|schluss)|bewerben bis|ansøgningsfrist|date limite)\b",
    )
});
static LEGAL_FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(gmbh|mbh|ag|kgaa|kg|ltd|limited|llc|l\.l\.c|inc|corp|plc|s\.?a\.?s|s\.?p\.?a|s\.?r\.?l|b\.?v|n\.?v|aps|a/s|oyj?|sp\. z o\.?o|pty|e\.v|ggmbh|lda)\b\.?\)?$|^(тов|ооо|зао|пао|ао|株式会社)\b|株式会社$",
    )
});
static HIRING: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"^(.{2,60}?) hiring (.{3,160}) in (.{2,80}?)( \||$)"));
static TERM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(positions?|stipends?|appointments?|stelle|employment) (is |are |is limited |are limited |will be )?(available )?for (a period of )?(up to )?(\w+) (years?|months?)\b|\bbefristet auf\b|\bfixed[- ]term (position|contract|appointment)|\btidsbegrænset\b",
    )
});
/// Words beside which an amount of money is pay.
static PAY_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(salar(y|ies)|pay (range|rate|scale)|base pay|hourly (rate|pay)|wages?|stipend|compensation range|\p{L}*gehalt\p{L}*|vergütung|entgelt|bezahlung|salaire|rémunération|salario|retribución|subsídio|bolsa|remuneração|salário|stipendio|løn|salaris|зарплат\p{L}*|оклад|заробітн\p{L}*|заработн\p{L}*|доход)\b|月給|年収|年俸|時給|給与|שכר",
    )
});
/// Boards show other people's jobs: their own name is no employer.
static BOARDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)^(www\.)?(linkedin|indeed|glassdoor|seek|jora|monster|stepstone|xing|irishjobs|jobs|work|robota|hh|headhunter|superjob|topjobs|jobsdb|jobstreet|naukri|ziprecruiter|dice|itviec|vietnamworks|drushim|alljobs|gotfriends|remoteok|remote ok|we work remotely|weworkremotely|himalayas|wellfound|angellist|totaljobs|reed|cv-library|jobindex|infojobs|welcome to the jungle|gupy|catho|upwork|adzuna|jooble|talent|simplyhired|careerbuilder|kununu|join|arbeitsagentur|getro)(\.(com|ua|ru|ie|de|co|io|net|org|lk|au|il|dk|es|fr|uk))*$",
    )
});

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// Whether a name is a job board's rather than an employer's.
pub fn is_board(name: &str) -> bool {
    matches(&BOARDS, name.trim())
}

/// A stretch of the markdown that may state one fact.
#[derive(Clone, Copy, Debug)]
struct Fact<'a> {
    text: &'a str,
    start: usize,
}

impl Fact<'_> {
    fn evidence(self) -> Vec<Evidence> {
        let end = Some(self.start + self.text.len());
        vec![Evidence { source: EvidenceSource::Text, pointer: None, start: Some(self.start), end }]
    }
}

/// A line without its bullet or heading marks and its link number.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    text: &'a str,
    start: usize,
    level: usize,
    link: bool,
}

fn lines(markdown: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    let mut out = Vec::new();
    for whole in markdown.split('\n') {
        let marks = whole.len() - whole.trim_start_matches(['#', '*', '-', ' ']).len();
        let level = whole.bytes().take_while(|b| *b == b'#').count();
        let rest = &whole[marks..];
        let text = rest.trim_end();
        let bare = text
            .strip_suffix(']')
            .and_then(|t| t.rsplit_once(" ["))
            .filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
        let (text, link) = bare.map_or((text, false), |(t, _)| (t, true));
        if !text.is_empty() {
            out.push(Line { text, start: at + marks, level, link });
        }
        at += whole.len() + 1;
    }
    out
}

/// Parts of a line between separators that pages use.
fn parts<'a>(line: &Line<'a>) -> Vec<Fact<'a>> {
    let mut out = Vec::new();
    let mut start = 0;
    let separators = [" | ", " · ", " • ", "; ", " – ", ". "];
    while start < line.text.len() {
        let rest = &line.text[start..];
        let next = separators.iter().filter_map(|s| Some((rest.find(s)?, s.len()))).min();
        let (length, step) = next.unwrap_or((rest.len(), 0));
        let text = rest[..length].trim();
        if !text.is_empty() && text.chars().count() <= FACT_CHARS {
            let lead = rest[..length].len() - rest[..length].trim_start().len();
            out.push(Fact { text, start: line.start + start + lead });
        }
        start += length + step.max(usize::from(step == 0));
        if step == 0 {
            break;
        }
    }
    out
}

/// The heading that names the job: the only first-level one, or the only one that reads like a job's name.
fn main_heading<'a>(lines: &[Line<'a>]) -> Option<(usize, Line<'a>)> {
    let first: Vec<(usize, Line<'a>)> =
        lines.iter().copied().enumerate().filter(|(_, line)| line.level == 1).collect();
    if let [only] = first.as_slice() {
        return Some(*only);
    }
    let mut named = first.into_iter().filter(|(_, line)| is_job_title(line.text));
    let only = named.next()?;
    named.next().is_none().then_some(only)
}

/// The title that the page's main heading settles: the heading where the model's title holds it with more around
/// it, or where the model's title reads like no job and the heading does.
pub fn settle_title(posting: &mut Posting, page: &PageView<'_>) {
    let markdown = &page.cleaned.markdown;
    let lines = lines(markdown);
    let Some((_, heading)) = main_heading(&lines) else { return };
    if heading.text.chars().count() > 200 || is_board(heading.text) {
        return;
    }
    let said = fold(posting.title.as_deref().unwrap_or(""));
    let head = fold(heading.text);
    if head.is_empty() || said == head {
        return;
    }
    // "Join us" heads any job, and so none.
    let is_general = |text: &str| is_about_jobs(text) && !is_job_title(text);
    if is_general(heading.text) {
        return;
    }
    let meta = &page.cleaned.meta;
    let is_in_head =
        |folded: &str| [&meta.title, &meta.og_title].into_iter().flatten().any(|t| fold(t).contains(folded));
    let in_head = is_in_head(&head);
    // A title that heads a part of the page, or that the head names too, is no worse than another heading.
    let said_text = posting.title.as_deref().unwrap_or("");
    let names_other =
        [&posting.company, &meta.site_name].into_iter().flatten().any(|name| fold(name) == said);
    let is_own = !said.is_empty() && !is_general(said_text) && !names_other;
    let heads_a_part = is_own && lines.iter().any(|line| line.level > 0 && fold(line.text) == said);
    let is_named = heads_a_part || is_own && !is_job_title(heading.text) && is_in_head(&said);
    let holds_more = said.contains(&head) && (is_job_title(heading.text) || in_head);
    let is_better = (is_job_title(heading.text) || in_head)
        && !head.contains(&said)
        && !is_named
        && !posting.title.as_deref().is_some_and(is_job_title);
    // Cut short, unless what was cut is the employer or the place.
    let rest = head.replacen(&said, "", 1);
    let names = posting.company.iter().chain(&posting.locations).map(|name| fold(name));
    let is_cut = head.starts_with(&said)
        && is_job_title(heading.text)
        && heading.text.chars().count() <= FACT_CHARS
        && !names.into_iter().any(|name| !name.is_empty() && (rest.contains(&name) || name.contains(&rest)));
    if said.is_empty() && (is_job_title(heading.text) || in_head) || holds_more || is_better || is_cut {
        posting.title = Some(heading.text.to_owned());
        let fact = Fact { text: heading.text, start: heading.start };
        posting.evidence.insert("title".to_owned(), fact.evidence());
    }
}

/// Fills what is empty with what the page states plainly.
pub fn fill(posting: &mut Posting, page: &PageView<'_>) {
    let markdown = &page.cleaned.markdown;
    let lines = lines(markdown);
    let title = posting.title.as_deref().map(fold).unwrap_or_default();
    let at = main_heading(&lines)
        .map(|(at, _)| at)
        .or_else(|| lines.iter().position(|line| !title.is_empty() && fold(line.text) == title));
    if !is_declared(posting, "company") && posting.company.as_deref().is_some_and(|name| is_host(name, page))
    {
        posting.company = None;
        posting.evidence.remove("company");
    }
    labelled(posting, page, &lines);
    if let Some(at) = at {
        let before = at.saturating_sub(6);
        let prose = |line: &Line<'_>| line.text.chars().count() > PROSE_CHARS;
        let until = lines.iter().skip(at + 1).take(HEAD_LINES).position(prose);
        let until = at + 1 + until.unwrap_or(HEAD_LINES);
        let near: Vec<Line<'_>> = lines[before..until.min(lines.len())]
            .iter()
            .copied()
            .filter(|line| fold(line.text) != title)
            .collect();
        beside_title(posting, page, &near);
        employer(posting, page, &lines, at);
    }
    // Small models put the employer among the places.
    if let Some(company) = posting.company.as_deref().map(fold) {
        posting.locations.retain(|place| fold(place) != company);
    }
    in_prose(posting, &lines);
    if posting.employment_type.is_none_or(|kind| kind == EmploymentType::FullTime)
        && let Some(found) = TERM.as_ref().and_then(|p| p.find(markdown))
    {
        let fact = Fact { text: found.as_str(), start: found.start() };
        set(posting, "employment_type", fact, |p| p.employment_type = Some(EmploymentType::Temporary));
    }
}

fn set(posting: &mut Posting, field: &str, fact: Fact<'_>, put: impl FnOnce(&mut Posting)) {
    put(posting);
    posting.evidence.insert(field.to_owned(), fact.evidence());
}

/// "Label: value", or a label alone with its value on the next line.
fn labelled(posting: &mut Posting, page: &PageView<'_>, lines: &[Line<'_>]) {
    for (index, line) in lines.iter().enumerate() {
        if line.text.chars().count() > PROSE_CHARS {
            continue;
        }
        for (label, pattern) in LABELS.iter() {
            let Some(found) = pattern.captures(line.text) else { continue };
            let groups = found.len();
            let value = found.get(groups - 1).filter(|v| !v.as_str().trim().is_empty());
            let fact = match value {
                Some(v) => Fact { text: v.as_str().trim_end(), start: line.start + v.start() },
                None => match lines.get(index + 1) {
                    Some(next) if next.text.chars().count() <= FACT_CHARS => {
                        Fact { text: next.text, start: next.start }
                    }
                    _ => continue,
                },
            };
            let is_name = fact.text.chars().count() <= NAME_CHARS && !fact.text.ends_with([':', '?']);
            match label {
                Label::Company if posting.company.is_none() && is_name && value.is_some() => {
                    set(posting, "company", fact, |p| p.company = Some(fact.text.to_owned()));
                }
                Label::Location if posting.locations.is_empty() && is_name => {
                    set(posting, "locations", fact, |p| p.locations = vec![fact.text.to_owned()]);
                }
                Label::Company | Label::Location => {}
                Label::Employment => employment(posting, fact),
                Label::Workplace => workplace(posting, fact),
                Label::Salary => salary(posting, fact),
                Label::Posted | Label::Until => date(posting, page, fact, *label == Label::Posted),
            }
        }
    }
}

fn beside_title(posting: &mut Posting, page: &PageView<'_>, near: &[Line<'_>]) {
    for fact in near.iter().flat_map(parts) {
        if matches(&POSTED, fact.text) {
            date(posting, page, fact, true);
        } else if matches(&UNTIL, fact.text) {
            date(posting, page, fact, false);
        } else if fact.text.chars().count() <= 60 {
            employment(posting, fact);
            workplace(posting, fact);
        }
        if normalize::names_currency(fact.text) {
            salary(posting, fact);
        }
    }
}

/// What the title says of the contract, and pay in the first line that speaks of pay.
fn in_prose(posting: &mut Posting, lines: &[Line<'_>]) {
    // "Contract Manager" is no contract.
    let named =
        posting.title.as_deref().and_then(normalize::employment).filter(|k| *k != EmploymentType::Contract);
    if posting.employment_type.is_none()
        && let Some(kind) = named
    {
        posting.employment_type = Some(kind);
        let title = posting.evidence.get("title").cloned().unwrap_or_default();
        posting.evidence.insert("employment_type".to_owned(), title);
    }
    for line in lines.iter().filter(|line| speaks_of_pay(line.text)) {
        salary(posting, Fact { text: line.text, start: line.start });
    }
    // A shell's text is in what it declares.
    let declared = posting.description.as_deref().filter(|_| posting.salary.is_none());
    let pay = declared.and_then(|text| {
        let lines = text.lines().filter(|line| speaks_of_pay(line));
        lines.filter_map(normalize::salary).find(is_pay)
    });
    if let Some(pay) = pay {
        posting.salary = Some(pay);
        let whole = posting.evidence.get("description").cloned().unwrap_or_default();
        posting.evidence.insert("salary".to_owned(), whole);
    }
}

fn speaks_of_pay(line: &str) -> bool {
    line.chars().count() <= PAY_CHARS && matches(&PAY_WORD, line) && normalize::names_currency(line)
}

fn employment(posting: &mut Posting, fact: Fact<'_>) {
    if posting.employment_type.is_none()
        && let Some(kind) = normalize::employment(fact.text)
    {
        set(posting, "employment_type", fact, |p| p.employment_type = Some(kind));
    }
}

fn workplace(posting: &mut Posting, fact: Fact<'_>) {
    if posting.workplace.is_none()
        && let Some(kind) = normalize::workplace(fact.text)
    {
        set(posting, "workplace", fact, |p| {
            p.workplace = Some(kind);
            p.remote = match kind {
                Workplace::Remote => Some(true),
                Workplace::OnSite => Some(false),
                Workplace::Hybrid => p.remote,
            };
        });
    }
}

fn salary(posting: &mut Posting, fact: Fact<'_>) {
    if posting.salary.is_none()
        && let Some(pay) = normalize::salary(fact.text).filter(is_pay)
    {
        set(posting, "salary", fact, |p| p.salary = Some(pay));
    }
}

/// A yearly sum below this is an allowance in any currency.
const YEARLY_MIN: f64 = 1_000.0;

/// Whether an amount can be what a job pays.
pub fn is_pay(salary: &Salary) -> bool {
    let largest = salary.max.or(salary.min).unwrap_or(0.0);
    salary.currency.is_some() && !(salary.period == Some(SalaryPeriod::Year) && largest < YEARLY_MIN)
}

fn date(posting: &mut Posting, page: &PageView<'_>, fact: Fact<'_>, posted: bool) {
    let Some(day) = normalize::date(fact.text, page.fetched, page.month_first()) else { return };
    if posted && posting.date_posted.is_none() {
        set(posting, "date_posted", fact, |p| p.date_posted = Some(day));
    } else if !posted && posting.valid_through.is_none() {
        set(posting, "valid_through", fact, |p| p.valid_through = Some(day));
    }
}

/// The employer: a name with its legal form beside the title or in the page's title, the link that stands both
/// before and after the title, or the head's "X hiring Y in Z".
fn employer(posting: &mut Posting, page: &PageView<'_>, lines: &[Line<'_>], at: usize) {
    if is_declared(posting, "company") {
        return;
    }
    if posting.company.as_ref().is_some_and(|name| posting.locations.contains(name)) {
        posting.company = None;
        posting.evidence.remove("company");
    }
    let near = &lines[at.saturating_sub(5)..(at + 6).min(lines.len())];
    let is_name =
        |text: &str| (2..=60).contains(&text.chars().count()) && !is_host(text, page) && !is_job_title(text);
    let legal = near
        .iter()
        .flat_map(parts)
        .find(|fact| is_name(fact.text) && matches(&LEGAL_FORM, fact.text) && fact.text.contains(' '));
    let before = &lines[at.saturating_sub(5)..at.min(lines.len())];
    let after = lines.get(at + 1..(at + 6).min(lines.len())).unwrap_or_default();
    let leads_away = |line: &&Line<'_>| {
        line.link && is_name(line.text) && !is_about_jobs(line.text) && !leads_into(line.text, page)
    };
    let twice = before
        .iter()
        .filter(leads_away)
        .find(|line| after.iter().any(|other| other.link && other.text == line.text));
    let beside = legal.or_else(|| twice.map(|line| Fact { text: line.text, start: line.start }));
    if let Some(fact) = beside {
        let (said, here) = (posting.company.as_deref().map(fold).unwrap_or_default(), fold(fact.text));
        if !said.is_empty() && (here.contains(&said) || said.contains(&here)) {
            return;
        }
        return set(posting, "company", fact, |p| p.company = Some(fact.text.to_owned()));
    }
    if posting.company.is_some() {
        return;
    }
    let heading = lines.get(at).map_or("", |line| line.text);
    if let Some(name) = in_head(heading, page)
        && let Some(evidence) = page.prove(&name)
    {
        posting.evidence.insert("company".to_owned(), vec![evidence]);
        posting.company = Some(name);
    }
}

/// Whether a link of this text stays on the page or goes on below its address, as what one does with the job does
/// ("…/apply", "…#form"); an employer's page lies elsewhere.
fn leads_into(text: &str, page: &PageView<'_>) -> bool {
    let own = page.url.path().trim_end_matches('/');
    page.cleaned.links.iter().filter(|link| link.text == text).any(|link| {
        let url = &link.url;
        let is_below = || {
            let rest = url.path().trim_end_matches('/').strip_prefix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !matches!(url.scheme(), "http" | "https" | "file")
            || url.domain() == page.url.domain() && !own.is_empty() && is_below()
    })
}

/// Whether the page's data, not its text, gives a field.
fn is_declared(posting: &Posting, field: &str) -> bool {
    let declared = |e: &Evidence| !matches!(e.source, EvidenceSource::Text | EvidenceSource::Meta);
    posting.evidence.get(field).is_some_and(|all| all.iter().any(declared))
}

/// Whether a name says where the page is rather than who hires: the board it is on, or its own domain, unless the site
/// itself goes by that domain. The same names are employers on other sites ("Indeed" on its board at another system).
fn is_host(name: &str, page: &PageView<'_>) -> bool {
    let Some(host) = page.url.domain() else { return is_board(name) || is_domain(name) };
    let name = name.trim();
    let own = site(host);
    if is_domain(name) {
        let calls_itself = page.cleaned.meta.site_name.as_deref().is_some_and(|s| s.trim() == name);
        return site(name) == own && (is_board(name) || !calls_itself);
    }
    let folded = fold(name);
    is_board(name) && (fold(own) == folded || host.split('.').any(|label| fold(label) == folded))
}

fn is_domain(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    labels.len() > 1
        && labels.iter().all(|l| {
            !l.is_empty() && l.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        })
}

/// An employer that the page's own title names.
fn in_head(title: &str, page: &PageView<'_>) -> Option<String> {
    let meta = &page.cleaned.meta;
    for head in [&meta.og_title, &meta.title].into_iter().flatten() {
        if let Some(found) = HIRING.as_ref().and_then(|p| p.captures(head)) {
            return Some(found[1].trim().to_owned());
        }
        let rest = if title.is_empty() { head.clone() } else { head.replacen(title, " | ", 1) };
        let names = rest.split([',', '|', '·', '–', '—']).flat_map(|part| part.split(" - ")).map(str::trim);
        let named = names.filter(|n| n.contains(' ') && n.chars().count() <= 60 && matches(&LEGAL_FORM, n));
        if let Some(name) = named.into_iter().find(|n| !is_host(n, page)) {
            return Some(name.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for pattern in [&POSTED, &UNTIL, &LEGAL_FORM, &HIRING, &TERM, &PAY_WORD, &BOARDS] {
            assert!(pattern.is_some());
        }
        assert_eq!(LABELS.len(), 7);
    }
}
