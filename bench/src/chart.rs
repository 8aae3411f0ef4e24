//! Line charts as SVG, where no plotting program can be counted on.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
const COLOURS: [&str; 8] =
    ["#1b6ca8", "#d1495b", "#2e933c", "#edae49", "#6a4c93", "#00798c", "#8d6a9f", "#444444"];
/// Of the value axis.
const STEPS: usize = 5;

/// A line with its name: positions on the category axis and values.
pub struct Line {
    pub name: String,
    pub points: Vec<(usize, f64)>,
}

/// A chart over named categories, values from 0 up.
pub struct Chart<'a> {
    pub title: &'a str,
    pub categories_title: &'a str,
    pub values_title: &'a str,
    pub categories: Vec<String>,
    pub lines: Vec<Line>,
}

impl Chart<'_> {
    /// The picture as text.
    pub fn svg(&self) -> String {
        let most =
            self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max);
        let most = if most > 0.0 { most * 1.05 } else { 1.0 };
        let (inner_width, inner_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let count = self.categories.len().max(1) as f64;
        let x = |category: usize| LEFT + inner_width * (category as f64 + 0.5) / count;
        let y = |value: f64| TOP + inner_height * (1.0 - value / most);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, words: &str| {
            let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{words}</text>"
            );
        };
        text(LEFT, 24.0, "start", " font-size=\"15\" font-weight=\"bold\"", self.title);
        text(LEFT + inner_width / 2.0, HEIGHT - 12.0, "middle", "", self.categories_title);
        let turned = format!(" transform=\"rotate(-90 18 {:.1})\"", TOP + inner_height / 2.0);
        text(18.0, TOP + inner_height / 2.0, "middle", &turned, self.values_title);
        for (index, category) in self.categories.iter().enumerate() {
            text(x(index), HEIGHT - BOTTOM + 18.0, "middle", "", category);
        }
        for step in 0..=STEPS {
            let value = most * step as f64 / STEPS as f64;
            text(LEFT - 8.0, y(value) + 4.0, "end", "", &short(value));
        }
        for (index, line) in self.lines.iter().enumerate() {
            text(WIDTH - RIGHT + 30.0, TOP + 14.0 + 18.0 * index as f64, "start", "", &line.name);
        }
        for step in 0..=STEPS {
            let at = y(most * step as f64 / STEPS as f64);
            let right = LEFT + inner_width;
            let _ = writeln!(out, "<path d=\"M{LEFT} {at:.1}H{right:.1}\" stroke=\"#dddddd\"/>");
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> = line
                .points
                .iter()
                .map(|(category, value)| format!("{:.1},{:.1}", x(*category), y(*value)))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            for point in &points {
                let (cx, cy) = point.split_once(',').unwrap_or_default();
                let _ = writeln!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let (left, at) = (WIDTH - RIGHT + 10.0, TOP + 10.0 + 18.0 * index as f64);
            let _ = writeln!(out, "<path d=\"M{left} {at}h14\" stroke=\"{colour}\" stroke-width=\"3\"/>");
        }
        out.push_str("</svg>\n");
        out
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_word_is_in_the_picture() {
        let line = |name: &str, values: &[f64]| Line {
            name: name.into(),
            points: values.iter().copied().enumerate().collect(),
        };
        let chart = Chart {
            title: "Steps & speed",
            categories_title: "sequences",
            values_title: "tokens/s",
            categories: vec!["1".into(), "8".into()],
            lines: vec![line("no context", &[10.0, 70.0]), line("8k", &[9.0, 40.0])],
        };
        let svg = chart.svg();
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.contains("Steps &amp; speed") && svg.contains("8k") && svg.ends_with("</svg>\n"));
        let nothing = Chart { categories: vec![], lines: vec![], ..chart };
        assert!(!nothing.svg().contains("NaN"));
    }
}
