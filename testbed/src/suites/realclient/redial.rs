//! Clients that go and come back.

use std::time::{Duration, Instant};

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::dialup::{Client, Dialup, Interface};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::process::POLL;
use crate::lab::server::{FIXED_ADDRESS, FIXED_USER, PASSWORD, Server, Settings};
use crate::lab::{LNS_ADDRESS, Lab};

/// From the power cut until the client is up again.
const REDIAL_LIMIT: Duration = Duration::from_secs(15);
/// From the power cut to the new dialling: well before anybody can call the old tunnel dead.
const BACK_LIMIT: Duration = Duration::from_secs(5);
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

pub fn hang_up(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let (mut client, _) = connect(&guest, &server, &subscriber(0))?;
    explain(&server, ping_host_behind(&guest))?;
    explain(&server, client.hang_up())?;
    expect_sessions(&server, 0)?;
    client.dial()?;
    explain(&server, client.wait_up())?;
    explain(&server, ping_host_behind(&guest))?;
    expect_sessions(&server, 1)
}

/// The stale tunnel and session must not be in the way; they go when the daemon notices.
pub fn vanish(image: &Image) -> Result<()> {
    vanish_and_redial(image, &subscriber(0)).map(drop)
}

/// A user with an address of his own gets it again: the new session replaces the stale one.
pub fn vanish_with_fixed_address(image: &Image) -> Result<()> {
    let interface = vanish_and_redial(image, &Dialup::new(LNS_ADDRESS, FIXED_USER, PASSWORD))?;
    expect_that(interface.local == FIXED_ADDRESS, || {
        format!("{FIXED_ADDRESS} expected: {interface:?}")
    })
}

/// The power fails at the client, and it is back at once: same address, same port, same user. The machine that comes
/// back is another one, booted before, as booting takes its time.
fn vanish_and_redial(image: &Image, dialup: &Dialup) -> Result<Interface> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let mut vanishing = lab.boot_guest()?;
    let mut guest = lab.boot_guest()?;
    connect(&vanishing, &server, dialup)?;
    explain(&server, ping_host_behind(&vanishing))?;

    let cut = Instant::now();
    vanishing.cut_power();
    guest.take_address(vanishing.address)?;
    let mut client = Client::start(&guest, dialup)?;
    client.dial()?;
    let back = cut.elapsed();
    let interface = explain(&server, client.wait_up())?;
    let up = cut.elapsed();
    explain(&server, ping_host_behind(&guest))?;
    expect_that(back < BACK_LIMIT, || {
        format!("dialled only {back:?} after the power cut")
    })?;
    expect_that(up < REDIAL_LIMIT, || {
        format!("up again only {up:?} after the power cut")
    })?;
    let with_it = server
        .sessions()?
        .into_iter()
        .filter(|session| session.address == Some(interface.local.to_string()));
    expect_that(with_it.count() == 1, || {
        format!("one session with {} expected", interface.local)
    })?;
    Ok(interface)
}

/// Waits until the daemon has so many sessions.
fn expect_sessions(server: &Server, count: usize) -> Result<()> {
    let deadline = Instant::now() + RELEASE_LIMIT;
    loop {
        let sessions = server.sessions()?;
        if sessions.len() == count {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(LabError::unmet(format!(
                "{count} sessions expected: {sessions:?}\n{}",
                server.log()
            )));
        }
        std::thread::sleep(POLL);
    }
}
