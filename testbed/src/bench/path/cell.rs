//! What is measured: each cell by its name, which `--only` matches.

use std::fmt;

/// Towards the core, or towards the subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// The kind of load; never two in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sending {
    /// Single datagrams, as a router sends them, each of the next session.
    Plain,
    /// Bursts by UDP_SEGMENT, each of one session, the next of the next one.
    Gso,
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gso => "gso",
        })
    }
}

/// Octets of the inner IP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Octets(u16),
    /// 64, 576 and 1400 as 7 to 4 to 1.
    Mix,
}

impl Size {
    /// One round of sizes.
    pub fn sequence(self) -> Vec<usize> {
        match self {
            Self::Octets(octets) => vec![usize::from(octets)],
            // Spread, not in blocks.
            Self::Mix => vec![64, 576, 64, 64, 576, 64, 1400, 64, 576, 64, 64, 576],
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octets(octets) => write!(f, "{octets}"),
            Self::Mix => f.write_str("mix"),
        }
    }
}

/// The rate at which latency is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The probes alone, 1,000 a second.
    Nothing,
    /// Load at half the rate that the same server reached in this direction.
    HalfPeak,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "1k",
            Self::HalfPeak => "half",
        })
    }
}

/// One measurement of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Udp {
        direction: Direction,
        sending: Sending,
        size: Size,
        sessions: usize,
    },
    Tcp {
        direction: Direction,
        flows: u32,
    },
    Latency {
        direction: Direction,
        beside: Beside,
    },
    /// Sessions a second.
    Setup {
        tunnels: u32,
        /// Whether Holdfast asks the RADIUS server, too; l2tpns always does.
        radius: bool,
    },
    /// What comes through of more than the sessions may have, packets of [`RATE_OCTETS`] octets.
    Rate {
        direction: Direction,
    },
    /// Octets a session, from a tenth of the sessions to all.
    Memory,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp {
                direction,
                sending,
                size,
                sessions,
            } => write!(f, "udp-{direction}-{sending}-{size}-s{sessions}"),
            Self::Tcp { direction, flows } => write!(f, "tcp-{direction}-f{flows}"),
            Self::Latency { direction, beside } => write!(f, "latency-{direction}-{beside}"),
            Self::Setup { tunnels, radius } => {
                write!(f, "setup-{}t{tunnels}", if *radius { "radius-" } else { "" })
            }
            Self::Rate { direction } => write!(f, "rate-{direction}"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Cells that are measured on one start of each server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What stands before the cells' names; empty for the plain case.
    pub name: &'static str,
    /// Cores of the server, and shards of Holdfast.
    pub cores: usize,
    /// Sessions that are installed, and how they are spread.
    pub sessions: u32,
    pub tunnels: u32,
    /// The rate to which Holdfast holds each session, Mbit/s; nobody else is measured then.
    pub rate: Option<u32>,
    pub cells: Vec<Cell>,
}

impl Stage {
    /// A cell's name in this stage.
    pub fn name_of(&self, cell: &Cell) -> String {
        self.prefixed(&cell.to_string())
    }

    /// Another name in this stage.
    pub fn prefixed(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.name)
        }
    }

    /// Leaves the cells whose name contains one of the patterns.
    pub fn keep(&mut self, patterns: &[String]) {
        let named = self.clone();
        self.cells.retain(|cell| {
            let name = named.name_of(cell);
            patterns.iter().any(|pattern| name.contains(pattern.as_str()))
        });
    }
}

const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];

/// Six cells.
pub fn quick(sending: Sending) -> Vec<Stage> {
    let mut cells = Vec::new();
    for size in [64, 1400] {
        cells.extend(udp(sending, Size::Octets(size), 1));
    }
    cells.extend(tcp(1));
    vec![Stage {
        name: "",
        cores: 1,
        sessions: 1,
        tunnels: 1,
        rate: None,
        cells,
    }]
}

/// The names of the quick cells, as the suite of the test command has them.
pub fn quick_cells() -> Vec<String> {
    let stages = quick(Sending::Plain);
    let names = stages
        .iter()
        .flat_map(|stage| stage.cells.iter().map(|cell| stage.name_of(cell)));
    names.collect()
}

/// Everything.
pub fn full() -> Vec<Stage> {
    vec![
        one_core(),
        several_cores("2-shards", 2),
        several_cores("3-shards", 3),
        crowd(),
        shaped(),
        at_rate("rate-1M", 1, 1),
        at_rate("rate-10M", 10, 1),
        at_rate("rate-100M", 100, 1),
        at_rate("rate-1G", 1_000, 1),
        at_rate("rate-1M-s1000", 1, 1_000),
        control(),
    ]
}

/// Sessions of the crowd; l2tpns has room for no more than [`L2TPNS_CROWD`].
const CROWD: u32 = 100_000;
pub const L2TPNS_CROWD: u32 = 60_000 - 1;

