//! A walled garden around a real client: FreeRADIUS puts him into it, `radclient` lets him out and in again.

use std::net::SocketAddr;
use std::time::Duration;

use super::{connect, explain, ping_host_behind};
use crate::lab::behind::Transfer;
use crate::lab::dialup::Dialup;
use crate::lab::error::{Result, expect_that};
use crate::lab::freeradius::{FreeRadius, SECRET};
use crate::lab::guest::Guest;
use crate::lab::image::Image;
use crate::lab::radclient;
use crate::lab::server::{Server, Settings};
use crate::lab::{BEHIND_ADDRESS, LNS_ADDRESS, Lab};

const PASSWORD: &str = "unpaid";
const PORTAL: &str = "http://portal.example.net/pay";
const COA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3799);
const OCTETS: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(30);

pub fn switched(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let users = format!("zoe Cleartext-Password := \"{PASSWORD}\"\n    Filter-Id = \"garden\"\n");
    let _radius = FreeRadius::start_in(&lab.lns, &users)?;
    let mut server = Server::start(
        &lab,
        &Settings {
            sections: sections(),
            ..Settings::default()
        },
    )?;
    let guest = lab.boot_guest()?;
    let (client, _) = connect(&guest, &server, &Dialup::new(LNS_ADDRESS, "zoe", PASSWORD))?;
    explain(&server, expect_inside(&lab, &guest))?;
    order(&lab, "open")?;
    explain(&server, ping_host_behind(&guest))?;
    let page = ask_for_page(&guest)?;
    expect_that(!page.contains("Location"), || {
        format!("let out, and still sent away: {page}")
    })?;
    order(&lab, "garden")?;
    explain(&server, expect_inside(&lab, &guest))?;
    server.kill();
    server.resume()?;
    explain(&server, expect_inside(&lab, &guest))?;
    client.expect_undisturbed()
}

/// The garden has the high ports of the host behind; "open" lets out.
fn sections() -> String {
    format!(
        "[[radius]]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n\
         [coa]\nlisten = [\"{COA}\"]\n[[coa_client]]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n\
         [[filter]]\nname = \"garden\"\nportal = \"{PORTAL}\"\n\
         rules = [\"permit both tcp from any to {BEHIND_ADDRESS} 1024-65535\"]\n\
         [[filter]]\nname = \"open\"\nrules = []\n"
    )
}

fn order(lab: &Lab, filter: &str) -> Result<()> {
    let attributes = format!("User-Name=zoe,Filter-Id={filter}");
    let said = radclient::order(Some(&lab.lns), COA, "coa", &attributes, SECRET)?;
    expect_that(said.contains("Received CoA-ACK"), || format!("{filter}: {said}"))
}

/// What is listed can be reached, pages are the portal's, and the rest is prohibited.
fn expect_inside(lab: &Lab, guest: &Guest) -> Result<()> {
    let ping = guest.start(&format!("ping -c 2 -i 0.2 -W 2 {BEHIND_ADDRESS}"))?;
    let ping = guest.finish(ping, LIMIT)?;
    expect_that(
        ping.status != 0 && ping.stdout.contains("Packet filtered"),
        || format!("a ping out of the garden: {ping:?}"),
    )?;
    let page = ask_for_page(guest)?;
    expect_that(
        page.starts_with("HTTP/1.1 302 Found") && page.contains(&format!("Location: {PORTAL}\r\n")),
        || format!("asked for a page, and got {page:?}"),
    )?;
    let source = Transfer::source(lab, OCTETS)?;
    let script = format!("nc {BEHIND_ADDRESS} {} </dev/null | md5sum", source.port);
    let seen = guest.finish(guest.start(&script)?, LIMIT)?.stdout;
    let sent = source.checksum()?;
    expect_that(seen.starts_with(&sent), || {
        format!("sent {sent}, the client saw {seen}")
    })
}

/// What a request for a page brings.
fn ask_for_page(guest: &Guest) -> Result<String> {
    let request = "GET /news HTTP/1.1\\r\\nHost: example.org\\r\\n\\r\\n";
    let script = format!("printf '{request}' | nc -w 5 {BEHIND_ADDRESS} 80");
    Ok(guest.finish(guest.start(&script)?, LIMIT)?.stdout)
}
