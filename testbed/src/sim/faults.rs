//! What goes wrong.

use std::time::Duration;

use super::dice::Dice;
use super::network::Place;
use super::node::Death;
use super::world::World;

/// Something that goes wrong, and for how long.
#[derive(Clone, Debug)]
pub enum Fault {
    Die {
        node: u64,
        death: Death,
        lasts: Duration,
    },
    AllDie {
        death: Death,
        lasts: Duration,
    },
    Stop {
        node: u64,
        lasts: Duration,
    },
    /// The leader stops, and with it what another node has proposed; that one dies and is soon back. The leader hands on what it
    /// had been given when it resumes.
    StopLeader {
        leader: u64,
        other: u64,
        dies_after: Duration,
        lasts: Duration,
    },
    Cut {
        ways: Vec<(Place, Place)>,
        lasts: Duration,
    },
    SlowDisk {
        node: u64,
        sync: Duration,
        lasts: Duration,
    },
    Shuffle,
    ClockJump {
        node: u64,
        ahead: Duration,
    },
    LacRestart {
        lac: usize,
    },
}

impl Fault {
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Die { lasts, .. }
            | Self::AllDie { lasts, .. }
            | Self::Stop { lasts, .. }
            | Self::StopLeader { lasts, .. }
            | Self::Cut { lasts, .. }
            | Self::SlowDisk { lasts, .. } => *lasts,
            Self::ClockJump { ahead, .. } => *ahead,
            Self::Shuffle | Self::LacRestart { .. } => Duration::ZERO,
        }
    }

    /// Draws the next one for a world.
    pub fn draw(dice: &mut Dice, world: &World) -> Self {
        let nodes: Vec<u64> = world.machines().map(|machine| machine.id()).collect();
        let any = dice.pick(&nodes).expect("there are nodes");
        // The leader is hit more often than its share.
        let node = world.leader().filter(|_| dice.happens(400)).unwrap_or(any);
        let lac = dice.index(world.lacs().len().max(1));
        let death = if dice.happens(500) {
            Death::Killed
        } else {
            Death::PowerLoss
        };
        match dice.below(100) {
            0..24 => Self::Die {
                node,
                death,
                lasts: dice.millis(50, 8_000),
            },
            24..30 => Self::AllDie {
                death,
                lasts: dice.millis(100, 10_000),
            },
            30..36 => Self::StopLeader {
                leader: world.leader().unwrap_or(node),
                other: any,
                dies_after: dice.millis(0, 250),
                lasts: dice.millis(2_000, 7_000),
            },
            36..45 => Self::Stop {
                node,
                lasts: dice.millis(20, 8_000),
            },
            45..62 => Self::Cut {
                ways: cut_off(dice, node, &nodes),
                lasts: dice.millis(50, 10_000),
            },
            62..70 => Self::Cut {
                ways: vec![if dice.happens(500) {
                    (Place::Lac(lac), Place::Node(node))
                } else {
                    (Place::Node(node), Place::Lac(lac))
                }],
                lasts: dice.millis(50, 5_000),
            },
            70..78 => Self::SlowDisk {
                node,
                sync: dice.millis(5, 120),
                lasts: dice.millis(1_000, 10_000),
            },
            78..88 => Self::Shuffle,
            88..94 => Self::ClockJump {
                node,
                ahead: dice.millis(20, 5_000),
            },
            _ => Self::LacRestart { lac },
        }
    }
}

/// A node and another one, or all others, no longer hear each other, or one no longer hears the other.
fn cut_off(dice: &mut Dice, node: u64, nodes: &[u64]) -> Vec<(Place, Place)> {
    let others: Vec<u64> = nodes.iter().copied().filter(|other| *other != node).collect();
    let chosen = match dice.happens(500) {
        true => others,
        false => dice.pick(&others).into_iter().collect(),
    };
    let (there, back) = match dice.below(4) {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    let mut ways = Vec::new();
    for other in chosen {
        if there {
            ways.push((Place::Node(node), Place::Node(other)));
        }
        if back {
            ways.push((Place::Node(other), Place::Node(node)));
        }
    }
    ways
}
