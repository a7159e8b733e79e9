//! Orders of a RADIUS server, given by Debian's `radclient`.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use super::Test;
use super::stage::{Stage, server};
use crate::daemon::unused_port;
use crate::lab::error::{LabError, Result};
use crate::lab::freeradius::{FreeRadius, SECRET};

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
        let said = ask(&radius, port, kind, attributes, secret)?;
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

/// What `radclient` prints.
fn ask(radius: &FreeRadius, port: u16, kind: &str, attributes: &str, secret: &str) -> Result<String> {
    let failed = |error| LabError::io("radclient", error);
    let target = format!("127.0.0.1:{port}");
    let mut command = radius.radclient()?;
    command.args(["-x", "-t", "3", "-r", "1", &target, kind, secret]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut radclient = command.spawn().map_err(failed)?;
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_err(LabError::unmet)?
        .as_secs();
    let mut input = radclient.stdin.take().expect("it was asked for");
    writeln!(input, "{attributes},Event-Timestamp={now}").map_err(failed)?;
    drop(input);
    let output = radclient.wait_with_output().map_err(failed)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}
