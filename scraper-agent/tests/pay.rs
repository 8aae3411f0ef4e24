//! Pay in the notations of many countries, by tables and by properties.

use proptest::prelude::*;
use quarry_agent::normalize::{is_benefit, names_currency, salary, salary_period};
use quarry_agent::posting::SalaryPeriod::{self, Day, Hour, Month, Week, Year};

/// Minimum, maximum, currency, period.
type Pay = (Option<f64>, Option<f64>, Option<&'static str>, Option<SalaryPeriod>);

fn assert_pay(text: &str, (min, max, currency, period): Pay) {
    let found = salary(text).unwrap_or_else(|| panic!("{text}: no pay"));
    assert_eq!((found.min, found.max), (min, max), "{text}");
    assert_eq!(found.currency.as_deref(), currency, "{text}");
    assert_eq!(found.period, period, "{text}");
}

#[test]
fn one_sum_and_ranges_of_many_countries() {
    let range = |a, b, currency, period| -> Pay { (Some(a), Some(b), Some(currency), period) };
    let one = |a, currency, period| -> Pay { (Some(a), Some(a), Some(currency), period) };
    let from = |a, currency, period| -> Pay { (Some(a), None, Some(currency), period) };
    let up_to = |a, currency, period| -> Pay { (None, Some(a), Some(currency), period) };
    for (text, pay) in [
        // English
        ("Salary: $85,000", one(85_000.0, "USD", None)),
        ("$25 hourly", one(25.0, "USD", Some(Hour))),
        ("$18.50/hr - $22.00/hr", range(18.5, 22.0, "USD", Some(Hour))),
        ("US$1,200 per week", one(1_200.0, "USD", Some(Week))),
        ("CAD $90,000 - $110,000 annually", range(90_000.0, 110_000.0, "CAD", Some(Year))),
        ("$120k–$150k CAD", range(120_000.0, 150_000.0, "CAD", None)),
        ("NZ$75,000 p.a.", one(75_000.0, "NZD", Some(Year))),
        ("S$5,000 - S$7,500 per month", range(5_000.0, 7_500.0, "SGD", Some(Month))),
        ("HK$30,000 monthly", one(30_000.0, "HKD", Some(Month))),
        ("£450 per day (outside IR35)", one(450.0, "GBP", Some(Day))),
        ("Starting from £28,000", from(28_000.0, "GBP", None)),
        ("Up to £60k", up_to(60_000.0, "GBP", None)),
        ("£60,000 max", up_to(60_000.0, "GBP", None)),
        ("at least €4.000 per month", from(4_000.0, "EUR", Some(Month))),
        ("Base salary of £40,000 with a yearly bonus", one(40_000.0, "GBP", Some(Year))),
        ("Salary scale 4: £27,000 to £31,000", range(27_000.0, 31_000.0, "GBP", None)),
        ("₹12-15 LPA", range(1_200_000.0, 1_500_000.0, "INR", Some(Year))),
        ("₹8,00,000 - ₹12,00,000 a year", range(800_000.0, 1_200_000.0, "INR", Some(Year))),
        ("INR 25 lakh per annum", one(2_500_000.0, "INR", Some(Year))),
        ("PKR 80,000 – 120,000 monthly", range(80_000.0, 120_000.0, "PKR", Some(Month))),
        ("$1.2M", one(1_200_000.0, "USD", None)),
        // German
        ("50.000 - 60.000 € brutto im Jahr", range(50_000.0, 60_000.0, "EUR", Some(Year))),
        ("60 - 75 T€", range(60_000.0, 75_000.0, "EUR", None)),
        ("Stundenlohn ab 15,50 €", from(15.5, "EUR", Some(Hour))),
        ("mindestens 3.100,00 EUR pro Monat", from(3_100.0, "EUR", Some(Month))),
        ("CHF 95'000 - 110'000", range(95_000.0, 110_000.0, "CHF", None)),
        ("CHF 5’500.– monatlich", one(5_500.0, "CHF", Some(Month))),
        ("Gehalt: bis 70.000 Euro jährlich", up_to(70_000.0, "EUR", Some(Year))),
        ("TVöD E 13, ab 4.628 € im Monat", from(4_628.0, "EUR", Some(Month))),
        // French
        ("35 000 € brut par an", one(35_000.0, "EUR", Some(Year))),
        ("45 à 55 k€", range(45_000.0, 55_000.0, "EUR", None)),
        ("Entre 2\u{202f}200 € et 2\u{202f}600 € par mois", range(2_200.0, 2_600.0, "EUR", Some(Month))),
        ("jusqu'à 400 €/jour", up_to(400.0, "EUR", Some(Day))),
        ("à partir de 12,02 € de l'heure", from(12.02, "EUR", Some(Hour))),
        // Spanish, Portuguese, Italian
        ("Salario: 24.000 € - 28.000 € bruto/año", range(24_000.0, 28_000.0, "EUR", Some(Year))),
        ("hasta 1.800 € al mes", up_to(1_800.0, "EUR", Some(Month))),
        ("30 mil euros anuales", one(30_000.0, "EUR", Some(Year))),
        ("R$ 3.500,00 por mês", one(3_500.0, "BRL", Some(Month))),
        ("de R$ 2.000 a R$ 3.000 mensais", range(2_000.0, 3_000.0, "BRL", Some(Month))),
        ("até 1.500€ mensais", up_to(1_500.0, "EUR", Some(Month))),
        ("RAL 30.000 - 35.000 €", range(30_000.0, 35_000.0, "EUR", Some(Year))),
        ("da 1.400 € netti al mese", from(1_400.0, "EUR", Some(Month))),
        ("fino a 45 mila euro", up_to(45_000.0, "EUR", None)),
        // Dutch, Danish, Polish
        ("€ 3.000 tot € 4.200 bruto per maand", range(3_000.0, 4_200.0, "EUR", Some(Month))),
        ("vanaf € 15,00 per uur", from(15.0, "EUR", Some(Hour))),
        ("DKK 440.935", one(440_935.0, "DKK", None)),
        ("op til DKK 55.000 om måneden", up_to(55_000.0, "DKK", Some(Month))),
        ("8 000 – 12 000 zł brutto miesięcznie", range(8_000.0, 12_000.0, "PLN", Some(Month))),
        ("od 31,40 zł/godz.", from(31.4, "PLN", Some(Hour))),
        // Ukrainian, Russian
        ("20 000 – 25 000 грн на місяць", range(20_000.0, 25_000.0, "UAH", Some(Month))),
        ("від 120 грн/год", from(120.0, "UAH", Some(Hour))),
        ("до 3000 $ на місяць", up_to(3_000.0, "USD", Some(Month))),
        ("от 150 000 ₽ на руки", from(150_000.0, "RUB", None)),
        ("до 90 тыс. руб. в месяц", up_to(90_000.0, "RUB", Some(Month))),
        ("1 200 000 руб. в год", one(1_200_000.0, "RUB", Some(Year))),
        // Hebrew, Japanese
        ("12,000 ש\"ח לחודש", one(12_000.0, "ILS", Some(Month))),
        ("עד 60 ₪ לשעה", up_to(60.0, "ILS", Some(Hour))),
        ("月給 26万円", one(260_000.0, "JPY", Some(Month))),
        ("月給２６万円以上", from(260_000.0, "JPY", Some(Month))),
        ("時給1,200円〜", from(1_200.0, "JPY", Some(Hour))),
        ("年収400万円～600万円", range(4_000_000.0, 6_000_000.0, "JPY", Some(Year))),
    ] {
        assert_pay(text, pay);
    }
}

#[test]
fn spaces_of_all_kinds_are_one() {
    for space in [' ', '\u{a0}', '\u{202f}', '\u{2009}', '\u{2007}'] {
        let text = format!("35{space}000{space}€ par{space}mois");
        assert_pay(&text, (Some(35_000.0), Some(35_000.0), Some("EUR"), Some(Month)));
    }
}

#[test]
fn what_is_no_pay() {
    for text in [
        "TVöD E 13",
        "Vergütung nach TVöD E 13 monatlich",
        "Entgeltgruppe 9b TV-L, 39 Stunden pro Woche",
        "Salary grade 7, monthly",
        "a team of 12 with monthly offsites",
        "monthly budget of $500",
        "annual training budget: $2,000",
        "€ 1.000 opleidingsbudget per jaar",
        "Investitionsvolumen von 3 Millionen Euro",
        "raised $25M in funding",
        "company turnover of £3 million",
        "Bonus bis zu 3.000 €",
        "prime de 1 500 €",
        "buoni pasto da 8 €",
        "30 days of holiday per year",
        "5 years of experience",
        "Must lift 50 pounds",
        "PHP 8 and MySQL 5",
        "+49 30 123456, weekly",
        "бюджет на навчання 500 $ на рік",
        "100% remote",
    ] {
        assert_eq!(salary(text), None, "{text}");
    }
}

#[test]
fn periods_and_currencies_by_themselves() {
    for (text, expected) in [
        ("HOUR", Some(Hour)),
        ("per-year-salary", Some(Year)),
        ("per-hour-wage", Some(Hour)),
        ("1 YEAR", Some(Year)),
        ("MONTH", Some(Month)),
        ("DAY", Some(Day)),
        ("WEEK", Some(Week)),
        ("yearly", Some(Year)),
        ("an hour", Some(Hour)),
        ("monatlich", Some(Month)),
        ("par an", Some(Year)),
        ("в месяц", Some(Month)),
        ("soon", None),
    ] {
        assert_eq!(salary_period(text), expected, "{text}");
    }
    assert!(names_currency("3 €") && names_currency("uah 5") && names_currency("12 zł"));
    assert!(!names_currency("European chefs") && !names_currency("a pen, a gel and Ron's php"));
}

#[test]
fn benefits_by_the_words_beside() {
    assert!(is_benefit("a learning budget of ", " a year"));
    assert!(is_benefit("", " Weiterbildungsbudget pro Jahr"));
    assert!(!is_benefit("Salary: ", " plus a bonus"));
    assert!(!is_benefit("We have a bonus. Salary: ", ""));
}

/// A number in a country's notation.
fn grouped(n: u32, separator: &str) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
    groups.join(separator)
}

