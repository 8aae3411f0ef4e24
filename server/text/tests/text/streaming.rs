//! Text that comes in pieces is the text that comes at once.

use proptest::collection::vec;
use proptest::prelude::*;
use quarry_text::detokenizer::Detokenizer;
use quarry_text::stop::StopMatcher;
use quarry_text::tokenizer::Specials;
use unicode_normalization::UnicodeNormalization as _;

use crate::{Known, QWEN3, QWEN25, SMOLLM2, all, golden_file};

fn streamed(known: &Known, tokens: &[u32]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(known.text.tokenizer.clone());
    let mut pieces: Vec<String> = tokens.iter().map(|&token| detokenizer.push(token)).collect();
    pieces.push(detokenizer.finish());
    pieces
}

#[test]
fn awkward_strings_come_back() {
    for text in golden_file("cases.json")["strings"].as_array().unwrap() {
        let text = text.as_str().unwrap();
        for known in all() {
            let tokens = known.text.tokenizer.encode(text, Specials::Literal);
            // Qwen's tokenizers compose characters first, SmolLM2's takes bytes as they are.
            let read = if known.name == "smollm2" { text.to_owned() } else { text.nfc().collect() };
            assert_eq!(streamed(known, &tokens).concat(), read, "{}", known.name);
            assert_eq!(known.text.tokenizer.decode(&tokens, true), read, "{}", known.name);
        }
    }
}

#[test]
fn a_character_cut_by_tokens_waits_for_its_last_byte() {
    let bytes = |known: &Known, wanted: &[u8]| -> Vec<u32> {
        let tokenizer = &known.text.tokenizer;
        let single =
            |byte: u8| (0..tokenizer.vocab_size() as u32).find(|&id| tokenizer.token_bytes(id) == [byte]);
        wanted.iter().map(|&byte| single(byte).unwrap()).collect()
    };
    for known in [&*QWEN25, &*SMOLLM2] {
        let whole = streamed(known, &bytes(known, "€".as_bytes()));
        assert_eq!(whole, ["", "", "€", ""]);
        let cut_short = streamed(known, &bytes(known, &"😀".as_bytes()[..3]));
        assert_eq!(cut_short, ["", "", "", "\u{fffd}"]);
        let broken = streamed(known, &bytes(known, b"\xe2\x82A\x9f\xf0\x9f"));
        assert_eq!(broken.concat(), "\u{fffd}A\u{fffd}\u{fffd}");
    }
}

#[test]
fn what_steers_is_hidden_and_what_marks_is_shown() {
    let tokens = QWEN3.text.tokenizer.encode("<think>\nhm\n</think>\n\nyes<|im_end|>", Specials::Parse);
    assert_eq!(streamed(&QWEN3, &tokens).concat(), "<think>\nhm\n</think>\n\nyes");
    assert_eq!(QWEN3.text.tokenizer.decode(&tokens, true), "<think>\nhm\n</think>\n\nyes");
}

/// All that comes before the earliest stop string, by looking at the whole text.
fn naive(text: &str, stops: &[String]) -> (String, bool) {
    // The stream ends as soon as one stop string is whole, so the earliest end decides, then the earliest start.
    let ends: Vec<usize> =
        stops.iter().filter_map(|s| text.find(s.as_str()).map(|at| at + s.len())).collect();
    match ends.iter().min() {
        None => (text.to_owned(), false),
        Some(&end) => {
            let before = &text[..end];
            let at = stops.iter().filter_map(|s| before.find(s.as_str())).min().unwrap();
            (text[..at].to_owned(), true)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tokens_stream_to_what_they_decode_to(ids in vec(0u32..152_000, 0..60)) {
        for known in [&*QWEN25, &*SMOLLM2] {
            let pieces = streamed(known, &ids);
            prop_assert_eq!(pieces.concat(), known.text.tokenizer.decode(&ids, true));
        }
    }

    #[test]
    fn any_text_comes_back(text in "\\PC{0,60}|[ \\t\\r\\n'0-9a-zé\u{301}👩\u{200d}]{0,60}") {
        let smollm2 = SMOLLM2.text.tokenizer.encode(&text, Specials::Literal);
        prop_assert_eq!(SMOLLM2.text.tokenizer.decode(&smollm2, true), text.clone());
        let qwen = QWEN25.text.tokenizer.encode(&text, Specials::Literal);
        // Canonically equivalent, not equal: the tokenizer composes by the tables of an older Unicode, which does not
        // know how newer marks are ordered.
        let read = QWEN25.text.tokenizer.decode(&qwen, true);
        prop_assert_eq!(read.nfc().collect::<String>(), text.nfc().collect::<String>());
    }

    #[test]
    fn stop_strings_are_found_however_the_text_is_cut(
        pieces in vec("[abé]{0,4}", 0..12),
        stops in vec("[abé]{1,5}", 1..4),
    ) {
        // One character at a time is the finest cut: what a coarser one finds may differ only where a later stop
        // string of the same piece begins earlier.
        let text = pieces.concat();
        let run = |pieces: &[String]| {
            let mut matcher = StopMatcher::new(stops.clone());
            let mut out = String::new();
            for piece in pieces {
                let step = matcher.push(piece);
                out.push_str(&step.emit);
                // Nothing that was given out may be part of a stop string.
                assert!(!stops.iter().any(|stop| out.contains(stop.as_str())));
            }
            if !matcher.stopped() {
                out.push_str(&matcher.finish());
            }
            (out, matcher.stopped())
        };
        let single: Vec<String> = text.chars().map(String::from).collect();
        prop_assert_eq!(run(&single), naive(&text, &stops));
        prop_assert_eq!(run(&pieces), naive(&text, &stops));
    }
}
