use std::fmt;

use super::plain_line;

/// A text table: a header, a rule, rows. Text is aligned left, numbers right.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these column headings.
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.push(headings);
        table
    }

    /// Adds a row. Missing cells are blank; cells beyond the headings get their own column. Control characters are
    /// replaced, so that a cell cannot break the layout.
    pub fn push<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| plain_line(&cell.into())).collect());
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().skip(1).map(|row| cell(row, column));
                self.rows.len() > 1 && cells.all(|cell| is_numeric(&cell))
            })
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, &width) in widths.iter().enumerate() {
                let text = cell(row, column);
                if column > 0 {
                    line.push_str("  ");
                }
                line.push_str(&match numeric[column] {
                    true => format!("{text:>width$}"),
                    false => format!("{text:<width$}"),
                });
            }
            writeln!(f, "{}", line.trim_end())?;
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
                writeln!(f, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }
}

/// True for a number, with or without a unit; a blank or a dash stands for a missing number.
fn is_numeric(cell: &str) -> bool {
    match cell.trim_start_matches(['-', '−', '–', '+', '<', '≤', '~', '≈']).chars().next() {
        Some(first) => first.is_ascii_digit(),
        None => true,
    }
}
