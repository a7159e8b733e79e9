//! xl2tpd and pppd on the real kernel's PPP against Holdfast. Each test has a lab and a daemon of its own.

mod authentication;
mod garden;
mod ipv6;
mod radius;
mod redial;
mod restart;
mod traffic;

use super::parallel::{LabTest, run_all};
use super::{Context, Outcome, cargo};
use crate::lab::dialup::{Client, Dialup, Interface};
use crate::lab::error::{LabError, Result};
use crate::lab::guest::Guest;
use crate::lab::image::Image;
use crate::lab::server::{PASSWORD, Server, USERS};
use crate::lab::{BEHIND_ADDRESS, LNS_ADDRESS};

const TESTS: &[LabTest] = &[
    LabTest {
        name: "PAP",
        guests: 1,
        run: authentication::pap,
    },
    LabTest {
        name: "CHAP",
        guests: 1,
        run: authentication::chap,
    },
    LabTest {
        name: "MS-CHAPv2",
        guests: 1,
        run: authentication::ms_chap_v2,
    },
    LabTest {
        name: "wrong password",
        guests: 1,
        run: authentication::wrong_password,
    },
    LabTest {
        name: "FreeRADIUS: PAP",
        guests: 2,
        run: radius::pap,
    },
    LabTest {
        name: "FreeRADIUS: CHAP",
        guests: 2,
        run: radius::chap,
    },
    LabTest {
        name: "FreeRADIUS: MS-CHAPv2",
        guests: 2,
        run: radius::ms_chap_v2,
    },
    LabTest {
        name: "FreeRADIUS: route, rates, Session-Timeout",
        guests: 1,
        run: radius::product,
    },
    LabTest {
        name: "FreeRADIUS: walled garden, switched by CoA",
        guests: 1,
        run: garden::switched,
    },
    LabTest {
        name: "tunnel secret right",
        guests: 1,
        run: authentication::secret_right,
    },
    LabTest {
        name: "tunnel secret wrong",
        guests: 1,
        run: authentication::secret_wrong,
    },
    LabTest {
        name: "ping a host behind the LNS",
        guests: 1,
        run: traffic::ping_behind,
    },
    LabTest {
        name: "50 MB over TCP each way",
        guests: 1,
        run: traffic::transfer_both_ways,
    },
    LabTest {
        name: "MRU 1400, large pings",
        guests: 1,
        run: traffic::mru_1400,
    },
    LabTest {
        name: "MRU 1492, large pings",
        guests: 1,
        run: traffic::mru_1492,
    },
    LabTest {
        name: "four clients at once",
        guests: 4,
        run: traffic::four_clients,
    },
    LabTest {
        name: "IPv6: RA-learned address, ping both ways",
        guests: 1,
        run: ipv6::advertised,
    },
    LabTest {
        name: "IPv6: prefix delegation",
        guests: 1,
        run: ipv6::delegated,
    },
    LabTest {
        name: "IPv6 alone",
        guests: 1,
        run: ipv6::alone,
    },
    LabTest {
        name: "IPv6 asked for and not there",
        guests: 1,
        run: ipv6::not_there,
    },
    LabTest {
        name: "IPv6: kill -9 and start again",
        guests: 1,
        run: ipv6::kill,
    },
    LabTest {
        name: "hang up and redial",
        guests: 1,
        run: redial::hang_up,
    },
    LabTest {
        name: "vanish, redial from the same address and port",
        guests: 2,
        run: redial::vanish,
    },
    LabTest {
        name: "the same with a fixed address",
        guests: 2,
        run: redial::vanish_with_fixed_address,
    },
    LabTest {
        name: "kill -9 and start again",
        guests: 1,
        run: restart::kill,
    },
    LabTest {
        name: "SIGTERM and start again",
        guests: 1,
        run: restart::terminate,
    },
    LabTest {
        name: "kill -9 in a ping flood",
        guests: 1,
        run: restart::kill_in_flood,
    },
];

pub fn run(context: &Context) -> Outcome {
    if let Err(output) = cargo::succeed(
        &context.workspace,
        &["build", "--release", "--workspace", "--bin", "holdfast"],
    ) {
        return Outcome::single("build of holdfast", Err(output));
    }
    match Image::prepare() {
        Ok(image) => run_all(&image, TESTS, &context.filter),
        Err(error) => Outcome::single("image", Err(error.to_string())),
    }
}

/// The dial-up of one of the configured users.
fn subscriber(number: usize) -> Dialup {
    Dialup::new(LNS_ADDRESS, USERS[number], PASSWORD)
}

/// Dials; a failure brings the daemon's log along.
fn connect<'g>(guest: &'g Guest, server: &Server, dialup: &Dialup) -> Result<(Client<'g>, Interface)> {
    explain(server, Client::connect(guest, dialup))
}

/// Adds the daemon's log to a failure.
fn explain<T>(server: &Server, result: Result<T>) -> Result<T> {
    result.map_err(|error| LabError::unmet(format!("{error}\n-- holdfast\n{}", server.log())))
}

/// Pings the host behind the LNS three times; every one must be answered.
fn ping_host_behind(guest: &Guest) -> Result<()> {
    guest
        .check(&format!("ping -c 3 -i 0.2 -W 2 {BEHIND_ADDRESS}"))
        .map(drop)
}
