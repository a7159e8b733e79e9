//! The lab proves itself with xl2tpd as the LNS, so that a fault of the lab is not taken for one of Holdfast.

use std::thread;
use std::time::Duration;

use super::parallel::{LabTest, run_all};
use super::{Context, Outcome};
use crate::lab::behind::Transfer;
use crate::lab::dialup::{Client, Dialup};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::guest::Guest;
use crate::lab::image::Image;
use crate::lab::{BEHIND_ADDRESS, LNS_ADDRESS, Lab};

const TESTS: &[LabTest] = &[
    LabTest {
        name: "dial, hang up, dial again",
        guests: 2,
        run: dial_and_redial,
    },
    LabTest {
        name: "a client that loses its LNS is seen to go down",
        guests: 2,
        run: loss_is_seen,
    },
    LabTest {
        name: "transfers between a guest and the host behind",
        guests: 1,
        run: transfers,
    },
];

pub fn run(context: &Context) -> Outcome {
    match Image::prepare() {
        Ok(image) => run_all(&image, TESTS, &context.filter),
        Err(error) => Outcome::single("image", Err(error.to_string())),
    }
}

fn dial_and_redial(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let lns = start_lns(&lab)?;
    let guest = lab.boot_guest()?;
    let (mut client, interface) = Client::connect(&guest, &Dialup::new(lns.address, "alice", "right"))?;
    expect_that(interface.local.octets()[..3] == [100, 64, 0], || {
        format!("an address of the pool: {interface:?}")
    })?;
    guest.check(&format!("ping -c 3 -i 0.2 -W 2 {}", interface.peer))?;
    client.expect_undisturbed()?;
    client.hang_up()?;
    client.dial()?;
    client.wait_up().map(drop)
}

fn loss_is_seen(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let mut lns = start_lns(&lab)?;
    let guest = lab.boot_guest()?;
    let mut dialup = Dialup::new(lns.address, "alice", "right");
    dialup.ppp_options = vec!["lcp-echo-interval 1".into(), "lcp-echo-failure 2".into()];
    let (client, _) = Client::connect(&guest, &dialup)?;
    lns.cut_power();
    thread::sleep(Duration::from_secs(5));
    expect_that(client.expect_undisturbed().is_err(), || {
        "the loss of the LNS went unnoticed".to_owned()
    })
}

fn transfers(image: &Image) -> Result<()> {
    let lab = Lab::build(image)?;
    let guest = lab.boot_guest()?;
    guest.check(&format!("ip route add default via {LNS_ADDRESS}"))?;
    let length = 5_000_000;
    let source = Transfer::source(&lab, length)?;
    let seen = guest.check(&format!(
        "nc {BEHIND_ADDRESS} {} </dev/null | md5sum",
        source.port
    ))?;
    let sent = source.checksum()?;
    expect_that(seen.starts_with(&sent), || {
        format!("sent {sent}, the guest saw {seen}")
    })?;
    let sink = Transfer::sink(&lab)?;
    let script = format!(
        "head -c {length} /dev/urandom >/tmp/up; md5sum </tmp/up; nc {BEHIND_ADDRESS} {} </tmp/up",
        sink.port
    );
    let sent = guest.check(&script)?;
    let seen = sink.checksum()?;
    expect_that(sent.starts_with(&seen), || {
        format!("the guest sent {sent}, received {seen}")
    })
}

/// Boots a guest that is an LNS for the user "alice" with the password "right".
fn start_lns(lab: &Lab) -> Result<Guest> {
    let guest = lab.boot_guest()?;
    guest.write(
        "lns.conf",
        "[global]\nport = 1701\naccess control = no\n[lns default]\nip range = 100.64.0.10-100.64.0.20\n\
         local ip = 100.64.0.1\nppp debug = yes\nlength bit = yes\npppoptfile = /share/lns.options\n",
    )?;
    guest.write(
        "lns.options",
        "debug\nlogfile /share/pppd.log\nauth\nmtu 1400\nmru 1400\nlcp-restart 1\n",
    )?;
    guest
        .check(
            "echo 'alice * right *' >/etc/ppp/chap-secrets; chmod 600 /etc/ppp/chap-secrets\n\
         xl2tpd -D -c /share/lns.conf -p /run/xl2tpd.pid -C /run/xl2tpd/control >/share/xl2tpd.log 2>&1 &\n\
         until [ -p /run/xl2tpd/control ]; do sleep 0.05; done",
        )
        .map_err(|error| LabError::unmet(format!("{error}\n{}", guest.read("xl2tpd.log"))))?;
    Ok(guest)
}
