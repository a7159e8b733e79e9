//! The cast and the weather of one run, as its seed has it.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use holdfast_cluster::limits::ISOLATION_LIMIT_S;
use ipnet::Ipv4Net;

use super::bugs::Bug;
use super::dice::Dice;

/// What the network does to a datagram, per mille, and how long it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    pub least: Duration,
    pub most: Duration,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    /// The first members, from 1 on. Who comes later has a higher id.
    pub nodes: u64,
    /// A member that owns nothing, and that no LAC reaches.
    pub witness: Option<u64>,
    /// Whether members come and go.
    pub reconfigured: bool,
    /// Whether nodes mostly die for so short a time that nobody else notices.
    pub hasty: bool,
    pub lacs: usize,
    pub subscribers: usize,
    /// Virtual time with faults; quiet time follows.
    pub troubled: Duration,
    /// Between the nodes.
    pub inside: Weather,
    /// Between the LACs and the nodes.
    pub outside: Weather,
    /// Mean time between two faults.
    pub fault_every: Duration,
    /// Whether the LNS sends echoes. Over a lossy network some session misses three in a row.
    pub echoes: bool,
    pub snapshot_entries: usize,
    /// Where addresses come from.
    pub pool: Vec<Ipv4Net>,
    /// Whether the pool has hardly more addresses than there are subscribers.
    pub tight: bool,
    /// How long a node forwards without following the group. Where addresses are scarce, short enough that those which a removed
    /// node may still forward for are free again before the run ends.
    pub isolation_limit: Duration,
    /// Whether all nodes pick addresses from the same slice, so that the table has to refuse many.
    pub crowded: bool,
    /// Whether RADIUS servers judge half of the subscribers; else all are known to the nodes.
    pub radius: bool,
    pub bug: Option<Bug>,
    /// The time whose facts are printed.
    pub trace: Option<Range<Duration>>,
}

impl Setup {
    /// A run of `minutes` with faults. Without a number of nodes the seed has one: mostly three, or two and a witness, or five.
    pub fn of_seed(seed: u64, nodes: Option<u64>, minutes: u64, bug: Option<Bug>) -> Self {
        let mut cast = Dice::new(seed, 5);
        let reconfigured = cast.happens(250);
        let hasty = cast.happens(100);
        let drawn = match cast.below(20) {
            0..14 => (3, None),
            14..17 => (3, Some(3)),
            _ => (5, None),
        };
        let (nodes, witness) = nodes.map_or(drawn, |nodes| (nodes, None));
        let mut dice = Dice::new(seed, 1);
        let millis = Duration::from_millis;
        let rough = dice.happens(500);
        let lossy = dice.happens(500);
        let percent = |dice: &mut Dice, yes: bool| if yes { dice.below(50) } else { 0 };
        let (lacs, subscribers) = (2 + dice.index(4), 2 + dice.index(6));
        // Of its own dice: what was drawn here later than the rest changes none of it.
        let mut dice_of_pool = Dice::new(seed, 4);
        let tight = dice_of_pool.happens(500);
        let crowded = dice_of_pool.happens(300) || bug == Some(Bug::BlockLeasedTwice);
        Self {
            seed,
            nodes,
            witness,
            reconfigured,
            hasty,
            lacs,
            subscribers,
            troubled: Duration::from_secs(60 * minutes),
            inside: Weather {
                loss: percent(&mut dice, rough),
                duplication: percent(&mut dice, rough),
                reordering: percent(&mut dice, rough),
                least: Duration::from_micros(50),
                most: Duration::from_micros(200 + dice.below(2000)),
            },
            outside: Weather {
                loss: percent(&mut dice, lossy),
                duplication: percent(&mut dice, lossy),
                reordering: percent(&mut dice, lossy),
                least: millis(1),
                most: millis(2 + dice.below(20)),
            },
            fault_every: millis(2_000 + dice.below(15_000)),
            echoes: !lossy && dice.happens(500),
            snapshot_entries: 50 + dice.index(400),
            pool: vec![pool(tight, (lacs + 1) * (subscribers - 1))],
            tight,
            isolation_limit: Duration::from_secs(if tight { 60 } else { ISOLATION_LIMIT_S }),
            crowded,
            radius: Dice::new(seed, 6).happens(500)
                || matches!(bug, Some(Bug::AcceptRemembered | Bug::RejectIgnored)),
            bug,
            trace: None,
        }
    }
    /// The members that a node's configuration names when it first starts; none where it has to be added to a group that exists.
    pub fn first_members(&self, node: u64) -> Vec<u64> {
        let all = 1..=self.nodes;
        if all.contains(&node) {
            all.collect()
        } else {
            Vec::new()
        }
    }
}

/// A pool for so many subscribers who have no address of their own: the smallest that is large enough, or one in which nobody gets in another's way.
fn pool(tight: bool, subscribers: usize) -> Ipv4Net {
    let network = Ipv4Addr::new(100, 64, 0, 0);
    let fits = |length: &u8| (1 << (32 - length)) >= subscribers + 3;
    let length = (20..=30).rev().find(fits).filter(|_| tight).unwrap_or(20);
    Ipv4Net::new(network, length).expect("not beyond 32")
}
