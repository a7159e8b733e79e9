//! One node: its namespace, its process, the BIRD beside it, and how to ask it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::api::types::SessionInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::bed::{ANYCAST, POOL, router6};
use super::error::{Error, Result};
use super::scenarios::site;
use super::slow_disk;
use super::speaker::{NODES_AS, ROUTERS_AS, Speaker};
use crate::daemon::Daemon;
use crate::lab::namespace::Namespace;
use crate::lab::process::run;
use crate::lab::server::{DELEGATED_POOL, LINK_POOL};
use crate::node_config::{self, Settings};

/// How long a node may take until it answers on its operator's socket.
const START_LIMIT: Duration = Duration::from_secs(20);
/// `state` of a member that answers.
const ALIVE: &str = "alive";
/// Entries that a member may be behind and count as caught up: HELLOs make new ones all the time.
const MAX_BEHIND: u64 = 500;
/// How long a killed process, and the parent that watches over it, may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// What all nodes of a bed have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The `holdfast` program.
    pub program: PathBuf,
    /// The bed's folder.
    pub folder: PathBuf,
    pub bfd_ms: u32,
    /// To be preloaded; see [`slow_disk`].
    pub slow_disk: PathBuf,
    /// The pool has prefixes, and the router towards the core is told of them.
    pub ipv6: bool,
    /// Further sections of every node's configuration.
    pub sections: String,
}

impl Common {
    /// `[anycast]` of a node.
    fn anycast_section(&self, id: u8) -> String {
        let (bfd_ms, socket) = (self.bfd_ms, self.folder.join(format!("n{id}.ctl")));
        let neighbour6 = match self.ipv6 {
            true => format!(", \"{}\"", router6(id)),
            false => String::new(),
        };
        format!(
            r#"[anycast]
addresses = ["{ANYCAST}"]
local_as = {NODES_AS}
neighbour_as = {ROUTERS_AS}
neighbours = ["10.1.{id}.1", "10.2.{id}.1"{neighbour6}]
bfd_interval = "{bfd_ms}ms"
router_id = "10.0.0.{id}"
bird_socket = "{socket}"

"#,
            socket = socket.display()
        )
    }
}

/// One node; dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    pub id: u8,
    /// It votes and owns nothing.
    pub witness: bool,
    daemon: Daemon,
    speaker: Option<Speaker>,
    common: Common,
    config: PathBuf,
    /// While this file exists the node's disk is slow.
    slow: PathBuf,
    pub namespace: Namespace,
}

/// `holdfast cluster status --json`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct View {
    /// 0: none is known.
    pub leader: u8,
    pub term: u64,
    pub groups_without_owner: u32,
    /// Groups that an order is about to move.
    pub groups_moved: u32,
    /// Version of commands and rows that the table uses.
    pub table_version: u32,
    /// Rows with the newer version's field in this node's table; the older program does not know of any.
    pub rows_of_next_version: Option<u64>,
    pub nodes: Vec<Member>,
}

/// One line of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    pub id: u8,
    pub state: String,
    pub witness: bool,
    /// It says that it has lost its way to the LACs.
    pub no_way_to_lacs: bool,
    /// Groups that it owns.
    pub groups: u32,
    /// Entries that it lacks of what the furthest node has applied; none: it was never heard.
    pub behind: Option<u64>,
}

/// A line of `holdfast tunnels --json`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TunnelInfo {
    /// Our id.
    pub tunnel_id: u16,
    /// Address and port of the LAC, and its id of the tunnel.
    pub peer: String,
    pub peer_tunnel_id: u16,
    /// The node that owns it; 0: the one that answers.
    pub owner: u64,
}

impl View {
    /// Whether one leads, all live, every group has its owner and nobody is far behind.
    pub fn is_settled(&self) -> bool {
        let near = |member: &Member| member.behind.is_some_and(|behind| behind <= MAX_BEHIND);
        let well = |member: &Member| member.state == ALIVE && near(member);
        self.leader != 0 && self.groups_without_owner + self.groups_moved == 0 && self.nodes.iter().all(well)
    }
}

