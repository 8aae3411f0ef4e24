//! Words of pages as values: the forms that real pages use, and properties that hold for any text.

use chrono::NaiveDate;
use proptest::prelude::*;
use quarry_agent::normalize::{date, employment, salary, workplace};
use quarry_agent::posting::{EmploymentType, SalaryPeriod, Workplace};

fn fetched() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 23).unwrap()
}

/// Minimum, maximum, currency, period.
type Pay = (Option<f64>, Option<f64>, Option<&'static str>, Option<SalaryPeriod>);

#[test]
fn pay_as_real_pages_write_it() {
    use SalaryPeriod::{Day, Hour, Month, Year};
    let range = |a, b, currency, period| -> Pay { (Some(a), Some(b), Some(currency), period) };
    let forms: [(&str, Pay); 32] = [
        ("$211.4K - $290.6K", range(211_400.0, 290_600.0, "USD", None)),
        ("€52,000 to €61,000 per year", range(52_000.0, 61_000.0, "EUR", Some(Year))),
        ("80-100k EUR p.a.", range(80_000.0, 100_000.0, "EUR", Some(Year))),
        ("Ein Jahresgehalt von 43.500 bis 49.200 Euro", range(43_500.0, 49_200.0, "EUR", Some(Year))),
        ("upto $135/hr", (None, Some(135.0), Some("USD"), Some(Hour))),
        ("$31.50–$38.00 an hour", range(31.5, 38.0, "USD", Some(Hour))),
        ("up to DKK 440.935 a year", (None, Some(440_935.0), Some("DKK"), Some(Year))),
        ("от 150 000 ₽ за месяц на руки", (Some(150_000.0), None, Some("RUB"), Some(Month))),
        ("45 000 – 60 000 грн на місяць", range(45_000.0, 60_000.0, "UAH", Some(Month))),
        ("月給 26万円 ~ 35万円", range(260_000.0, 350_000.0, "JPY", Some(Month))),
        ("年俸 400万円", range(4_000_000.0, 4_000_000.0, "JPY", Some(Year))),
        ("bis zu CHF 9'800 pro Monat", (None, Some(9_800.0), Some("CHF"), Some(Month))),
        ("€340 to €390 per day", range(340.0, 390.0, "EUR", Some(Day))),
        ("€400 por mês", range(400.0, 400.0, "EUR", Some(Month))),
        ("£62K – £71K", range(62_000.0, 71_000.0, "GBP", None)),
        ("A$120,000+ per annum", (Some(120_000.0), None, Some("AUD"), Some(Year))),
        ("ab 3.200 € im Monat", (Some(3_200.0), None, Some("EUR"), Some(Month))),
        ("£30,000 per annum, 37 hours per week", range(30_000.0, 30_000.0, "GBP", Some(Year))),
        ("37 hours per week, £30,000 per annum", range(30_000.0, 30_000.0, "GBP", Some(Year))),
        ("£30,000 per annum for 37 hours a week", range(30_000.0, 30_000.0, "GBP", Some(Year))),
        ("£15.20 an hour, 20 hours a week, permanent", range(15.2, 15.2, "GBP", Some(Hour))),
        ("Annual salary: £30,000 (37.5 hours per week)", range(30_000.0, 30_000.0, "GBP", Some(Year))),
        ("Grade 7, £35,000", range(35_000.0, 35_000.0, "GBP", None)),
        ("Grade 7 - £35,000 to £38,000 per annum", range(35_000.0, 38_000.0, "GBP", Some(Year))),
        ("Band 6 £35,392 - £42,618 a year", range(35_392.0, 42_618.0, "GBP", Some(Year))),
        ("Entgeltgruppe 13, 4.500 € monatlich", range(4_500.0, 4_500.0, "EUR", Some(Month))),
        ("$100,000/year - $120,000/year", range(100_000.0, 120_000.0, "USD", Some(Year))),
        ("€3.000 brutto al mese, 14 mensilità, 40 ore", range(3_000.0, 3_000.0, "EUR", Some(Month))),
        ("£40,000 per annum plus a bonus", range(40_000.0, 40_000.0, "GBP", Some(Year))),
        ("£40,000 per year and a learning budget of £2,000", range(40_000.0, 40_000.0, "GBP", Some(Year))),
        ("learning budget of £2,000; £40,000 per year", range(40_000.0, 40_000.0, "GBP", Some(Year))),
        ("Von 50 bis 60 тыс. руб. в месяц", range(50_000.0, 60_000.0, "RUB", Some(Month))),
    ];
    for (text, (min, max, currency, period)) in forms {
        let found = salary(text).unwrap_or_else(|| panic!("{text}: no pay"));
        assert_eq!((found.min, found.max), (min, max), "{text}");
        assert_eq!(found.currency.as_deref(), currency, "{text}");
        assert_eq!(found.period, period, "{text}");
    }
}

#[test]
fn what_is_no_pay() {
    for text in [
        "50–250 employees",
        "401(k) match",
        "40 hours a week",
        "competitive",
        "",
        "1 – 1,000,000 USD",
        "a learning budget of £2,000 per year",
        "€1.500 Weiterbildungsbudget pro Jahr",
        "$1,200 annual training budget",
        "relocation allowance: up to $5,000",
    ] {
        assert_eq!(salary(text), None, "{text}");
    }
}

#[test]
fn dates_as_real_pages_write_them() {
    let forms = [
        ("2026-11-03", "2026-11-03"),
        ("3 November 2026", "2026-11-03"),
        ("November 3rd, 2026", "2026-11-03"),
        ("Veröffentlicht am 12.11.2026", "2026-11-12"),
        ("Вакансія від 15 липня 2026", "2026-07-15"),
        ("15 июля 2026 г.", "2026-07-15"),
        ("2026年7月15日", "2026-07-15"),
        ("17/11/2026", "2026-11-17"),
        ("Posted 5 Days Ago", "2026-11-18"),
        ("1 week ago", "2026-11-16"),
        ("4d ago", "2026-11-19"),
        ("vor 3 Tagen", "2026-11-20"),
        ("yesterday", "2026-11-22"),
        ("Heute", "2026-11-23"),
        ("Closes in 3 days", "2026-11-26"),
        ("3 days left to apply", "2026-11-26"),
        ("Noch 2 Wochen", "2026-12-07"),
        ("Candidature dans 5 jours", "2026-11-28"),
        ("Closing within the next 2 weeks", "2026-12-07"),
        ("in 1 month", "2026-12-23"),
        ("через 3 дні", "2026-11-26"),
        ("3 дні тому", "2026-11-20"),
        ("Posted over 3 days ago", "2026-11-20"),
        ("Posted in Berlin 3 days ago", "2026-11-20"),
        ("3d", "2026-11-20"),
    ];
    for (text, expected) in forms {
        assert_eq!(date(text, fetched(), None).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(date("03/04/2026", fetched(), None), None, "either order is possible");
    assert_eq!(date("03/04/2026", fetched(), Some(true)).as_deref(), Some("2026-03-04"));
    assert_eq!(date("03/04/2026", fetched(), Some(false)).as_deref(), Some("2026-04-03"));
    assert_eq!(date("31/02/2026", fetched(), None), None);
}

#[test]
fn contracts_as_real_pages_name_them() {
    use EmploymentType::{Contract, FullTime, Internship, PartTime, Temporary};
    let forms = [
        ("Full Time", FullTime),
        ("FULL_TIME", FullTime),
        ("Vollzeit", FullTime),
        ("Повна зайнятість.", FullTime),
        ("полная занятость", FullTime),
        ("正社員", FullTime),
        ("Permanent, full-time", FullTime),
        ("Teilzeit (20 h)", PartTime),
        ("неполная занятость", PartTime),
        ("Marketing Intern", Internship),
        ("Estagiário de Gestão", Internship),
        ("Werkstudent (m/w/d)", Internship),
        ("Stage", Internship),
        ("Stage de fin d'études", Internship),
        ("Offre de stage", Internship),
        ("Stage - Assistant marketing (H/F)", Internship),
        ("Stage en marketing", Internship),
        ("befristet auf zwei Jahre", Temporary),
        ("fixed-term", Temporary),
        ("Freelance", Contract),
    ];
    for (text, expected) in forms {
        assert_eq!(employment(text), Some(expected), "{text}");
    }
    for text in [
        "Stage Manager",
        "early-stage startup",
        "an early stage company",
        "Stage: Series B",
        "stage 3",
        "backstage",
        "an international team",
        "internal mobility",
        "contemporary art",
        "Abgeschlossene Ausbildung",
        "",
    ] {
        assert_eq!(employment(text), None, "{text}");
    }
    assert_eq!(workplace("Формат работы: удалённо"), Some(Workplace::Remote));
    assert_eq!(workplace("remote or hybrid"), Some(Workplace::Hybrid));
    assert_eq!(workplace("vor Ort"), Some(Workplace::OnSite));
    for text in [
        "Hybrid",
        "London (Hybrid)",
        "Hybrid - Berlin",
        "hybrid working",
        "hybrid, 2 days",
        "hybrides Arbeiten",
        "Hybrid 3 days",
    ] {
        assert_eq!(workplace(text), Some(Workplace::Hybrid), "{text}");
    }
    for text in [
        "Remote",
        "Remote Germany",
        "fully remote",
        "remote-first",
        "Remote (EU)",
        "work remotely",
        "remote in EU",
    ] {
        assert_eq!(workplace(text), Some(Workplace::Remote), "{text}");
    }
    for text in [
        "hybrid cloud",
        "Hybrid Cloud Engineer",
        "hybrid vehicles",
        "remote sensing",
        "remote control of pumps",
    ] {
        assert_eq!(workplace(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_left(text in "\\PC{0,200}") {
        let _ = (date(&text, fetched(), None), employment(&text), workplace(&text));
        if let Some(found) = salary(&text) {
            prop_assert!(found.min.is_some() || found.max.is_some());
            prop_assert!(found.min.zip(found.max).is_none_or(|(min, max)| min <= max));
            prop_assert!([found.min, found.max].into_iter().flatten().all(|n| n.is_finite() && n > 0.0));
        }
    }

    #[test]
    fn a_range_is_read_back(low in 1_000_u32..400_000, more in 0_u32..300_000, symbol in "[$€£]") {
        // A bound of twenty times the other is two numbers, not a range.
        prop_assume!(more <= low * 19);
        let text = format!("{symbol}{low} - {symbol}{} per year", low + more);
        let found = salary(&text).unwrap();
        prop_assert_eq!((found.min, found.max), (Some(f64::from(low)), Some(f64::from(low + more))));
        prop_assert_eq!(found.annual_min, found.min);
    }

    #[test]
    fn a_date_is_read_back(days in 0_i64..40_000) {
        let day = NaiveDate::from_ymd_opt(1995, 1, 1).unwrap() + chrono::Days::new(days as u64 % 38_000);
        for text in [day.to_string(), day.format("%-d %B %Y").to_string(), day.format("%d.%m.%Y").to_string()] {
            prop_assert_eq!(date(&text, fetched(), None), Some(day.to_string()), "{}", text);
        }
    }
}
