//! A bed with its subscribers, on which scenarios play one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bed::{Bed, CORE, FIRST_LAC};
use super::error::{Error, Result};
use super::node::{TunnelInfo, View};
use super::real_client::RealClient;
use super::verdict::{RealClientSaw, Times, Verdict};
use crate::lab::image::Image;
use crate::lab::process::own_program;
use crate::node_config::USER;
use crate::simulator::{Command, HangUp, Moment, Plan, Report, Simulator};

/// How long the sessions may take to come up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long everything may take to give a sign of life: a LAC's full cycle of retransmissions and more.
const CHECK_TIMEOUT: Duration = Duration::from_secs(35);
/// How long the calls placed after an event may take: the longest that a client or a LAC waits, and more.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(70);
/// The quiet seconds before an event, for comparison.
const QUIET: Duration = Duration::from_secs(1);
/// After an event everything is watched for so long at least.
const WATCH: Duration = Duration::from_secs(3);
/// The cluster may take so long to agree again.
const AGREE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Subscribers who do not dial before an event.
pub const EXTRA: u32 = 200;
/// Sessions that ping every millisecond; the others do every second.
const FAST_SESSIONS: u32 = 20;
const FAST_INTERVAL_US: u64 = 1_000;
const SLOW_INTERVAL_MS: u64 = 1_000;
/// Slow pings a second that four cores bear beside all else; with more sessions they come less often.
const MAX_SLOW_RATE: u64 = 5_000;
/// Sessions a second that come up at least.
const MIN_SETUP_RATE: u32 = 250;
/// Between two fresh HELLOs, and between two copies of one.
const HELLO_INTERVAL_MS: u64 = 10;
const HELLO_REPEAT_MS: u64 = 50;

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub sessions: u32,
    pub tunnels: u32,
    pub seed: u64,
    /// A power cut takes the disks too: the scenario must fail then, or it finds nothing.
    pub sabotage: bool,
    /// The simulated LACs demand numbers in data messages.
    pub sequencing: bool,
}

