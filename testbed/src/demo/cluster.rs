//! Three nodes behind an anycast address: the one that owns most is killed, the others take over what it had.
//!
//! The lab, the LACs and the judgement are those of the chaos scenarios. What is done to the nodes happens on a thread of
//! its own, while this one draws what the subscribers see of it.

use std::path::Path;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Setting;
use super::canvas::Canvas;
use super::screen::Screen;
use crate::chaos::{self, ANYCAST, Bed, CORE, Error, Result, Spread, Stage, Verdict, View};
use crate::simulator::{Command, Report, SinceMark};

const NODES: u8 = 3;
const TUNNELS: u32 = 20;
const SESSIONS: u32 = 200;
/// Milliseconds between two BFD packets.
const BFD_MS: u32 = 100;
/// Milliseconds between two pings of a session; more where all together would be too many for a small machine.
const PING_INTERVAL_MS: u32 = 20;
const MAX_PINGS_PER_MS: u32 = 10;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at who owns what; each is a process of its own.
const VIEW_INTERVAL: Duration = Duration::from_millis(200);
/// How long a node that is back is watched before it gets its groups.
const REST: Duration = Duration::from_secs(1);
/// A LAC that has had no answer by then gives its tunnel up.
const ANSWER_LIMIT: Duration = Duration::from_secs(31);
/// The cluster may take so long to agree again, or to carry out an order.
const AGREE_LIMIT: Duration = Duration::from_secs(30);

/// Plays the demonstration; whether the subscribers noticed nothing but silence.
pub fn play(setting: &Setting, program: &Path, screen: Screen) -> Result<bool> {
    let sessions = setting.sessions.unwrap_or(SESSIONS);
    let mut show = Show::open(sessions, program, screen)?;
    let mut seen = Vec::new();
    let outcome = show.perform(setting, &mut seen);
    let verdict = show.stage.finish("demo", outcome)?;
    let report = show.stage.simulator.report()?;
    summary(sessions, &report, &verdict, &seen);
    Ok(verdict.passed() && report.sessions_open == u64::from(sessions))
}

/// The lab and its picture.
struct Show {
    stage: Stage,
    canvas: Canvas,
    /// The last one that a node gave.
    view: Mutex<View>,
    ping_interval_ms: u32,
}

/// What the subscribers saw of something done to a node.
struct Seen {
    what: &'static str,
    node: u8,
    since: SinceMark,
    /// A bar for each sample, from right before it; absent if not everybody pings within each sample.
    slow_motion: Option<String>,
}

impl Show {
    fn open(sessions: u32, program: &Path, screen: Screen) -> Result<Self> {
        let interval_ms = PING_INTERVAL_MS.max(sessions / MAX_PINGS_PER_MS);
        let full_rate = f64::from(sessions) * 1000.0 / f64::from(interval_ms);
        let mut canvas = Canvas::new(screen, full_rate);
        canvas.say(&format!(
            "building the lab: {NODES} nodes that announce {ANYCAST}, two routers with BIRD, LACs, a host in the core"
        ));
        let setting = chaos::Setting {
            sessions,
            tunnels: TUNNELS.min(sessions),
            seed: rand::random(),
            sabotage: false,
            sequencing: false,
        };
        let bed = Bed::build(&chaos::Settings {
            program: program.to_owned(),
            next_program: None,
            nodes: NODES,
            witness: false,
            bfd_ms: BFD_MS,
            radius: false,
            seed: setting.seed,
        })?;
        let tunnels = setting.tunnels;
        canvas.say(&format!(
            "{sessions} subscribers dial in through {tunnels} tunnels"
        ));
        let mut stage = Stage::open(bed, setting, None)?;
        stage.begin()?;
        stage.simulator.ask(&Command::Ping {
            interval_ms: interval_ms.into(),
            host: Some(CORE),
            fast_sessions: 0,
            fast_interval_us: 0,
        })?;
        let report = stage.simulator.report()?;
        canvas.begin(&report);
        canvas.say(&format!(
            "all are in, half of them within {:.0} ms; each pings {CORE} every {interval_ms} ms",
            report.setup_p50_ms
        ));
        let view = Mutex::new(stage.bed.view()?);
        Ok(Self {
            stage,
            canvas,
            view,
            ping_interval_ms: interval_ms,
        })
    }

