//! Whether a day can be derived from a text: a date in any order and language, a moment in seconds, or a span of time
//! before or after the day on which the page was fetched.

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate};
use unicode_normalization::UnicodeNormalization as _;

use super::part::is_unspaced;
use crate::words::{List, Text};

/// Beginnings of month names, January first.
const MONTHS: [&[&str]; 12] = [
    &["jan", "jän", "ene", "gen", "янв", "січ", "sty", "led", "oca", "ינו"],
    &["feb", "fév", "fev", "фев", "лют", "lut", "únor", "şub", "פבר"],
    &["mar", "mär", "maa", "mrz", "мар", "бер", "bře", "מרץ"],
    &["apr", "avr", "abr", "апр", "кві", "kwi", "dub", "nis", "אפר"],
    &["may", "mai", "maj", "mei", "mag", "май", "мая", "тра", "kvě", "מאי"],
    &["jun", "juin", "giu", "июн", "чер", "cze", "haz", "יונ"],
    &["jul", "juil", "lug", "июл", "лип", "lip", "tem", "יול"],
    &["aug", "aoû", "aou", "ago", "авг", "сер", "sie", "srp", "ağu", "אוג"],
    &["sep", "set", "сен", "вер", "wrz", "zář", "eyl", "ספט"],
    &["oct", "okt", "out", "ott", "окт", "жов", "paź", "říj", "eki", "אוק"],
    &["nov", "ноя", "лис", "lis", "kas", "נוב"],
    &["dec", "dez", "déc", "dic", "дек", "гру", "gru", "pro", "ara", "דצמ"],
];
/// Letters of a month name at most.
const MONTH_LETTERS_MAX: usize = 12;

const TODAY: [&str; 15] = [
    "today",
    "just",
    "heute",
    "сегодня",
    "сьогодні",
    "aujourd",
    "hoy",
    "hoje",
    "oggi",
    "idag",
    "vandaag",
    "dzisiaj",
    "本日",
    "今日",
    "היום",
];
const YESTERDAY: [&str; 12] = [
    "yesterday",
    "gestern",
    "вчера",
    "вчора",
    "hier",
    "ayer",
    "ontem",
    "ieri",
    "gisteren",
    "wczoraj",
    "昨日",
    "אתמול",
];
/// Beginnings of words for a span; days in it, or months where negative.
const UNITS: [(&[&str], i64); 5] = [
    (
        &[
            "min",
            "hour",
            "hr",
            "stund",
            "std",
            "heure",
            "hora",
            "ora",
            "час",
            "годин",
            "хвил",
            "минут",
            "uur",
            "時間",
            "שע",
        ],
        0,
    ),
    (
        &[
            "day", "tag", "jour", "día", "dia", "giorn", "день", "дн", "дні", "dag", "dni", "日", "יום",
            "ימים",
        ],
        1,
    ),
    (
        &[
            "week",
            "wk",
            "woche",
            "semaine",
            "semana",
            "settiman",
            "недел",
            "тиж",
            "uge",
            "weken",
            "veck",
            "tydz",
            "週",
            "שבוע",
        ],
        7,
    ),
    (
        &[
            "month",
            "monat",
            "mois",
            "mes",
            "mês",
            "mese",
            "месяц",
            "місяц",
            "måned",
            "maand",
            "mies",
            "か月",
            "ヶ月",
            "חודש",
        ],
        -1,
    ),
    (&["year", "jahr", "an", "año", "ano", "год", "рік", "рок", "jaar", "år", "年"], -12),
];
/// Units that are one letter, glued to their number or not.
const LETTERS: [(&str, i64); 5] = [("h", 0), ("d", 1), ("w", 7), ("mo", -1), ("y", -12)];
/// Words that say that a span ends now or begins now.
const MARKS: [&str; 30] = [
    "ago",
    "posted",
    "vor",
    "seit",
    "il",
    "hace",
    "há",
    "fa",
    "atrás",
    "тому",
    "назад",
    "siden",
    "sedan",
    "temu",
    "geleden",
    "前",
    "לפני",
    "left",
    "in",
    "noch",
    "remaining",
    "übrig",
    "restant",
    "restants",
    "залишилося",
    "осталось",
    "closes",
    "expires",
    "until",
    "active",
];
/// Words around a span in which its mark stands.
const MARK_WORDS: usize = 4;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(u64, usize),
    Word(String),
}

