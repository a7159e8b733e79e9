//! Tables on a terminal: columns as wide as the first rows need, the rest streamed.

use super::CliError;
use super::output::Output;

/// Rows held back to find the widths; later rows that need more push their neighbours aside.
const MEASURED_ROWS: usize = 500;

/// Which side of a column is straight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table being written.
#[derive(Debug)]
pub struct Table<const N: usize> {
    aligns: [Align; N],
    widths: [usize; N],
    /// The head and the first rows, until the widths are known.
    waiting: Option<Vec<[String; N]>>,
}

impl<const N: usize> Table<N> {
    /// Column heads with their alignment.
    pub fn new(columns: [(&str, Align); N]) -> Self {
        let head = columns.map(|(title, _)| title.to_owned());
        Self {
            aligns: columns.map(|(_, align)| align),
            widths: [0; N],
            waiting: Some(vec![head]),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, row: [String; N], output: &mut Output) -> Result<(), CliError> {
        match &mut self.waiting {
            None => output.line(self.format(&row)),
            Some(rows) => {
                rows.push(row);
                if rows.len() <= MEASURED_ROWS {
                    Ok(())
                } else {
                    self.release(output)
                }
            }
        }
    }

    /// Writes what is still held back.
    pub fn finish(mut self, output: &mut Output) -> Result<(), CliError> {
        self.release(output)
    }

    fn release(&mut self, output: &mut Output) -> Result<(), CliError> {
        let rows = self.waiting.take().unwrap_or_default();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        rows.iter().try_for_each(|row| output.line(self.format(row)))
    }

    fn format(&self, row: &[String; N]) -> String {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let width = self.widths[index];
            // A peer chose some of these texts; it does not get to move the cursor.
            let cell = cell.replace(char::is_control, "?");
            match self.aligns[index] {
                Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                Align::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_straight_and_lines_end_clean() {
        let mut table = Table::new([
            ("ID", Align::Left),
            ("SESSIONS", Align::Right),
            ("NAME", Align::Left),
        ]);
        table.widths = [6, 8, 4];
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(
            table.format(&row(["4711", "20", "lac1"])),
            "4711          20  lac1"
        );
        assert_eq!(table.format(&row(["4711/23", "1", ""])), "4711/23         1");
        assert_eq!(
            table.format(&row(["1", "1", "a\x1b[2Jb"])),
            "1              1  a?[2Jb"
        );
    }
}
