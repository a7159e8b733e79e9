//! IPv6 with pppd, the kernel's autoconfiguration, and a real DHCPv6 client.

use std::net::Ipv6Addr;
use std::thread;
use std::time::Duration;

use holdfast::api::types::SessionInfo;
use ipnet::Ipv6Net;

use super::traffic::ping_from_behind;
use super::{connect, explain, ping_host_behind};
use crate::lab::dhcp6::{global_address, start_dhcp6c};
use crate::lab::dialup::{Client, Dialup};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::guest::Guest;
use crate::lab::image::Image;
use crate::lab::server::{DELEGATED_POOL, DNS6, IPV6_USER, LINK_POOL, PASSWORD, Server, Settings};
use crate::lab::{BEHIND_ADDRESS6, LNS_ADDRESS, Lab};

/// pppd's own option; without it, it does not ask for IPv6.
const ASK: &str = "+ipv6";
/// How long the daemon stays dead.
const DEAD: Duration = Duration::from_secs(4);

fn settings() -> Settings {
    Settings {
        ipv6: true,
        ..Settings::default()
    }
}

fn dialup(user: &str) -> Dialup {
    let mut dialup = Dialup::new(LNS_ADDRESS, user, PASSWORD);
    dialup.ppp_options.push(ASK.into());
    dialup
}

pub fn advertised(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &settings())?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &dialup("alice"))?;
    let (interface, lns) = explain(&server, client.wait_ipv6_up())?;
    expect_that(lns.to_string() == "fe80::1", || {
        format!("the LNS calls itself {lns}")
    })?;
    let address = explain(&server, learned(&guest, &interface))?;
    let session = only_session(&server)?;
    expect_in(address, session.link_prefix.as_deref(), LINK_POOL)?;
    explain(&server, ping_host_behind(&guest))?;
    explain(&server, ping_both_ways(&lab, image, &guest, address))?;
    // What does not fit is answered with what does: the sender learns the path's MTU.
    let whole = ping_from_behind(
        &lab,
        image,
        &format!("-6 -c 3 -i 0.2 -W 2 -s 1400 -M do {address}"),
    );
    expect_that(whole.is_err(), || "1448 octets fitted into a link of 1400".into())?;
    explain(
        &server,
        ping_from_behind(&lab, image, &format!("-6 -c 3 -i 0.2 -W 2 -s 1400 {address}")).map(drop),
    )?;
    client.expect_undisturbed()
}

pub fn delegated(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &settings())?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &dialup("alice"))?;
    let (interface, _) = explain(&server, client.wait_ipv6_up())?;
    explain(&server, learned(&guest, &interface))?;
    start_dhcp6c(&guest)?;
    let address = explain(&server, on_lan(&guest))?;
    let session = only_session(&server)?;
    expect_in(address, session.delegated_prefix.as_deref(), DELEGATED_POOL)?;
    let told = guest.read("dhcp6c.env");
    expect_that(told.contains(DNS6), || format!("the client was told {told:?}"))?;
    explain(&server, ping_both_ways(&lab, image, &guest, address))?;
    client.expect_undisturbed()
}

pub fn alone(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &settings())?;
    let guest = lab.boot_guest()?;
    // pppd asks for IPv4 as well, and has to live without.
    let mut client = Client::start(&guest, &dialup(IPV6_USER))?;
    client.dial()?;
    let (interface, _) = explain(&server, client.wait_ipv6_up())?;
    let address = explain(&server, learned(&guest, &interface))?;
    explain(&server, ping_both_ways(&lab, image, &guest, address))?;
    let session = only_session(&server)?;
    expect_that(session.address.is_none(), || format!("{session:?}"))?;
    expect_in(address, session.link_prefix.as_deref(), LINK_POOL)?;
    let rejects = client.count_in_ppp_log("rcvd [LCP ProtRej");
    expect_that(rejects > 0, || {
        format!("IPCP was not rejected\n{}", client.logs())
    })
}

pub fn not_there(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &dialup("alice"))?;
    explain(&server, ping_host_behind(&guest))?;
    let rejects = client.count_in_ppp_log("rcvd [LCP ProtRej");
    expect_that(rejects > 0, || {
        format!("IPV6CP was not rejected\n{}", client.logs())
    })?;
    let session = only_session(&server)?;
    expect_that(session.link_prefix.is_none(), || format!("{session:?}"))?;
    client.expect_undisturbed()
}

/// The daemon dies and comes back: neither protocol is negotiated anew, and DHCPv6 gives the same.
pub fn kill(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let mut server = Server::start(&lab, &settings())?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &dialup("alice"))?;
    let (interface, _) = explain(&server, client.wait_ipv6_up())?;
    let address = explain(&server, learned(&guest, &interface))?;
    start_dhcp6c(&guest)?;
    let lan = explain(&server, on_lan(&guest))?;
    let requests = client.configure_requests();
    server.kill();
    thread::sleep(DEAD);
    server.resume()?;
    explain(&server, ping_both_ways(&lab, image, &guest, address))?;
    explain(&server, ping_both_ways(&lab, image, &guest, lan))?;
    guest.check(&format!(
        "kill -9 $(cat /run/dhcp6c.pid)\n\
         ip -6 addr del {lan}/64 dev eth0 2>/dev/null; true"
    ))?;
    start_dhcp6c(&guest)?;
    let again = explain(&server, on_lan(&guest))?;
    expect_that(again == lan, || format!("{lan} before, {again} now"))?;
    expect_that(client.configure_requests() == requests, || {
        format!("the link was negotiated anew\n{}", client.logs())
    })?;
    client.expect_undisturbed()
}

fn only_session(server: &Server) -> Result<SessionInfo> {
    let mut sessions = server.sessions()?;
    match (sessions.pop(), sessions.is_empty()) {
        (Some(session), true) => Ok(session),
        _ => Err(LabError::unmet("there should be one session")),
    }
}

/// The address must lie in the session's prefix, and that in the pool.
fn expect_in(address: Ipv6Addr, prefix: Option<&str>, pool: &str) -> Result<()> {
    let net = |text: &str| text.parse::<Ipv6Net>().ok();
    let right = prefix
        .and_then(net)
        .zip(net(pool))
        .is_some_and(|(prefix, pool)| prefix.contains(&address) && pool.contains(&prefix));
    expect_that(right, || {
        format!("{address}, {prefix:?} and {pool} do not go together")
    })
}

/// The address that the guest has made of a Router Advertisement.
fn learned(guest: &Guest, interface: &str) -> Result<Ipv6Addr> {
    global_address(guest, interface)
}

/// The address that dhcp6c has made of the delegated prefix.
fn on_lan(guest: &Guest) -> Result<Ipv6Addr> {
    global_address(guest, "eth0")
}

/// From the guest to the host behind the LNS, and from there to the guest's address.
fn ping_both_ways(lab: &Lab, image: &Image, guest: &Guest, address: Ipv6Addr) -> Result<()> {
    guest.check(&format!(
        "ping -6 -c 3 -i 0.2 -W 2 -I {address} {BEHIND_ADDRESS6}"
    ))?;
    ping_from_behind(lab, image, &format!("-6 -c 3 -i 0.2 -W 2 {address}")).map(drop)
}
