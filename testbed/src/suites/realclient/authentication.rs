//! How the client proves who it is, and how tunnel ends prove it to each other.

use std::time::{Duration, Instant};

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::Lab;
use crate::lab::dialup::Client;
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::process::POLL;
use crate::lab::server::{Server, Settings};

/// How long a refusal may take.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15);
const SECRET: &str = "between the two of us";

pub fn pap(image: &Image) -> Result<()> {
    authenticated_by(image, &["pap"], "<auth pap>")
}

pub fn chap(image: &Image) -> Result<()> {
    authenticated_by(image, &["chap-md5"], "<auth chap MD5>")
}

pub fn ms_chap_v2(image: &Image) -> Result<()> {
    authenticated_by(image, &["ms-chap-v2"], "<auth chap MS-v2>")
}

/// Dials where the server takes one method only, which pppd's log must name.
fn authenticated_by(image: &Image, auth: &'static [&'static str], in_log: &str) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(
        &lab,
        &Settings {
            auth,
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &subscriber(0))?;
    expect_that(client.count_in_ppp_log(in_log) > 0, || {
        format!("no {in_log} in pppd's log\n{}", client.logs())
    })?;
    explain(&server, ping_host_behind(&guest))
}

pub fn wrong_password(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.password = "wrong".into();
    let mut client = Client::start(&guest, &dialup)?;
    client.dial()?;
    explain(
        &server,
        wait_for_log(&client, "pppd.log", "CHAP authentication failed"),
    )?;
    wait_until("no session is left", || {
        server.sessions().is_ok_and(|sessions| sessions.is_empty())
    })
}

pub fn secret_right(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(
        &lab,
        &Settings {
            secret: Some(SECRET),
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.secret = Some(SECRET.into());
    dialup.challenge = true;
    connect(&guest, &server, &dialup)?;
    explain(&server, ping_host_behind(&guest))
}

/// The client does not challenge, so that the server is the one to notice.
pub fn secret_wrong(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let server = Server::start(
        &lab,
        &Settings {
            secret: Some(SECRET),
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.secret = Some("another".into());
    let mut client = Client::start(&guest, &dialup)?;
    client.dial()?;
    // xl2tpd writes this when a StopCCN reaches it.
    explain(
        &server,
        wait_for_log(&client, "xl2tpd.log", "Connection closed to"),
    )?;
    let up = guest.run("ip link show ppp0")?.status == 0;
    expect_that(!up, || "the client came up with a wrong tunnel secret".to_owned())?;
    let said = server.log().to_lowercase();
    let why = said
        .lines()
        .any(|line| line.contains("secret") || line.contains("challenge response"));
    expect_that(why, || {
        format!(
            "the daemon's log does not say that the secret is wrong:\n{}",
            server.log()
        )
    })
}

/// Waits until pppd says that the server refused what it offered by this method.
pub fn wait_for_refusal(client: &Client, method: &str) -> Result<()> {
    let text = match method {
        "pap" => "PAP authentication failed",
        _ => "CHAP authentication failed",
    };
    wait_for_log(client, "pppd.log", text)
}

/// Waits until a log of the client contains a text.
fn wait_for_log(client: &Client, file: &str, text: &str) -> Result<()> {
    wait_until(&format!("{text:?} in the client's {file}"), || {
        client.guest.read(file).contains(text)
    })
    .map_err(|error| LabError::unmet(format!("{error}\n{}", client.logs())))
}

/// Waits for a condition.
fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + REFUSAL_LIMIT;
    while !holds() {
        if Instant::now() >= deadline {
            return Err(LabError::Timeout {
                what: what.to_owned(),
                after: REFUSAL_LIMIT,
            });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