/// Whether `text` says `day`, seen on the day `fetched`.
pub fn derivable(day: NaiveDate, fetched: NaiveDate, text: &str) -> bool {
    if text.lines().any(|line| is_relative(day, fetched, line)) {
        return true;
    }
    let folded: String = text.nfkc().flat_map(char::to_lowercase).collect();
    folded.lines().any(|line| {
        let tokens = tokens(line);
        is_moment(day, &tokens) || is_written(day, fetched, &tokens) || is_span(day, fetched, &tokens)
    })
}

/// Characters of a line that says when in words.
const RELATIVE_CHARS_MAX: usize = 120;

/// Characters of a line that is nothing but a span of time.
const SPAN_CHARS_MAX: usize = 20;

/// "11 minutes ago", "today", "3 days ago", in any of the languages that the agent has words for.
fn is_relative(day: NaiveDate, fetched: NaiveDate, line: &str) -> bool {
    let days = (fetched - day).num_days();
    if !(0..=400).contains(&days) || line.chars().count() > RELATIVE_CHARS_MAX {
        return false;
    }
    let words = Text::new(line);
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<i64>().ok());
    let mut numbers: Vec<i64> = numbers.collect();
    // "A week ago".
    if numbers.is_empty() && words.has(List::Ago) {
        numbers.push(1);
    }
    let is_recent = words.has(List::Today) || words.has(List::TimeMinute) || words.has(List::TimeHour);
    if days == 0 && is_recent || days == 1 && words.has(List::Yesterday) {
        return true;
    }
    let says_when = words.has(List::Ago) || words.has(List::Posted) || line.chars().count() <= SPAN_CHARS_MAX;
    says_when
        && (words.has(List::TimeDay) && numbers.contains(&days)
            || words.has(List::TimeWeek) && numbers.iter().any(|n| n * 7 == days)
            || words.has(List::TimeMonth) && numbers.iter().any(|n| (n * 30 - days).abs() <= 2 * n.max(&1)))
}

/// Runs of digits and runs of letters.
fn tokens(line: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let same: fn(char) -> bool = if first.is_ascii_digit() {
            |c| c.is_ascii_digit()
        } else if first.is_alphabetic() {
            char::is_alphabetic
        } else {
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
        let run = &rest[..end];
        match run.parse() {
            Ok(number) => out.push(Token::Number(number, run.len())),
            Err(_) => out.push(Token::Word(run.to_owned())),
        }
        rest = &rest[end..];
    }
    out
}

/// `20260703`, or seconds or milliseconds since 1970. Zones may move a moment to the next day.
fn is_moment(day: NaiveDate, tokens: &[Token]) -> bool {
    tokens.iter().any(|token| match token {
        Token::Number(number, 8) => {
            *number == day.year() as u64 * 10_000 + u64::from(day.month()) * 100 + u64::from(day.day())
        }
        Token::Number(number, digits @ (10 | 13)) => {
            let seconds = if *digits == 13 { number / 1_000 } else { *number };
            let said = DateTime::from_timestamp(seconds as i64, 0).map(|moment| moment.date_naive());
            said.is_some_and(|said| (said - day).num_days().abs() <= 1)
        }
        _ => false,
    })
}

/// Day, month and year beside each other in one of the usual orders; without a year it is one near the fetch.
fn is_written(day: NaiveDate, fetched: NaiveDate, tokens: &[Token]) -> bool {
    // "3 de noviembre de 2026", "the 3rd of", "2026年7月3日": what stands between says nothing.
    let telling: Vec<&Token> = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Word(word) if word.chars().count() <= 2))
        .collect();
    let is_day = |token: &Token| matches!(token, Token::Number(n, 1 | 2) if *n == u64::from(day.day()));
    let names_month = |token: &Token| {
        let Token::Word(word) = token else { return false };
        let stems = MONTHS[day.month0() as usize];
        word.chars().count() <= MONTH_LETTERS_MAX && stems.iter().any(|stem| word.starts_with(stem))
    };
    let is_month = |token: &Token| {
        matches!(token, Token::Number(n, 1 | 2) if *n == u64::from(day.month())) || names_month(token)
    };
    let is_year = |token: &Token| match token {
        Token::Number(n, 4) => *n == day.year() as u64,
        Token::Number(n, 2) => *n == day.year() as u64 % 100,
        _ => false,
    };
    let is_near = (day.year() - fetched.year()).abs() <= 1;
    telling.windows(3).any(|w| {
        is_year(w[0]) && is_month(w[1]) && is_day(w[2])
            || is_day(w[0]) && is_month(w[1]) && is_year(w[2])
            || is_month(w[0]) && is_day(w[1]) && is_year(w[2])
    }) || is_near
        && telling.windows(2).enumerate().any(|(at, w)| {
            let has_year = telling.get(at + 2).is_some_and(|token| matches!(token, Token::Number(_, 4)));
            !has_year && (is_day(w[0]) && names_month(w[1]) || names_month(w[0]) && is_day(w[1]))
        })
}