impl Node {
    /// Writes the configuration; `sections` are those of the cluster. Starts nothing yet.
    ///
    /// A witness serves nobody: no LAC reaches it, and no BIRD runs beside it.
    pub fn new(id: u8, namespace: Namespace, common: &Common, sections: &str, witness: bool) -> Result<Self> {
        let folder = common.folder.join(format!("node{id}"));
        fs::create_dir_all(&folder)?;
        let own = if witness { Ipv4Addr::LOCALHOST } else { ANYCAST };
        let address = (own, 1701).into();
        let config = folder.join("holdfast.toml");
        let arguments = arguments(&namespace, &common.program, &config);
        let mut daemon = Daemon::new(Path::new("ip"), arguments, address, folder.join("log"));
        let slow = folder.join("slow");
        daemon.set_environment("LD_PRELOAD", &common.slow_disk.display().to_string());
        daemon.set_environment(slow_disk::VARIABLE, &slow.display().to_string());
        let node = Self {
            id,
            witness,
            daemon,
            speaker: None,
            common: common.clone(),
            config,
            slow,
            namespace,
        };
        node.configure(sections)?;
        Ok(node)
    }

    /// From the next start on the node runs this program.
    pub fn set_program(&mut self, program: &Path) {
        self.common.program = program.to_owned();
        let arguments = arguments(&self.namespace, program, &self.config);
        self.daemon.set_arguments(arguments);
    }

    /// Waits for a process that is to end by itself, and not well; what it has printed since `offset`.
    pub fn wait_refusal(&mut self, offset: usize) -> Result<String> {
        let status = self.daemon.wait_end(START_LIMIT)?;
        let (printed, _) = self.printed_since(offset);
        match status {
            Some(status) if !status.success() => Ok(printed),
            other => Err(Error::Unmet(format!(
                "node {} was to end by itself and did not: {other:?}\n{printed}",
                self.id
            ))),
        }
    }

    /// Writes the configuration with these sections of the cluster, which count from the next start on.
    pub fn configure(&self, sections: &str) -> Result<()> {
        let anycast = if self.witness {
            String::new()
        } else {
            self.common.anycast_section(self.id)
        };
        let settings = Settings {
            id: u64::from(self.id),
            shards: 1,
            tun: "always",
            pool: POOL,
            pool_lines: match self.common.ipv6 {
                true => {
                    format!("link_prefixes = [{LINK_POOL:?}]\ndelegated_prefixes = [{DELEGATED_POOL:?}]\n")
                }
                false => String::new(),
            },
            sections: anycast + site::USERS + &self.common.sections + sections,
            ..Settings::default()
        };
        let folder = self.common.folder.join(format!("node{}", self.id));
        let text = node_config::config(&folder, &folder.join("data"), self.daemon.address(), &settings);
        fs::write(&self.config, text)?;
        fs::set_permissions(&self.config, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// Starts the process and waits until it answers; BIRD too, if it does not run.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) -> Result<()> {
        self.daemon.spawn()?;
        self.start_speaker()
    }

    /// Waits until the process answers on its operator's socket.
    pub fn wait_ready(&mut self) -> Result<()> {
        self.daemon.wait_listening()?;
        let deadline = Instant::now() + START_LIMIT;
        while let Err(error) = self.ask(&["status"]) {
            if Instant::now() > deadline {
                return Err(Error::Unmet(format!("{error}\n{}", self.daemon.tail())));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub fn start_speaker(&mut self) -> Result<()> {
        if self.speaker.is_none() && !self.witness {
            let configuration = self.speaker_configuration()?;
            let name = format!("n{}", self.id);
            let speaker = Speaker::start(&self.namespace, &self.common.folder, &name, &configuration)?;
            self.speaker = Some(speaker);
        }
        Ok(())
    }

    fn speaker_configuration(&self) -> Result<String> {
        let mut command = std::process::Command::new(&self.common.program);
        command
            .args(["anycast", "bird-config", "--config"])
            .arg(&self.config);
        Ok(run(&mut command)?)
    }

    /// BIRD dies without a word.
    pub fn kill_speaker(&mut self) {
        self.speaker = None;
    }

    /// `kill -9` of the process that serves, and waits until its parent is gone too.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.daemon.wait_end(Duration::ZERO)? {
            let (id, tail) = (self.id, self.daemon.tail());
            return Err(Error::Unmet(format!("node {id} had ended with {status}\n{tail}")));
        }
        self.signal(Signal::SIGKILL)?;
        self.reap()
    }

    /// Its disk is slow from here on, or well again.
    pub fn set_slow_disk(&self, slow: bool) -> Result<()> {
        slow_disk::set(&self.slow, slow)
    }

    /// Its disk is lost.
    pub fn lose_data(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.config.with_file_name("data"))?)
    }

