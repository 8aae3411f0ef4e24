//! Bytes as text: headers, marks and meta tags that lie, contradict each other or name nothing.

use quarry_agent::clean::decode;

const WORD: &str = "Größe, ціна, цена";

fn page(meta: &str) -> String {
    format!("<html><head>{meta}</head><body><h1>{WORD}</h1></body></html>")
}

fn encoded(label: &str, text: &str) -> Vec<u8> {
    encoding_rs::Encoding::for_label(label.as_bytes()).unwrap().encode(text).0.into_owned()
}

#[test]
fn the_header_or_the_page_names_the_charset() {
    let cyrillic = "<h1>Інженер з тестування</h1>";
    let bytes = encoded("windows-1251", cyrillic);
    assert!(decode(&bytes, Some("text/html; charset=windows-1251")).contains("Інженер"));
    let with_meta = format!("<meta charset=\"windows-1251\">{cyrillic}");
    assert!(decode(&encoded("windows-1251", &with_meta), None).contains("Інженер"));
    let equiv = format!("<meta http-equiv=Content-Type content='text/html; charset=koi8-u'>{cyrillic}");
    assert!(decode(&encoded("koi8-u", &equiv), Some("text/html")).contains("Інженер"));
}

#[test]
fn a_mark_outweighs_what_is_declared() {
    let mut utf8 = vec![0xef, 0xbb, 0xbf];
    utf8.extend(page("<meta charset=windows-1252>").bytes());
    assert!(decode(&utf8, Some("text/html; charset=iso-8859-1")).contains(WORD));
    let units = page("").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let utf16 = [vec![0xff, 0xfe], units].concat();
    assert!(decode(&utf16, Some("text/html; charset=utf-8")).contains(WORD));
}

#[test]
fn names_that_mean_nothing_lose_no_utf8() {
    for header in
        [None, Some("text/html; charset=nonsense"), Some("text/html; charset="), Some("\u{0}"), Some("")]
    {
        for meta in ["", "<meta charset=nonsense>", "<meta charset>"] {
            assert!(decode(page(meta).as_bytes(), header).contains(WORD), "{header:?} {meta}");
        }
    }
}

#[test]
fn whatever_the_bytes_there_is_a_text() {
    let noise: Vec<u8> = (0..=255_u8).cycle().take(4096).collect();
    for header in [
        None,
        Some("text/html; charset=utf-8"),
        Some("text/html; charset=shift_jis"),
        Some("text/html; charset=utf-16"),
    ] {
        assert!(!decode(&noise, header).is_empty());
        assert_eq!(decode(b"", header), "");
    }
}
