//! The other end of a simulator's control port: starts one, as a process or as a thread, and talks to it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::driver::{ControlPort, Driver};
use super::plan::Plan;
use super::protocol::{Answer, Checked, Command, Event, Line, Moment, Report, Session};

/// How long a command may go without an answer: a busy simulator answers within one turn of its loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// ... and so many times as long as the answer took in between: a hundred thousand sessions are long to count, and who counts
/// them does not answer the LNS.
const PAUSE: u32 = 50;

/// Why a simulator could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("simulator: {0}")]
    Io(#[from] io::Error),
    #[error("simulator ended")]
    Ended,
    #[error("simulator did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("simulator: {0}")]
    Refused(String),
    #[error("{what} did not happen within {within:?}: {report:?}")]
    Timeout {
        what: String,
        within: Duration,
        report: Box<Report>,
    },
}

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    child: Option<Child>,
    commands: File,
    lines: Receiver<Line>,
    events: VecDeque<Event>,
}

impl Simulator {
    /// Starts a simulator as a process of its own: `program` is `holdfast-testbed`.
    pub fn spawn(program: &Path, plan: &Plan) -> Result<Self, Error> {
        Self::spawn_by(std::process::Command::new(program), plan)
    }

    /// As [`Self::spawn`], by a command that becomes `holdfast-testbed` somewhere else.
    pub fn spawn_by(mut command: std::process::Command, plan: &Plan) -> Result<Self, Error> {
        let mut child = command
            .args(["simulate", "--commands"])
            // An interrupt typed at the terminal is for whoever started it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = OwnedFd::from(child.stdin.take().expect("piped"));
        let output = OwnedFd::from(child.stdout.take().expect("piped"));
        Self::connect(Some(child), input.into(), output.into(), plan)
    }

    /// Starts a simulator as a thread of this process, for tests that have no program at hand.
    pub fn start_thread(plan: &Plan) -> Result<Self, Error> {
        Self::start_thread_as(plan, serve)
    }

    /// As [`Self::start_thread`], on sockets that are bound already: one a LAC, none of them blocking.
    pub fn start_thread_on(plan: &Plan, sockets: Vec<UdpSocket>) -> Result<Self, Error> {
        Self::start_thread_as(plan, |port| serve_on(port, sockets))
    }