    /// Waits for a process that was killed.
    pub fn reap(&mut self) -> Result<()> {
        if !self.daemon.wait_gone(END_LIMIT)? {
            self.daemon.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> Result<()> {
        let status = self.daemon.terminate()?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Unmet(format!(
                "node {} ended with {status} on SIGTERM",
                self.id
            )))
        }
    }

    /// A signal to the process that serves.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .ok_or_else(|| Error::Unmet(format!("node {} does not run", self.id)))?;
        kill(Pid::from_raw(pid.cast_signed()), signal).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// A signal to BIRD.
    pub fn signal_speaker(&self, signal: Signal) -> Result<()> {
        self.speaker
            .as_ref()
            .map_or(Ok(()), |speaker| speaker.signal(signal))
    }

    /// The process that serves: the child, where a parent watches over it.
    pub fn pid(&self) -> Option<u32> {
        let first = self.daemon.pid()?;
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let child = children.split_whitespace().find_map(|child| child.parse().ok());
        Some(child.unwrap_or(first))
    }

    /// What the node has printed from an offset on, and where that ends.
    pub fn printed_since(&self, offset: usize) -> (String, usize) {
        let mut printed = self.daemon.printed().unwrap_or_default();
        let end = printed.len();
        (printed.split_off(offset.min(end)), end)
    }

    /// Waits for a process that someone else has killed; whether that came about.
    pub fn wait_gone(&mut self, within: Duration) -> Result<bool> {
        Ok(self.daemon.wait_gone(within)?)
    }

    /// What an operator's command prints with `--json`.
    pub fn ask(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut command = std::process::Command::new(&self.common.program);
        command
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(&self.config);
        let text = run(&mut command)?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Unmet(format!("{arguments:?}: {error} in {text:?}")))
    }

    /// The tunnels that this node owns.
    pub fn tunnels(&self) -> Result<Vec<TunnelInfo>> {
        let value = self.ask(&["tunnels"])?;
        let tunnels: Vec<TunnelInfo> =
            serde_json::from_value(value).map_err(|error| Error::Unmet(format!("tunnels: {error}")))?;
        let own = |tunnel: &TunnelInfo| tunnel.owner == 0 || tunnel.owner == u64::from(self.id);
        Ok(tunnels.into_iter().filter(own).collect())
    }

    /// The sessions in its table, whoever owns them.
    pub fn sessions(&self) -> Result<Vec<SessionInfo>> {
        let value = self.ask(&["sessions"])?;
        serde_json::from_value(value).map_err(|error| Error::Unmet(format!("sessions: {error}")))
    }

    /// The node's own routes for `prefix` in the kernel, as `ip` prints them.
    pub fn kernel_routes(&self, prefix: &str) -> Result<String> {
        Ok(self.namespace.ip(&format!("route show {prefix}"))?)
    }

    /// How this node sees the cluster.
    pub fn view(&self) -> Result<View> {
        let value = self.ask(&["cluster", "status"])?;
        serde_json::from_value(value).map_err(|error| Error::Unmet(format!("cluster status: {error}")))
    }
}

/// What `ip` is to run.
fn arguments(namespace: &Namespace, program: &Path, config: &Path) -> Vec<String> {
    let (program, config) = (program.display().to_string(), config.display().to_string());
    let enter = ["netns", "exec", namespace.name()].map(str::to_owned);
    let run = [program, "run".into(), "--config".into(), config];
    enter.into_iter().chain(run).collect()
}
