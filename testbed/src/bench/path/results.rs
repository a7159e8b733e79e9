//! What was measured, gathered into rows: each server's values and the ratio between them.

use serde::{Deserialize, Serialize};

use super::server::Kind;

/// Version of the file that `--json` writes.
pub const FORMAT: u32 = 1;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Stands behind the cell's name; empty for the cell's own figure.
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub metric: Metric,
    pub value: f64,
    /// What the reader must know of it.
    pub note: Option<String>,
}

/// The smallest, middle and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub minimum: f64,
    pub median: f64,
    pub maximum: f64,
}

impl Range {
    /// Absent without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            *sorted.get(middle)?
        };
        Some(Self {
            minimum: *sorted.first()?,
            median,
            maximum: *sorted.last()?,
        })
    }
}

/// One server's part of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Values {
    pub server: Kind,
    /// In the order of the rounds.
    pub values: Vec<f64>,
    pub range: Range,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub cell: String,
    pub unit: String,
    pub better: Better,
    pub servers: Vec<Values>,
    /// Holdfast's value to l2tpns's of the same round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Range>,
}

impl Row {
    pub fn of(&self, server: Kind) -> Option<&Values> {
        self.servers.iter().find(|values| values.server == server)
    }
}

/// Rows as they come to be.
#[derive(Clone, Debug, Default)]
pub struct Results {
    rows: Vec<Row>,
}

impl Results {
    /// Adds what a server showed in a cell.
    pub fn add(&mut self, cell: &str, server: Kind, readings: Vec<Reading>) {
        for reading in readings {
            let name = match reading.metric.name {
                "" => cell.to_owned(),
                metric => format!("{cell} {metric}"),
            };
            let row = self.row(name, reading.metric);
            let position = row.servers.iter().position(|values| values.server == server);
            let values = match position {
                Some(position) => &mut row.servers[position],
                None => {
                    row.servers.push(Values {
                        server,
                        values: Vec::new(),
                        range: Range {
                            minimum: reading.value,
                            median: reading.value,
                            maximum: reading.value,
                        },
                        notes: Vec::new(),
                    });
                    row.servers.last_mut().expect("just pushed")
                }
            };
            values.values.push(reading.value);
            values.range = Range::of(&values.values).expect("just pushed");
            values
                .notes
                .extend(reading.note.filter(|note| !values.notes.contains(note)));
            row.ratio = ratio(row, Kind::Holdfast, row, Kind::L2tpns);
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn row(&mut self, cell: String, metric: Metric) -> &mut Row {
        let position = self.rows.iter().position(|row| row.cell == cell);
        let position = position.unwrap_or_else(|| {
            self.rows.push(Row {
                cell,
                unit: metric.unit.to_owned(),
                better: metric.better,
                servers: Vec::new(),
                ratio: None,
            });
            self.rows.len() - 1
        });
        &mut self.rows[position]
    }
}

/// Of one server's value in one row to another's in another, round by round.
fn ratio(row: &Row, server: Kind, other_row: &Row, other: Kind) -> Option<Range> {
    let (ours, theirs) = (row.of(server)?, other_row.of(other)?);
    let pairs = ours.values.iter().zip(&theirs.values);
    let ratios: Vec<f64> = pairs
        .map(|(ours, theirs)| ours / theirs)
        .filter(|ratio| ratio.is_finite())
        .collect();
    Range::of(&ratios)
}

/// The file that `--json` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub format: u32,
    /// Seconds since 1970.
    pub time: u64,
    pub machine: Machine,
    /// Versions of the servers.
    pub versions: Vec<(Kind, String)>,
    /// What was set on the machine and its interfaces, for all servers alike.
    pub settings: Vec<String>,
    pub rows: Vec<Row>,
    pub comparisons: Vec<Comparison>,
}

/// One figure of Holdfast's to another that is no figure of l2tpns's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub cell: String,
    /// What it is compared with.
    pub against: String,
    pub ratio: Range,
}

