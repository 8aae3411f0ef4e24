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
fn undeclared_text_is_told_by_its_bytes() {
    for (label, text) in [
        ("windows-1252", "Für unseren Standort Köln suchen wir zum nächstmöglichen Zeitpunkt eine Bürokraft"),
        ("windows-1251", "Требуется инженер по тестированию в отдел разработки, работа в офисе"),
        (
            "windows-1250",
            "Poszukujemy księgowej z doświadczeniem, praca w Łodzi od zaraz, mile widziana znajomość",
        ),
        ("shift_jis", "正社員募集。東京都港区のオフィスで一緒に働くエンジニアを探しています。"),
        ("windows-1255", "דרוש מהנדס תוכנה למשרה מלאה בתל אביב"),
        ("gbk", "招聘软件工程师，工作地点上海，五险一金，双休"),
    ] {
        assert!(decode(&encoded(label, &format!("<p>{text}</p>")), None).contains(text), "{label}");
    }
    let cut = [page("").as_bytes(), b"<p>Gr\xc3"].concat();
    assert!(decode(&cut, None).contains(WORD), "a page that is cut off within a character stays UTF-8");
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
