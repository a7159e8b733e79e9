//! Holdfast itself in the lab's LNS namespace: configured, started, killed, asked.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use holdfast::api::types::SessionInfo;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::error::{LabError, Result};
use super::process::{POLL, ProcessGroup, own_program, run};
use super::{LNS_ADDRESS, Lab};

const START_LIMIT: Duration = Duration::from_secs(15);
/// SIGTERM only has to write what is not yet written.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A subscriber's password; the user names are those of [`USERS`].
pub const PASSWORD: &str = "correct horse";
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// A further user, who gets the same address every time and so has one session at most.
pub const FIXED_USER: &str = "erin";
pub const FIXED_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 200);
/// A user without IPv4.
pub const IPV6_USER: &str = "frank";
/// Where links have their /64 from, where delegated prefixes come from, and the name server told, where there is IPv6.
pub const LINK_POOL: &str = "2001:db8:100::/48";
pub const DELEGATED_POOL: &str = "2001:db8:200::/40";
pub const DNS6: &str = "2001:db8:ff::53";

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Authentication methods, by the names the configuration has for them.
    pub auth: &'static [&'static str],
    /// The tunnel secret; with one, the server challenges the client.
    pub secret: Option<&'static str>,
    /// Octets.
    pub mru: u16,
    /// Whether the pool has IPv6.
    pub ipv6: bool,
    /// Further sections of the configuration.
    pub sections: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auth: &["chap-md5", "ms-chap-v2", "pap"],
            secret: None,
            mru: 1492,
            ipv6: false,
            sections: String::new(),
        }
    }
}

/// A daemon on data of its own; dropping it kills it.
#[derive(Debug)]
pub struct Server<'a> {
    lab: &'a Lab,
    process: Option<ProcessGroup>,
    log: PathBuf,
}

impl<'a> Server<'a> {
    /// Writes the configuration and starts the daemon; returns when it answers on its operator's socket.
    pub fn start(lab: &'a Lab, settings: &Settings) -> Result<Self> {
        let path = configuration_path(lab);
        fs::write(&path, configuration(lab, settings)).map_err(|source| LabError::io(&path, source))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|source| LabError::io(&path, source))?;
        let mut server = Self {
            lab,
            process: None,
            log: lab.directory().join("holdfast.log"),
        };
        server.resume()?;
        Ok(server)
    }

    /// Starts the daemon again on the data it has.
    pub fn resume(&mut self) -> Result<()> {
        let failed = |source| LabError::io(&self.log, source);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed)?;
        let mut command = self.lab.lns.command(program());
        command
            .args(["run", "--config"])
            .arg(configuration_path(self.lab));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        self.process = Some(ProcessGroup::spawn(&mut command)?);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.process.as_mut().and_then(ProcessGroup::status) {
                return Err(LabError::unmet(format!(
                    "holdfast ended with {status} at its start\n{}",
                    self.log()
                )));
            }
            match self.ask(&["status", "--json"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(LabError::unmet(format!(
                        "holdfast does not answer: {error}\n{}",
                        self.log()
                    )));
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; returns how it ended and after what time.
    pub fn terminate(&mut self) -> Result<(ExitStatus, Duration)> {
        let mut process = self
            .process
            .take()
            .ok_or_else(|| LabError::unmet("holdfast is not running"))?;
        let start = Instant::now();
        process.signal(Signal::SIGTERM)?;
        let status = process
            .wait(STOP_LIMIT)
            .map_err(|error| LabError::unmet(format!("{error}\n{}", self.log())))?;
        Ok((status, start.elapsed()))
    }

    /// What an operator's command with `--json` prints.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.lab.lns.command(program());
        let text = run(command
            .args(arguments)
            .arg("--config")
            .arg(configuration_path(self.lab)))?;
        serde_json::from_str(&text).map_err(|error| {
            LabError::unmet(format!("`holdfast {}`: {error} in {text:?}", arguments.join(" ")))
        })
    }

    /// The sessions, by `holdfast sessions --json`.
    pub fn sessions(&self) -> Result<Vec<SessionInfo>> {
        let answer = self.ask(&["sessions", "--json"])?;
        serde_json::from_value(answer.clone())
            .map_err(|error| LabError::unmet(format!("`holdfast sessions --json`: {error} in {answer}")))
    }

    /// What the daemon has logged in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The daemon's program, built beside this one.
fn program() -> PathBuf {
    own_program().with_file_name("holdfast")
}

fn configuration_path(lab: &Lab) -> PathBuf {
    lab.directory().join("holdfast.toml")
}

fn configuration(lab: &Lab, settings: &Settings) -> String {
    let directory = lab.directory().display();
    let mut text = format!(
        r#"[node]
name = "lab"
data_dir = "{directory}/data"
listen = ["{LNS_ADDRESS}:1701"]
shards = 2

[tun]
enabled = "always"

[log]
level = "info"

[api]
socket = "{directory}/holdfast.sock"

[ppp]
mru = {mru}
mtu = {mru}
auth = {auth:?}

{dns6}
[[pool]]
name = "default"
prefixes = ["100.64.0.0/24"]
{prefixes}

[[lac]]
name = "any"
host_name = "*"
"#,
        mru = settings.mru,
        auth = settings.auth,
        dns6 = if settings.ipv6 {
            format!("dns6 = [{DNS6:?}]\n")
        } else {
            String::new()
        },
        prefixes = if settings.ipv6 {
            format!("link_prefixes = [{LINK_POOL:?}]\ndelegated_prefixes = [{DELEGATED_POOL:?}]\n")
        } else {
            String::new()
        },
    );
    if let Some(secret) = settings.secret {
        writeln!(text, "secret = {secret:?}\nrequire_challenge = true")
            .expect("writing to a string cannot fail");
    }
    for user in USERS.into_iter().chain([FIXED_USER]) {
        writeln!(text, "\n[[user]]\nname = {user:?}\npassword = {PASSWORD:?}")
            .expect("writing to a string cannot fail");
    }
    writeln!(text, "address = \"{FIXED_ADDRESS}\"").expect("writing to a string cannot fail");
    writeln!(
        text,
        "\n[[user]]\nname = {IPV6_USER:?}\npassword = {PASSWORD:?}\nipv4 = false"
    )
    .expect("writing to a string cannot fail");
    text.push_str(&settings.sections);
    text
}
