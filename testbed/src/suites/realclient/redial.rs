//! Clients that go and come back.

use std::time::{Duration, Instant};

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::Lab;
use crate::lab::dialup::Client;
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::process::POLL;
use crate::lab::server::{Server, Settings};

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

/// The power fails at the client, and it is back at once: same address, same port, same user. The machine that comes
/// back is another one, booted before, as booting takes its time.
pub fn vanish(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let mut vanishing = lab.boot_guest()?;
    let mut guest = lab.boot_guest()?;
    connect(&vanishing, &server, &subscriber(0))?;
    explain(&server, ping_host_behind(&vanishing))?;

    let cut = Instant::now();
    vanishing.cut_power();
    guest.take_address(vanishing.address)?;
    let mut client = Client::start(&guest, &subscriber(0))?;
    client.dial()?;
    let back = cut.elapsed();
    explain(&server, client.wait_up())?;
    let up = cut.elapsed();
    explain(&server, ping_host_behind(&guest))?;
    expect_that(back < BACK_LIMIT, || {
        format!("dialled only {back:?} after the power cut")
    })?;
    expect_that(up < REDIAL_LIMIT, || {
        format!("up again only {up:?} after the power cut")
    })?;
    expect_sessions(&server, 1)
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
