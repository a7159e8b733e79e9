//! A folder with everything that a cluster of up to four nodes needs, and its processes.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use holdfast::api::{Client, ClientError, Fault, Request};
use nix::sys::signal::Signal;
use serde_json::Value;

pub use crate::process::{Daemon, PATIENCE};

pub const POOL: &str = "100.64.0.0/24";

/// Between LACs and nodes.
pub const SECRET: &str = "hunter2";

/// Calls of each of the LACs' tunnels 1 and 2 that may be placed.
pub const CALLS: u16 = 120;

/// Addresses of one site: a LAC's and four nodes'. Fifty sites fit into one process.
const ADDRESSES: u8 = 5;

/// A folder with certificates for four nodes, and an address for each.
pub struct Site {
    pub folder: tempfile::TempDir,
    /// Of 127.0.0.0/8: the first three octets, and the last of node 0.
    addresses: ([u8; 3], u8),
}

impl Site {
    pub fn new() -> Self {
        static SITES: AtomicU8 = AtomicU8::new(0);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let site = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            addresses: (
                [127, high | 0x80, low],
                ADDRESSES * SITES.fetch_add(1, Ordering::Relaxed),
            ),
        };
        let folder = site.path("pki").display().to_string();
        let members: Vec<String> = (1..=4)
            .map(|node| format!("--member={node}={}:1710", site.address(node)))
            .collect();
        let mut args = vec!["cluster", "init", &folder, "--install", &folder, "--id", "test"];
        args.extend(members.iter().map(String::as_str));
        let init = site.holdfast(&args);
        assert!(init.status.success(), "{}", text(&init.stderr));
        for node in 1..=3 {
            site.configure(node, &[1, 2, 3], POOL, "");
        }
        site
    }

    pub fn address(&self, node: u8) -> String {
        let ([a, b, c], first) = self.addresses;
        format!("{a}.{b}.{c}.{}", first + node)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `N.toml`; `more` belongs to [cluster].
    pub fn configure(&self, node: u8, members: &[u8], pool: &str, more: &str) {
        let (folder, address) = (self.folder.path().display(), self.address(node));
        let sections = fs::read_to_string(self.path(&format!("pki/node-{node}.toml"))).expect("by init");
        let cluster = sections
            .split("\n[[member]]")
            .next()
            .expect("a part before members");
        let members: String = members
            .iter()
            .map(|member| {
                format!(
                    "[[member]]\nid = {member}\naddress = \"{}:1710\"\n",
                    self.address(*member)
                )
            })
            .collect();
        let text = format!(
            "[node]\nid = {node}\ndata_dir = \"{folder}/{node}\"\nlisten = [\"{address}:1701\"]\nshards = 1\n\
             [tun]\nenabled = \"never\"\n[api]\nsocket = \"{folder}/{node}.sock\"\n{cluster}\n{more}\n{members}\
             [[pool]]\nname = \"p\"\nprefixes = [\"{pool}\"]\n\
             [[lac]]\nname = \"any\"\nhost_name = \"*\"\nsecret = \"{SECRET}\"\n\
             [ppp]\nauth = [\"pap\"]\n{}",
            users()
        );
        let file = self.path(&format!("{node}.toml"));
        fs::write(&file, text).expect("written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("private");
    }

    /// The users of all nodes' files.
    pub fn users(&self) -> String {
        users()
    }

    /// Changes a node's file, and has the node take it over.
    pub fn edit(&self, node: u8, change: impl Fn(&str) -> String) {
        let file = self.path(&format!("{node}.toml"));
        let text = fs::read_to_string(&file).expect("written");
        fs::write(&file, change(&text)).expect("written");
        let reload = self.holdfast(&["reload", "--config", &format!("{node}.toml")]);
        assert!(reload.status.success(), "{}", self::text(&reload.stderr));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .args(args);
        command
    }

    pub fn holdfast(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// `holdfast cluster ORDER`, asked of a node.
    pub fn cluster(&self, node: u8, order: &[&str]) -> Output {
        let file = format!("{node}.toml");
        let mut args = vec!["cluster"];
        args.extend(order);
        args.extend(["--config", &file]);
        self.holdfast(&args)
    }

    /// How the cluster looks from a node; null while it does not answer.
    pub fn status(&self, node: u8) -> Value {
        let output = self.cluster(node, &["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What a node has counted so far; 0 while it does not answer.
    pub fn counter(&self, node: u8, name: &str) -> u64 {
        self.counted(node, "counters", name, "value")
    }

    /// How often a node has hit a limit; 0 while it does not answer.
    pub fn hits(&self, node: u8, limit: &str) -> u64 {
        self.counted(node, "limits", limit, "hits")
    }

    fn counted(&self, node: u8, table: &str, name: &str, key: &str) -> u64 {
        let file = format!("{node}.toml");
        let output = self.holdfast(&["status", "--counters", "--json", "--config", &file]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let rows = status[table].as_array();
        let row = rows.and_then(|rows| rows.iter().find(|row| row["name"] == name));
        row.and_then(|row| row[key].as_u64()).unwrap_or(0)
    }

    pub fn start(&self, node: u8) -> Daemon {
        let log = File::create(self.path(&format!("{node}.log"))).expect("a log");
        let mut command = self.command(&["run", "--config", &format!("{node}.toml")]);
        command.env("HOLDFAST_FAULT_INJECTION", "1");
        let daemon = command.stdout(Stdio::null()).stderr(log).spawn();
        Daemon(daemon.expect("started"))
    }

    /// A node takes an address that is in use for free.
    pub fn forget_address(&self, node: u8, address: Ipv4Addr) {
        let fault = Fault::ForgetAddress(address);
        let mut api = Client::connect(&self.path(&format!("{node}.sock"))).expect("the node runs");
        let asked = api.request::<ClientError>(Request::Inject { fault }, |_| Ok(()));
        asked.expect("faults may be injected");
    }

    pub fn start_three(&self) -> [Daemon; 3] {
        let daemons = [1, 2, 3].map(|node| self.start(node));
        (1..=3).for_each(|node| self.until_whole(node, &[1, 2, 3]));
        daemons
    }

    pub fn log(&self, node: u8) -> String {
        fs::read_to_string(self.path(&format!("{node}.log"))).unwrap_or_default()
    }

    /// Until a node sees a leader, and every group with one of `owners`, all of whom live.
    pub fn until_whole(&self, node: u8, owners: &[u8]) {
        self.until("all groups have a living owner", || {
            let status = self.status(node);
            let groups = owners
                .iter()
                .map(|owner| member(&status, *owner, "groups").as_u64());
            let alive = |owner: &u8| member(&status, *owner, "state") == "alive";
            status["leader"].as_u64() > Some(0)
                && owners.iter().all(alive)
                && groups.flatten().sum::<u64>() == 256
        });
    }

    pub fn leader(&self, asked: u8) -> u8 {
        let mut leader = 0;
        self.until("there is a leader", || {
            leader = self.status(asked)["leader"].as_u64().unwrap_or(0) as u8;
            leader != 0
        });
        leader
    }

    /// Gives an order to whoever leads, until it is carried out.
    pub fn until_ordered(&self, asked: u8, order: &[&str]) {
        let mut said = String::new();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let done = self.cluster(self.leader(asked), order);
            if done.status.success() {
                return;
            }
            said = text(&done.stderr);
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("in vain: {order:?}: {said}\n{}", self.logs());
    }

    pub fn until(&self, what: &str, mut happens: impl FnMut() -> bool) {
        let started = Instant::now();
        while !happens() {
            assert!(started.elapsed() < PATIENCE, "in vain: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn logs(&self) -> String {
        (1..=4)
            .map(|node| format!("--- node {node}\n{}", self.log(node)))
            .collect()
    }
}

pub fn stop_all(daemons: impl IntoIterator<Item = Daemon>, signal: Signal) {
    for daemon in daemons {
        daemon.stop(signal);
    }
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A subscriber's name is made of his tunnel's and his call's number.
fn users() -> String {
    let numbers = (1..=2).flat_map(|tunnel| (1..=CALLS).map(move |call| tunnel << 8 | call));
    numbers
        .map(|number: u16| format!("[[user]]\nname = \"{number}\"\npassword = \"pw\"\n"))
        .collect()
}

/// A value of one node's row; null if it has none.
pub fn member(status: &Value, node: u8, key: &str) -> Value {
    let rows = status["nodes"].as_array();
    let row = rows.and_then(|rows| rows.iter().find(|row| row["id"] == node));
    row.map_or(Value::Null, |row| row[key].clone())
}

pub fn others(than: u8) -> Vec<u8> {
    (1..=3).filter(|node| *node != than).collect()
}
