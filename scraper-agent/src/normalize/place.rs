//! Places as ISO 3166 codes: "Austin, TX", "München (DE)", "Удалённо, Украина".
//!
//! Countries and cities by `words/places.toml`, regions by the names of ISO 3166-2 besides. What a text says outweighs
//! what a city's name alone means ("Paris, Texas"); abbreviations count only where a country, a city or their being no
//! other place's makes them sure. Two readings are no reading.

use std::collections::HashMap;
use std::sync::LazyLock;

use rust_iso3166::iso3166_2::{SUBDIVISION_COUNTRY_MAP, from_code};

use super::beginning;
use crate::words::{List, Text};

/// Countries whose regions are abbreviated without the country ("Austin, TX").
const ABBREVIATING: [&str; 3] = ["US", "CA", "AU"];
/// Characters of a city's name at most.
const CITY_CHARS_MAX: usize = 40;

/// A place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// ISO 3166-1, two letters.
    pub country: Option<&'static str>,
    /// ISO 3166-2, with the country's letters.
    pub region: Option<String>,
    /// As in the text.
    pub city: Option<String>,
}

/// A part of a place's text between commas, brackets and dashes.
struct Part<'a> {
    text: &'a str,
    asked: Text<'a>,
    is_bracketed: bool,
    is_first: bool,
}

/// The first place that a text names; `None` where it names none for sure.
pub fn place(text: &str) -> Option<Place> {
    beginning(text).split([';', '|', '/', '•', '·', '\n']).find_map(one_place)
}

fn one_place(text: &str) -> Option<Place> {
    let parts = parts(text);
    let named = parts.iter().rev().find_map(country_named);
    let known_city = parts.iter().find_map(|part| Some((part, city_country(part)?)));
    let by_city = known_city.as_ref().map(|(_, country)| *country);
    let mut country = named;
    let mut region = None;
    for part in parts.iter().rev().filter(|part| !part.is_first || part.is_bracketed) {
        match short_code(part, country, by_city) {
            Some(Code::Country(code)) => country = country.or(Some(code)),
            Some(Code::Region(code)) => region = region.or(Some(code)),
            None => {}
        }
    }
    let is_city = |part: &Part<'_>| known_city.as_ref().is_some_and(|(city, _)| std::ptr::eq(*city, part));
    for part in parts.iter().rev().filter(|part| !is_city(part)) {
        region = region.or_else(|| region_named(part, country, by_city));
    }
    country = country.or_else(|| region.and_then(country_of)).or(by_city).or_else(|| mentioned(text));
    let country = country?;
    // City states, and regions named like their capitals.
    let alike = |name: &str| only(regions(name).filter(|code| country_of(code) == Some(country)));
    let city = known_city.map(|(part, _)| part.text);
    let region = region.filter(|code| country_of(code) == Some(country)).or_else(|| city.and_then(alike));
    let other = || parts.iter().find(|part| is_like_a_city(part)).map(|part| part.text);
    Some(Place {
        country: Some(country),
        region: region.map(str::to_owned),
        city: city.or_else(other).map(str::to_owned),
    })
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut out: Vec<Part<'_>> = Vec::new();
    let mut depth = 0_usize;
    let spaced = text.split_inclusive([',', '(', ')', '[', ']', '–', '—']);
    for piece in spaced {
        let is_bracketed = depth > 0;
        depth = match piece.chars().next_back() {
            Some('(' | '[') => depth + 1,
            Some(')' | ']') => depth.saturating_sub(1),
            _ => depth,
        };
        let piece = piece.trim_end_matches([',', '(', ')', '[', ']', '–', '—']);
        for part in piece.split(" - ").map(without_numbers).filter(|part| !part.is_empty()) {
            out.push(Part { text: part, asked: Text::new(part), is_bracketed, is_first: out.is_empty() });
        }
    }
    out
}

/// Postal codes and house numbers stand before or behind a name.
fn without_numbers(part: &str) -> &str {
    let has_digit = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let mut part = part.trim();
    while let Some((_, rest)) = part.split_once(' ').filter(|(word, _)| has_digit(word)) {
        part = rest.trim_start();
    }
    while let Some((rest, _)) = part.rsplit_once(' ').filter(|(_, word)| has_digit(word)) {
        part = rest.trim_end();
    }
    if has_digit(part) { "" } else { part }
}