fn one_core() -> Stage {
    let mut cells = Vec::new();
    for sending in [Sending::Plain, Sending::Gso] {
        for size in [64, 100, 512, 1400] {
            for sessions in [1, 100, 1000] {
                cells.extend(udp(sending, Size::Octets(size), sessions));
            }
        }
    }
    cells.extend(udp(Sending::Plain, Size::Mix, 1000));
    cells.extend(tcp(1));
    cells.extend(tcp(8));
    for beside in [Beside::Nothing, Beside::HalfPeak] {
        cells.extend(BOTH.map(|direction| Cell::Latency { direction, beside }));
    }
    Stage {
        name: "",
        cores: 1,
        sessions: 1000,
        tunnels: 100,
        rate: None,
        cells,
    }
}

fn several_cores(name: &'static str, cores: usize) -> Stage {
    let mut cells = Vec::new();
    for sending in [Sending::Plain, Sending::Gso] {
        for size in [64, 1400] {
            for sessions in [1, 1000] {
                cells.extend(udp(sending, Size::Octets(size), sessions));
            }
        }
    }
    cells.extend(tcp(1));
    cells.extend(tcp(8));
    Stage {
        name,
        cores,
        sessions: 1000,
        tunnels: 100,
        rate: None,
        cells,
    }
}

/// A thousand active sessions among a hundred thousand.
fn crowd() -> Stage {
    let mut cells = Vec::new();
    for size in [64, 1400] {
        cells.extend(udp(Sending::Plain, Size::Octets(size), 1000));
    }
    Stage {
        name: "crowd",
        cores: 1,
        sessions: CROWD,
        tunnels: 200,
        rate: None,
        cells: [vec![Cell::Memory], cells].concat(),
    }
}

/// A rate that no session reaches, Mbit/s.
const UNREACHED: u32 = 10_000;
/// Octets of the packets with which sessions are brought to their rate.
pub const RATE_OCTETS: u16 = 1400;

/// How exact rates are: all sessions at theirs.
fn at_rate(name: &'static str, rate: u32, sessions: u32) -> Stage {
    Stage {
        name,
        cores: 1,
        sessions,
        tunnels: sessions.div_ceil(10),
        rate: Some(rate),
        cells: BOTH.map(|direction| Cell::Rate { direction }).to_vec(),
    }
}

/// What it costs to watch over rates: as the cells of one core, with and without.
fn shaped() -> Stage {
    let mut cells = Vec::new();
    for sending in [Sending::Plain, Sending::Gso] {
        for size in [64, 1400] {
            cells.extend(udp(sending, Size::Octets(size), 1000));
        }
    }
    Stage {
        name: "shaped",
        cores: 1,
        sessions: 1000,
        tunnels: 100,
        rate: Some(UNREACHED),
        cells,
    }
}

fn control() -> Stage {
    Stage {
        name: "",
        cores: 1,
        sessions: 0,
        tunnels: 0,
        rate: None,
        cells: [(1, false), (100, false), (1, true), (100, true)]
            .map(|(tunnels, radius)| Cell::Setup { tunnels, radius })
            .to_vec(),
    }
}

fn udp(sending: Sending, size: Size, sessions: usize) -> [Cell; 2] {
    BOTH.map(|direction| Cell::Udp {
        direction,
        sending,
        size,
        sessions,
    })
}

fn tcp(flows: u32) -> [Cell; 2] {
    BOTH.map(|direction| Cell::Tcp { direction, flows })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_patterns_pick_by_them() {
        let stages = full();
        let names: Vec<String> = stages
            .iter()
            .flat_map(|stage| stage.cells.iter().map(|cell| stage.name_of(cell)))
            .collect();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        let mut stage = several_cores("2-shards", 2);
        stage.keep(&["2-shards/udp-up-gso-64".to_owned()]);
        let kept: Vec<String> = stage.cells.iter().map(|cell| stage.name_of(cell)).collect();
        assert_eq!(
            kept,
            ["2-shards/udp-up-gso-64-s1", "2-shards/udp-up-gso-64-s1000"]
        );
    }

    #[test]
    fn quick_is_six_cells() {
        let expected = [
            "udp-up-plain-64-s1",
            "udp-down-plain-64-s1",
            "udp-up-plain-1400-s1",
            "udp-down-plain-1400-s1",
            "tcp-up-f1",
            "tcp-down-f1",
        ];
        assert_eq!(quick_cells(), expected);
    }

    #[test]
    fn the_mix_is_seven_to_four_to_one() {
        let sequence = Size::Mix.sequence();
        let count = |octets| sequence.iter().filter(|size| **size == octets).count();
        assert_eq!([count(64), count(576), count(1400)], [7, 4, 1]);
    }
}
