//! The quick bench of the data path: no threshold, but both servers forward and the results are as documented. And a small outage,
//! after which every session is up.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::cargo::transcribe;
use super::{Context, Outcome};
use crate::bench::results::{Document, FORMAT};
use crate::bench::{Kind, quick_cells};
use crate::lab::process::own_program;

/// A build of the node, and two minutes of measurements.
const LIMIT: Duration = Duration::from_secs(600);

/// Sessions that come back at once.
const OUTAGE_SESSIONS: &str = "500";

pub fn run(_: &Context) -> Outcome {
    let Ok(folder) = tempfile::tempdir() else {
        return Outcome::single("bench --quick", Err("no temporary folder".into()));
    };
    let file = folder.path().join("bench.json");
    let mut command = Command::new(own_program());
    command.args(["bench", "--quick", "--json"]).arg(&file);
    let (succeeded, transcript) = transcribe(&mut command, LIMIT);
    if !succeeded {
        return Outcome::single("bench --quick", Err(transcript));
    }
    // The figures are for whoever reads the transcript of the run.
    println!("{transcript}");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut outcome = Outcome::single("bench --quick", Ok(()));
    outcome.add("its JSON", judge(&text));
    outcome.add("bench --outage", after_outage());
    outcome
}

/// Its exit code says whether every session came up and no old one was lost.
fn after_outage() -> Result<(), String> {
    let mut command = Command::new(own_program());
    command.args(["bench", "--outage", OUTAGE_SESSIONS]);
    let (succeeded, transcript) = transcribe(&mut command, LIMIT);
    println!("{transcript}");
    if succeeded { Ok(()) } else { Err(transcript) }
}

/// Whether the file is as documented and every cell has a figure of each server.
fn judge(text: &str) -> Result<(), String> {
    let document: Document = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
    if document.format != FORMAT {
        return Err(format!("format {} instead of {FORMAT}", document.format));
    }
    for cell in quick_cells() {
        let row = document.rows.iter().find(|row| row.cell == cell);
        let row = row.ok_or_else(|| format!("no row {cell}"))?;
        for server in [Kind::Holdfast, Kind::L2tpns] {
            let median = row.of(server).map_or(0.0, |values| values.range.median);
            if median <= 0.0 {
                return Err(format!("{server} forwards nothing in {cell}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document in which every cell has these values of Holdfast and of l2tpns.
    fn document(ours: f64, theirs: f64) -> String {
        let values = |server: &str, value: f64| {
            serde_json::json!({
                "server": server,
                "values": [value],
                "range": {"minimum": value, "median": value, "maximum": value},
            })
        };
        let row = |cell: String| {
            serde_json::json!({
                "cell": cell,
                "unit": "packets/s",
                "better": "higher",
                "servers": [values("holdfast", ours), values("l2tpns", theirs)],
            })
        };
        let rows: Vec<_> = quick_cells().into_iter().map(row).collect();
        serde_json::json!({
            "format": FORMAT,
            "time": 0,
            "machine": {"processor": "", "cores": 4, "kernel": ""},
            "versions": [["holdfast", "1"], ["l2tpns", "2"]],
            "settings": [],
            "rows": rows,
            "comparisons": [],
        })
        .to_string()
    }

    #[test]
    fn a_slow_server_is_fine_and_a_silent_one_is_not() {
        assert_eq!(judge(&document(1.0, 1e9)), Ok(()));
        let silent = judge(&document(0.0, 1.0)).unwrap_err();
        assert!(silent.contains("holdfast forwards nothing"), "{silent}");
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        assert!(judge("").is_err());
        assert!(judge(&document(1.0, 1.0).replace("tcp-up-f1", "tcp")).is_err());
        assert!(judge(&document(1.0, 1.0).replace("l2tpns", "other")).is_err());
    }
}