    /// Everything, step by step; what was seen of each goes to `seen`.
    fn perform(&mut self, setting: &Setting, seen: &mut Vec<Seen>) -> Result<()> {
        self.watch(setting.watched)?;
        let victim = self.stage.owner()?;
        seen.push(self.kill(victim, setting.dead)?);
        seen.push(self.start(victim)?);
        seen.push(self.give_back(victim, setting.watched)?);
        Ok(())
    }

    /// Nothing is done.
    fn watch(&mut self, time: Duration) -> Result<()> {
        self.draw_while(|bed, view| look(bed, view, time))
    }

    /// Kills the owner of most groups.
    fn kill(&mut self, node: u8, dead: Duration) -> Result<Seen> {
        let groups = groups(&self.stage.bed.view()?, node);
        let pid = self.stage.bed.node(node)?.pid().unwrap_or_default();
        let news = format!("kill -9 {pid}: node {node}, the owner of {groups} groups, is gone");
        self.event('K', &news, |bed, view| {
            bed.node(node)?.kill()?;
            look(bed, view, dead)
        })?;
        let left: Vec<_> = self.view().nodes.iter().map(owned).collect();
        self.canvas
            .say(&format!("the others took over: {}", left.join(", ")));
        self.seen("kill", node)
    }

    /// Starts the node again and waits until it has caught up.
    fn start(&mut self, node: u8) -> Result<Seen> {
        let news = format!("node {node} is started again");
        self.event('S', &news, |bed, view| {
            bed.node(node)?.start()?;
            bed.wait_routes()?;
            agree(bed, view, |_| true)?;
            look(bed, view, REST)
        })?;
        self.seen("start", node)
    }

    /// Orders the groups' return.
    fn give_back(&mut self, node: u8, watched: Duration) -> Result<Seen> {
        let id = node.to_string();
        let news = format!("holdfast cluster undrain {id}: the node gets its share back");
        self.event('U', &news, |bed, view| {
            bed.node(node)?.ask(&["cluster", "undrain", &id])?;
            agree(bed, view, |view| groups(view, node) > 0)?;
            look(bed, view, watched)
        })?;
        self.seen("return", node)
    }

