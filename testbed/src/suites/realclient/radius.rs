//! FreeRADIUS judges a real pppd.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::traffic::ping_from_behind;
use super::{connect, explain, ping_host_behind};
use crate::lab::dialup::{Client, Dialup};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::freeradius::{FreeRadius, SECRET};
use crate::lab::image::Image;
use crate::lab::server::{Server, Settings};
use crate::lab::{LNS_ADDRESS, Lab};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 77);
const PASSWORD: &str = "known to RADIUS alone";

pub fn pap(image: &Image) -> Result<()> {
    judged(image, &["pap"], "<auth pap>")
}

pub fn chap(image: &Image) -> Result<()> {
    judged(image, &["chap-md5"], "<auth chap MD5>")
}

pub fn ms_chap_v2(image: &Image) -> Result<()> {
    judged(image, &["ms-chap-v2"], "<auth chap MS-v2>")
}

/// Dials with the right password, and with a wrong one, where the server takes one method only, which pppd's log must name.
fn judged(image: &Image, auth: &'static [&'static str], in_log: &str) -> Result<()> {
    let lab = Lab::build(image)?;
    let users = format!("zoe Cleartext-Password := \"{PASSWORD}\"\n    Framed-IP-Address = {ADDRESS}\n");
    let radius = FreeRadius::start_in(&lab.lns, &users)?;
    let sections = format!("[[radius]]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n");
    let server = Server::start(
        &lab,
        &Settings {
            auth,
            sections,
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let dialup = Dialup::new(LNS_ADDRESS, "zoe", PASSWORD);
    let connected = connect(&guest, &server, &dialup);
    let (client, interface) =
        connected.map_err(|error| LabError::unmet(format!("{error}\n-- FreeRADIUS\n{}", radius.log())))?;
    expect_that(client.count_in_ppp_log(in_log) > 0, || {
        format!("no {in_log} in pppd's log\n{}", client.logs())
    })?;
    expect_that(interface.local == ADDRESS, || {
        format!("the address of the Accept: {interface:?}")
    })?;
    explain(&server, ping_host_behind(&guest))?;
    let stranger = lab.boot_guest()?;
    let mut client = Client::start(&stranger, &Dialup::new(LNS_ADDRESS, "zoe", "guessed"))?;
    client.dial()?;
    explain(&server, super::authentication::wait_for_refusal(&client, auth[0]))
}

/// A host behind the subscriber, in the network that the Accept routes to him.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 70);
const PRODUCT: &str = "    Framed-Route = \"192.0.2.64/28 0.0.0.0 1\",\n    WISPr-Bandwidth-Max-Up = 2000000,\n\
                           \x20   WISPr-Bandwidth-Max-Down = 8000000,\n    Session-Timeout = 12\n";
/// How long its end may take to be heard of.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A route, rates and a time that the session may last, all of an Access-Accept.
pub fn product(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let users = format!("zoe Cleartext-Password := \"{PASSWORD}\"\n{PRODUCT}");
    let radius = FreeRadius::start_in(&lab.lns, &users)?;
    let sections = format!("[[radius]]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n");
    let server = Server::start(
        &lab,
        &Settings {
            sections,
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &Dialup::new(LNS_ADDRESS, "zoe", PASSWORD))?;
    guest.check(&format!("ip addr add {HOST}/32 dev lo"))?;
    explain(
        &server,
        ping_from_behind(&lab, image, &format!("-c 3 -i 0.2 -W 2 {HOST}")).map(drop),
    )?;
    let sessions = server.sessions()?;
    let rates: Vec<_> = sessions
        .iter()
        .map(|session| (session.rate_up_bits_per_second, session.rate_down_bits_per_second))
        .collect();
    expect_that(rates == [(2_000_000, 8_000_000)], || format!("{sessions:?}"))?;
    // What is sent in one go is more than the burst, so some of it waits: all arrives in the end.
    let flood = format!("-c 40 -i 0.002 -s 1000 -W 5 {HOST}");
    explain(&server, ping_from_behind(&lab, image, &flood).map(drop))?;
    explain(&server, client.wait_down(END_LIMIT))?;
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let records = radius.accounting();
        let stop = records.iter().find(|record| record["Acct-Status-Type"] == "Stop");
        if let Some(stop) = stop {
            let cause = stop.get("Acct-Terminate-Cause").map(String::as_str);
            return expect_that(cause == Some("Session-Timeout"), || format!("the Stop: {stop:?}"));
        }
        expect_that(Instant::now() < deadline, || {
            format!("no Stop in\n{}\n{}", radius.records(), server.log())
        })?;
        std::thread::sleep(Duration::from_millis(100));
    }
}
