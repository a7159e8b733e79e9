//! The results as people read them.

use std::fmt::Write as _;

use super::results::{Comparison, Range, Row};

/// A line for each row: each server's median, and smallest, middle and largest ratio.
pub fn render(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.cell.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let _ = write!(text, "{:<width$}", row.cell);
        for values in &row.servers {
            let _ = write!(text, "  {} {:>7}", values.server, short(values.range.median));
        }
        let _ = write!(text, " {}", row.unit);
        if let Some(Range {
            minimum,
            median,
            maximum,
        }) = row.ratio
        {
            let _ = write!(text, "  ratio {median:.2} ({minimum:.2} to {maximum:.2})");
        }
        for values in &row.servers {
            for note in &values.notes {
                let _ = write!(text, "  [{}: {note}]", values.server);
            }
        }
        text.push('\n');
    }
    text
}

/// A line for each comparison that is none with l2tpns.
pub fn render_comparisons(comparisons: &[Comparison]) -> String {
    let line = |comparison: &Comparison| {
        let Range {
            minimum,
            median,
            maximum,
        } = comparison.ratio;
        format!(
            "{}: holdfast to {}: ratio {median:.2} ({minimum:.2} to {maximum:.2})\n",
            comparison.cell, comparison.against
        )
    };
    comparisons.iter().map(line).collect()
}

/// Three figures and a prefix.
pub fn short(value: f64) -> String {
    let (scaled, prefix) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let places = match scaled {
        scaled if scaled >= 100.0 => 0,
        scaled if scaled >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.places$}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::super::results::{Better, Metric, Reading, Results};
    use super::super::server::Kind;
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0.00"),
            (12.34, "12.3"),
            (9999.0, "9999"),
            (431_234.0, "431k"),
            (25_525_000.0, "25.5M"),
            (9.87e9, "9.87G"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn a_row_names_the_servers_and_the_spread_of_the_ratio() {
        let mut results = Results::default();
        let metric = Metric {
            name: "",
            unit: "packets/s",
            better: Better::Higher,
        };
        for (server, value) in [(Kind::Holdfast, 860_000.0), (Kind::L2tpns, 430_000.0)] {
            let note = (server == Kind::Holdfast).then(|| "generator at its end".to_owned());
            results.add("udp-up", server, vec![Reading { metric, value, note }]);
        }
        assert_eq!(
            render(results.rows()),
            "udp-up  holdfast    860k  l2tpns    430k packets/s  ratio 2.00 (2.00 to 2.00)  \
             [holdfast: generator at its end]\n"
        );
    }
}
