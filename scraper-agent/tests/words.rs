//! The rules by which entries of the lists match, on entries that stand in the lists.

use quarry_agent::words::{self, List, Text};

#[test]
fn an_entry_matches_whole_words_unless_it_says_otherwise() {
    for (list, text, expected) in [
        (List::Occupations, "Senior Driver", true),
        (List::Occupations, "screwdrivers", false),
        (List::Occupations, "Bauingenieur gesucht", true),
        (List::Occupations, "Ingenieurwesen", false),
        (List::Apply, "Apply now!", true),
        (List::Apply, "Applying pressure", false),
        (List::FullTime, "FULL_TIME", true),
        (List::FullTime, "Full-Time", true),
        (List::FullTime, "full\u{a0} time", true),
        (List::FullTime, "full\ntime", false),
        (List::FullTime, "ｆｕｌｌ　ｔｉｍｅ", true),
        (List::FullTime, "Voll\u{ad}zeit", true),
        (List::TimeDay, "4d", true),
        (List::TimeDay, "4ds", false),
        (List::Currencies, "₽", true),
        (List::Currencies, "European", false),
    ] {
        assert_eq!(words::has(list, text), expected, "{list:?} in {text:?}");
    }
}

#[test]
fn two_parts_stand_in_one_sentence_in_order_and_near() {
    let far = format!("This job {} is no longer available", "very ".repeat(20));
    for (text, expected) in [
        ("This job is no longer available.", true),
        ("This job (12, Berlin) is no longer available.", true),
        ("We had a job. It is no longer available", false),
        ("This job\nno longer available", false),
        ("no longer available: this job", false),
        ("A job at Acme Inc. no longer available", false),
        ("Job v1.2 is no longer available", true),
        (far.as_str(), false),
    ] {
        assert_eq!(words::has(List::Closed, text), expected, "{text}");
    }
}

#[test]
fn places_are_bytes_of_the_original() {
    let text = "Büro: „Voll\u{ad}zeit“, Te\u{301}l, ＰＡＲＴ-ＴＩＭＥ \u{200b} Jobs";
    let asked = Text::new(text);
    let found = |list| asked.find(list).map(|range| &text[range]);
    assert_eq!(found(List::FullTime), Some("Voll\u{ad}zeit"));
    assert_eq!(found(List::PartTime), Some("ＰＡＲＴ-ＴＩＭＥ"));
    assert_eq!(found(List::Jobs), Some("Jobs"));
    assert_eq!(found(List::Closed), None);
}

#[test]
fn a_star_takes_the_whole_word_and_the_longest_entry_wins() {
    let text = "Responsibilities and Bauingenieurinnen, date posted: today";
    let asked = Text::new(text);
    assert_eq!(asked.find(List::SectionTasks).map(|r| &text[r]), Some("Responsibilities"));
    assert_eq!(asked.find(List::Occupations).map(|r| &text[r]), Some("Bauingenieurinnen"));
    assert_eq!(
        asked.find_all(List::LabelPosted).into_iter().map(|r| &text[r]).collect::<Vec<_>>(),
        ["date posted"]
    );
}

#[test]
fn beginnings_and_whole_texts() {
    for (list, text, end) in [
        (List::Posted, "– Posted on 3 May", Some("– Posted on".len())),
        (List::Posted, "Not posted", None),
        (List::Until, "* Closing date: 3 May", Some("* Closing date".len())),
        (List::Until, "", None),
    ] {
        assert_eq!(words::begins_with(list, text), end, "{text}");
    }
    for (list, text, expected) in [
        (List::Actions, "→ Read more »", true),
        (List::Actions, "Read more about it", false),
        (List::General, "Jobs (12)", true),
        (List::General, "12", false),
        (List::GenderMarks, "(m/w/d)", true),
    ] {
        assert_eq!(words::is(list, text), expected, "{text}");
    }
}

#[test]
fn values_come_with_months_and_currencies() {
    let text = "3. März, 4 May; 5 € or 6 CHF, US$ 7";
    let asked = Text::new(text);
    assert_eq!(asked.months().into_iter().map(|(_, month)| month).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(
        asked.currencies().into_iter().map(|(_, code)| code).collect::<Vec<_>>(),
        ["EUR", "CHF", "USD"]
    );
}

#[test]
fn any_text_is_gone_through() {
    let long = "job ".repeat(20_000) + &"x".repeat(100_000) + &"\u{301}".repeat(1_000) + &"ｶﾞ".repeat(100);
    let asked = Text::new(&long);
    assert!(asked.has(List::Jobs) && !asked.has(List::Closed));
    for text in ["", " ", "\u{301}", "ﾞ", "\u{ad}", "*", "…", "\n\n", "İ", "é\u{301}"] {
        let asked = Text::new(text);
        assert!(!asked.has(List::Jobs) && asked.find(List::Occupations).is_none(), "{text:?}");
    }
}
