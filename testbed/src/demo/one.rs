//! One node, for which no privilege is needed: killed with -9, started again on the same data.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Setting;
use super::screen::Screen;
use crate::cleanup;
use crate::daemon::{Daemon, unused_port};
use crate::restart::Error;
use crate::simulator::{Checked, Plan, Report, Simulator};

/// Between two pings of a session.
const PING_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines on the screen.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const CHECK_TIMEOUT: Duration = Duration::from_secs(35);
const LACS: u16 = 2;

/// Subscribers, unless told otherwise.
const SESSIONS: u32 = 20;

/// The node, its subscribers and the screen.
struct Demo {
    node: Daemon,
    folder: tempfile::TempDir,
    simulator: Simulator,
    screen: Screen,
}

/// Plays the demonstration; whether the subscribers noticed nothing but silence.
pub fn play(setting: &Setting, program: &Path, keep: bool, screen: Screen) -> Result<bool, Error> {
    let sessions = setting.sessions.unwrap_or(SESSIONS);
    let mut demo = Demo::start(sessions, program, screen)?;
    demo.dial(sessions)?;
    demo.watch(setting.watched)?;
    demo.restart(setting.dead)?;
    demo.watch(setting.watched)?;
    let checked = demo.simulator.check(CHECK_TIMEOUT)?;
    let report = demo.simulator.report()?;
    let unnoticed = demo.conclude(sessions, &report, &checked);
    if keep {
        demo.leave()?;
    }
    Ok(unnoticed)
}

impl Demo {
    fn start(sessions: u32, program: &Path, screen: Screen) -> Result<Self, Error> {
        let folder = cleanup::temporary_folder("holdfast-demo-")?;
        let port = unused_port()?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let data = folder.path().join("data");
        let arguments = [
            "run",
            "--dev",
            "--port",
            &port.to_string(),
            "--data",
            &data.display().to_string(),
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        let mut node = Daemon::new(program, arguments, address, folder.path().join("log"));
        node.start()?;
        screen.say(&format!(
            "node started: process {}, UDP {address}, data in {}",
            node.pid().unwrap_or_default(),
            data.display()
        ));
        let plan = Plan {
            target: address,
            lacs: LACS,
            tunnels: u32::from(LACS),
            sessions,
            ..Plan::default()
        };
        let testbed = std::env::current_exe()?;
        let simulator = Simulator::spawn(&testbed, &plan)?;
        Ok(Self {
            node,
            folder,
            simulator,
            screen,
        })
    }

    fn dial(&mut self, sessions: u32) -> Result<(), Error> {
        self.simulator.dial(sessions, None)?;
        let all = u64::from(sessions);
        let report = self
            .simulator
            .wait_until("everybody up", DIAL_TIMEOUT, |report| {
                report.sessions_open + report.sessions_failed == all
            })?;
        self.screen.say(&format!(
            "{} of {sessions} subscribers are in, through {} tunnels; half of them within {:.0} ms",
            report.sessions_open, report.tunnels_open, report.setup_p50_ms
        ));
        for (reason, count) in &report.failures {
            self.screen.say(&format!("  {count} were refused: {reason}"));
        }
        let interval_ms = u64::try_from(PING_INTERVAL.as_millis()).expect("short");
        self.simulator.ask(&crate::simulator::Command::Ping {
            interval_ms,
            host: None,
            fast_sessions: 0,
            fast_interval_us: 0,
        })?;
        self.screen
            .say("each pings the node's own address inside its session, ten times a second");
        Ok(())
    }

    /// Shows what the subscribers see, a line a second.
    fn watch(&mut self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        let mut next = Instant::now() + LINE_INTERVAL;
        while Instant::now() < end {
            std::thread::sleep(next.min(end).saturating_duration_since(Instant::now()));
            next += LINE_INTERVAL;
            let report = self.simulator.report()?;
            self.screen.line(&report);
        }
        Ok(())
    }

    fn restart(&mut self, dead: Duration) -> Result<(), Error> {
        let pid = self.node.pid().unwrap_or_default();
        self.node.kill()?;
        self.screen.say(&format!("kill -9 {pid}: the node is gone"));
        self.watch(dead)?;
        let begun = Instant::now();
        self.node.start()?;
        self.screen.say(&format!(
            "node started again on the same data: process {}, listening after {} ms",
            self.node.pid().unwrap_or_default(),
            begun.elapsed().as_millis()
        ));
        Ok(())
    }

    /// What the subscribers saw; whether it was nothing but silence.
    fn conclude(&self, sessions: u32, report: &Report, checked: &Checked) -> bool {
        self.screen.summary(sessions, report, checked);
        let up = report.sessions_open == u64::from(sessions);
        let lost = report.sessions_lost + checked.sessions_silent();
        let stuck = checked.control_channels_stuck(report);
        up && lost + stuck + report.sessions_renegotiated + report.addresses_duplicated == 0
    }

    fn leave(self) -> Result<(), Error> {
        let printed = self.node.printed()?;
        drop(self.simulator);
        let folder = cleanup::keep_folder(self.folder);
        let pid = self.node.leave_running().unwrap_or_default();
        self.screen.say(&format!(
            "the node stays: process {pid}, log {}",
            folder.join("log").display()
        ));
        self.screen.say(&format!(
            "stop it by: kill {pid}; then remove {}",
            folder.display()
        ));
        for line in dial_in(&printed) {
            self.screen.say(line);
        }
        Ok(())
    }
}

/// What the node has printed since its last start on how to dial in.
fn dial_in(printed: &str) -> impl Iterator<Item = &str> {
    let start = printed.rfind("Development mode").unwrap_or(printed.len());
    printed[start..]
        .lines()
        .take_while(|line| !line.contains(" INFO ") && !line.contains(" WARN "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Development mode: for trying out.\n  user          demo, password first\n\
        2026-01-01 INFO holdfast: listening\nDevelopment mode: for trying out.\n  user          demo, password second\n\
        2026-01-01 INFO holdfast: listening\n";

    #[test]
    fn the_last_start_counts() {
        assert_eq!(dial_in(PRINTED).count(), 2);
    }
}
