//! Subscribers' packets through the LNS, of all sizes.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::behind::Transfer;
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::process::run;
use crate::lab::server::{Server, Settings, USERS};
use crate::lab::{BEHIND_ADDRESS, Lab};

const TRANSFER_OCTETS: usize = 50_000_000;
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);
/// IPv4 and ICMP headers: what a ping's size does not count.
const PING_HEADERS: u16 = 28;

pub fn ping_behind(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let (client, interface) = connect(&guest, &server, &subscriber(0))?;
    explain(&server, ping_host_behind(&guest))?;
    explain(
        &server,
        guest.check(&format!("ping -c 3 -i 0.2 -W 2 {}", interface.peer)),
    )?;
    explain(
        &server,
        ping_from_behind(&lab, image, &format!("-c 3 -i 0.2 -W 2 {}", interface.local)),
    )?;
    client.expect_undisturbed()
}

pub fn transfer_both_ways(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &subscriber(0))?;

    let source = Transfer::source(&lab, TRANSFER_OCTETS)?;
    let script = format!("nc {BEHIND_ADDRESS} {} </dev/null | md5sum", source.port);
    let start = Instant::now();
    let seen = explain(&server, guest.finish(guest.start(&script)?, TRANSFER_LIMIT))?.stdout;
    let down = start.elapsed();
    let sent = source.checksum()?;
    expect_that(seen.starts_with(&sent), || {
        format!("down: sent {sent}, the client saw {seen}")
    })?;

    let sink = Transfer::sink(&lab)?;
    guest.check(&format!("head -c {TRANSFER_OCTETS} /dev/urandom >/share/up"))?;
    let script = format!("md5sum </share/up; nc {BEHIND_ADDRESS} {} </share/up", sink.port);
    let start = Instant::now();
    let sent = explain(&server, guest.finish(guest.start(&script)?, TRANSFER_LIMIT))?.stdout;
    let seen = sink.checksum()?;
    let up = start.elapsed();
    println!(
        "           down in {:.1} s, up in {:.1} s",
        down.as_secs_f32(),
        up.as_secs_f32()
    );
    expect_that(sent.starts_with(&seen), || {
        format!("up: the client sent {sent}, received {seen}")
    })?;
    client.expect_undisturbed()
}

pub fn mru_1400(image: &Image) -> Result<()> {
    large_pings(image, 1400)
}

pub fn mru_1492(image: &Image) -> Result<()> {
    large_pings(image, 1492)
}

/// Packets as large as the link takes pass whole, larger ones in fragments, and those that must not be fragmented are
/// answered with the size that fits.
fn large_pings(image: &Image, mru: u16) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(
        &lab,
        &Settings {
            mru,
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.mru = mru;
    let (client, interface) = connect(&guest, &server, &dialup)?;
    let fitting = mru - PING_HEADERS;

    let up = |arguments: String| {
        explain(
            &server,
            guest.check(&format!("ping -c 3 -i 0.2 -W 2 {arguments} {BEHIND_ADDRESS}")),
        )
    };
    up(format!("-M do -s {fitting}"))?;
    up("-M dont -s 4000".to_owned())?;

    let down = |arguments: String| {
        ping_from_behind(
            &lab,
            image,
            &format!("-c 3 -i 0.2 -W 2 {arguments} {}", interface.local),
        )
    };
    explain(&server, down(format!("-M do -s {fitting}")))?;
    explain(&server, down("-M dont -s 4000".to_owned()))?;
    match down(format!("-M do -s {}", fitting + 1)) {
        Err(LabError::Command { output, .. }) => {
            expect_that(output.contains(&format!("mtu = {mru}")), || {
                format!(
                    "a packet of {} octets with DF should be answered with mtu = {mru}:\n{output}",
                    mru + 1
                )
            })?
        }
        other => {
            return Err(LabError::unmet(format!(
                "a packet larger than the MRU passed with DF set: {other:?}"
            )));
        }
    }
    client.expect_undisturbed()
}

pub fn four_clients(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guests = (0..USERS.len())
        .map(|_| lab.boot_guest())
        .collect::<Result<Vec<_>>>()?;
    let dial_and_ping = |number: usize| {
        let (client, interface) = connect(&guests[number], &server, &subscriber(number))?;
        explain(
            &server,
            guests[number].check(&format!("ping -c 10 -i 0.2 -W 2 {BEHIND_ADDRESS}")),
        )?;
        client.expect_undisturbed()?;
        Ok(interface.local)
    };
    let addresses = thread::scope(|scope| {
        let dialling: Vec<_> = (0..USERS.len())
            .map(|number| scope.spawn(move || dial_and_ping(number)))
            .collect();
        let joined = dialling
            .into_iter()
            .map(|thread| thread.join().expect("a client's thread does not panic"));
        joined.collect::<Result<BTreeSet<_>>>()
    })?;
    expect_that(addresses.len() == USERS.len(), || {
        format!("clients share an address: {addresses:?}")
    })?;
    let sessions = server.sessions()?;
    expect_that(sessions.len() == USERS.len(), || {
        format!("four sessions expected: {sessions:?}")
    })
}

/// Pings a subscriber from the host behind the LNS, with the ping of the guests' root tree.
pub fn ping_from_behind(lab: &Lab, image: &Image, arguments: &str) -> Result<String> {
    let mut command = lab.behind.command("chroot");
    run(command
        .arg(image.root())
        .arg("/usr/bin/ping")
        .args(arguments.split_whitespace()))
}
