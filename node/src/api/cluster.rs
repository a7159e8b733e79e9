//! What the operator's socket says of a cluster.

use serde::{Deserialize, Serialize};

/// What an operator may want of a cluster. Answered by `Reply::Cluster`, with the cluster as it is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterOrder {
    /// Nothing but to know.
    Show,
    /// Have the other nodes take over all groups of this one.
    Drain {
        /// The node.
        node: u64,
    },
    /// Give a drained or returned node its share of the groups.
    Undrain {
        /// The node.
        node: u64,
    },
    /// Give each node that lives its share of the groups.
    Rebalance,
    /// Make a node a member.
    Add {
        /// The node; a `[[member]]` of the leader's configuration that runs and waits.
        node: u64,
    },
    /// Have a node be no member any more.
    Remove {
        /// The node.
        node: u64,
    },
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Of `[cluster]`.
    pub cluster_id: String,
    /// The node that answers.
    pub node: u64,
    /// The node that leads the session table; 0: none is known, nothing can be changed.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// Groups of tunnels without an owner.
    pub groups_without_owner: u32,
    /// Groups that an order is about to move.
    pub groups_moved: u32,
    /// What is wrong with the cluster as a whole, one sentence each.
    pub warnings: Vec<String>,
    /// Every `[[member]]`, and those whom the Raft group has besides.
    pub nodes: Vec<NodeStatus>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Where other members reach it.
    pub address: String,
    /// `alive`, or `silent`: it does not answer this node.
    pub state: String,
    /// Whether it says that it has lost its way to the LACs.
    pub no_way_to_lacs: bool,
    /// Whether it votes without owning groups.
    pub witness: bool,
    /// Its place in the Raft group: `voter`, `learner` (it has the table and no vote), or `none`.
    pub membership: String,
    /// Whether it leads.
    pub leader: bool,
    /// The last entry of the log that its table has, as it last said; none: it was never heard.
    pub applied: Option<u64>,
    /// Entries that it lacks of what the furthest node has applied.
    pub behind: Option<u64>,
    /// Groups of tunnels that it owns, of 256.
    pub groups: u32,
    /// Tunnels that it owns.
    pub tunnels: u64,
    /// Sessions that it owns.
    pub sessions: u64,
    /// Its program's version, once it was heard.
    pub program: String,
    /// Whether this node has a stream to it.
    pub connected: bool,
    /// Why the last attempt to reach it failed.
    pub last_error: String,
    /// What it has otherwise than the node that answers, and shall not have; one sentence each, with its remedy.
    pub disagreements: Vec<String>,
}
