//! The language of a text.

use isolang::Language;

/// Characters of a text that are looked at.
const SAMPLE_CHARS: usize = 6_000;
/// Letters of a text at least; the scripts of whole words tell more by fewer.
const LETTERS_MIN: usize = 40;
/// Letters from which a doubtful answer still counts: long lists of names and figures make all answers doubtful.
const LETTERS_SURE: usize = 400;

/// ISO 639-1 of a text of some length; `None` where it is too short to tell.
pub fn language(text: &str) -> Option<String> {
    let sample: String = text.chars().take(SAMPLE_CHARS).collect();
    let letters = sample.chars().filter(|c| c.is_alphabetic()).count();
    if letters < LETTERS_MIN {
        return None;
    }
    let found = whatlang::detect(&sample)?;
    if !found.is_reliable() && letters < LETTERS_SURE {
        return None;
    }
    Language::from_639_3(found.lang().code())?.to_639_1().map(str::to_owned)
}
