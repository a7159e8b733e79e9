//! What goes wrong.

use std::time::Duration;

use super::dice::Dice;
use super::network::Place;
use super::node::Death;
use super::world::{Order, Request, World};

/// A wall clock shows anything between 1970 and the year 2100.
const WALL_CLOCK_MAX: Duration = Duration::from_secs(4_100_000_000);

/// The cluster grows up to so many voters.
const VOTERS_MAX: usize = 5;

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
    /// What a node has proposed is late, and the node dies and is back before the others have noticed: the proposals of its past
    /// arrive among those of its next process.
    Overtaken {
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
    /// The wall clock is set; at its zero it shows `epoch`.
    SetWallClock {
        node: u64,
        epoch: Duration,
    },
    /// Groups move, or the lead, because somebody says so.
    Ordered {
        node: u64,
        request: Request,
    },
    /// The group grows or shrinks.
    Members {
        orders: Vec<Order>,
    },
    /// A node is gone for good, and replaced by a new one.
    DiskLost {
        node: u64,
        orders: Vec<Order>,
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
            | Self::Overtaken { lasts, .. }
            | Self::Cut { lasts, .. }
            | Self::SlowDisk { lasts, .. } => *lasts,
            Self::ClockJump { ahead, .. } => *ahead,
            Self::Shuffle
            | Self::SetWallClock { .. }
            | Self::Ordered { .. }
            | Self::Members { .. }
            | Self::DiskLost { .. }
            | Self::LacRestart { .. } => Duration::ZERO,
        }
    }

    /// Draws the next one for a world.
    pub fn draw(dice: &mut Dice, world: &World) -> Self {
        let in_service = world.machines().filter(|machine| !machine.is_retired());
        let nodes: Vec<u64> = in_service.map(|machine| machine.id()).collect();
        let any = dice.pick(&nodes).expect("there are nodes");
        // The leader is hit more often than its share.
        let node = world.leader().filter(|_| dice.happens(400)).unwrap_or(any);
        let lac = dice.index(world.lacs().len().max(1));
        let death = if dice.happens(500) {
            Death::Killed
        } else {
            Death::PowerLoss
        };
        let overtaken = Self::Overtaken {
            leader: world.leader().unwrap_or(node),
            other: any,
            dies_after: dice.millis(5, 80),
            lasts: dice.millis(60, 200),
        };
        if world.is_hasty() && dice.happens(700) {
            return overtaken;
        }
        // Members come and go in some runs only.
        let kinds = if world.is_reconfigured() { 132 } else { 114 };
        match dice.below(kinds) {
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
            94..100 => Self::LacRestart { lac },
            100..102 => Self::SetWallClock {
                node,
                epoch: dice.between(Duration::ZERO, WALL_CLOCK_MAX),
            },
            102..112 => Self::Ordered {
                node: any,
                request: match dice.below(8) {
                    0..3 => Request::Drain(node),
                    3..5 => Request::Undrain(node),
                    5..7 => Request::Rebalance,
                    _ => Request::PassLead,
                },
            },
            112..114 => overtaken,
            _ if world.is_idle() => reconfigure(dice, world),
            _ => Self::Shuffle,
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

/// Grows a small group, shrinks a large one, or replaces a node whose disk is lost.
fn reconfigure(dice: &mut Dice, world: &World) -> Fault {
    let removable = world.removable();
    let voters = world.members().voters.len();
    let next = world.next_node();
    let lost = dice.pick(&removable);
    match lost {
        // What is left of two would not be a quorum.
        Some(node) if voters >= 3 && dice.happens(400) => {
            let mut orders = vec![Order::Add(next), Order::Remove(node)];
            if dice.happens(500) {
                orders.reverse();
            }
            Fault::DiskLost { node, orders }
        }
        _ if voters < VOTERS_MAX => Fault::Members {
            orders: (next..).take(VOTERS_MAX - voters).map(Order::Add).collect(),
        },
        _ => {
            let first = dice.index(removable.len());
            let leaving = removable.iter().cycle().skip(first).take(VOTERS_MAX - 3);
            Fault::Members {
                orders: leaving.copied().map(Order::Remove).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sim::Setup;

    /// What a fault is, without its numbers.
    fn kind(fault: &Fault) -> &'static str {
        match fault {
            Fault::Die {
                death: Death::Killed, ..
            } => "killed",
            Fault::Die {
                death: Death::PowerLoss,
                ..
            } => "power loss, and a write that is torn",
            Fault::AllDie {
                death: Death::Killed, ..
            } => "all killed",
            Fault::AllDie {
                death: Death::PowerLoss,
                ..
            } => "power loss of the whole cluster",
            Fault::Stop { .. } => "stall",
            Fault::StopLeader { .. } => "stall of the leader, and a death",
            Fault::Overtaken { .. } => "proposals of a process that is over",
            Fault::Cut { ways, .. } => match ways.iter().any(|(from, to)| ways.contains(&(*to, *from))) {
                true => "partition",
                false => "partition in one direction",
            },
            Fault::SlowDisk { .. } => "slow disk",
            Fault::Shuffle => "ECMP reshuffle",
            Fault::ClockJump { .. } => "clock jump",
            Fault::SetWallClock { .. } => "wall clock set",
            Fault::Ordered { request, .. } => match request {
                Request::Drain(_) => "drain",
                Request::Undrain(_) => "undrain",
                Request::Rebalance => "rebalance",
                Request::PassLead => "leader transfer",
            },
            Fault::Members { orders } => match orders[0] {
                Order::Add(_) => "growth",
                Order::Remove(_) => "shrinking",
            },
            Fault::DiskLost { .. } => "disk lost, node replaced",
            Fault::LacRestart { .. } => "LAC restart",
        }
    }

    fn drawn(nodes: u64) -> BTreeSet<&'static str> {
        let setup = Setup {
            reconfigured: true,
            hasty: false,
            ..Setup::of_seed(1, Some(nodes), 1, None)
        };
        let mut world = World::new(setup);
        while world.step(Duration::from_secs(4)).is_some() {}
        let mut dice = Dice::new(1, 1);
        (0..3_000)
            .map(|_| kind(&Fault::draw(&mut dice, &world)))
            .collect()
    }

    #[test]
    fn everything_goes_wrong_that_can() {
        let of_three = drawn(3);
        let of_five = drawn(5);
        let all: BTreeSet<_> = of_three.union(&of_five).collect();
        assert_eq!(all.len(), 21, "{all:?}");
        assert!(of_three.contains("growth") && of_five.contains("shrinking"));
    }
}