/// The country that a part is the name of. A name that a region has too ("Georgia") is left to what stands beside it.
fn country_named(part: &Part<'_>) -> Option<&'static str> {
    if part.asked.is(List::Countries) {
        return part.asked.countries().first().map(|(_, code)| *code);
    }
    let is_code = part.text.len() == 3 && part.text.chars().all(|c| c.is_ascii_uppercase());
    if is_code && let Some(country) = rust_iso3166::from_alpha3(part.text) {
        return Some(country.alpha2);
    }
    iso_country(part).filter(|_| regions(part.text).next().is_none())
}

fn iso_country(part: &Part<'_>) -> Option<&'static str> {
    ISO_COUNTRIES.get(part.asked.folded()).copied()
}

fn city_country(part: &Part<'_>) -> Option<&'static str> {
    part.asked.is(List::Cities).then(|| part.asked.cities().first().map(|(_, code)| *code)).flatten()
}

enum Code {
    Country(&'static str),
    Region(&'static str),
}

/// What a few capitals are: a region of the country that is known, else of the city's, else a country or region that is
/// the only one of that code.
fn short_code(part: &Part<'_>, country: Option<&str>, by_city: Option<&str>) -> Option<Code> {
    let code = part.text;
    if !(2..=3).contains(&code.len()) || !code.chars().all(|c| c.is_ascii_uppercase()) {
        return None;
    }
    let of = |country: &str| from_code(&format!("{country}-{code}")).map(|found| found.code);
    if let Some(country) = country {
        return of(country).map(Code::Region);
    }
    let as_country = rust_iso3166::from_alpha2(code).map(|found| found.alpha2);
    if let Some(city) = by_city {
        if as_country == Some(city) {
            return as_country.map(Code::Country);
        }
        if let Some(region) = of(city) {
            return Some(Code::Region(region));
        }
    }
    let region = only(ABBREVIATING.into_iter().filter_map(of));
    match (as_country, region) {
        (Some(country), _) if part.is_bracketed => Some(Code::Country(country)),
        (Some(country), None) if ABBREVIATING.into_iter().all(|country| of(country).is_none()) => {
            Some(Code::Country(country))
        }
        (None, Some(region)) => Some(Code::Region(region)),
        _ => None,
    }
}

/// The region that a part is the name of: in the country that is known, else in the city's, else the only one.
fn region_named(part: &Part<'_>, country: Option<&str>, by_city: Option<&str>) -> Option<&'static str> {
    let within = |of: &str| only(regions(part.text).filter(|code| country_of(code) == Some(of)));
    if let Some(country) = country {
        return within(country);
    }
    let is_country_too = iso_country(part).is_some();
    let by_city = by_city.and_then(within);
    by_city.or_else(|| if is_country_too { None } else { only(regions(part.text)) })
}

fn regions(name: &str) -> impl Iterator<Item = &'static str> {
    let asked = Text::new(name);
    let listed = asked.is(List::Regions).then(|| asked.regions().first().map(|(_, code)| *code)).flatten();
    let of_iso = ISO_REGIONS.get(asked.folded()).map(Vec::as_slice).unwrap_or_default();
    of_iso.iter().copied().filter(move |code| listed != Some(*code)).chain(listed)
}

fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

fn country_of(region: &str) -> Option<&'static str> {
    from_code(region).map(|found| found.country_code)
}

/// The one country that a text mentions among other words ("Remote Germany"). Of short names "us" is a pronoun as well.
fn mentioned(text: &str) -> Option<&'static str> {
    let mut found: Vec<&str> = Text::new(text)
        .countries()
        .into_iter()
        .filter(|(at, _)| at.len() > 3)
        .map(|(_, code)| code)
        .collect();
    found.sort_unstable();
    found.dedup();
    only(found.into_iter())
}

fn is_like_a_city(part: &Part<'_>) -> bool {
    let is_named =
        country_named(part).is_some() || regions(part.text).next().is_some() || iso_country(part).is_some();
    let is_short = part.text.chars().filter(|c| c.is_alphabetic()).all(char::is_uppercase);
    let of_work = [List::Remote, List::Hybrid, List::OnSite].into_iter().any(|list| part.asked.has(list));
    part.text.starts_with(|c: char| c.is_alphabetic() && !c.is_lowercase())
        && part.text.chars().count() <= CITY_CHARS_MAX
        && !(is_named || is_short && part.text.is_ascii() || of_work || mentioned(part.text).is_some())
}

/// English names of countries as the standard has them, up to a bracket.
static ISO_COUNTRIES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let codes = SUBDIVISION_COUNTRY_MAP.keys().filter_map(|code| rust_iso3166::from_alpha2(code));
    codes.map(|country| (plain(country.name), country.alpha2)).collect()
});

/// Names of regions as the standard has them, up to a bracket; "London, City of" is "City of London".
static ISO_REGIONS: LazyLock<HashMap<String, Vec<&'static str>>> = LazyLock::new(|| {
    let mut out: HashMap<String, Vec<&'static str>> = HashMap::new();
    for region in SUBDIVISION_COUNTRY_MAP.values().flat_map(|all| all.iter()) {
        out.entry(plain(region.name)).or_default().push(region.code);
    }
    out
});

fn plain(name: &str) -> String {
    let name = name.split(['(', '[', ';', '/']).next().unwrap_or(name).trim();
    match name.split_once(", ") {
        Some((name, rest)) => Text::new(&format!("{rest} {name}")).folded().to_owned(),
        None => Text::new(name).folded().to_owned(),
    }
}
