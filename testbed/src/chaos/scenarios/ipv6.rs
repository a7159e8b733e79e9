//! Case 12: IPv6 of a real client, whose DHCPv6 client finds another node each time that it wants its prefix to go on.
//!
//! The client's timers are hours long, so its clock is put forward; what it sends and when is its own doing.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use holdfast::api::types::SessionInfo;
use ipnet::Ipv6Net;

use super::super::bed::CORE6;
use super::super::error::{Error, Result};
use super::super::real_client::RealClient;
use super::super::stage::Stage;
use crate::lab::dhcp6::{global_address, start_dhcp6c};
use crate::lab::guest::Guest;
use crate::node_config::USER;

/// Seconds: the prefix is renewed (T1), rebound by any server (T2, from the same moment), and a message is sent again.
const PAST_T1: u32 = 7_300;
const FROM_T1_PAST_T2: u32 = 4_400;
const PAST_RETRANSMISSION: u32 = 15;
/// How long the client may take to see that it is time, or a node to answer.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// In dhcp6c's log.
const RENEW: &str = "send renew";
const REBIND: &str = "send rebind";
const REPLY: &str = "receive reply";

/// What the client has.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Learned from a Router Advertisement.
    link: Ipv6Addr,
    /// Of the delegated prefix.
    lan: Ipv6Addr,
}

pub fn renewed(stage: &mut Stage) -> Result<()> {
    let client = stage.redial_as(USER, &["+ipv6"])?;
    let link = global_address(client.guest(), client.interface())?;
    start_dhcp6c(client.guest())?;
    let lan = global_address(client.guest(), "eth0")?;
    let line = Line { link, lan };
    let prefix = delegated(stage, line)?;
    expect(prefix.contains(&lan), || {
        format!("the client's {lan} is not in {prefix}")
    })?;
    expect_line(stage, line, prefix, "at first")?;

    let first = owner(stage, line)?;
    stage.event(|bed| bed.node(first)?.kill())?;
    expect_line(stage, line, prefix, "after the first death")?;
    let guest = stage.real_client()?.guest();
    let replies = count(guest, REPLY);
    put_forward(guest, PAST_T1)?;
    wait_for(guest, RENEW, 1)?;
    wait_for(guest, REPLY, replies + 1)?;
    expect(count(guest, REBIND) == 0, || {
        format!("the Renew was not answered\n{}", guest.read("dhcp6c.log"))
    })?;
    expect_line(stage, line, prefix, "after the Renew")?;
    let second = owner(stage, line)?;
    expect(second != first, || {
        format!("node {first} is dead and owns the session")
    })?;
    stage.restore()?;

    // Nobody hears the next Renew.
    let guest = stage.real_client()?.guest();
    let (renews, replies) = (count(guest, RENEW), count(guest, REPLY));
    RealClient::set_heard(&stage.bed.lac, false)?;
    put_forward(guest, PAST_T1)?;
    wait_for(guest, RENEW, renews + 1)?;
    put_forward(guest, FROM_T1_PAST_T2)?;
    wait_for(guest, REBIND, 1)?;
    RealClient::set_heard(&stage.bed.lac, true)?;
    let second = owner(stage, line)?;
    stage.event(|bed| bed.node(second)?.kill())?;
    let guest = stage.real_client()?.guest();
    put_forward(guest, PAST_RETRANSMISSION)?;
    wait_for(guest, REPLY, replies + 1)?;
    expect_line(stage, line, prefix, "after the Rebind")?;
    stage.note(format!(
        "{prefix} of nodes {first}, {second}, {}",
        owner(stage, line)?
    ));
    stage.restore()?;
    stage.real_client()?.expect_undisturbed()?;
    stage.dismiss_real_client();
    Ok(())
}

/// The client has what it had, all nodes know it, and both addresses reach the core and are reached from there.
fn expect_line(stage: &Stage, line: Line, prefix: Ipv6Net, when: &str) -> Result<()> {
    let client = stage.real_client()?;
    let found = Line {
        link: global_address(client.guest(), client.interface())?,
        lan: global_address(client.guest(), "eth0")?,
    };
    expect((found.link, found.lan) == (line.link, line.lan), || {
        format!("{when}: the client had {line:?} and has {found:?}")
    })?;
    let known = delegated(stage, line)?;
    expect(known == prefix, || format!("{when}: {prefix} has become {known}"))?;
    for address in [line.link, line.lan] {
        let ping = client
            .guest()
            .check(&format!("ping -6 -c 3 -i 0.2 -W 2 -I {address} {CORE6}"));
        ping.map_err(|error| Error::Unmet(format!("{when}: {error}")))?;
    }
    Ok(())
}

/// The delegated prefix, of which all nodes that run say the same.
fn delegated(stage: &Stage, line: Line) -> Result<Ipv6Net> {
    let mut all = Vec::new();
    for node in stage.bed.nodes.values().filter(|node| node.pid().is_some()) {
        let mut sessions = node.sessions()?;
        sessions.retain(|session| is_of(session, line));
        let prefixes: Vec<_> = sessions
            .into_iter()
            .filter_map(|session| session.delegated_prefix)
            .collect();
        expect(prefixes.len() == 1, || {
            format!("the client's prefixes at node {}: {prefixes:?}", node.id)
        })?;
        all.extend(prefixes);
    }
    all.dedup();
    let one = match all.as_slice() {
        [one] => one.parse().ok(),
        _ => None,
    };
    one.ok_or_else(|| Error::Unmet(format!("the nodes do not know one prefix: {all:?}")))
}

/// Whether a session is the client's. One that he had before and vanished from may still be there.
fn is_of(session: &SessionInfo, line: Line) -> bool {
    let prefix: Option<Ipv6Net> = session.link_prefix.as_ref().and_then(|net| net.parse().ok());
    prefix.is_some_and(|prefix| prefix.contains(&line.link))
}

/// The node that owns the client's session.
fn owner(stage: &Stage, line: Line) -> Result<u8> {
    for node in stage.bed.nodes.values().filter(|node| node.pid().is_some()) {
        let sessions = node.sessions()?;
        let is_clients = |tunnel| {
            sessions
                .iter()
                .any(|session| is_of(session, line) && session.tunnel_id == tunnel)
        };
        if node.tunnels()?.iter().any(|tunnel| is_clients(tunnel.tunnel_id)) {
            return Ok(node.id);
        }
    }
    Err(Error::Unmet("nobody owns the real client's session".into()))
}

/// Puts the client's clock forward, and a datagram that is none of DHCPv6's has its DHCPv6 client look at it.
fn put_forward(guest: &Guest, seconds: u32) -> Result<()> {
    guest.check(&format!(
        "date -s @$(($(date +%s) + {seconds})) || exit 1\n\
         timeout 1 tftp -g -r x -l /dev/null ::1 546; true"
    ))?;
    Ok(())
}

fn count(guest: &Guest, words: &str) -> usize {
    guest.read("dhcp6c.log").matches(words).count()
}

/// Until dhcp6c's log has these words so many times.
fn wait_for(guest: &Guest, words: &str, times: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while count(guest, words) < times {
        expect(Instant::now() < deadline, || {
            format!("not {times} times {words:?} in\n{}", guest.read("dhcp6c.log"))
        })?;
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::Unmet(otherwise())),
    }
}
