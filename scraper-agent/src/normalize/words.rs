//! Fixed vocabularies: employment types, workplaces, the language of a text.

use crate::posting::{EmploymentType, Workplace};

/// Word beginnings by type, most telling first: "part" before "full" would misread "full and part time".
const EMPLOYMENT: [(EmploymentType, &[&str]); 5] = [
    (
        EmploymentType::Internship,
        &[
            "intern ",
            "interns ",
            "internship",
            "praktik",
            "trainee",
            "werkstudent",
            "working student",
            "estágio",
            "estagi",
            "stagiaire",
            "prácticas",
            "tirocinio",
            "стаж",
            "インターン",
            "co-op",
            "apprentice",
            "ausbildung zu",
            "ausbildungsplatz",
            "alternance",
        ],
    ),
    (
        EmploymentType::PartTime,
        &[
            "part time",
            "part-time",
            "part_time",
            "parttime",
            "teilzeit",
            "temps partiel",
            "tiempo parcial",
            "media jornada",
            "meio período",
            "part time",
            "deltid",
            "deeltijd",
            "неполн",
            "частичн",
            "неповна",
            "часткова",
            "パート",
            "アルバイト",
            "משרה חלקית",
            "mini-job",
            "minijob",
        ],
    ),
    (
        EmploymentType::FullTime,
        &[
            "full time",
            "full-time",
            "full_time",
            "fulltime",
            "vollzeit",
            "temps plein",
            "tiempo completo",
            "jornada completa",
            "tempo integral",
            "tempo pieno",
            "fuldtid",
            "voltijd",
            "heltid",
            "полная",
            "повна",
            "полный",
            "正社員",
            "正職員",
            "משרה מלאה",
            "regular employee",
            "cdi ",
        ],
    ),
    (
        EmploymentType::Temporary,
        &[
            "temporary",
            "temp ",
            "fixed term",
            "fixed-term",
            "befristet",
            "cdd ",
            "seasonal",
            "tidsbegrænset",
            "temporär",
            "temporal",
            "tempor",
            "tidelijk",
            "временн",
            "тимчасов",
            "契約社員",
            "per diem",
            "per_diem",
        ],
    ),
    (
        EmploymentType::Contract,
        &[
            "contract",
            "freelance",
            "freiberuf",
            "self-employed",
            "b2b",
            "підряд",
            "подряд",
            "業務委託",
            "autónomo",
        ],
    ),
];

/// The employment type that a text names; `None` where it names none. A text that names full and part time is
/// read as full time, the commoner offer.
pub fn employment(text: &str) -> Option<EmploymentType> {
    let letters = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { ' ' };
    let lower = text.to_lowercase();
    let text = format!("{} ", lower.chars().map(letters).collect::<String>());
    let has = |words: &[&str]| words.iter().any(|w| begins_a_word(&text, w));
    let names = |kind: EmploymentType| kind == EmploymentType::Internship && is_stage(&lower);
    let found: Vec<EmploymentType> =
        EMPLOYMENT.iter().filter(|(kind, words)| has(words) || names(*kind)).map(|(t, _)| *t).collect();
    if found.contains(&EmploymentType::FullTime) && !found.contains(&EmploymentType::Internship) {
        return Some(EmploymentType::FullTime);
    }
    found.first().copied()
}

/// Whether "stage" is the French, Dutch or Italian internship: alone, opening a line before a dash, a bracket or a slash,
/// or beside a small word of those languages. In English it is a theatre's, or a company's ("early-stage").
fn is_stage(lower: &str) -> bool {
    const BEFORE: [&str; 10] = ["de", "un", "en", "du", "le", "een", "di", "uno", "lo", "per"];
    const BEHIND: [&str; 11] = ["de", "d", "en", "chez", "bij", "als", "pour", "di", "presso", "au", "dans"];
    lower.match_indices("stage").any(|(at, found)| {
        let (before, behind) = (&lower[..at], &lower[at + found.len()..]);
        let glued = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if glued(before.chars().next_back()) || before.ends_with('-') || glued(behind.chars().next()) {
            return false;
        }
        let last = before.split_whitespace().next_back().unwrap_or("");
        let next = behind.trim_start();
        let word = next.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
        let is_first = before.trim().is_empty();
        let ends =
            next.is_empty() || !behind.starts_with('-') && next.starts_with(['-', '–', '—', '(', '/', '|']);
        // "in" is Italian or Dutch only where the line begins with the word.
        is_first && (ends || word == "in") || BEFORE.contains(&last) || BEHIND.contains(&word)
    })
}

/// Whether `word` stands in the text where a word begins; scripts without spaces have no such places.
fn begins_a_word(text: &str, word: &str) -> bool {
    let spaced = word.chars().next().is_some_and(|c| (c as u32) < 0x590);
    text.match_indices(word)
        .any(|(at, _)| !spaced || !text[..at].chars().next_back().is_some_and(char::is_alphanumeric))
}

