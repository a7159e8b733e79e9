//! Three or four processes as a cluster on loopback, steered by the program's own subcommands.
//!
//! Without TUN interfaces, so that it needs no privileges. Nothing here depends on how long something takes.

#[expect(dead_code, reason = "shared with tests that ask more of it")]
#[path = "lns/client.rs"]
mod client;
#[path = "cluster_drain/mod.rs"]
mod drain;
#[expect(dead_code, reason = "shared with tests that ask more of it")]
#[path = "lns/lac.rs"]
mod lac;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[allow(dead_code)] // more than is needed here
#[path = "lns/client.rs"]
mod client;
#[path = "cluster/data.rs"]
mod data;
#[allow(dead_code)] // more than is needed here
#[path = "lns/lac.rs"]
mod lac;

/// A slow machine under load gets this long for whatever it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

const POOL: &str = "100.64.0.0/24";

/// Between LACs and nodes.
const SECRET: &str = "hunter2";

/// A folder with certificates for four nodes, and an address for each.
struct Site {
    folder: tempfile::TempDir,
    /// Of 127.0.0.0/8: the first three octets, and the last of node 0.
    addresses: ([u8; 3], u8),
}

/// A running daemon; killed when the test ends before it does.
struct Daemon(Child);

impl Site {
    fn new() -> Self {
        static SITES: AtomicU8 = AtomicU8::new(0);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let site = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            addresses: (
                [127, high | 0x80, low],
                10 * SITES.fetch_add(1, Ordering::Relaxed),
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

    fn address(&self, node: u8) -> String {
        let ([a, b, c], first) = self.addresses;
        format!("{a}.{b}.{c}.{}", first + node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `N.toml`; `more` belongs to [cluster].
    fn configure(&self, node: u8, members: &[u8], pool: &str, more: &str) {
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
             [[lac]]\nname = \"any\"\nhost_name = \"*\"\nsecret = \"{SECRET}\"\n"
        );
        let file = self.path(&format!("{node}.toml"));
        fs::write(&file, text).expect("written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("private");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .args(args);
        command
    }

    fn holdfast(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// `holdfast cluster ORDER`, asked of a node.
    fn cluster(&self, node: u8, order: &[&str]) -> Output {
        let file = format!("{node}.toml");
        let mut args = vec!["cluster"];
        args.extend(order);
        args.extend(["--config", &file]);
        self.holdfast(&args)
    }

    /// How the cluster looks from a node; null while it does not answer.
    fn status(&self, node: u8) -> Value {
        let output = self.cluster(node, &["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn start(&self, node: u8) -> Daemon {
        let log = File::create(self.path(&format!("{node}.log"))).expect("a log");
        let mut command = self.command(&["run", "--config", &format!("{node}.toml")]);
        let daemon = command.stdout(Stdio::null()).stderr(log).spawn();
        Daemon(daemon.expect("started"))
    }

    fn start_three(&self) -> [Daemon; 3] {
        let daemons = [1, 2, 3].map(|node| self.start(node));
        (1..=3).for_each(|node| self.until_whole(node, &[1, 2, 3]));
        daemons
    }

    fn log(&self, node: u8) -> String {
        fs::read_to_string(self.path(&format!("{node}.log"))).unwrap_or_default()
    }

    /// Until a node sees a leader, and every group with one of `owners`, all of whom live.
    fn until_whole(&self, node: u8, owners: &[u8]) {
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

    fn leader(&self, asked: u8) -> u8 {
        let mut leader = 0;
        self.until("there is a leader", || {
            leader = self.status(asked)["leader"].as_u64().unwrap_or(0) as u8;
            leader != 0
        });
        leader
    }

    /// Gives an order to whoever leads, until it is carried out.
    fn until_ordered(&self, asked: u8, order: &[&str]) {
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

    fn until(&self, what: &str, mut happens: impl FnMut() -> bool) {
        let started = Instant::now();
        while !happens() {
            assert!(started.elapsed() < PATIENCE, "in vain: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        (1..=4)
            .map(|node| format!("--- node {node}\n{}", self.log(node)))
            .collect()
    }
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// SIGTERM, or another signal, and the end.
    fn stop(self, signal: Signal) {
        self.signal(signal);
        self.end();
    }

    /// The code that it ends with, of its own accord.
    fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            match self.0.try_wait().expect("our child") {
                Some(status) => return status.code(),
                None if started.elapsed() > PATIENCE => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A value of one node's row; null if it has none.
fn member(status: &Value, node: u8, key: &str) -> Value {
    let rows = status["nodes"].as_array();
    let row = rows.and_then(|rows| rows.iter().find(|row| row["id"] == node));
    row.map_or(Value::Null, |row| row[key].clone())
}

fn others(than: u8) -> Vec<u8> {
    (1..=3).filter(|node| *node != than).collect()
}

#[test]
fn the_groups_of_a_killed_node_go_elsewhere_and_all_start_again() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let dead = site.leader(1);
    daemons.remove(usize::from(dead) - 1).stop(Signal::SIGKILL);
    let living = others(dead);
    for node in &living {
        site.until_whole(*node, &living);
        assert_eq!(member(&site.status(*node), dead, "groups"), 0);
    }
    daemons
        .into_iter()
        .for_each(|daemon| daemon.stop(Signal::SIGKILL));
    let _daemons = site.start_three();
}

#[test]
fn a_leader_that_is_told_to_stop_passes_the_lead_on_first() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let first = site.leader(1);
    assert_eq!(site.leader(first), first);
    daemons.remove(usize::from(first) - 1).stop(Signal::SIGTERM);
    let log = site.log(first);
    assert!(log.contains("passed the lead on"), "{log}");
    let living = others(first);
    site.until_whole(living[0], &living);
    assert_ne!(site.leader(living[0]), first);
}

#[test]
fn other_pools_are_refused_and_other_secrets_are_named() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    daemons.remove(2).stop(Signal::SIGTERM);

    site.configure(3, &[1, 2, 3], "100.64.9.0/24", "");
    assert_eq!(site.start(3).end(), Some(1));
    let log = site.log(3);
    assert!(log.contains("has other pools: make [[pool]] name"), "{log}");
    let logged = format!("{}{}", site.log(1), site.log(2));
    assert!(logged.contains("node 3 has other pools"), "{logged}");

    site.configure(3, &[1, 2, 3], POOL, "");
    let file = site.path("3.toml");
    let other = fs::read_to_string(&file)
        .expect("written above")
        .replace("hunter2", "hunter3");
    fs::write(file, other).expect("written");
    let _third = site.start(3);
    // Whether it was back before the others took its groups or not.
    site.until_whole(3, &[1, 2, 3]);
    let named = |node: u8, of: u8| {
        let texts = member(&site.status(node), of, "disagreements").to_string();
        texts.contains("has other LACs, users or secrets")
    };
    site.until("all name the other secret", || {
        named(1, 3) && named(2, 3) && named(3, 1)
    });
    let shown = text(&site.cluster(1, &["status"]).stdout);
    assert!(shown.contains("WARNING: node 3 has other LACs"), "{shown}");
    assert!(!shown.contains("hunter") && !site.logs().contains("hunter"));

    site.configure(3, &[1, 2, 3], POOL, "");
    let reload = site.holdfast(&["reload", "--config", "3.toml"]);
    assert!(reload.status.success(), "{}", text(&reload.stderr));
    site.until("after a reload they agree", || {
        !named(1, 3) && !named(2, 3) && !named(3, 1)
    });
}

#[test]
fn a_second_process_under_one_id_is_refused_and_named() {
    let site = Site::new();
    let _daemons = site.start_three();
    // As if the files of node 3 had been copied to another host.
    let copied = fs::read_to_string(site.path("3.toml")).expect("written");
    let folder = site.folder.path().display().to_string();
    let copied = copied
        .replace(&format!("{}:", site.address(3)), &format!("{}:", site.address(4)))
        .replace(&format!("{folder}/3"), &format!("{folder}/4"));
    let file = site.path("4.toml");
    fs::write(&file, copied).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("private");
    let _second = site.start(4);
    for node in [1, 2] {
        site.until("the others name it", || {
            let texts = member(&site.status(node), 3, "disagreements").to_string();
            texts.contains("two processes run as node 3")
        });
    }
    site.until("it knows that it is refused", || {
        site.log(4).contains("it refused us; its log says why")
    });
    (1..=3).for_each(|node| site.until_whole(node, &[1, 2, 3]));
}

#[test]
fn members_come_and_go() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    for node in 1..=3 {
        site.configure(node, &[1, 2, 3, 4], POOL, "");
        daemons.remove(0).stop(Signal::SIGTERM);
        daemons.push(site.start(node));
        (1..=3).for_each(|node| site.until("all answer", || site.status(node)["leader"].as_u64() > Some(0)));
    }
    site.until("the fourth is missed", || {
        site.status(1)["warnings"]
            .to_string()
            .contains("holdfast cluster add 4")
    });
    let follower = others(site.leader(1))[0];
    let refused = site.cluster(follower, &["add", "4"]);
    assert!(
        text(&refused.stderr).contains("the leader changes the members: ask node"),
        "{refused:?}"
    );
    let refused = site.cluster(site.leader(1), &["add", "4"]);
    assert!(text(&refused.stderr).contains("cannot be reached"), "{refused:?}");

    site.configure(4, &[1, 2, 3, 4], POOL, "join = true");
    let fourth = site.start(4);
    site.until_ordered(1, &["add", "4"]);
    site.until("it knows that it votes", || {
        member(&site.status(4), 4, "membership") == "voter"
    });
    site.until_ordered(1, &["undrain", "4"]);
    site.until("it owns groups", || {
        member(&site.status(2), 4, "groups").as_u64() > Some(0)
    });
    site.until_whole(2, &[1, 2, 3, 4]);

    site.until_ordered(1, &["remove", "4"]);
    site.until_whole(2, &[1, 2, 3]);
    assert_eq!(member(&site.status(site.leader(1)), 4, "membership"), "none");
    drop(fourth);

    let leader = site.leader(1);
    let refused = site.cluster(leader, &["remove", &leader.to_string()]);
    assert!(
        text(&refused.stderr).contains("a leader does not remove itself"),
        "{refused:?}"
    );
    let rest = others(leader);
    site.until_ordered(rest[0], &["remove", &leader.to_string()]);
    site.until_whole(rest[0], &rest);
}

#[test]
fn a_node_that_lost_its_disk_says_how_to_come_back_and_does() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let lost = others(site.leader(1))[0];
    daemons.remove(usize::from(lost) - 1).stop(Signal::SIGKILL);
    fs::remove_dir_all(site.path(&lost.to_string())).expect("its data");
    assert_eq!(site.start(lost).end(), Some(1));
    let log = site.log(lost);
    assert!(
        log.contains("its disk was lost") && log.contains("join = true"),
        "{log}"
    );
    let living = others(lost);
    site.until_whole(living[0], &living);

    // What it says: away with it, and back as a new member.
    site.until_ordered(living[0], &["remove", &lost.to_string()]);
    let members = [living[0], living[1], 4];
    for node in &living {
        site.configure(*node, &members, POOL, "");
        daemons.remove(0).stop(Signal::SIGTERM);
        daemons.push(site.start(*node));
        site.until_whole(*node, &living);
    }
    site.configure(4, &members, POOL, "join = true");
    daemons.push(site.start(4));
    site.until_ordered(living[0], &["add", "4"]);
    site.until("it owns groups", || {
        site.until_ordered(living[0], &["rebalance"]);
        member(&site.status(living[0]), 4, "groups").as_u64() > Some(0)
    });
    site.until_whole(living[1], &members);
    assert_eq!(site.status(living[1])["warnings"], serde_json::json!([]));
}
