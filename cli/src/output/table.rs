//! Columns: as wide as their widest cell, numbers to the right, a dim header.

use unicode_width::UnicodeWidthStr;

use super::human::line;
use super::style::Style;

/// One cell, with the colour it gets when it has been padded. Control characters in it show as
/// escapes.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    paint: fn(&Style, &str) -> String,
    is_right: bool,
}

impl Cell {
    pub fn text(text: impl AsRef<str>) -> Cell {
        Cell { text: line(text.as_ref()), paint: |_, text| text.into(), is_right: false }
    }

    pub fn number(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), paint: |_, text| text.into(), is_right: true }
    }

    pub fn painted(mut self, paint: fn(&Style, &str) -> String) -> Cell {
        self.paint = paint;
        self
    }
}

/// A table under construction.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    /// A row with a cell a column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.header.len(), "a cell a column");
        self.rows.push(cells);
    }

    /// A table of names and values, without a header.
    pub fn facts(style: &Style, facts: &[(&str, Cell)]) -> String {
        let width = facts.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
        let line = |(name, value): &(&str, Cell)| {
            let name = style.dim(&format!("{name}{}", " ".repeat(width - name.width())));
            format!("{name}  {}\n", (value.paint)(style, &value.text))
        };
        facts.iter().map(line).collect()
    }

    pub fn render(&self, style: &Style) -> String {
        let mut widths: Vec<usize> = self.header.iter().map(|title| title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let is_right: Vec<bool> = (0..widths.len())
            .map(|column| self.rows.first().is_some_and(|row| row[column].is_right))
            .collect();
        let mut lines = String::new();
        let titles = self.header.iter().zip(&widths).zip(&is_right);
        push_line(&mut lines, titles.map(|((title, width), right)| style.dim(&pad(title, *width, *right))));
        for row in &self.rows {
            let cells = row.iter().zip(&widths);
            push_line(
                &mut lines,
                cells.map(|(cell, width)| (cell.paint)(style, &pad(&cell.text, *width, cell.is_right))),
            );
        }
        lines
    }
}

fn push_line(lines: &mut String, cells: impl Iterator<Item = String>) {
    let line = cells.collect::<Vec<String>>().join("  ");
    lines.push_str(line.trim_end());
    lines.push('\n');
}

fn pad(text: &str, width: usize, is_right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if is_right { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(&["NAME", "SIZE"]);
        table.row(vec![Cell::text("a"), Cell::number(5)]);
        table.row(vec![Cell::text("名前b"), Cell::number(1000)]);
        assert_eq!(table.render(&Style::plain()), "NAME   SIZE\na         5\n名前b  1000\n");
    }

    #[test]
    fn no_control_character_leaves_a_cell_or_a_fact() {
        let mut table = Table::new(&["ID", "SIZE"]);
        table.row(vec![Cell::text("a\x1b[2J\n"), Cell::number(5)]);
        assert_eq!(table.render(&Style::plain()), "ID            SIZE\na\\u{1b}[2J\\n     5\n");
        let facts = Table::facts(&Style::plain(), &[("id", Cell::text("a\r\nb").painted(Style::bold))]);
        assert_eq!(facts, "id  a\\r\\nb\n");
    }
}