impl Setting {
    /// No more subscribers than can be looked at one by one, over tunnels enough that every node has some.
    pub fn small(self) -> Self {
        Self {
            sessions: self.sessions.min(60),
            tunnels: self.tunnels.min(12),
            ..self
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Stage {
    /// Goes first: it lives in a namespace of the bed.
    pub simulator: Simulator,
    /// So does this one.
    real: Option<RealClient>,
    image: Option<Image>,
    pub bed: Bed,
    pub rng: StdRng,
    pub setting: Setting,
    /// What was counted before the present scenario.
    before: Report,
    /// How much every node had printed by then.
    printed: BTreeMap<u8, usize>,
    times: Times,
    notes: Vec<String>,
    broken: Vec<String>,
    begun: Instant,
}

impl Stage {
    /// Establishes the sessions.
    pub fn open(bed: Bed, setting: Setting, image: Option<Image>) -> Result<Self> {
        let plan = Plan {
            tunnels: setting.tunnels,
            sessions: setting.sessions + EXTRA.max(setting.tunnels),
            sequencing: setting.sequencing,
            seed: setting.seed,
            ..bed.plan()
        };
        let simulator = Simulator::spawn_by(bed.lac.command(own_program()), &plan)?;
        let mut stage = Self {
            simulator,
            real: None,
            image,
            bed,
            rng: StdRng::seed_from_u64(setting.seed),
            setting,
            before: Report::default(),
            printed: BTreeMap::new(),
            times: Times::default(),
            notes: Vec::new(),
            broken: Vec::new(),
            begun: Instant::now(),
        };
        stage.establish()?;
        Ok(stage)
    }

    /// Dials whoever of the permanent subscribers is not in.
    fn establish(&mut self) -> Result<()> {
        let all = u64::from(self.setting.sessions);
        let open = self.simulator.report()?.sessions_open;
        let missing = u32::try_from(all.saturating_sub(open)).unwrap_or(0);
        if missing > 0 {
            self.simulator.dial(missing, Some(100))?;
        }
        let patience = DIAL_TIMEOUT + Duration::from_secs((missing / MIN_SETUP_RATE).into());
        self.simulator.wait_until("all sessions up", patience, |report| {
            report.sessions_open == all && report.sessions_pending == 0
        })?;
        Ok(())
    }

    /// A scenario begins: everybody is in and probed.
    pub fn begin(&mut self) -> Result<()> {
        self.begun = Instant::now();
        self.establish()?;
        self.connect_real_client()?;
        self.simulator.ask(&Command::Ping {
            interval_ms: SLOW_INTERVAL_MS.max(u64::from(self.setting.sessions) * 1_000 / MAX_SLOW_RATE),
            host: Some(CORE),
            fast_sessions: FAST_SESSIONS,
            fast_interval_us: FAST_INTERVAL_US,
        })?;
        self.simulator.ask(&Command::Probe {
            interval_ms: HELLO_INTERVAL_MS,
            repeat_ms: HELLO_REPEAT_MS,
        })?;
        self.before = self.simulator.report()?;
        self.read_logs();
        self.times = Times::default();
        self.notes.clear();
        self.broken.clear();
        Ok(())
    }

    /// Unless one is in, or none is wanted.
    fn connect_real_client(&mut self) -> Result<()> {
        if let (None, Some(image)) = (&self.real, &self.image) {
            self.real = Some(RealClient::connect(
                image,
                &self.bed.lac,
                self.bed.folder(),
                USER,
                &[],
            )?);
        }
        Ok(())
    }

    /// The real client hangs up and dials again as another user, with further options of pppd's.
    pub fn redial_as(&mut self, user: &str, options: &[&str]) -> Result<&RealClient> {
        self.real = None;
        let image = self.image.as_ref();
        let image = image.ok_or_else(|| Error::Unmet("this needs the real client".into()))?;
        let client = RealClient::connect(image, &self.bed.lac, self.bed.folder(), user, options)?;
        Ok(self.real.insert(client))
    }

    /// The real client as it is.
    pub fn real_client(&self) -> Result<&RealClient> {
        let gone = || Error::Unmet("there is no real client".into());
        self.real.as_ref().ok_or_else(gone)
    }

    /// It goes, and the next scenario dials anew.
    pub fn dismiss_real_client(&mut self) {
        self.real = None;
    }

    /// What the real client noticed; one that noticed something goes.
    fn ask_real_client(&mut self) -> Option<RealClientSaw> {
        let disturbance = self.real.as_ref()?.expect_undisturbed().err();
        let Some(disturbance) = disturbance else {
            return Some(RealClientSaw::Nothing);
        };
        self.note(format!("the real client: {disturbance}"));
        self.real = None;
        Some(RealClientSaw::Something)
    }

    /// Does something to the nodes and measures what the subscribers see of it, a call on each tunnel right behind it.
    pub fn event(&mut self, action: impl FnOnce(&mut Bed) -> Result<()>) -> Result<()> {
        self.quiet()?;
        self.simulator.ask(&Command::Mark)?;
        action(&mut self.bed)?;
        self.simulator.dial(self.setting.tunnels, None)?;
        self.observe(WATCH, SETTLE_TIMEOUT)?;
        self.conclude()
    }

    /// The same for something that lasts: it is observed for `time`, whatever has been answered by then, and the calls under
    /// way go on into the next event.
    pub fn event_for(&mut self, time: Duration, action: impl FnOnce(&mut Bed) -> Result<()>) -> Result<()> {
        self.quiet()?;
        self.simulator.ask(&Command::Mark)?;
        action(&mut self.bed)?;
        self.simulator.dial(self.setting.tunnels, None)?;
        self.observe(time, time)
    }

    /// The same while calls arrive, `rate` a second for some seconds.
    pub fn event_under_load(&mut self, rate: f64, action: impl FnOnce(&mut Bed) -> Result<()>) -> Result<()> {
        self.quiet()?;
        self.simulator.dial_paced(EXTRA, rate)?;
        std::thread::sleep(QUIET);
        self.simulator.ask(&Command::Mark)?;
        action(&mut self.bed)?;
        self.observe(WATCH, SETTLE_TIMEOUT)?;
        self.conclude()
    }

    /// The same where the simulator itself kills the process at a moment on one of the tunnels that the process owns, once
    /// `provoke` has been done.
    pub fn event_at(
        &mut self,
        (moment, count, delay): (Moment, u64, Duration),
        node: u8,
        provoke: impl FnOnce(&mut Simulator) -> Result<()>,
    ) -> Result<()> {
        self.quiet()?;
        let pid = self.bed.node(node)?.pid();
        let tunnels = self.bed.node(node)?.tunnels()?;
        let tunnels = tunnels.iter().filter_map(lac_and_id).collect();
        self.simulator.ask(&Command::Disarm)?;
        self.simulator.ask(&Command::Watch {
            tunnels: Some(tunnels),
        })?;
        self.simulator.arm(moment, count, delay, pid)?;
        provoke(&mut self.simulator)?;
        if !self.bed.node(node)?.wait_gone(Duration::from_secs(10))? {
            self.simulator.ask(&Command::Disarm)?;
            self.simulator.ask(&Command::Mark)?;
            self.bed.node(node)?.kill()?;
            self.note(format!(
                "{moment:?} number {count} did not come: killed without it"
            ));
        }
        self.simulator.ask(&Command::Watch { tunnels: None })?;
        if !self.is_cluster() {
            // Nobody takes over: it has to come back itself.
            self.bed.node(node)?.start()?;
        }
        self.observe(WATCH, SETTLE_TIMEOUT)?;
        self.conclude()
    }

    /// What the gaps are while nothing happens.
    fn quiet(&mut self) -> Result<()> {
        self.simulator.ask(&Command::Mark)?;
        std::thread::sleep(QUIET);
        if let Some(quiet) = self.simulator.report()?.since_mark {
            self.times.quiet.extend(quiet.fast_gaps_ms);
        }
        Ok(())
    }

    /// Watches until all has answered and no call is under way, for a time between these, and takes the measurements.
    fn observe(&mut self, least: Duration, most: Duration) -> Result<()> {
        let begun = Instant::now();
        let report = loop {
            let report = self.simulator.report()?;
            let answered = report
                .since_mark
                .as_ref()
                .is_some_and(|since| since.control_gaps_ms.iter().all(Option::is_some));
            let settled = answered && report.sessions_pending == 0;
            if begun.elapsed() >= most || settled && begun.elapsed() >= least {
                break report;
            }
            std::thread::sleep(POLL);
        };
        if let Some(since) = &report.since_mark {
            self.times.add(since);
        }
        Ok(())
    }

    /// The calls of an event have come up or failed by now, and hang up.
    pub fn conclude(&mut self) -> Result<()> {
        // Between two of the calls that arrive nobody was waiting; the last one placed may still be.
        self.simulator.dial(0, None)?;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut pending = self.simulator.report()?.sessions_pending;
        while pending > 0 && Instant::now() < deadline {
            std::thread::sleep(POLL);
            pending = self.simulator.report()?.sessions_pending;
        }
        if pending > 0 {
            self.breach(format!(
                "{pending} calls neither came up nor failed within {} s",
                SETTLE_TIMEOUT.as_secs()
            ));
        }
        self.dismiss()
    }

    /// No more calls; those of an event hang up.
    fn dismiss(&mut self) -> Result<()> {
        self.simulator.dial(0, None)?;
        self.simulator.ask(&Command::HangUp {
            from: self.setting.sessions,
            sessions: None,
            by: HangUp::Disconnect,
        })?;
        Ok(())
    }

    /// Says something that the verdict will show.
    pub fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// Says something that must not be.
    pub fn breach(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Every call placed so far must have come up.
    pub fn expect_no_failures(&mut self) -> Result<()> {
        let failures = difference(&self.simulator.report()?.failures, &self.before.failures);
        for (reason, count) in failures {
            self.breach(format!("{count} calls failed: {reason}"));
        }
        Ok(())
    }

    /// Waits up to `longest`, at random.
    pub fn sleep(&mut self, longest: Duration) {
        std::thread::sleep(longest.mul_f64(self.rng.random()));
    }

    /// Whether there is a cluster, or a single node that must come back by itself.
    pub fn is_cluster(&self) -> bool {
        self.bed.nodes.len() > 1
    }

    /// The node that owns most groups.
    pub fn owner(&self) -> Result<u8> {
        if !self.is_cluster() {
            return Ok(1);
        }
        let view = self.bed.view()?;
        let most = view.nodes.iter().max_by_key(|member| member.groups);
        most.map(|member| member.id)
            .ok_or_else(|| Error::Unmet("cluster status names no node".into()))
    }

    /// The Raft leader.
    pub fn leader(&self) -> Result<u8> {
        if !self.is_cluster() {
            return Ok(1);
        }
        match self.bed.view()?.leader {
            0 => Err(Error::Unmet("there is no leader".into())),
            leader => Ok(leader),
        }
    }

    /// A node that owns the fewest groups and does not lead.
    pub fn bystander(&self) -> Result<u8> {
        if !self.is_cluster() {
            return Ok(1);
        }
        let view = self.bed.view()?;
        let others = view.nodes.iter().filter(|member| member.id != view.leader);
        others
            .min_by_key(|member| member.groups)
            .map(|member| member.id)
            .ok_or_else(|| Error::Unmet("all lead".into()))
    }

    /// Starts whatever does not run and waits until all is as at the beginning: routes, and every node caught up.
    pub fn restore(&mut self) -> Result<()> {
        self.bed.heal()?;
        for node in self.bed.nodes.values_mut() {
            if node.pid().is_none() {
                node.spawn()?;
            }
        }
        for node in self.bed.nodes.values_mut() {
            node.wait_ready()?;
        }
        self.bed.wait_routes()?;
        self.agree()
    }

    /// Waits until the cluster is settled; see [`View::is_settled`].
    pub fn agree(&self) -> Result<()> {
        if !self.is_cluster() {
            return Ok(());
        }
        let deadline = Instant::now() + AGREE_TIMEOUT;
        loop {
            let view = self.bed.view();
            let whole = |view: &View| view.nodes.len() == self.bed.nodes.len() && view.is_settled();
            if view.as_ref().is_ok_and(whole) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Unmet(format!(
                    "the cluster does not agree within {} s: {view:?}",
                    AGREE_TIMEOUT.as_secs()
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks everybody and judges.
    pub fn finish(&mut self, scenario: &str, outcome: Result<()>) -> Result<Verdict> {
        if let Err(error) = outcome {
            self.breach(error.to_string());
        }
        for panic in self.read_logs() {
            self.breach(panic);
        }
        self.simulator.ask(&Command::Disarm)?;
        self.dismiss()?;
        self.simulator.ask(&Command::Probe {
            interval_ms: 0,
            repeat_ms: 0,
        })?;
        let checked = self.simulator.check(CHECK_TIMEOUT)?;
        let real_client = self.ask_real_client();
        let report = self.simulator.report()?;
        let before = &self.before;
        let mut stuck_since = report.clone();
        stuck_since.control_channels_stuck -= before.control_channels_stuck;
        let mut verdict = Verdict {
            scenario: scenario.into(),
            seed: self.setting.seed,
            nodes: self.bed.nodes.len(),
            sessions: report
                .since_mark
                .as_ref()
                .map_or(0, |since| since.sessions_before),
            sessions_lost: report.marked_lost - before.marked_lost,
            sessions_renegotiated: report.marked_renegotiated - before.marked_renegotiated,
            control_channels_stuck: checked.control_channels_stuck(&stuck_since),
            addresses_duplicated: report.addresses_duplicated - before.addresses_duplicated,
            data_numbers_wrong: report.data_numbers_wrong() - before.data_numbers_wrong(),
            sessions_silent: checked.sessions_silent(),
            real_client,
            calls_failed: report.sessions_failed - before.sessions_failed,
            losses: difference(&report.losses, &before.losses),
            failures: difference(&report.failures, &before.failures),
            notes: std::mem::take(&mut self.notes),
            broken: std::mem::take(&mut self.broken),
            seconds: self.begun.elapsed().as_secs_f64(),
            ..Verdict::default()
        };
        verdict.set_times(&self.times);
        if !verdict.passed() {
            self.bed.write_down_radius()?;
            verdict.evidence = Some(self.keep_evidence(scenario)?);
        }
        Ok(verdict)
    }

    /// The panics that the nodes have printed since the last look.
    fn read_logs(&mut self) -> Vec<String> {
        let mut panics = Vec::new();
        for (id, node) in &self.bed.nodes {
            let (text, end) = node.printed_since(self.printed.get(id).copied().unwrap_or(0));
            self.printed.insert(*id, end);
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            panics.extend(lines.map(|line| format!("node {id}: {line}")));
        }
        panics
    }

    /// Copies logs, configurations and what the subscribers said to a folder that stays.
    fn keep_evidence(&mut self, scenario: &str) -> Result<PathBuf> {
        let name = format!("holdfast-chaos-{scenario}-{}", self.setting.seed);
        let to = std::env::temp_dir().join(name);
        copy_folder(self.bed.folder(), &to)?;
        let events: Vec<_> = self
            .simulator
            .take_events()
            .iter()
            .map(|event| format!("{event:?}\n"))
            .collect();
        fs::write(to.join("events"), events.concat())?;
        let sessions: Vec<_> = self.simulator.sessions()?;
        let lines: Vec<_> = sessions.iter().map(|session| format!("{session:?}\n")).collect();
        fs::write(to.join("sessions"), lines.concat())?;
        Ok(to)
    }
}

/// A tunnel by its LAC's number and that LAC's own id of it.
fn lac_and_id(tunnel: &TunnelInfo) -> Option<(u16, u16)> {
    let peer: SocketAddrV4 = tunnel.peer.parse().ok()?;
    let number = u32::from(*peer.ip()).checked_sub(u32::from(FIRST_LAC))?;
    Some((u16::try_from(number).ok()?, tunnel.peer_tunnel_id))
}

fn difference(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = now
        .iter()
        .map(|(reason, count)| (reason.clone(), count - before.get(reason).unwrap_or(&0)));
    since.filter(|(_, count)| *count > 0).collect()
}

/// Copies the plain files of a folder and of those below it.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            // A file that goes away meanwhile is a temporary one.
            let _ = fs::copy(entry.path(), target);
        }
    }
    Ok(())
}
