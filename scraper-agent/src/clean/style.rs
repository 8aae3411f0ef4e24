//! Whether a style attribute hides what it is on. Only what stands in the attribute is known; style sheets are not read.

/// Pixels beyond the left or upper edge from which nobody sees an element.
const OFF_SCREEN_PX: f64 = -500.0;

/// Whether the declarations leave nothing to be seen.
pub fn hides(style: &str) -> bool {
    let mut found = Found::default();
    for declaration in style.split(';') {
        let Some((name, value)) = declaration.split_once(':') else { continue };
        let name = name.trim().to_ascii_lowercase();
        let value = value.trim().to_ascii_lowercase();
        let value = value.trim_end_matches("!important").trim_end();
        match name.as_str() {
            "display" if value == "none" => return true,
            "visibility" if matches!(value, "hidden" | "collapse") => return true,
            "opacity" | "font-size" if is_zero(value) => return true,
            "text-indent" if is_off(value) => return true,
            "left" | "top" => found.is_off |= is_off(value),
            "position" => found.is_placed = matches!(value, "absolute" | "fixed"),
            "clip" | "clip-path" => found.is_clipped |= is_empty_clip(value),
            "width" | "height" => found.is_small |= is_zero(value) || value == "1px",
            "overflow" => found.is_cut = matches!(value, "hidden" | "clip"),
            "color" => found.color = Some(color(value)),
            "background" | "background-color" => found.background = Some(color(value)),
            _ => {}
        }
    }
    found.is_placed && (found.is_off || found.is_clipped)
        || found.is_small && found.is_cut
        || found.color.is_some() && found.color == found.background
        || found.color.as_deref() == Some("transparent")
}

#[derive(Default)]
struct Found {
    is_placed: bool,
    is_off: bool,
    is_clipped: bool,
    is_small: bool,
    is_cut: bool,
    color: Option<String>,
    background: Option<String>,
}

fn number(value: &str) -> Option<f64> {
    let end =
        value.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(value.len());
    value[..end].parse().ok()
}

fn is_zero(value: &str) -> bool {
    number(value) == Some(0.0)
}

fn is_off(value: &str) -> bool {
    // An em or rem is some sixteen pixels.
    let scale = if value.ends_with("em") { 16.0 } else { 1.0 };
    number(value).is_some_and(|number| number * scale <= OFF_SCREEN_PX) && !value.ends_with('%')
}

fn is_empty_clip(value: &str) -> bool {
    let inner = value.strip_prefix("rect(").and_then(|rest| rest.strip_suffix(')'));
    let is_empty_rect = inner.is_some_and(|inner| {
        inner
            .split([',', ' '])
            .filter(|side| !side.is_empty())
            .all(|side| number(side).is_some_and(|n| n <= 1.0))
    });
    is_empty_rect || matches!(value, "inset(50%)" | "inset(100%)")
}

/// One spelling for each of the colours that hide text on a plain page; the rest as they are.
fn color(value: &str) -> String {
    let compact: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let long = match compact.strip_prefix('#') {
        Some(short) if short.len() == 3 && short.is_ascii() => {
            let doubled: String = short.chars().flat_map(|c| [c, c]).collect();
            format!("#{doubled}")
        }
        _ => compact,
    };
    match long.as_str() {
        "white" | "rgb(255,255,255)" | "rgba(255,255,255,1)" => "#ffffff".to_owned(),
        "black" | "rgb(0,0,0)" | "rgba(0,0,0,1)" => "#000000".to_owned(),
        "rgba(0,0,0,0)" | "rgba(255,255,255,0)" => "transparent".to_owned(),
        _ => long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_hidden_and_the_rest_is_not() {
        for style in [
            "display: none",
            "color:red;DISPLAY:NONE !important",
            "visibility:hidden",
            "opacity: 0",
            "opacity:0.0",
            "font-size: 0px",
            "position:absolute; left: -9999px",
            "position: fixed; top:-100em",
            "text-indent:-9999px",
            "position:absolute;clip:rect(0 0 0 0)",
            "position:absolute;clip: rect(1px, 1px, 1px, 1px);width:1px",
            "height:0;overflow:hidden",
            "color: #FFF; background-color: white",
            "background:rgb(255, 255, 255);color:#ffffff",
            "color: transparent",
        ] {
            assert!(hides(style), "{style}");
        }
        for style in [
            "",
            "display:block",
            "opacity:0.9",
            "font-size:0.8em",
            "position:absolute;left:-10px",
            "position:relative;left:-9999",
            "margin-left:-9999px",
            "left:-100%;position:absolute",
            "height:0",
            "overflow:hidden;width:100%",
            "color:#fff",
            "color:#fff;background:#000",
            "color:#ä12",
            "background:transparent",
            ":;;a:b:c",
        ] {
            assert!(!hides(style), "{style}");
        }
    }
}