    /// Does something and waits until every tunnel has been answered since.
    fn event(
        &mut self,
        mark: char,
        news: &str,
        work: impl FnOnce(&mut Bed, &Mutex<View>) -> Result<()> + Send,
    ) -> Result<()> {
        self.canvas.event(mark, news);
        self.stage.simulator.ask(&Command::Mark)?;
        self.draw_while(work)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let since = since_mark(&self.stage.simulator.report()?)?;
            // Those that have not been answered by then are counted.
            if since.control_gaps_ms.iter().all(Option::is_some) || Instant::now() > deadline {
                return Ok(());
            }
            self.watch(VIEW_INTERVAL)?;
        }
    }

    /// Tells the gaps since the mark.
    fn seen(&mut self, what: &'static str, node: u8) -> Result<Seen> {
        let report = self.stage.simulator.report()?;
        let seen = Seen {
            what,
            node,
            since: since_mark(&report)?,
            slow_motion: (self.ping_interval_ms == PING_INTERVAL_MS).then(|| self.canvas.slow_motion()),
        };
        self.canvas.say(&seen.gaps());
        Ok(seen)
    }

    /// Takes sample after sample while `work` goes on beside.
    fn draw_while(&mut self, work: impl FnOnce(&mut Bed, &Mutex<View>) -> Result<()> + Send) -> Result<()> {
        let Self {
            stage, canvas, view, ..
        } = self;
        let Stage { simulator, bed, .. } = stage;
        let view = &*view;
        std::thread::scope(|scope| {
            let work = scope.spawn(move || work(bed, view));
            let mut next = Instant::now();
            while !work.is_finished() {
                let report = simulator.report()?;
                canvas.sample(&report, &lock(view));
                next = (next + SAMPLE_INTERVAL).max(Instant::now());
                sleep(next.saturating_duration_since(Instant::now()));
            }
            work.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn view(&self) -> View {
        lock(&self.view).clone()
    }
}

impl Seen {
    fn gaps(&self) -> String {
        let data = Spread::of(&self.since.slow_gaps_ms);
        let answered: Vec<f64> = self.since.control_gaps_ms.iter().flatten().copied().collect();
        let control = Spread::of(&answered);
        let mut text = format!(
            "{} of node {}: data gap {:.0} / {:.0} ms, control gap {:.0} / {:.0} ms (median / longest)",
            self.what, self.node, data.median, data.longest, control.median, control.longest
        );
        let silent = self.since.control_gaps_ms.len() - answered.len();
        if silent > 0 {
            text += &format!(", {silent} tunnels without an answer");
        }
        text
    }
}

/// Asks for the view again and again.
fn look(bed: &Bed, view: &Mutex<View>, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        refresh(bed, view);
        sleep(VIEW_INTERVAL.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Waits until the cluster is settled as is wanted.
fn agree(bed: &Bed, view: &Mutex<View>, wanted: impl Fn(&View) -> bool) -> Result<()> {
    let deadline = Instant::now() + AGREE_LIMIT;
    while !(refresh(bed, view) && wanted(&lock(view))) {
        if Instant::now() > deadline {
            let last = lock(view).clone();
            return Err(Error::Unmet(format!(
                "the cluster does not agree within {} s: {last:?}",
                AGREE_LIMIT.as_secs()
            )));
        }
        sleep(VIEW_INTERVAL);
    }
    Ok(())
}

/// Takes a new view; whether it is a settled one. Without a quorum the old one stays.
fn refresh(bed: &Bed, view: &Mutex<View>) -> bool {
    let Ok(new) = bed.view() else { return false };
    let settled = new.is_settled();
    *lock(view) = new;
    settled
}

fn lock(view: &Mutex<View>) -> std::sync::MutexGuard<'_, View> {
    view.lock().expect("nobody panics with it")
}

fn since_mark(report: &Report) -> Result<SinceMark> {
    let since = report.since_mark.clone();
    since.ok_or_else(|| Error::Unmet("the simulator has no mark".into()))
}

fn groups(view: &View, node: u8) -> u32 {
    let members = view.nodes.iter();
    members
        .filter(|member| member.id == node)
        .map(|member| member.groups)
        .sum()
}

fn owned(member: &chaos::Member) -> String {
    format!("node {} owns {}", member.id, member.groups)
}

/// The end: what the subscribers saw.
fn summary(sessions: u32, report: &Report, verdict: &Verdict, seen: &[Seen]) {
    println!();
    println!(
        "What the {sessions} subscribers saw; in slow motion: pings answered, a bar for each 20 ms, from 100 ms before"
    );
    for seen in seen {
        println!("  {}", seen.gaps());
        if let Some(bars) = &seen.slow_motion {
            println!("    {bars}");
        }
    }
    println!(
        "  pings answered         {} of {}",
        report.pings_answered, report.pings_sent
    );
    println!("  sessions up            {}", report.sessions_open);
    println!("  sessions silent        {}", verdict.sessions_silent);
    println!("  control channels stuck {}", verdict.control_channels_stuck);
    for (reason, count) in verdict.losses.iter().chain(&verdict.failures) {
        println!("  {count} x {reason}");
    }
    for violation in verdict.violations() {
        println!("  must not be: {violation}");
    }
    if let Some(evidence) = &verdict.evidence {
        println!("  data and logs are kept in {}", evidence.display());
    }
    println!("  sessions renegotiated  {}", verdict.sessions_renegotiated);
    println!("  sessions lost          {}", verdict.sessions_lost);
}