    fn start_thread_as(
        plan: &Plan,
        serve: impl FnOnce(ControlPort) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Error> {
        let (ours, theirs) = UnixStream::pair()?;
        let port = ControlPort::new(theirs.try_clone()?.into(), theirs.into());
        std::thread::Builder::new()
            .name("simulator".into())
            .spawn(move || serve(port))?;
        Self::connect(
            None,
            OwnedFd::from(ours.try_clone()?).into(),
            OwnedFd::from(ours).into(),
            plan,
        )
    }

    fn connect(child: Option<Child>, commands: File, output: File, plan: &Plan) -> Result<Self, Error> {
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .name("simulator lines".into())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let Ok(line) = serde_json::from_str(&line) else {
                        continue;
                    };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })?;
        let mut simulator = Self {
            child,
            commands,
            lines,
            events: VecDeque::new(),
        };
        let mut text = serde_json::to_vec(plan).expect("a plan is plain data");
        text.push(b'\n');
        simulator.commands.write_all(&text)?;
        simulator.wait_event(ANSWER_TIMEOUT, |event| matches!(event, Event::Ready { .. }))?;
        Ok(simulator)
    }

    /// Gives a command and waits for its answer.
    pub fn ask(&mut self, command: &Command) -> Result<Answer, Error> {
        let mut text = serde_json::to_vec(command).expect("a command is plain data");
        text.push(b'\n');
        self.commands.write_all(&text)?;
        loop {
            match self.lines.recv_timeout(ANSWER_TIMEOUT) {
                Ok(Line::Answer(Answer::Error { text })) => return Err(Error::Refused(text)),
                Ok(Line::Answer(answer)) => return Ok(answer),
                Ok(Line::Event(event)) => self.events.push_back(event),
                Err(RecvTimeoutError::Timeout) => return Err(Error::Silent),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Ended),
            }
        }
    }

    /// Dials `sessions` subscribers as fast as they come up, at most `concurrency` at once.
    pub fn dial(&mut self, sessions: u32, concurrency: Option<u32>) -> Result<(), Error> {
        self.ask(&Command::Dial {
            sessions,
            rate: None,
            concurrency,
        })
        .map(drop)
    }

    /// Dials `sessions` subscribers at `rate` a second.
    pub fn dial_paced(&mut self, sessions: u32, rate: f64) -> Result<(), Error> {
        self.ask(&Command::Dial {
            sessions,
            rate: Some(rate),
            concurrency: None,
        })
        .map(drop)
    }

    /// Arms a trigger; see [`Command::Trigger`].
    pub fn arm(
        &mut self,
        moment: Moment,
        count: u64,
        delay: Duration,
        kill: Option<u32>,
    ) -> Result<(), Error> {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let kill = kill.map(|pid| i32::try_from(pid).expect("a process id fits"));
        self.ask(&Command::Trigger {
            moment,
            count,
            delay_us,
            kill,
        })
        .map(drop)
    }

    pub fn report(&mut self) -> Result<Report, Error> {
        match self.ask(&Command::Report)? {
            Answer::Report(report) => Ok(*report),
            other => Err(Error::Refused(format!("{other:?} for a report"))),
        }
    }

    pub fn sessions(&mut self) -> Result<Vec<Session>, Error> {
        match self.ask(&Command::Sessions)? {
            Answer::Sessions { sessions } => Ok(sessions),
            other => Err(Error::Refused(format!("{other:?} for sessions"))),
        }
    }

    /// Asks everything that is up for a sign of life within `within`.
    pub fn check(&mut self, within: Duration) -> Result<Checked, Error> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.ask(&Command::Check { within_ms })?;
        match self.wait_event(within + ANSWER_TIMEOUT, |event| {
            matches!(event, Event::Checked(_))
        })? {
            Event::Checked(checked) => Ok(checked),
            other => unreachable!("only that was waited for, not {other:?}"),
        }
    }

    /// Waits for an event; others are kept for later.
    pub fn wait_event(&mut self, within: Duration, wanted: impl Fn(&Event) -> bool) -> Result<Event, Error> {
        if let Some(index) = self.events.iter().position(&wanted) {
            return Ok(self.events.remove(index).expect("just found"));
        }
        let deadline = Instant::now() + within;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Line::Event(event)) if wanted(&event) => return Ok(event),
                Ok(Line::Event(event)) => self.events.push_back(event),
                Ok(Line::Answer(Answer::Error { text })) => return Err(Error::Refused(text)),
                Ok(Line::Answer(_)) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Error::Silent),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Ended),
            }
        }
    }

    /// Waits until the report satisfies `done`.
    pub fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        done: impl Fn(&Report) -> bool,
    ) -> Result<Report, Error> {
        let deadline = Instant::now() + within;
        loop {
            let asked = Instant::now();
            let report = self.report()?;
            let answered_in = asked.elapsed();
            if done(&report) {
                return Ok(report);
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: what.into(),
                    within,
                    report: Box::new(report),
                });
            }
            std::thread::sleep(POLL.max(answered_in * PAUSE));
        }
    }

    /// Events that came unasked.
    pub fn take_events(&mut self) -> Vec<Event> {
        while let Ok(line) = self.lines.try_recv() {
            if let Line::Event(event) = line {
                self.events.push_back(event);
            }
        }
        self.events.drain(..).collect()
    }

    /// The process, if it is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"{\"command\":\"quit\"}\n");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// A simulator's whole life on a control port: the first line is the plan, the others are commands.
pub fn serve(mut port: ControlPort) -> io::Result<()> {
    match read_plan(&mut port)? {
        Some(plan) => Driver::new(plan, port)?.run(),
        None => Ok(()),
    }
}

/// As [`serve`], on sockets that are bound already.
fn serve_on(mut port: ControlPort, sockets: Vec<UdpSocket>) -> io::Result<()> {
    match read_plan(&mut port)? {
        Some(plan) => Driver::with_sockets(plan, port, sockets)?.run(),
        None => Ok(()),
    }
}

fn read_plan(port: &mut ControlPort) -> io::Result<Option<Plan>> {
    let Some(line) = port.read_line()? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_str(&line)?))
}