/// The workplace that a text names.
pub fn workplace(text: &str) -> Option<Workplace> {
    let original = text;
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if has(&["гібрид", "гибрид", "teilweise remote", "ハイブリッド", "híbrid"])
        || is_of_work(original, "hybrid", false)
    {
        return Some(Workplace::Hybrid);
    }
    if is_of_work(original, "remote", true)
        || has(&[
            "home office",
            "homeoffice",
            "work from home",
            "telecommut",
            "télétravail",
            "teletrabajo",
            "удален",
            "удалён",
            "дистанц",
            "віддален",
            "リモート",
            "在宅",
            "hjemmefra",
            "thuiswerk",
            "smart working",
            "da remoto",
            "remoto",
            "עבודה מהבית",
            "fully distributed",
        ])
    {
        return Some(Workplace::Remote);
    }
    if has(&[
        "on-site",
        "onsite",
        "on site",
        "in office",
        "in-office",
        "vor ort",
        "präsenz",
        "sur site",
        "出社",
        "presencial",
    ]) {
        return Some(Workplace::OnSite);
    }
    None
}

/// Beginnings of words that may follow "hybrid" or "remote" where these say how one works.
const OF_WORK: [&str; 62] = [
    "work",
    "role",
    "position",
    "job",
    "model",
    "office",
    "schedul",
    "arrang",
    "option",
    "polic",
    "setup",
    "set",
    "team",
    "employ",
    "opportun",
    "possib",
    "availab",
    "eligib",
    "friendly",
    "first",
    "only",
    "based",
    "contract",
    "full",
    "part",
    "or",
    "and",
    "in",
    "from",
    "within",
    "with",
    "across",
    "for",
    "at",
    "on",
    "to",
    "as",
    "is",
    "anywhere",
    "worldwide",
    "global",
    "arbeit",
    "möglich",
    "büro",
    "oder",
    "und",
    "mit",
    "aus",
    "ou",
    "et",
    "y",
    "o",
    "e",
    "da",
    "en",
    "dans",
    "posible",
    "culture",
    "flexib",
    "environment",
    "week",
    "day",
];

/// Whether an adjective says how one works: it ends its phrase, or a word of work follows ("hybrid working", not "hybrid
/// cloud"). With `before_names`, a capitalised word may follow too, as a place does ("Remote Germany").
fn is_of_work(text: &str, adjective: &str, before_names: bool) -> bool {
    let mut words = text.split_inclusive(|c: char| !c.is_alphanumeric() && c != '\'').peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        if !bare.to_lowercase().starts_with(adjective) {
            continue;
        }
        let ends = !word[bare.len()..].chars().all(|c| c == ' ' || c == '-' || c == '\u{a0}');
        let Some(next) = words.peek() else { return true };
        let next = next.trim_end_matches(|c: char| !c.is_alphanumeric());
        // A separator or a number ends the phrase as well.
        if ends || next.is_empty() || next.starts_with(char::is_numeric) {
            return true;
        }
        let lower = next.to_lowercase();
        let is_short = |w: &str| w.chars().count() <= 3;
        if OF_WORK.iter().any(|w| if is_short(w) { lower == *w } else { lower.starts_with(w) })
            || before_names && next.starts_with(char::is_uppercase)
        {
            return true;
        }
    }
    false
}

/// Words that only one language has often.
const FUNCTION_WORDS: [(&str, &[&str]); 10] = [
    ("en", &["the", "and", "with", "for", "you", "our", "are", "will"]),
    ("de", &["und", "der", "die", "mit", "für", "wir", "eine", "sie", "bei", "zum"]),
    ("fr", &["les", "des", "vous", "pour", "une", "nous", "avec", "dans", "sur"]),
    ("es", &["los", "las", "para", "con", "una", "del", "nuestro", "más", "como"]),
    ("pt", &["para", "com", "uma", "você", "não", "nossa", "mais", "são", "dos"]),
    ("it", &["di", "per", "con", "una", "che", "della", "sono", "nel", "gli"]),
    ("nl", &["het", "een", "van", "met", "voor", "wij", "zijn", "jij", "onze"]),
    ("da", &["og", "til", "det", "af", "med", "vi", "som", "på", "ved", "du"]),
    ("uk", &["та", "для", "ми", "що", "ви", "або", "від", "це", "є", "і"]),
    ("ru", &["и", "для", "мы", "что", "вы", "или", "от", "это", "на", "по"]),
];

/// ISO 639-1 of a text of some length; `None` where it is too short to tell.
pub fn language(text: &str) -> Option<String> {
    let sample: String = text.chars().take(6_000).collect();
    let letters = sample.chars().filter(|c| c.is_alphabetic()).count();
    if letters < 40 {
        return None;
    }
    let share =
        |low: char, high: char| sample.chars().filter(|c| (low..=high).contains(c)).count() * 5 > letters;
    if share('\u{3040}', '\u{30ff}') {
        return Some("ja".into());
    }
    if share('\u{590}', '\u{5ff}') {
        return Some("he".into());
    }
    if share('\u{4e00}', '\u{9fff}') {
        return Some("zh".into());
    }
    let lower = sample.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).collect();
    let count = |list: &[&str]| words.iter().filter(|w| list.contains(*w)).count();
    let best = FUNCTION_WORDS.iter().max_by_key(|(_, list)| count(list))?;
    (count(best.1) * 30 >= words.len()).then(|| best.0.to_owned())
}
