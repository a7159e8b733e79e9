//! `bench --cluster`: three nodes behind routers that spread over all of them, every change on the disks of a quorum. They and
//! the LACs share the machine's cores.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::hold::{CHECK_TIMEOUT, FEW, grow};
use super::setup::{self, SetupResult};
use super::{Setting, open_tunnels, release};
use crate::chaos::{self, Bed};
use crate::daemon::Memory;
use crate::simulator::{Plan, Simulator};

const NODES: u8 = 3;
const BFD_MS: u32 = 100;

/// What a cluster showed.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterResult {
    pub nodes: u8,
    pub setup: SetupResult,
    /// Sessions that were held then.
    pub sessions: u32,
    pub sessions_lost: u64,
    pub sessions_silent: u64,
    /// Of each node, by its id.
    pub memory: BTreeMap<u8, NodeMemory>,
}

/// What one node occupies.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NodeMemory {
    pub few: Memory,
    pub all: Memory,
    /// Growth of the proportional set size between the two, octets for each session of the cluster.
    pub bytes_per_session: f64,
}

impl ClusterResult {
    /// Whether every session came up, stayed and answered.
    pub fn is_complete(&self) -> bool {
        self.setup.is_complete() && self.sessions_lost == 0 && self.sessions_silent == 0
    }
}

impl fmt::Display for ClusterResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster of {} nodes", self.nodes)?;
        writeln!(f, "  {}", self.setup)?;
        write!(
            f,
            "  hold: {} sessions, {} lost, {} silent",
            self.sessions, self.sessions_lost, self.sessions_silent
        )?;
        let mebibytes = |memory: Memory| memory.pss as f64 / f64::from(1 << 20);
        for (node, memory) in &self.memory {
            write!(
                f,
                "\n  node {node}: {:.1} MiB (PSS) at {FEW} sessions, {:.1} MiB at {}: {:.0} octets a session",
                mebibytes(memory.few),
                mebibytes(memory.all),
                self.sessions,
                memory.bytes_per_session
            )?;
        }
        Ok(())
    }
}

/// Sets `setting.sessions` sessions up at full speed, then holds `all`.
pub fn cluster(setting: &Setting, all: u32) -> Result<ClusterResult, Box<dyn std::error::Error>> {
    chaos::prepare()?;
    let bed = Bed::build(&chaos::Settings {
        program: setting.program.clone(),
        next_program: None,
        nodes: NODES,
        witness: false,
        bfd_ms: BFD_MS,
        radius: false,
        seed: 0,
    })?;
    let plan = Plan {
        tunnels: setting.tunnels,
        sessions: setting.sessions.max(all),
        ..bed.plan()
    };
    let mut simulator = Simulator::spawn_by(bed.lac.command(&setting.testbed), &plan)?;
    open_tunnels(&mut simulator, setting.tunnels)?;
    let setup = setup::measure(&mut simulator, setting)?;
    release(&mut simulator)?;
    grow(&mut simulator, setting, FEW.min(all))?;
    let few = memory(&bed)?;
    grow(&mut simulator, setting, all)?;
    let held = memory(&bed)?;
    let before = simulator.report()?;
    let checked = simulator.check(CHECK_TIMEOUT)?;
    let of_node = |(node, at_all): (u8, Memory)| {
        let at_few = few[&node];
        let growth = at_all.pss as f64 - at_few.pss as f64;
        let memory = NodeMemory {
            few: at_few,
            all: at_all,
            bytes_per_session: growth / f64::from(all.saturating_sub(FEW).max(1)),
        };
        (node, memory)
    };
    Ok(ClusterResult {
        nodes: NODES,
        setup,
        sessions: all,
        sessions_lost: before.sessions_lost,
        sessions_silent: checked.sessions_silent(),
        memory: held.into_iter().map(of_node).collect(),
    })
}

/// Of each node that runs.
fn memory(bed: &Bed) -> std::io::Result<BTreeMap<u8, Memory>> {
    let pids = bed.nodes.iter().filter_map(|(id, node)| Some((*id, node.pid()?)));
    pids.map(|(id, pid)| Ok((id, Memory::of(pid)?))).collect()
}
