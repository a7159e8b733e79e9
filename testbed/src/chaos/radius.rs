//! FreeRADIUS in the core, and a relay of ours in front of it that can withhold what it answers.
//!
//! The server listens on the core's loopback, the relay where the nodes ask. What the server has written down of the
//! requests is what counts; the relay only says when which node has asked, and holds the moment.

mod judge;
mod records;
mod relay;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

pub use judge::Living;
pub use relay::Held;
use relay::Relay;

use super::bed::CORE;
use super::error::Result;
use crate::lab::LabError;
use crate::lab::freeradius::{FreeRadius, SECRET, radclient};
use crate::lab::namespace::Namespace;
use crate::node_config::USER;

/// The simulated subscribers' names and their password.
pub const LOGIN: (&str, &str) = ("u%", "secret");
/// Where nodes listen for orders.
const COA_PORT: u16 = 3799;
/// Every so many subscribers one has an address of the server's, outside all pools.
const FIXED_EVERY: u32 = 4;
/// The first of those addresses.
const FIRST_FIXED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// See the module; dropped, both are gone.
#[derive(Debug)]
pub struct Radius {
    pub relay: Relay,
    server: FreeRadius,
}

/// What a node's configuration says of it.
pub fn sections(node: u8) -> String {
    format!(
        r#"[[radius]]
address = "{CORE}"
secret = "{SECRET}"
timeout = "1s"

[coa]
listen = ["{}"]

[[coa_client]]
address = "{CORE}"
secret = "{SECRET}"

"#,
        coa_address(node)
    )
}

/// Where a node takes orders.
fn coa_address(node: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 2, node, 2), COA_PORT)
}

/// The name of a simulated subscriber.
pub fn name_of(subscriber: u32) -> String {
    LOGIN.0.replace('%', &subscriber.to_string())
}

/// The address that a subscriber always gets, if he does.
fn fixed(subscriber: u32) -> Option<Ipv4Addr> {
    let is_fixed = subscriber.is_multiple_of(FIXED_EVERY);
    is_fixed.then(|| Ipv4Addr::from(u32::from(FIRST_FIXED) + subscriber / FIXED_EVERY))
}

/// The server's `users` file. The shortest interim interval is a minute.
fn users(subscribers: u32) -> String {
    let mut text = format!("{USER} Cleartext-Password := \"{USER}\"\n    Acct-Interim-Interval = 60\n\n");
    for subscriber in 0..subscribers {
        let (name, password) = (name_of(subscriber), LOGIN.1);
        let address = fixed(subscriber).map(|address| format!("    Framed-IP-Address = {address},\n"));
        write!(
            text,
            "{name} Cleartext-Password := \"{password}\"\n{}    Class = \"{name}\",\n    Acct-Interim-Interval = 60\n\n",
            address.unwrap_or_default()
        )
        .expect("writing to a string cannot fail");
    }
    text
}

impl Radius {
    /// Starts both in the core, which `router` leads to, for so many simulated subscribers.
    pub fn start(core: &Namespace, router: &Namespace, subscribers: u32) -> Result<Self> {
        // A node may ask from its address on the other side.
        router.ip("route add 10.1.0.0/16 via 10.30.0.1")?;
        Ok(Self {
            server: FreeRadius::start_in(core, &users(subscribers))?,
            relay: Relay::start(core, CORE)?,
        })
    }

    /// Every accounting record that the server has taken, in their order.
    fn records(&self) -> Vec<records::Record> {
        records::parse(&self.server.records())
    }

    /// What the server has yet to hear of those who are in and of those who are not.
    pub fn missing(&self, living: &Living) -> Vec<String> {
        judge::missing(&self.records(), living)
    }

    /// What the server was told and should not have been.
    pub fn wrong(&self, living: &Living) -> Vec<String> {
        judge::wrong(&self.records(), living)
    }

    /// Writes down what the server and the relay have seen, for whoever looks into a failure.
    pub fn write_down(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("radius-requests"), self.server.requests())?;
        std::fs::write(folder.join("radius-records"), self.server.records())?;
        std::fs::write(folder.join("radius-relay"), self.relay.history())?;
        Ok(())
    }

    /// What Debian's `radclient` prints, once it has an answer or none has come to three requests.
    pub fn order(&self, core: &Namespace, node: u8, kind: &str, attributes: &str) -> Result<String> {
        let mut command = radclient(Some(core))?;
        let target = coa_address(node).to_string();
        command.args(["-x", "-t", "2", "-r", "3", &target, kind, SECRET]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut radclient = command.spawn()?;
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_err(LabError::unmet)?
            .as_secs();
        let mut input = radclient.stdin.take().expect("it was asked for");
        writeln!(input, "{attributes},Event-Timestamp={now}")?;
        drop(input);
        let output = radclient.wait_with_output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}
