//! A table for a terminal, or in Markdown.

/// Rows of cells; the first columns are names, the others numbers.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    names: usize,
}

impl Table {
    /// The first `names` columns are set left, the others right.
    pub fn new(names: usize, head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new(), names }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Columns as wide as their widest cell.
    pub fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width =
            |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let mut out = String::new();
        for row in lines() {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                match column < self.names {
                    true => out.push_str(&format!("{cell:<width$}  ")),
                    false => out.push_str(&format!("{cell:>width$}  ")),
                }
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: String =
            (0..self.head.len()).map(|column| if column < self.names { "|---" } else { "|--:" }).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}|\n{rows}", line(&self.head))
    }
}
