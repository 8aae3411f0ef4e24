//! Dates: ISO and other absolute forms, and relative ones against the day the page was fetched.

use std::sync::LazyLock;

use chrono::{Datelike, Days, Months, NaiveDate};
use regex::Regex;

/// Years that a posting can be of.
const YEARS: std::ops::RangeInclusive<i32> = 1995..=2100;

fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

static YMD: LazyLock<Option<Regex>> = LazyLock::new(|| regex(r"\b(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})"));
static DMY: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"\b(\d{1,2})([./-])(\d{1,2})[./-](\d{4}|\d{2})\b"));
static DAY_NAME_YEAR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(r"(?i)\b(\d{1,2})(?:st|nd|rd|th)?\.?\s+(?:de\s+|of\s+)?(\p{L}{3,12})\.?,?\s+(?:de\s+)?(\d{4})")
});
static NAME_DAY_YEAR: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"(?i)\b(\p{L}{3,12})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})"));
static AGO: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)(\d{1,3})\+?\s*(minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|[hdw]\b|mo\b|minuten?|stunden?|tag(?:en?)?|wochen?|monat(?:en?)?|jours?|semaines?|mois|días?|semanas?|meses|dias?|giorn[io]|settiman[ae]|mes[ie]|dage?|uger?|måned(?:er)?|dagen|weken|weeks|maanden|дн[яеі]й?|день|д\.|недел[яиь]|місяц[іьв]*|месяц\p{L}*|тиж\p{L}*|днів|日前|週間前|か月前|時間前|ימים|שבועות)",
    )
});

/// Month names by their beginnings, in the languages we read.
const MONTHS: [&[&str]; 12] = [
    &["jan", "jän", "gen", "ene", "янв", "січ"],
    &["feb", "fév", "fev", "feb", "фев", "лют"],
    &["mar", "mär", "mrz", "maa", "мар", "бер"],
    &["apr", "avr", "abr", "апр", "кві"],
    &["may", "mai", "mag", "mei", "maj", "мая", "май", "тра"],
    &["jun", "jui", "giu", "июн", "чер"],
    &["jul", "lug", "июл", "лип"],
    &["aug", "aoû", "ago", "авг", "сер"],
    &["sep", "set", "сен", "вер"],
    &["oct", "okt", "ott", "out", "окт", "жов"],
    &["nov", "ноя", "лис"],
    &["dec", "dez", "déc", "dic", "дек", "гру"],
];

fn month(name: &str) -> Option<u32> {
    let name = name.to_lowercase();
    if name.starts_with("juil") {
        return Some(7);
    }
    if name.starts_with("лист") {
        return Some(11);
    }
    let found = MONTHS.iter().position(|begins| begins.iter().any(|b| name.starts_with(b)))?;
    Some(found as u32 + 1)
}

fn checked(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, day).filter(|d| YEARS.contains(&d.year()))
}

/// A machine-written date (ISO with or without time, RFC 2822, milliseconds) as `YYYY-MM-DD`.
pub fn iso_date(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        let seconds = if number > 10_000_000_000 { number / 1000 } else { number };
        let date = chrono::DateTime::from_timestamp(seconds, 0)?.date_naive();
        return checked(date.year(), date.month(), date.day()).map(|d| d.to_string());
    }
    absolute(text, None).map(|d| d.to_string())
}

/// Any date in a text, as `YYYY-MM-DD`: absolute forms first, then relative ones before `fetched` ("3 days ago", "3d") or,
/// where the words say so, after it ("in 3 days", "3 days left").
/// `month_first` tells how 03/04/2026 is meant; where it is `None` and the day is ambiguous there is no answer.
pub fn date(text: &str, fetched: NaiveDate, month_first: Option<bool>) -> Option<String> {
    absolute(text, month_first).or_else(|| relative(text, fetched)).map(|d| d.to_string())
}