/// Holdfast's TCP against the bare forwarder's of the same round, and several shards against one.
pub fn comparisons(rows: &[Row]) -> Vec<Comparison> {
    // The further figures of a cell are behind a blank.
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.cell.contains(' ')).collect();
    let against_bare = rows.iter().filter_map(|row| {
        let ratio = ratio(row, Kind::Holdfast, row, Kind::Bare)?;
        Some(Comparison {
            cell: row.cell.clone(),
            against: "the bare forwarder".into(),
            ratio,
        })
    });
    let against_one_shard = rows.iter().filter_map(|row| {
        let (_, cell) = row.cell.split_once("-shards/")?;
        let one = rows.iter().find(|row| row.cell == cell)?;
        Some(Comparison {
            cell: row.cell.clone(),
            against: "one shard on one core".into(),
            ratio: ratio(row, Kind::Holdfast, one, Kind::Holdfast)?,
        })
    });
    let against_none = rows.iter().filter_map(|row| {
        Some(Comparison {
            cell: row.cell.clone(),
            against: "itself without rates".into(),
            ratio: ratio(row, Kind::Rated, row, Kind::Holdfast)?,
        })
    });
    against_bare
        .chain(against_one_shard)
        .chain(against_none)
        .collect()
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Metric = Metric {
        name: "",
        unit: "packets/s",
        better: Better::Higher,
    };

    fn reading(value: f64) -> Vec<Reading> {
        vec![Reading {
            metric: RATE,
            value,
            note: (value > 500.0).then(|| "fast".to_owned()),
        }]
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut results = Results::default();
        for (ours, theirs) in [(200.0, 100.0), (900.0, 300.0), (600.0, 600.0)] {
            results.add("up", Kind::Holdfast, reading(ours));
            results.add("up", Kind::L2tpns, reading(theirs));
        }
        let [row] = results.rows() else {
            panic!("one row: {results:?}")
        };
        let expected = Range {
            minimum: 1.0,
            median: 2.0,
            maximum: 3.0,
        };
        assert_eq!(row.ratio, Some(expected));
        assert_eq!(row.of(Kind::Holdfast).unwrap().range.median, 600.0);
        assert_eq!(row.of(Kind::Holdfast).unwrap().notes, ["fast"]);
    }

    #[test]
    fn a_server_alone_has_no_ratio_and_nothing_to_nothing_neither() {
        let mut results = Results::default();
        results.add("up", Kind::Holdfast, reading(1.0));
        assert_eq!(results.rows()[0].ratio, None);
        results.add("up", Kind::L2tpns, reading(0.0));
        assert_eq!(results.rows()[0].ratio, None);
    }

    #[test]
    fn more_shards_are_compared_with_one_and_tcp_with_the_bare_forwarder() {
        let mut results = Results::default();
        results.add("tcp-up-f1", Kind::Holdfast, reading(8.0));
        results.add("tcp-up-f1", Kind::Bare, reading(10.0));
        results.add("2-shards/tcp-up-f1", Kind::Holdfast, reading(12.0));
        let found: Vec<(String, f64)> = comparisons(results.rows())
            .into_iter()
            .map(|comparison| (comparison.cell, comparison.ratio.median))
            .collect();
        assert_eq!(
            found,
            [
                ("tcp-up-f1".to_owned(), 0.8),
                ("2-shards/tcp-up-f1".to_owned(), 1.5)
            ]
        );
    }

    #[test]
    fn the_document_is_written_as_documented() {
        let mut results = Results::default();
        results.add("udp-up-plain-64-s1", Kind::Holdfast, reading(2.0));
        results.add("udp-up-plain-64-s1", Kind::L2tpns, reading(1.0));
        let text = serde_json::to_value(results.rows()).unwrap();
        let expected = serde_json::json!([{
            "cell": "udp-up-plain-64-s1",
            "unit": "packets/s",
            "better": "higher",
            "servers": [
                {"server": "holdfast", "values": [2.0], "range": {"minimum": 2.0, "median": 2.0, "maximum": 2.0}},
                {"server": "l2tpns", "values": [1.0], "range": {"minimum": 1.0, "median": 1.0, "maximum": 1.0}},
            ],
            "ratio": {"minimum": 2.0, "median": 2.0, "maximum": 2.0},
        }]);
        assert_eq!(text, expected);
        let rows: Vec<Row> = serde_json::from_value(expected).unwrap();
        assert_eq!(rows, results.rows());
    }
}
