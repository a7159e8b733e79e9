//! FreeRADIUS judges a real pppd.

use std::net::Ipv4Addr;

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
