//! Floods of half-open tunnels (S-9): SCCRQs by the thousand whose senders never go on.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_protocol::TunnelId;

use super::error::{Error, Outcome, ensure};
use super::site::{PATIENCE, Site, ensure_undisturbed};
use super::{Setting, datagrams, node_api};
use crate::node_config::Settings;
use crate::simulator::Plan;

const SESSIONS: u32 = 200;
const TUNNELS: u32 = 10;
/// Calls that come in during the flood.
const CALLS: u32 = 50;
/// SCCRQs a second; more than the node's limits by far.
const RATE: u64 = 10_000;
/// How long it flows before anyone else calls.
const FLOOD_TIME: Duration = Duration::from_millis(500);
/// A half-open tunnel's life and something more.
const HALF_OPEN: Duration = Duration::from_secs(14);

/// Sends until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// From these loopback addresses in turn, each with a socket of its own.
    fn start(target: SocketAddr, sources: impl Iterator<Item = Ipv4Addr>) -> Result<Self, Error> {
        let sockets: Vec<_> = sources
            .map(|source| UdpSocket::bind((source, 0)))
            .collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let pairs = (1..=u16::MAX).cycle().zip(sockets.iter().cycle());
            for (number, socket) in pairs {
                if stopped.load(Relaxed) {
                    return;
                }
                let assigned = TunnelId::new(number).expect("from 1 on");
                // A full buffer is as good as a loss.
                let _ = socket.send_to(&datagrams::sccrq(assigned), target);
                if count.fetch_add(1, Relaxed) % (RATE / 100) == 0 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Ok(Self {
            stop,
            sent,
            thread: Some(thread),
        })
    }

    /// Ends it; how many were sent.
    fn stop(mut self) -> u64 {
        self.end();
        self.sent.load(Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// One source floods; another one opens new tunnels.
pub fn one_source(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = Site::start(setting, &Settings::with_default_admission())?;
    let plan = site.plan(TUNNELS, SESSIONS + CALLS);
    let mut established = site.dial(&plan, SESSIONS)?;
    let flood = Flood::start(plan.target, [Ipv4Addr::new(127, 0, 0, 2)].into_iter())?;
    std::thread::sleep(FLOOD_TIME);
    let newcomer = Plan {
        source: Ipv4Addr::new(127, 0, 0, 3).into(),
        ..site.plan(5, CALLS)
    };
    let mut newcomers = site.dial(&newcomer, CALLS)?;
    established.dial(CALLS, None)?;
    established.wait_until("calls in old tunnels", PATIENCE, |report| {
        report.sessions_open == u64::from(SESSIONS + CALLS)
    })?;
    ensure_undisturbed(&mut established, SESSIONS + CALLS)?;
    let sent = flood.stop();
    ensure_undisturbed(&mut newcomers, CALLS)?;
    let (p99, dropped) = (newcomers.report()?.setup_p99_ms, dropped(&site)?);
    Ok(Outcome::Held(format!(
        "{sent} SCCRQs, {dropped} dropped or waiting; {SESSIONS} sessions undisturbed, {CALLS} new calls on 5 new tunnels (p99 {p99:.0} ms)"
    )))
}

/// A hundred sources flood, enough to reach the cap of all: calls come in on the tunnels there are, and new tunnels
/// as soon as the half-open ones have died.
pub fn many_sources(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = Site::start(setting, &Settings::with_default_admission())?;
    let plan = site.plan(TUNNELS, SESSIONS + CALLS);
    let mut established = site.dial(&plan, SESSIONS)?;
    let sources = (1..=100).map(|last| Ipv4Addr::new(127, 0, 2, last));
    let flood = Flood::start(plan.target, sources)?;
    site.wait("the cap of half-open tunnels", |status| {
        status
            .limits
            .iter()
            .any(|limit| limit.name == "half_open" && limit.hits > 0)
    })?;
    std::thread::sleep(FLOOD_TIME);
    let newcomer = Plan {
        source: Ipv4Addr::new(127, 0, 0, 3).into(),
        ..site.plan(1, CALLS)
    };
    let mut newcomers = site.simulate(&newcomer)?;
    newcomers.dial(CALLS, None)?;
    established.dial(CALLS, None)?;
    established.wait_until("calls in old tunnels", PATIENCE, |report| {
        report.sessions_open == u64::from(SESSIONS + CALLS)
    })?;
    ensure_undisturbed(&mut established, SESSIONS + CALLS)?;
    let sent = flood.stop();
    newcomers.wait_until("a new tunnel after the flood", HALF_OPEN + PATIENCE, |report| {
        report.sessions_open == u64::from(CALLS)
    })?;
    ensure_undisturbed(&mut newcomers, CALLS)?;
    ensure_undisturbed(&mut established, SESSIONS + CALLS)?;
    let dropped = dropped(&site)?;
    Ok(Outcome::Held(format!(
        "{sent} SCCRQs from 100 sources, {dropped} dropped or waiting; {SESSIONS} sessions undisturbed, {CALLS} calls during it, \
         {CALLS} on a new tunnel behind it"
    )))
}

/// SCCRQs dropped, or made to wait, before they cost anything.
fn dropped(site: &Site) -> Result<u64, Error> {
    let status = site.status()?;
    let dropped = [
        "sccrq_rate_dropped_total",
        "sccrq_half_open_dropped_total",
        "sccrq_waited_total",
    ]
    .map(|name| node_api::counter(&status, name))
    .iter()
    .sum();
    ensure(dropped > 1000, || {
        format!("only {dropped} SCCRQs were dropped or waited")
    })?;
    Ok(dropped)
}
