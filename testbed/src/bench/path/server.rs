//! The servers that are compared, started alike: in the bed's server namespace, on the server's cores.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bed::{Bed, POOL, SERVER};
use super::cores::Cores;
use super::l2tpns::L2tpns;
use crate::lab::error::{LabError, Result};
use crate::node_config::{NodeUnderTest, Settings};

/// Follows the one user: a policy with this rate, Mbit/s.
pub fn policy(rate: u32) -> String {
    format!(
        "policy = \"shaped\"\n\n[[policy]]\nname = \"shaped\"\nrate_up = \"{rate}M\"\nrate_down = \"{rate}M\"\n"
    )
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Holdfast,
    L2tpns,
    /// Holdfast with rates, where it is compared with itself.
    #[value(skip)]
    Rated,
    /// No LNS: the bench's own forwarder between a TUN and a socket, which shows what offload alone allows.
    Bare,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holdfast => "holdfast",
            Self::L2tpns => "l2tpns",
            Self::Rated => "with-rates",
            Self::Bare => "bare",
        })
    }
}

/// A server that runs; it ends when dropped.
#[derive(Debug)]
pub enum Server {
    Holdfast(NodeUnderTest),
    L2tpns(L2tpns),
}

impl Server {
    /// Starts an LNS and waits until it answers LACs. `shards` and further `sections` are Holdfast's
    /// alone: l2tpns has one thread.
    pub fn start(
        kind: Kind,
        bed: &Bed,
        cores: &Cores,
        shards: usize,
        sections: &str,
        program: &Path,
    ) -> Result<Self> {
        let list = cores.server_list();
        match kind {
            Kind::Holdfast | Kind::Rated => {
                holdfast(bed, &list, shards, sections, program).map(Self::Holdfast)
            }
            Kind::L2tpns => L2tpns::start(bed, &list).map(Self::L2tpns),
            Kind::Bare => Err(LabError::unmet("the bare forwarder takes no calls")),
        }
    }

    pub fn pid(&self) -> u32 {
        match self {
            Self::Holdfast(node) => node.daemon.pid().unwrap_or_default(),
            Self::L2tpns(server) => server.pid(),
        }
    }

    /// The last words of a server, for an error.
    pub fn words(&self) -> String {
        match self {
            Self::Holdfast(node) => node.daemon.tail(),
            Self::L2tpns(_) => String::new(),
        }
    }
}

fn holdfast(bed: &Bed, cores: &str, shards: usize, sections: &str, program: &Path) -> Result<NodeUnderTest> {
    let launcher = ["ip", "netns", "exec", bed.server.name(), "taskset", "-c", cores];
    let settings = Settings {
        shards,
        tun: "always",
        listen: Some(SocketAddr::from(SERVER)),
        pool: POOL,
        sections: sections.to_owned(),
        launcher: launcher.map(String::from).to_vec(),
        ..Settings::default()
    };
    let mut node =
        NodeUnderTest::with(program, &settings).map_err(|source| LabError::io("configuration", source))?;
    node.daemon.start().map_err(LabError::unmet)?;
    Ok(node)
}