/// "3 days ago", "4d", "noch 5 Tage", "gestern".
fn is_span(day: NaiveDate, fetched: NaiveDate, tokens: &[Token]) -> bool {
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    let begins = |word: &str, stems: &[&str]| stems.iter().any(|stem| word.starts_with(stem));
    let holds = |word: &str, names: &[&str]| {
        names.iter().any(|name| word == *name || name.starts_with(is_unspaced) && word.contains(name))
    };
    (0..tokens.len()).any(|at| {
        if let Some(word) = word(at) {
            if day == fetched && (holds(word, &TODAY) || word == "aujourd") {
                return true;
            }
            if Some(day) == fetched.pred_opt() && holds(word, &YESTERDAY) {
                return true;
            }
        }
        let count = match &tokens[at] {
            Token::Number(n, 1..=3) => *n,
            Token::Word(word)
                if holds(word, &["a", "an", "one", "einem", "einer", "un", "une", "una", "um"]) =>
            {
                1
            }
            Token::Number(..) | Token::Word(_) => return false,
        };
        let Some(unit) = word(at + 1) else { return false };
        let by_letter = LETTERS.iter().find(|(letter, _)| *letter == unit).map(|(_, days)| *days);
        let by_name = || UNITS.iter().find(|(stems, _)| begins(unit, stems)).map(|(_, days)| *days);
        let Some(days) = by_letter.or_else(by_name) else { return false };
        let around = at.saturating_sub(MARK_WORDS)..(at + 2 + MARK_WORDS).min(tokens.len());
        let is_marked = around.into_iter().filter_map(word).any(|word| holds(word, &MARKS));
        if !is_marked && tokens.len() > 3 {
            return false;
        }
        spans(fetched, count, days).contains(&day)
    })
}

fn spans(fetched: NaiveDate, count: u64, days: i64) -> Vec<NaiveDate> {
    let count = count.min(2_000);
    let ends = if days < 0 {
        let months = Months::new(count as u32 * days.unsigned_abs() as u32);
        vec![fetched.checked_sub_months(months), fetched.checked_add_months(months)]
    } else if days == 0 {
        vec![Some(fetched), fetched.pred_opt()]
    } else {
        let days = Days::new(count * days.unsigned_abs());
        vec![fetched.checked_sub_days(days), fetched.checked_add_days(days)]
    };
    ends.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_from_dates_moments_and_spans() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let fetched = day("2026-07-11");
        for (text, said) in [
            ("2026-07-03T10:00:00+02:00", "2026-07-03"),
            ("Posted 03/07/2026", "2026-07-03"),
            ("07/03/2026", "2026-07-03"),
            ("3. Juli 2026", "2026-07-03"),
            ("July 3rd, 2026", "2026-07-03"),
            ("3 de julio de 2026", "2026-07-03"),
            ("3 липня", "2026-07-03"),
            ("2026年7月3日", "2026-07-03"),
            ("03.07.26", "2026-07-03"),
            ("1783036800000", "2026-07-03"),
            ("20260703", "2026-07-03"),
            ("8 days ago", "2026-07-03"),
            ("Posted 4d ago", "2026-07-07"),
            ("vor 2 Wochen", "2026-06-27"),
            ("a month ago", "2026-06-11"),
            ("yesterday", "2026-07-10"),
            ("vor 5 Stunden", "2026-07-11"),
            ("5 days left", "2026-07-16"),
            ("3日前", "2026-07-08"),
        ] {
            assert!(derivable(day(said), fetched, text), "{said} from {text:?}");
        }
        for (text, said) in [
            ("2026-07-04", "2026-07-03"),
            ("3 of 7 jobs in 2025", "2026-07-03"),
            ("we work 8 days and never rest at all", "2026-07-03"),
            ("July 3, 2020", "2026-07-03"),
            ("8 days ago", "2026-07-04"),
            ("version 7.3", "2026-07-03"),
            ("", "2026-07-11"),
        ] {
            assert!(!derivable(day(said), fetched, text), "{said} from {text:?}");
        }
    }
}
