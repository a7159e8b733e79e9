//! BIRD 2 on a router or beside a node, in the foreground and in a namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::error::{Error, Result};
use crate::lab::namespace::Namespace;
use crate::lab::process::{POLL, ProcessGroup, run};

/// The nodes' autonomous system, and that of the two routers.
pub const NODES_AS: u32 = 65001;
pub const ROUTERS_AS: u32 = 65000;
/// Seconds; BFD is what counts.
const HOLD_TIME: u32 = 9;
/// How long BIRD may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Missed BFD packets after which a neighbour counts as gone.
const MULTIPLIER: u32 = 3;

/// A running BIRD; dropped, it is killed.
#[derive(Debug)]
pub struct Speaker {
    process: ProcessGroup,
    control: PathBuf,
}

impl Speaker {
    /// Starts BIRD with `configuration`; its files in `folder` begin with `name`.
    pub fn start(namespace: &Namespace, folder: &Path, name: &str, configuration: &str) -> Result<Self> {
        let file = folder.join(format!("{name}.conf"));
        fs::write(&file, configuration)?;
        let control = folder.join(format!("{name}.ctl"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))?;
        let mut command = namespace.command("bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut speaker = Self {
            process: ProcessGroup::spawn(&mut command)?,
            control,
        };
        let deadline = Instant::now() + START_LIMIT;
        while let Err(error) = speaker.ask(&["show", "status"]) {
            if speaker.process.status().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(folder.join(format!("{name}.log")))?;
                return Err(Error::Unmet(format!("BIRD of {name}: {error}\n{log}")));
            }
            std::thread::sleep(POLL);
        }
        Ok(speaker)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(self.process.signal(signal)?)
    }

    /// What `birdc` answers.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(&self.control).args(arguments);
        Ok(run(&mut command)?)
    }
}

/// What router 2 has besides where there is IPv6: the nodes' prefixes for the core, and everything else for the nodes.
pub fn router6(number: u8, neighbours: &str) -> String {
    format!(
        r#"protocol static {{ ipv6; route ::/0 unreachable; }}
protocol kernel {{ merge paths on limit 16; ipv6 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp lns6 {{
  local as {ROUTERS_AS}; neighbor range {neighbours} as {NODES_AS}; dynamic name "six{number}n"; passive on;
  hold time {HOLD_TIME}; keepalive time 3; graceful restart off; error wait time 1, 2; bfd on;
  ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"#
    )
}

/// The configuration of router 1 (towards the LACs) or 2 (towards the core). Each offers the other's side with a longer path, as
/// long as it has the link to the other router.
pub fn router(number: u8, bfd_ms: u32) -> String {
    let sides = ["10.10.0.0/16", "0.0.0.0/0"];
    let [near, far] = if number == 1 { sides } else { [sides[1], sides[0]] };
    let other = 3 - number;
    format!(
        r#"router id 10.{number}.0.254;
protocol device {{ scan time 10; }}
protocol bfd {{ interface "n*" {{ interval {bfd_ms} ms; multiplier {MULTIPLIER}; }}; }}
protocol static {{ check link yes; ipv4; route {near} unreachable; route {far} via 10.30.0.{other}; }}
filter sides {{
  if source != RTS_STATIC then reject;
  if net = {far} then {{ bgp_path.prepend({ROUTERS_AS}); bgp_path.prepend({ROUTERS_AS}); }}
  accept;
}}
protocol kernel {{ merge paths on limit 16; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp lns {{
  local as {ROUTERS_AS}; neighbor range 10.{number}.0.0/16 as {NODES_AS}; dynamic name "lns"; passive on;
  hold time {HOLD_TIME}; keepalive time 3; graceful restart off; error wait time 1, 2; bfd on;
  ipv4 {{ import all; export filter sides; next hop self; }};
}}
"#
    )
}
