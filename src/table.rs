//! Aligned plain text tables for the terminal.

use std::fmt;

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table that prints with one space-padded column per header, a rule below the header and two
/// spaces between columns. Widths count characters. A column with an empty header has no rule, and
/// where it is the last and has no cells either nothing is printed of it.
///
/// ```
/// use voxseg::table::{Align, Table};
///
/// let mut table = Table::new(&[("layer", Align::Left), ("ms", Align::Right)]);
/// table.row(["conv3d", "12.5"]);
/// assert_eq!(table.to_string(), "layer     ms\n------  ----\nconv3d  12.5\n");
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Option<Vec<String>>>,
}

impl Table {
    /// An empty table with these column headers.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            columns: columns.iter().map(|(h, a)| (h.to_string(), *a)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells that are missing stay blank, cells beyond the last column are dropped, and
    /// a line break inside a cell becomes a space.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let mut cells: Vec<String> = cells
            .into_iter()
            .map(|cell| cell.into().replace(['\n', '\r'], " "))
            .collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(Some(cells));
        self
    }

    /// Adds a rule, as above a row of totals.
    pub fn rule(&mut self) -> &mut Self {
        self.rows.push(None);
        self
    }

    fn widths(&self) -> Vec<usize> {
        let width_of = |(i, (header, _)): (usize, &(String, Align))| {
            let cells = self.rows.iter().flatten().map(|row| row[i].chars().count());
            cells.fold(header.chars().count(), usize::max)
        };
        self.columns.iter().enumerate().map(width_of).collect()
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
        let padded = cells.zip(widths).zip(&self.columns);
        let cells: Vec<String> = padded
            .map(|((cell, &width), (_, align))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_string()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let rules: Vec<String> = widths
            .iter()
            .zip(&self.columns)
            .map(|(&width, (header, _))| match header.as_str() {
                "" => String::new(),
                _ => "-".repeat(width),
            })
            .collect();
        let rule = self.line(rules.iter().map(String::as_str), &widths);
        let headers = self.columns.iter().map(|(header, _)| header.as_str());
        writeln!(f, "{}\n{rule}", self.line(headers, &widths))?;
        for row in &self.rows {
            match row {
                Some(cells) => {
                    writeln!(
                        f,
                        "{}",
                        self.line(cells.iter().map(String::as_str), &widths)
                    )?;
                }
                None => writeln!(f, "{rule}")?,
            }
        }
        Ok(())
    }
}
