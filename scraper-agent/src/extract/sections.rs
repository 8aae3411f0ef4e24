//! Pages too long for one prompt: cut at headings, else at paragraphs, and joined by field.
//!
//! Each piece is read by itself; what the pieces say is joined with the earlier piece winning, because a page names
//! title, employer and pay before it goes into detail.

/// Cuts markdown into pieces of at most `bytes_max`, at headings first, then at empty lines, then at lines. At most
/// `pieces_max` pieces; what is beyond is left out and said by the second value.
pub fn cut(markdown: &str, bytes_max: usize, pieces_max: usize) -> (Vec<&str>, bool) {
    let bytes_max = bytes_max.max(1);
    let mut pieces = Vec::new();
    let mut rest = markdown;
    while !rest.trim().is_empty() {
        if pieces.len() == pieces_max {
            return (pieces, true);
        }
        let end = if rest.len() <= bytes_max { rest.len() } else { cut_at(rest, bytes_max) };
        let (piece, after) = rest.split_at(end);
        if !piece.trim().is_empty() {
            pieces.push(piece);
        }
        rest = after;
    }
    (pieces, false)
}

/// The best place to cut within the first `bytes_max` bytes; never 0.
fn cut_at(text: &str, bytes_max: usize) -> usize {
    let window = &text[..floor_char(text, bytes_max)];
    // A cut in the first quarter would make many small pieces.
    let least = window.len() / 4;
    let last = |pattern: &str| window.rfind(pattern).map(|at| at + 1).filter(|at| *at > least);
    let at = last("\n#").or_else(|| last("\n\n")).or_else(|| last("\n")).or_else(|| last(" "));
    match at.unwrap_or(window.len()) {
        // A character wider than the bound.
        0 => text.chars().next().map_or(text.len(), char::len_utf8),
        at => at,
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headings_are_the_first_choice() {
        let text = "# A\n\naaaa aaaa\n\n## B\n\nbbbb bbbb\n";
        assert_eq!(cut(text, 24, 9).0, ["# A\n\naaaa aaaa\n\n", "## B\n\nbbbb bbbb\n"]);
        let (pieces, is_cut_off) = cut(text, 8, 2);
        assert_eq!(pieces.len(), 2);
        assert!(is_cut_off);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_piece_is_short(text in "[a-zäж# \n]{0,400}", bytes_max in 1_usize..80) {
            let (pieces, is_cut_off) = cut(&text, bytes_max, usize::MAX);
            prop_assert!(!is_cut_off);
            let kept: String = pieces.concat().chars().filter(|c| !c.is_whitespace()).collect();
            let all: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            prop_assert_eq!(kept, all);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= bytes_max.max(4)));
        }
    }
}
