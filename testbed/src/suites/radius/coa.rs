//! Orders of a RADIUS server, given by Debian's `radclient`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Test;
use super::stage::{Stage, server};
use crate::daemon::unused_port;
use crate::lab::error::{LabError, Result};
use crate::lab::freeradius::{FreeRadius, SECRET};
use crate::lab::radclient;

pub(super) const TESTS: &[Test] = &[Test {
    name: "radclient: change, refusals, disconnect",
    run: orders,
}];

const USERS: &str = "ada Cleartext-Password := \"secret\"\n    Class = 0x676f6c64\n";

/// How long accounting may take to hear of the end.
const LIMIT: Duration = Duration::from_secs(30);

fn orders(program: &Path) -> Result<()> {
    let radius = FreeRadius::start(USERS)?;
    let port = unused_port().map_err(|error| LabError::io("port", error))?;
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    let coa = format!(
        "[coa]\nlisten = [\"127.0.0.1:{port}\"]\n[[coa_client]]\naddress = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n"
    );
    let sections = server(radius.auth_port, radius.acct_port, SECRET, "") + &coa;
    let stage = Stage::open(program, &sections)?;
    let (_ada, _) = stage.expect_up("ada")?;
    let change = "Session-Timeout=3600,WISPr-Bandwidth-Max-Down=2000000,Class=0x73696c766572";
    for (kind, attributes, secret, expected) in [
        (
            "disconnect",
            "User-Name=eve",
            SECRET,
            "Error-Cause = Session-Context-Not-Found",
        ),
        (
            "coa",
            &format!("User-Name=ada,{change}"),
            SECRET,
            "Received CoA-ACK",
        ),
        // S-158
        (
            "coa",
            "User-Name=ada,Class=0x62726f6e7a65,Framed-Pool=x",
            SECRET,
            "Error-Cause = Unsupported-Attribute",
        ),
        ("disconnect", "User-Name=ada", "another-secret", "No reply"),
        (
            "disconnect",
            "User-Name=ada",
            SECRET,
            "Acct-Terminate-Cause = Admin-Reset",
        ),
    ] {
        let said = radclient::order(None, target, kind, attributes, secret)?;
        stage.expect(said.contains(expected), || {
            format!("{kind} {attributes}: no \"{expected}\" in\n{said}")
        })?;
    }
    let begun = Instant::now();
    while !radius.records().contains("Acct-Status-Type = Stop") && begun.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(100));
    }
    let records = radius.records();
    let stop = records
        .split("Acct-Status-Type = Stop")
        .nth(1)
        .unwrap_or_default();
    stage.expect(
        stop.contains("Acct-Terminate-Cause = Admin-Reset") && records.contains("Class = 0x73696c766572"),
        || format!("the Stop of a session that was changed and ended:\n{records}"),
    )
}
