//! Sessions for the load to run in: set up by the simulator, whose sockets the load shares.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::bed::{Bed, CORE, SERVER, lac_address};
use super::steering::LacSockets;
use crate::lab::error::{LabError, Result, expect_that};
use crate::node_config::USER;
use crate::simulator::{CallIds, Command, Plan, Simulator};

/// How long the sessions may take to come up.
const DIAL_LIMIT: Duration = Duration::from_secs(120);
/// How often a failed call is placed again.
const ATTEMPTS: u32 = 5;
/// Calls on their way at once.
const CONCURRENCY: u32 = 200;
/// Pings that prove forwarding.
const ENOUGH: usize = 1000;
/// How long the pings may take to be answered.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// How many, and how they are layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub lacs: u16,
    pub tunnels: u32,
    pub sessions: u32,
}

/// One session that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub ids: CallIds,
    pub address: Ipv4Addr,
}

/// Sessions that are up, and the simulator that keeps them so.
#[derive(Debug)]
pub struct Sessions {
    pub simulator: Simulator,
    /// One a LAC.
    pub sockets: Vec<LacSockets>,
    /// In the order of their numbers.
    pub subscribers: Vec<Subscriber>,
    tunnels: u32,
}

impl Sessions {
    /// A simulator in the LACs' namespace; nobody dials yet.
    pub fn prepare(bed: &Bed, layout: Layout) -> Result<Self> {
        let bound = bed.lac.enter(|| {
            (0..layout.lacs)
                .map(|lac| LacSockets::bind(lac_address(lac)))
                .collect::<std::io::Result<Vec<_>>>()
        })?;
        let sockets = bound.map_err(|source| LabError::io("the LACs' sockets", source))?;
        let theirs = sockets
            .iter()
            .map(|lac| lac.simulator.try_clone())
            .collect::<std::io::Result<Vec<UdpSocket>>>()
            .map_err(|source| LabError::io("the LACs' sockets", source))?;
        let plan = Plan {
            target: SERVER.into(),
            lacs: layout.lacs,
            tunnels: layout.tunnels,
            sessions: layout.sessions,
            user: USER.into(),
            password: USER.into(),
            ..Plan::default()
        };
        Ok(Self {
            simulator: Simulator::start_thread_on(&plan, theirs).map_err(LabError::unmet)?,
            sockets,
            subscribers: Vec::new(),
            tunnels: layout.tunnels.min(layout.sessions),
        })
    }

    /// Opens the tunnels, one after the other: l2tpns takes a second SCCRQ from the same address and port for a repeat of the
    /// first while that one's tunnel is not up.
    pub fn open_tunnels(&mut self) -> Result<()> {
        self.call(self.tunnels, 1)
    }

    /// Dials until so many are up, and learns how the calls are named.
    pub fn dial(&mut self, sessions: u32) -> Result<()> {
        self.call(sessions, CONCURRENCY)?;
        self.learn()
    }

    /// Calls until so many sessions are up; a call that fails is placed again.
    fn call(&mut self, sessions: u32, concurrency: u32) -> Result<()> {
        let all = u64::from(sessions);
        let mut report = self.simulator.report().map_err(LabError::unmet)?;
        for _ in 0..ATTEMPTS {
            let missing = all.saturating_sub(report.sessions_open);
            if missing == 0 {
                return Ok(());
            }
            let asked = report.sessions_asked + missing;
            let missing = u32::try_from(missing).expect("no more than all");
            self.simulator
                .dial(missing, Some(concurrency))
                .map_err(LabError::unmet)?;
            let settled = self
                .simulator
                .wait_until("the end of the set-ups", DIAL_LIMIT, |report| {
                    report.sessions_asked == asked && report.sessions_pending == 0
                });
            report = settled.map_err(LabError::unmet)?;
        }
        expect_that(report.sessions_open == all, || {
            format!(
                "{} of {sessions} sessions came up: {:?}",
                report.sessions_open, report.failures
            )
        })
    }

    /// Asks the simulator who is up.
    fn learn(&mut self) -> Result<()> {
        let lines = self.simulator.sessions().map_err(LabError::unmet)?;
        self.subscribers = lines
            .iter()
            .filter_map(|line| {
                Some(Subscriber {
                    ids: line.ids?,
                    address: line.address?,
                })
            })
            .collect();
        Ok(())
    }

    /// Pings from the sessions to the host in the core and back: the server forwards both ways.
    pub fn expect_forwarding(&mut self) -> Result<()> {
        let ping = |interval_ms| Command::Ping {
            interval_ms,
            host: Some(CORE),
            fast_sessions: 0,
            fast_interval_us: 0,
        };
        let before = self.simulator.report().map_err(LabError::unmet)?.pings_answered;
        self.simulator.ask(&ping(1000)).map_err(LabError::unmet)?;
        // Of a crowd some are lost in the rush of all at once.
        let all = self.subscribers.len().min(ENOUGH) as u64;
        let answered = self
            .simulator
            .wait_until("answers from the core", PING_LIMIT, |report| {
                report.pings_answered >= before + all
            });
        self.simulator.ask(&ping(0)).map_err(LabError::unmet)?;
        answered.map(drop).map_err(LabError::unmet)
    }

    /// Sessions that were lost under the load.
    pub fn lost(&mut self) -> Result<u64> {
        let report = self.simulator.report().map_err(LabError::unmet)?;
        Ok(report.sessions_lost)
    }

    /// The first `count` subscribers whose call goes through one of the first `lacs` LACs.
    pub fn some(&self, lacs: u16, count: usize) -> Vec<Subscriber> {
        let subscribers = self.subscribers.iter();
        let of_lacs = subscribers.filter(|subscriber| subscriber.ids.lac < lacs);
        of_lacs.take(count).copied().collect()
    }
}
