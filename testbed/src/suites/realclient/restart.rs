//! The daemon dies under a real client, comes back, and the client never knows.

use std::thread;
use std::time::Duration;

use holdfast::api::types::SessionInfo;

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::dialup::{Client, Interface};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::server::{Server, Settings};
use crate::lab::{BEHIND_ADDRESS, Lab};

/// How long the daemon stays dead: longer than xl2tpd's and pppd's first retransmissions.
const DEAD: Duration = Duration::from_secs(4);
/// Long enough after the restart for a renegotiation to show.
const WATCHED: Duration = Duration::from_secs(5);
/// SIGTERM must be fast: nothing is taken down.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// The daemon writes its counters so often; those of the last moments may be lost with it.
const CHECKPOINT: Duration = Duration::from_secs(11);

pub fn kill(image: &Image) -> Result<()> {
    survives(image, "ping -i 0.2 -W 1", |server| {
        server.kill();
        Ok(())
    })
}

pub fn terminate(image: &Image) -> Result<()> {
    survives(image, "ping -i 0.2 -W 1", |server| {
        let (status, took) = server.terminate()?;
        expect_that(status.success(), || {
            format!("SIGTERM: {status}\n{}", server.log())
        })?;
        expect_that(took < STOP_LIMIT, || format!("SIGTERM took {took:?}"))
    })
}

pub fn kill_in_flood(image: &Image) -> Result<()> {
    survives(image, "ping -f", |server| {
        server.kill();
        Ok(())
    })
}

/// Pings without a pause while the daemon stops as told, stays away, and comes back.
fn survives(image: &Image, ping: &str, stop: impl Fn(&mut Server) -> Result<()>) -> Result<()> {
    let lab = Lab::build(image)?;
    let mut server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.ppp_options = vec!["lcp-echo-interval 1".into(), "lcp-echo-failure 20".into()];
    let (client, interface) = connect(&guest, &server, &dialup)?;
    explain(&server, ping_host_behind(&guest))?;
    let before = Seen::now(&client, &interface)?;

    guest.start(&format!("{ping} -w 60 {BEHIND_ADDRESS} >/dev/null"))?;
    thread::sleep(CHECKPOINT);
    let old = only_session(&server)?;
    stop(&mut server)?;
    thread::sleep(DEAD);
    server.resume()?;
    explain(&server, ping_host_behind(&guest))?;
    let resumed = only_session(&server)?;
    thread::sleep(WATCHED);
    explain(&server, ping_host_behind(&guest))?;
    let new = only_session(&server)?;

    explain(&server, client.expect_undisturbed())?;
    explain(&server, before.expect_same(&Seen::now(&client, &interface)?))?;
    expect_goes_on(&old, &resumed)?;
    expect_goes_on(&resumed, &new)?;
    let moved = new.rx_packets > resumed.rx_packets && new.tx_packets > resumed.tx_packets;
    expect_that(moved, || {
        format!("the counters stand still: {resumed:?} and {new:?}")
    })
}

/// What a client would notice.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    interface_index: u32,
    configure_requests: usize,
}

impl Seen {
    fn now(client: &Client, interface: &Interface) -> Result<Self> {
        Ok(Self {
            interface_index: client.interface_index(interface)?,
            configure_requests: client.configure_requests(),
        })
    }

    fn expect_same(&self, later: &Self) -> Result<()> {
        expect_that(self == later, || {
            format!("the client noticed the restart: {self:?} became {later:?}")
        })
    }
}

fn only_session(server: &Server) -> Result<SessionInfo> {
    let mut sessions = server.sessions()?;
    match (sessions.pop(), sessions.is_empty()) {
        (Some(session), true) => Ok(session),
        (last, _) => Err(LabError::unmet(format!(
            "one session expected, not {last:?} and {sessions:?}"
        ))),
    }
}

/// It is still the same session, and none of its counters has gone back.
fn expect_goes_on(old: &SessionInfo, new: &SessionInfo) -> Result<()> {
    let identity = |session: &SessionInfo| {
        (
            session.tunnel_id,
            session.session_id,
            session.address.clone(),
            session.acct_session_id.clone(),
        )
    };
    expect_that(identity(old) == identity(new), || {
        format!("another session: {old:?} became {new:?}")
    })?;
    let went_back = counters(old)
        .iter()
        .zip(counters(new))
        .any(|(old, new)| new < *old);
    expect_that(!went_back, || {
        format!("counters went back: {old:?} became {new:?}")
    })
}

fn counters(session: &SessionInfo) -> [u64; 5] {
    let connected = session.connected_seconds.unwrap_or_default();
    [
        session.rx_packets,
        session.rx_octets,
        session.tx_packets,
        session.tx_octets,
        connected,
    ]
}
