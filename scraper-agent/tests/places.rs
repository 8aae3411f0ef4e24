//! Places of many countries and notations, by tables.

use proptest::prelude::*;
use quarry_agent::normalize::{Place, place};

#[test]
fn places_as_postings_write_them() {
    for (text, country, region, city) in [
        ("Berlin", "DE", Some("DE-BE"), Some("Berlin")),
        ("Berlin, Germany", "DE", Some("DE-BE"), Some("Berlin")),
        ("10115 Berlin", "DE", Some("DE-BE"), Some("Berlin")),
        ("München, Bayern, Deutschland", "DE", Some("DE-BY"), Some("München")),
        ("Munich (DE)", "DE", None, Some("Munich")),
        ("Lilienthal, Deutschland", "DE", None, Some("Lilienthal")),
        ("Lilienthal (DE)", "DE", None, Some("Lilienthal")),
        ("Köln, DE", "DE", None, Some("Köln")),
        ("Bavaria, Germany", "DE", Some("DE-BY"), None),
        ("Austin, TX", "US", Some("US-TX"), Some("Austin")),
        ("San Francisco, CA", "US", Some("US-CA"), Some("San Francisco")),
        ("Redwood City, CA, USA", "US", Some("US-CA"), Some("Redwood City")),
        ("Springfield, IL, United States", "US", Some("US-IL"), Some("Springfield")),
        ("Smalltown, California", "US", Some("US-CA"), Some("Smalltown")),
        ("Paris, Texas", "US", Some("US-TX"), Some("Paris")),
        ("Atlanta, Georgia", "US", Some("US-GA"), Some("Atlanta")),
        ("Tbilisi, Georgia", "GE", Some("GE-TB"), Some("Tbilisi")),
        ("New York, NY", "US", Some("US-NY"), Some("New York")),
        ("Remote - US", "US", None, None),
        ("Toronto, ON", "CA", Some("CA-ON"), Some("Toronto")),
        ("Toronto, CA", "CA", None, Some("Toronto")),
        ("London, ON", "CA", Some("CA-ON"), Some("London")),
        ("London", "GB", None, Some("London")),
        ("London, UK", "GB", None, Some("London")),
        ("London (Hybrid)", "GB", None, Some("London")),
        ("Sydney NSW", "", None, None),
        ("Sydney, NSW", "AU", Some("AU-NSW"), Some("Sydney")),
        ("Perth, WA", "AU", Some("AU-WA"), Some("Perth")),
        ("Seattle, WA", "US", Some("US-WA"), Some("Seattle")),
        ("Paris, Île-de-France, France", "FR", Some("FR-IDF"), Some("Paris")),
        ("75001 Paris", "FR", Some("FR-75C"), Some("Paris")),
        ("Barcelona, España", "ES", Some("ES-B"), Some("Barcelona")),
        ("Milano, Lombardia, Italia", "IT", Some("IT-25"), Some("Milano")),
        ("São Paulo, Brasil", "BR", Some("BR-SP"), Some("São Paulo")),
        ("Amsterdam, Nederland", "NL", None, Some("Amsterdam")),
        ("København, Danmark", "DK", None, Some("København")),
        ("Kraków, Polska", "PL", None, Some("Kraków")),
        ("Київ", "UA", None, Some("Київ")),
        ("Україна, віддалено", "UA", None, None),
        ("Москва, Россия", "RU", None, Some("Москва")),
        ("תל אביב, ישראל", "IL", None, Some("תל אביב")),
        ("東京, 日本", "JP", None, Some("東京")),
        ("Remote Germany", "DE", None, None),
        ("Anywhere in the Netherlands", "NL", None, None),
        ("Berlin; London", "DE", Some("DE-BE"), Some("Berlin")),
        ("Remote | Madrid", "ES", Some("ES-M"), Some("Madrid")),
        ("Accra, Ghana", "GH", None, Some("Accra")),
        ("Kampala, Uganda", "UG", Some("UG-102"), None),
        ("Dubai, ARE", "AE", None, Some("Dubai")),
    ] {
        let found = place(text);
        if country.is_empty() {
            assert_eq!(found, None, "{text}");
            continue;
        }
        let expected = Place {
            country: Some(country),
            region: region.map(str::to_owned),
            city: city.map(str::to_owned),
        };
        assert_eq!(found, Some(expected), "{text}");
    }
}

#[test]
fn each_language_names_countries() {
    for (name, code) in [
        ("Germany", "DE"),
        ("Deutschland", "DE"),
        ("Allemagne", "DE"),
        ("Alemania", "DE"),
        ("Germania", "DE"),
        ("Alemanha", "DE"),
        ("Duitsland", "DE"),
        ("Tyskland", "DE"),
        ("Niemcy", "DE"),
        ("Німеччина", "DE"),
        ("Германия", "DE"),
        ("גרמניה", "DE"),
        ("ドイツ", "DE"),
        ("United States", "US"),
        ("Vereinigte Staaten", "US"),
        ("États-Unis", "US"),
        ("Estados Unidos", "US"),
        ("Stati Uniti", "US"),
        ("EUA", "US"),
        ("Verenigde Staten", "US"),
        ("Stany Zjednoczone", "US"),
        ("США", "US"),
        ("ארצות הברית", "US"),
        ("アメリカ", "US"),
        ("United Kingdom", "GB"),
        ("Großbritannien", "GB"),
        ("Royaume-Uni", "GB"),
        ("Reino Unido", "GB"),
        ("Regno Unito", "GB"),
        ("Verenigd Koninkrijk", "GB"),
        ("Storbritannien", "GB"),
        ("Wielka Brytania", "GB"),
        ("Велика Британія", "GB"),
        ("Великобритания", "GB"),
        ("בריטניה", "GB"),
        ("イギリス", "GB"),
    ] {
        assert_eq!(place(name).and_then(|place| place.country), Some(code), "{name}");
    }
}

#[test]
fn what_names_no_place_for_sure() {
    for text in [
        "",
        "Remote",
        "Join us",
        "Smalltown, CA",
        "Smalltown, IL",
        "Georgia",
        "Headquarters",
        "EMEA",
        "multiple locations",
        "12345",
        "contact us",
        "Germany and France",
        "CA",
        "in",
    ] {
        assert_eq!(place(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_left(text in "\\PC{0,120}") {
        if let Some(found) = place(&text) {
            let country = found.country.unwrap();
            prop_assert!(found.region.is_none_or(|region| region.starts_with(country)));
        }
    }
}
