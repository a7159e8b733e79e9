//! A node that asks RADIUS servers, and simulated subscribers who dial it.

use std::path::Path;
use std::time::Duration;

use holdfast::api::StatusReport;

use crate::faults::node_api;
use crate::lab::error::{LabError, Result, expect_that};
use crate::node_config::{NodeUnderTest, Settings};
use crate::simulator::{Authentication, Plan, Session, SessionState, Simulator};

/// How long a call may take to come up or to fail.
const LIMIT: Duration = Duration::from_secs(60);

/// The node.
pub(super) struct Stage {
    pub(super) node: NodeUnderTest,
}

/// A server as the node's configuration names it.
pub(super) fn server(auth_port: u16, acct_port: u16, secret: &str, more: &str) -> String {
    format!(
        "[[radius]]\naddress = \"127.0.0.1\"\nauth_port = {auth_port}\nacct_port = {acct_port}\nsecret = \"{secret}\"\n{more}\n"
    )
}

impl Stage {
    /// Starts a node with these further sections.
    pub(super) fn open(program: &Path, sections: &str) -> Result<Self> {
        let settings = Settings {
            shards: 1,
            pool: "100.64.0.0/24",
            sections: sections.to_owned(),
            ..Settings::default()
        };
        let mut node =
            NodeUnderTest::with(program, &settings).map_err(|error| LabError::io("node", error))?;
        node.daemon.start().map_err(LabError::unmet)?;
        Ok(Self { node })
    }

    /// Subscribers `user` of one LAC, of whom nobody has dialled yet.
    pub(super) fn subscribers(
        &self,
        count: u32,
        user: &str,
        password: &str,
        authentication: Authentication,
    ) -> Result<Simulator> {
        let plan = Plan {
            target: self.node.daemon.address(),
            sessions: count,
            user: user.into(),
            password: password.into(),
            authentication,
            ..Plan::default()
        };
        Simulator::start_thread(&plan).map_err(LabError::unmet)
    }

    /// Dials once; the session as it is once the call is up or has failed.
    pub(super) fn dial(
        &self,
        user: &str,
        password: &str,
        authentication: Authentication,
    ) -> Result<(Simulator, Session)> {
        let mut simulator = self.subscribers(1, user, password, authentication)?;
        let session = dial(&mut simulator)?;
        Ok((simulator, session))
    }

    /// Dials with PAP and wants to come in.
    pub(super) fn expect_up(&self, user: &str) -> Result<(Simulator, Session)> {
        let (simulator, session) = self.dial(user, "secret", Authentication::Pap)?;
        self.expect(session.state == SessionState::Open, || {
            format!("{user} is up: {session:?}")
        })?;
        Ok((simulator, session))
    }

    /// Dials with PAP and wants to be refused with these words.
    pub(super) fn expect_refused(&self, user: &str, words: &str) -> Result<()> {
        let (_, session) = self.dial(user, "secret", Authentication::Pap)?;
        let reason = session.reason.clone().unwrap_or_default();
        self.expect(
            session.state != SessionState::Open && reason.contains(words),
            || format!("{user} is refused with \"{words}\": {session:?}"),
        )
    }

    /// A counter of the node.
    pub(super) fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let row = status.counters.iter().find(|row| row.name == name);
        row.map(|row| row.value)
            .ok_or_else(|| LabError::unmet(format!("no counter {name}")))
    }

    pub(super) fn status(&self) -> Result<StatusReport> {
        node_api::status(&self.node.socket()).map_err(LabError::unmet)
    }

    /// A line of the node's log that holds all of these.
    pub(super) fn expect_logged(&self, parts: &[&str]) -> Result<()> {
        let printed = self
            .node
            .daemon
            .printed()
            .map_err(|error| LabError::io("log", error))?;
        let found = printed
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        self.expect(found, || format!("a line of the log with {parts:?}"))
    }

    /// Fails with the end of the node's log.
    pub(super) fn expect(&self, holds: bool, what: impl FnOnce() -> String) -> Result<()> {
        expect_that(holds, || {
            format!("{}\nthe node's log:\n{}", what(), self.node.daemon.tail())
        })
    }
}

/// Dials the first idle subscriber; the session as it is once the call is up or has failed.
pub(super) fn dial(simulator: &mut Simulator) -> Result<Session> {
    let before = simulator.report().map_err(LabError::unmet)?.sessions_asked;
    simulator.dial(1, None).map_err(LabError::unmet)?;
    let settled = simulator.wait_until("the end of the call's set-up", LIMIT, |report| {
        report.sessions_asked > before && report.sessions_pending == 0
    });
    settled.map_err(LabError::unmet)?;
    let sessions = simulator.sessions().map_err(LabError::unmet)?;
    let mut dialled = sessions.into_iter().rev();
    dialled
        .find(|session| session.state != SessionState::Idle)
        .ok_or_else(|| LabError::unmet("nobody has dialled"))
}
