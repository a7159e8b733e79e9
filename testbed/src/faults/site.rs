//! A node and subscribers beside it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast::api::StatusReport;

use super::error::{Error, ensure};
use super::{Setting, node_api};
use crate::node_config::{NodeUnderTest, Settings, USER};
use crate::simulator::{Plan, Simulator};

/// How long the first sessions may take to come up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long everything may take to give a sign of life.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the node may take to do what it was told.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct Site {
    /// Emptied when it is dropped.
    node: Option<NodeUnderTest>,
    setting: Setting,
}

impl Site {
    /// Writes the configuration; starts nothing yet.
    pub fn new(setting: &Setting, settings: &Settings) -> Result<Self, Error> {
        let node = NodeUnderTest::with(&setting.program, settings)?;
        Ok(Self {
            node: Some(node),
            setting: setting.clone(),
        })
    }

    /// As [`Self::new`], and starts the node.
    pub fn start(setting: &Setting, settings: &Settings) -> Result<Self, Error> {
        let mut site = Self::new(setting, settings)?;
        site.node().daemon.start()?;
        Ok(site)
    }

    pub fn node(&mut self) -> &mut NodeUnderTest {
        self.node.as_mut().expect("there until the site is dropped")
    }

    /// `kill -9`, and starts the node again.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.node().daemon.kill()?;
        Ok(self.node().daemon.start()?)
    }

    pub fn socket(&self) -> PathBuf {
        self.node
            .as_ref()
            .expect("there until the site is dropped")
            .socket()
    }

    /// Subscribers of this node that do not dial yet: one LAC, a ping a second.
    pub fn plan(&mut self, tunnels: u32, sessions: u32) -> Plan {
        Plan {
            target: self.node().daemon.address(),
            tunnels,
            sessions,
            user: USER.into(),
            password: USER.into(),
            ping_interval_ms: 1000,
            seed: self.setting.seed,
            ..Plan::default()
        }
    }

    /// Lets the plan's subscribers be, without dialling.
    pub fn simulate(&self, plan: &Plan) -> Result<Simulator, Error> {
        Ok(Simulator::spawn(&self.setting.testbed, plan)?)
    }

    /// As [`Self::simulate`], and establishes the first `sessions` sessions.
    pub fn dial(&self, plan: &Plan, sessions: u32) -> Result<Simulator, Error> {
        let mut simulator = self.simulate(plan)?;
        simulator.dial(sessions, Some(200))?;
        simulator.wait_until("all sessions up", DIAL_TIMEOUT, |report| {
            report.sessions_open == u64::from(sessions)
        })?;
        Ok(simulator)
    }

    /// The node's own view, once its socket answers.
    pub fn status(&self) -> Result<StatusReport, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match node_api::status(&self.socket()) {
                Ok(status) => return Ok(status),
                // The port is bound before the socket.
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// The counter, summed over its labels.
    pub fn counter(&self, name: &str) -> Result<u64, Error> {
        Ok(node_api::counter(&self.status()?, name))
    }

    /// Waits until `done` of the node's own view.
    pub fn wait(&self, what: &str, done: impl Fn(&StatusReport) -> bool) -> Result<StatusReport, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status()?;
            if done(&status) {
                return Ok(status);
            }
            ensure(Instant::now() < deadline, || {
                format!("not within {} s: {what}", PATIENCE.as_secs())
            })?;
            std::thread::sleep(POLL);
        }
    }

    /// Everything that the node has printed.
    pub fn printed(&mut self) -> Result<String, Error> {
        Ok(self.node().daemon.printed()?)
    }

    /// Starts a node that must refuse to; what it says.
    pub fn refused(&mut self) -> Result<String, Error> {
        let before = self.printed().unwrap_or_default().len();
        let daemon = &mut self.node().daemon;
        daemon.spawn()?;
        let Some(status) = daemon.wait_end(PATIENCE)? else {
            daemon.kill()?;
            return Err(Error::Violation(
                "the node started as if nothing were wrong".into(),
            ));
        };
        let said = self.printed()?.split_off(before);
        ensure(status.code().is_some_and(|code| code != 0), || {
            format!("the node ended with {status}; what was said:\n{said}")
        })?;
        Ok(said)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let kept = self
            .node
            .take()
            .filter(|_| self.setting.keep)
            .map(NodeUnderTest::keep);
        if let Some(Ok(folder)) = kept {
            println!("     data and log are kept in {}", folder.display());
        }
    }
}

/// A violation unless these subscribers' sessions, `open` of them, have noticed nothing and are alive.
pub fn ensure_undisturbed(simulator: &mut Simulator, open: u32) -> Result<(), Error> {
    let checked = simulator.check(CHECK_TIMEOUT)?;
    let report = simulator.report()?;
    let found = [
        (report.sessions_lost, "sessions lost"),
        (report.sessions_renegotiated, "sessions renegotiated"),
        (checked.sessions_silent(), "sessions silent"),
        (checked.control_channels_stuck(&report), "control channels stuck"),
        (report.addresses_duplicated, "addresses given twice"),
        (
            u64::from(open).abs_diff(report.sessions_open),
            "sessions too few or too many",
        ),
    ];
    let found: Vec<_> = found
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    ensure(found.is_empty(), || {
        format!(
            "{}; losses {:?}, failures {:?}",
            found.join(", "),
            report.losses,
            report.failures
        )
    })
}
