//! What is done to the cluster, by the numbers of what it must show.

mod ipv6;
mod kill;
mod members;
mod moments;
mod network;
pub mod radius;
mod restart;
pub mod site;
mod stranger;
mod upgrade;

use super::error::Result;
use super::stage::Stage;

/// A scenario: its name, what it shows, and how it is played.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub needs: Needs,
    pub play: fn(&mut Stage) -> Result<()>,
}

/// What a scenario plays on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// One node is enough.
    Anything,
    /// Several nodes that serve.
    Cluster,
    /// Several nodes that serve, of which each may be upgraded for good: nothing else is played on them.
    Upgrade,
    /// Two nodes that serve and a witness.
    Witness,
    /// Several nodes that serve, FreeRADIUS, and IPv6.
    Radius,
}

/// All of them, in the order in which `--all` plays them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "kill-owner",
        about: "kill -9 of the owner of most groups",
        needs: Needs::Anything,
        play: kill::owner,
    },
    Scenario {
        name: "kill-leader",
        about: "kill -9 of the Raft leader",
        needs: Needs::Cluster,
        play: kill::leader,
    },
    Scenario {
        name: "kill-forwarder",
        about: "kill -9 of a node that owns least and does not lead",
        needs: Needs::Cluster,
        play: kill::forwarder,
    },
    Scenario {
        name: "kill-machine",
        about: "the owner of most groups and its BIRD fall silent at once, as when the power fails",
        needs: Needs::Cluster,
        play: kill::machine,
    },
    Scenario {
        name: "stop-owner",
        about: "SIGSTOP of the owner for 30 s, then SIGCONT",
        needs: Needs::Cluster,
        play: kill::stop,
    },
    Scenario {
        name: "acknowledged-kill",
        about: "kill -9 in the millisecond of a HELLO's, an ICRQ's, an ICCN's or a CDN's answer, and of IPCP open",
        needs: Needs::Anything,
        play: moments::acknowledged,
    },
    Scenario {
        name: "burst-kill",
        about: "200 calls in 0.1 s, and kill -9 within",
        needs: Needs::Anything,
        play: moments::burst,
    },
    Scenario {
        name: "rolling",
        about: "every node is restarted in turn while calls arrive",
        needs: Needs::Anything,
        play: restart::rolling,
    },
    Scenario {
        name: "drain",
        about: "every node is drained, restarted and given its share back in turn while calls arrive",
        needs: Needs::Cluster,
        play: restart::drain,
    },
    Scenario {
        name: "power",
        about: "kill -9 of all nodes at one instant, started again within 20 s",
        needs: Needs::Anything,
        play: restart::power,
    },
    Scenario {
        name: "site",
        about: "a host behind a subscriber whose address and route lie in no pool, while the owner falls silent and is killed",
        needs: Needs::Cluster,
        play: site::behind,
    },
    Scenario {
        name: "partition-owner",
        about: "the owner of most groups is cut off from the other nodes for 30 s",
        needs: Needs::Cluster,
        play: network::partition_owner,
    },
    Scenario {
        name: "partition-leader",
        about: "the leader is cut off from the other nodes for 30 s",
        needs: Needs::Cluster,
        play: network::partition_leader,
    },
    Scenario {
        name: "partition-one-way",
        about: "the owner hears nobody, then nobody hears it, 15 s each",
        needs: Needs::Cluster,
        play: network::one_way,
    },
    Scenario {
        name: "routers-differ",
        about: "each router loses the link to another node for 15 s",
        needs: Needs::Cluster,
        play: network::routers_differ,
    },
    Scenario {
        name: "no-way-to-lacs",
        about: "the owner of most groups has no route to any LAC for 90 s, then the leader for 15 s, then nobody for 8 s",
        needs: Needs::Cluster,
        play: network::no_way_to_lacs,
    },
    Scenario {
        name: "ecmp-return",
        about: "a node comes back and the routers move flows to it",
        needs: Needs::Cluster,
        play: network::ecmp_return,
    },
    Scenario {
        name: "lossy",
        about: "5 % loss, duplication and reordering between the nodes, and kill -9 of the owner meanwhile",
        needs: Needs::Cluster,
        play: network::lossy,
    },
    Scenario {
        name: "slow-disk",
        about: "each sync takes 100 ms longer, for 15 s on the leader and 15 s on another node",
        needs: Needs::Cluster,
        play: network::slow_disk,
    },
    Scenario {
        name: "stranger",
        about: "a node of another cluster, a double of one of ours, and garbage from between the nodes",
        needs: Needs::Cluster,
        play: stranger::knock,
    },
    Scenario {
        name: "grow-shrink",
        about: "two nodes more, one after the other, and two nodes less, while calls arrive",
        needs: Needs::Cluster,
        play: members::grow_and_shrink,
    },
    Scenario {
        name: "replace",
        about: "a node dies for good, is removed, and another takes its place",
        needs: Needs::Cluster,
        play: members::replace,
    },
    Scenario {
        name: "upgrade",
        about: "every node in turn gets a program whose rows carry one more field, while calls arrive; one goes back too late",
        needs: Needs::Upgrade,
        play: upgrade::all,
    },
    Scenario {
        name: "witness",
        about: "two nodes and a witness: kill -9 of each of the three in turn",
        needs: Needs::Witness,
        play: kill::each,
    },
    Scenario {
        name: "radius-kill",
        about: "kill -9 of the owner between Access-Request and Accept, between Accept and IPCP, right after Start, in the middle of an interim",
        needs: Needs::Radius,
        play: radius::kills,
    },
    Scenario {
        name: "radius-orders",
        about: "CoA and Disconnect by radclient at every node for others' sessions, and kill -9 of the owner and of the node that was told",
        needs: Needs::Radius,
        play: radius::orders,
    },
    Scenario {
        name: "ipv6",
        about: "kill -9 of the owner of a real client's IPv6, which then renews its delegated prefix, and the next time rebinds it",
        needs: Needs::Radius,
        play: ipv6::renewed,
    },
];