proptest! {
    #[test]
    fn pay_is_read_back_in_each_notation(low in 1_000_u32..400_000, more in 0_u32..300_000) {
        prop_assume!(more <= low * 19);
        let high = low + more;
        for (separator, form, currency, period) in [
            (",", "${} - ${} per year", "USD", Year),
            (",", "£{} to £{} per annum", "GBP", Year),
            (".", "{} € bis {} € im Monat", "EUR", Month),
            (".", "{} - {} EUR pro Jahr", "EUR", Year),
            ("\u{202f}", "{} à {} € par an", "EUR", Year),
            ("'", "CHF {} - {} pro Jahr", "CHF", Year),
            ("\u{a0}", "{} – {} zł miesięcznie", "PLN", Month),
            (" ", "от {} до {} руб. в месяц", "RUB", Month),
            (" ", "{} – {} грн на місяць", "UAH", Month),
            (".", "R$ {} a R$ {} por mês", "BRL", Month),
            (",", "月給{}円〜{}円", "JPY", Month),
        ] {
            let text = form.replacen("{}", &grouped(low, separator), 1).replacen("{}", &grouped(high, separator), 1);
            let found = salary(&text).unwrap();
            prop_assert_eq!((found.min, found.max), (Some(low.into()), Some(high.into())), "{}", text);
            prop_assert_eq!(found.currency.as_deref(), Some(currency), "{}", text);
            prop_assert_eq!(found.period, Some(period), "{}", text);
        }
    }

    /// A factor's word multiplies what is read without it.
    #[test]
    fn a_factor_scales(n in 2_u32..900) {
        for (form, factor) in [
            ("${}k", 1e3), ("{} тыс. руб.", 1e3), ("{} тис. грн", 1e3), ("{} mil euros", 1e3), ("{} Tsd. €", 1e3),
            ("{} tys. zł", 1e3), ("{}万円", 1e4), ("₹{} lakh", 1e5), ("${} million", 1e6), ("{} Mio. €", 1e6),
        ] {
            let text = form.replace("{}", &n.to_string());
            let found = salary(&text).unwrap();
            prop_assert_eq!(found.min, Some(f64::from(n) * factor), "{}", text);
        }
    }

    /// Where the currency and the period stand does not matter.
    #[test]
    fn the_order_of_parts_does_not_matter(n in 1_000_u32..90_000) {
        for text in [
            format!("EUR {n} per month"), format!("{n} EUR per month"), format!("per month: {n} EUR"),
            format!("Monthly salary: EUR {n}"), format!("€{n} monthly"), format!("monthly {n} €"),
        ] {
            let found = salary(&text).unwrap();
            let read = (found.min, found.currency.as_deref(), found.period);
            prop_assert_eq!(read, (Some(n.into()), Some("EUR"), Some(Month)), "{}", text);
        }
    }

    #[test]
    fn benefits_and_periods_of_any_text_end(before in "\\PC{0,80}", behind in "\\PC{0,80}") {
        let _ = (is_benefit(&before, &behind), salary_period(&before), names_currency(&behind));
    }
}