fn absolute(text: &str, month_first: Option<bool>) -> Option<NaiveDate> {
    let number = |c: &regex::Captures<'_>, i: usize| c.get(i).and_then(|m| m.as_str().parse::<u32>().ok());
    if let Some(c) = YMD.as_ref().and_then(|r| r.captures(text)) {
        return checked(number(&c, 1)? as i32, number(&c, 2)?, number(&c, 3)?);
    }
    if let Some(c) = DAY_NAME_YEAR.as_ref().and_then(|r| r.captures(text))
        && let Some(month) = month(&c[2])
    {
        return checked(number(&c, 3)? as i32, month, number(&c, 1)?);
    }
    if let Some(c) = NAME_DAY_YEAR.as_ref().and_then(|r| r.captures(text))
        && let Some(month) = month(&c[1])
    {
        return checked(number(&c, 3)? as i32, month, number(&c, 2)?);
    }
    let c = DMY.as_ref()?.captures(text)?;
    let (a, b, year) = (number(&c, 1)?, number(&c, 3)?, number(&c, 4)? as i32);
    let year = if year < 100 { 2000 + year } else { year };
    let (day, month) = match (a > 12, b > 12) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        // A dot between them is the European order everywhere it is used.
        (false, false) if &c[2] == "." || a == b => (a, b),
        (false, false) => match month_first? {
            true => (b, a),
            false => (a, b),
        },
        (true, true) => return None,
    };
    checked(year, month, day)
}

/// What stands right before the number of a time to come.
static AHEAD_BEFORE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(in|within|noch|innerhalb von|dans|en|entro|tra|fra|over|binnen|om|через|за|протягом)\s+((the |den )?(next|nächsten|coming)\s+|less than\s+)?$",
    )
});
/// What stands right behind the unit of a time past, whatever is before ("over 3 days ago").
static PAST_BEHIND: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"(?i)^\p{L}*\s+(ago|тому|назад|siden|geleden|fa|atrás)\b"));
/// What stands right behind the unit of a time to come.
static AHEAD_BEHIND: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)^\p{L}*\s+(left|remaining|to go|from now|übrig|verbleiben\p{L}*|restant\p{L}*|залишилося|осталось)\b",
    )
});

/// A span of time before `fetched`, or after it where the words beside it say so.
fn relative(text: &str, fetched: NaiveDate) -> Option<NaiveDate> {
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    if has(&[
        "today",
        "just posted",
        "just now",
        "heute",
        "сегодня",
        "сьогодні",
        "aujourd",
        "hoy",
        "hoje",
        "oggi",
        "i dag",
        "vandaag",
        "本日",
        "היום",
    ]) {
        return Some(fetched);
    }
    if has(&[
        "yesterday",
        "gestern",
        "вчера",
        "вчора",
        "hier",
        "ayer",
        "ontem",
        "ieri",
        "i går",
        "gisteren",
        "昨日",
        "אתמול",
    ]) {
        return fetched.checked_sub_days(Days::new(1));
    }
    let c = AGO.as_ref()?.captures(&lower)?;
    let n: u32 = c[1].parse().ok()?;
    let unit = &c[2];
    let (start, end) = c.get(0).map_or((0, lower.len()), |found| (found.start(), found.end()));
    let matches =
        |pattern: &LazyLock<Option<Regex>>, text: &str| pattern.as_ref().is_some_and(|p| p.is_match(text));
    let is_ahead = !matches(&PAST_BEHIND, &lower[end..])
        && (matches(&AHEAD_BEFORE, &lower[..start]) || matches(&AHEAD_BEHIND, &lower[end..]));
    let days = |n: u64| match is_ahead {
        true => fetched.checked_add_days(Days::new(n)),
        false => fetched.checked_sub_days(Days::new(n)),
    };
    let months = |n: u32| match is_ahead {
        true => fetched.checked_add_months(Months::new(n)),
        false => fetched.checked_sub_months(Months::new(n)),
    };
    let begins = |words: &[&str]| words.iter().any(|w| unit.starts_with(w));
    if begins(&["minute", "min", "hour", "hr", "h", "stunde", "時間"]) {
        return Some(fetched);
    }
    if begins(&[
        "week",
        "w",
        "woche",
        "semaine",
        "semana",
        "settiman",
        "uge",
        "weken",
        "недел",
        "тиж",
        "週",
        "שבוע",
    ]) {
        return days(u64::from(n) * 7);
    }
    if begins(&["month", "mo", "monat", "mois", "mes", "måned", "maand", "месяц", "місяц", "か月"])
    {
        return months(n);
    }
    if begins(&["year"]) {
        return months(n * 12);
    }
    days(u64::from(n))
}
