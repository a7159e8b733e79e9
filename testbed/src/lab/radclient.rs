//! Orders of a RADIUS server, given by Debian's `radclient`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::error::{LabError, Result};
use super::freeradius;
use super::namespace::Namespace;

/// Sends `coa` or `disconnect` with these attributes and the time, at most three seconds. What `radclient` prints.
pub fn order(
    namespace: Option<&Namespace>,
    target: SocketAddr,
    kind: &str,
    attributes: &str,
    secret: &str,
) -> Result<String> {
    send(
        freeradius::radclient(namespace)?,
        ("3", 1),
        target,
        kind,
        attributes,
        secret,
    )
}

/// The same in a namespace, where the very same packet is repeated every second, so many times at most.
pub fn repeat(
    namespace: &Namespace,
    target: SocketAddr,
    kind: &str,
    attributes: &str,
    secret: &str,
    times: u32,
) -> Result<String> {
    let command = freeradius::radclient(Some(namespace))?;
    send(command, ("1", times), target, kind, attributes, secret)
}

fn send(
    mut command: Command,
    (seconds, tries): (&str, u32),
    target: SocketAddr,
    kind: &str,
    attributes: &str,
    secret: &str,
) -> Result<String> {
    let failed = |error| LabError::io("radclient", error);
    command.args(["-x", "-t", seconds, "-r", &tries.to_string()]);
    command.args([&target.to_string(), kind, secret]);
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
