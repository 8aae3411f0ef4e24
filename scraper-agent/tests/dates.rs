//! Dates in thirteen languages, by tables and by properties.

use chrono::{Datelike as _, Days, NaiveDate};
use proptest::prelude::*;
use quarry_agent::normalize::{date, iso_date};

fn fetched() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 23).unwrap()
}

/// A language, the form of its dates (day, month, year) and its months, as they stand in a date.
const MONTHS: [(&str, &str, [&str; 12]); 12] = [
    (
        "en",
        "{d} {m} {y}",
        [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
    ),
    (
        "de",
        "{d}. {m} {y}",
        [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ],
    ),
    (
        "fr",
        "{d} {m} {y}",
        [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ],
    ),
    (
        "es",
        "{d} de {m} de {y}",
        [
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ],
    ),
    (
        "it",
        "{d} {m} {y}",
        [
            "gennaio",
            "febbraio",
            "marzo",
            "aprile",
            "maggio",
            "giugno",
            "luglio",
            "agosto",
            "settembre",
            "ottobre",
            "novembre",
            "dicembre",
        ],
    ),
    (
        "pt",
        "{d} de {m} de {y}",
        [
            "janeiro",
            "fevereiro",
            "março",
            "abril",
            "maio",
            "junho",
            "julho",
            "agosto",
            "setembro",
            "outubro",
            "novembro",
            "dezembro",
        ],
    ),
    (
        "nl",
        "{d} {m} {y}",
        [
            "januari",
            "februari",
            "maart",
            "april",
            "mei",
            "juni",
            "juli",
            "augustus",
            "september",
            "oktober",
            "november",
            "december",
        ],
    ),
    (
        "da",
        "{d}. {m} {y}",
        [
            "januar",
            "februar",
            "marts",
            "april",
            "maj",
            "juni",
            "juli",
            "august",
            "september",
            "oktober",
            "november",
            "december",
        ],
    ),
    (
        "pl",
        "{d} {m} {y} r.",
        [
            "stycznia",
            "lutego",
            "marca",
            "kwietnia",
            "maja",
            "czerwca",
            "lipca",
            "sierpnia",
            "września",
            "października",
            "listopada",
            "grudnia",
        ],
    ),
    (
        "uk",
        "{d} {m} {y} року",
        [
            "січня",
            "лютого",
            "березня",
            "квітня",
            "травня",
            "червня",
            "липня",
            "серпня",
            "вересня",
            "жовтня",
            "листопада",
            "грудня",
        ],
    ),
    (
        "ru",
        "{d} {m} {y} г.",
        [
            "января",
            "февраля",
            "марта",
            "апреля",
            "мая",
            "июня",
            "июля",
            "августа",
            "сентября",
            "октября",
            "ноября",
            "декабря",
        ],
    ),
    (
        "he",
        "{d} ב{m} {y}",
        [
            "ינואר",
            "פברואר",
            "מרץ",
            "אפריל",
            "מאי",
            "יוני",
            "יולי",
            "אוגוסט",
            "ספטמבר",
            "אוקטובר",
            "נובמבר",
            "דצמבר",
        ],
    ),
];

#[test]
fn each_month_of_each_language_is_known() {
    for (language, form, months) in MONTHS {
        for (month, name) in (1..).zip(months) {
            let text = form.replace("{d}", "7").replace("{m}", name).replace("{y}", "2026");
            assert_eq!(
                date(&text, fetched(), None),
                Some(format!("2026-{month:02}-07")),
                "{language}: {text}"
            );
        }
    }
    for month in 1..=12 {
        let text = format!("掲載日：2026年{month}月7日");
        assert_eq!(date(&text, fetched(), None), Some(format!("2026-{month:02}-07")), "{text}");
    }
}

#[test]
fn other_absolute_forms() {
    for (text, expected) in [
        ("Oct 5, 2026", Some("2026-10-05")),
        ("Thursday, October 5th 2026", Some("2026-10-05")),
        ("5th of October 2026", Some("2026-10-05")),
        ("2026 Oct 5", Some("2026-10-05")),
        ("05-Oct-2026", Some("2026-10-05")),
        ("5 Sept. 2026", Some("2026-09-05")),
        ("Mon, 05 Oct 2026 10:00:00 GMT", Some("2026-10-05")),
        ("2026/10/05", Some("2026-10-05")),
        ("2026.10.05", Some("2026-10-05")),
        ("2026-10-05T08:00:00+02:00", Some("2026-10-05")),
        ("5. 10. 2026", Some("2026-10-05")),
        ("05.10.26", Some("2026-10-05")),
        ("25/10/2026", Some("2026-10-25")),
        ("10/25/2026", Some("2026-10-25")),
        ("10/10/2026", Some("2026-10-10")),
        ("1er octobre 2026", Some("2026-10-01")),
        ("Offre publiée le 3 déc. 2026", Some("2026-12-03")),
        ("Publicado el 3 de dic. de 2026", Some("2026-12-03")),
        ("May 2026", None),
        ("2026", None),
        ("31 February 2026", None),
        ("5 October 1066", None),
        ("30/13/2026", None),
        ("may 5 people apply", None),
    ] {
        assert_eq!(date(text, fetched(), None).as_deref(), expected, "{text}");
    }
}

#[test]
fn relative_forms_of_each_language() {
    let forms: [(&str, i64); 62] = [
        ("3 days ago", -3),
        ("Posted 30+ days ago", -30),
        ("2 weeks ago", -14),
        ("a week ago", -7),
        ("an hour ago", 0),
        ("5 minutes ago", 0),
        ("2w", -14),
        ("Posted today", 0),
        ("Posted yesterday", -1),
        ("closes in 4 days", 4),
        ("4 days left", 4),
        ("vor 3 Tagen", -3),
        ("vor einer Woche", -7),
        ("vor 5 Stunden", 0),
        ("seit 2 Wochen online", -14),
        ("gestern", -1),
        ("noch 6 Tage", 6),
        ("il y a 3 jours", -3),
        ("il y a une semaine", -7),
        ("aujourd'hui", 0),
        ("hier", -1),
        ("dans 5 jours", 5),
        ("Publiée il y a 2 semaines", -14),
        ("hace 3 días", -3),
        ("Publicado hace 1 semana", -7),
        ("hoy", 0),
        ("ayer", -1),
        ("quedan 5 días", 5),
        ("3 giorni fa", -3),
        ("una settimana fa", -7),
        ("oggi", 0),
        ("ieri", -1),
        ("tra 5 giorni", 5),
        ("há 3 dias", -3),
        ("há 2 semanas", -14),
        ("hoje", 0),
        ("ontem", -1),
        ("faltam 5 dias", 5),
        ("3 dagen geleden", -3),
        ("2 weken geleden", -14),
        ("vandaag", 0),
        ("gisteren", -1),
        ("nog 5 dagen", 5),
        ("for 3 dage siden", -3),
        ("2 uger siden", -14),
        ("i dag", 0),
        ("i går", -1),
        ("om 5 dage", 5),
        ("3 dni temu", -3),
        ("2 tygodnie temu", -14),
        ("dzisiaj", 0),
        ("wczoraj", -1),
        ("za 5 dni", 5),
        ("3 дні тому", -3),
        ("2 тижні тому", -14),
        ("тиждень тому", -7),
        ("вчора", -1),
        ("3 дня назад", -3),
        ("Опубликовано неделю назад", -7),
        ("через 5 дней", 5),
        ("3日前", -3),
        ("לפני 3 ימים", -3),
    ];
    for (text, days) in forms {
        let expected = match u64::try_from(days) {
            Ok(ahead) => fetched() + Days::new(ahead),
            Err(_) => fetched() - Days::new(days.unsigned_abs()),
        };
        assert_eq!(date(text, fetched(), None), Some(expected.to_string()), "{text}");
    }
    for (text, expected) in [
        ("2 months ago", "2026-09-23"),
        ("vor einem Jahr", "2025-11-23"),
        ("1 месяц назад", "2026-10-23"),
        ("2週間前", "2026-11-09"),
    ] {
        assert_eq!(date(text, fetched(), None).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_date() {
    for text in [
        "",
        "Apply now",
        "two weeks",
        "a day in the life",
        "Jetzt bewerben",
        "Vollzeit",
        "Version 3.2.1",
        "24/7",
        "1,500 days",
        "may contain nuts",
        "Marsa Alam",
    ] {
        assert_eq!(date(text, fetched(), None), None, "{text}");
    }
    assert_eq!(iso_date("1782864000000").as_deref(), Some("2026-07-01"));
    assert_eq!(iso_date("1782864000").as_deref(), Some("2026-07-01"));
    assert_eq!(iso_date("03/04/2026"), None);
}

proptest! {
    #[test]
    fn a_date_is_read_back_in_each_language(days in 0_u64..38_000) {
        let day = NaiveDate::from_ymd_opt(1995, 1, 1).unwrap() + Days::new(days);
        for (language, form, months) in MONTHS {
            let text = form.replace("{d}", &day.day().to_string()).replace("{m}", months[day.month0() as usize]).replace("{y}", &day.year().to_string());
            prop_assert_eq!(date(&text, fetched(), None), Some(day.to_string()), "{}: {}", language, text);
        }
        for (form, month_first) in [("%m/%d/%Y", true), ("%d/%m/%Y", false), ("%d.%m.%Y", true), ("%Y/%m/%d", false), ("%B %-d, %Y", true), ("%d-%b-%Y", true)] {
            let text = day.format(form).to_string();
            prop_assert_eq!(date(&text, fetched(), Some(month_first)), Some(day.to_string()), "{}", text);
        }
    }

    /// What lies n spans back or ahead does so by n times the span.
    #[test]
    fn relative_dates_scale(n in 0_u64..200) {
        for (unit, days) in [("days", 1), ("weeks", 7)] {
            let back = date(&format!("{n} {unit} ago"), fetched(), None);
            prop_assert_eq!(back, Some((fetched() - Days::new(n * days)).to_string()));
            let ahead = date(&format!("in {n} {unit}"), fetched(), None);
            prop_assert_eq!(ahead, Some((fetched() + Days::new(n * days)).to_string()));
        }
    }

    #[test]
    fn any_text_is_read_or_left(text in "\\PC{0,200}") {
        let _ = (date(&text, fetched(), None), date(&text, fetched(), Some(true)), iso_date(&text));
    }
}
