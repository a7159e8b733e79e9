//! The built program as a daemon, steered by its own subcommands: start, reload, second start, stop.
//!
//! Without a TUN interface, so that it needs no privileges.

#[path = "process_common/mod.rs"]
mod process;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use process::{Daemon, PATIENCE};
use serde_json::Value;

/// How long the daemon is made to stand still: well over the 200 ms that it takes for a stall.
const STALL: Duration = Duration::from_secs(1);

/// A folder with a configuration file, and a port of its own.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port");
        let site = Self {
            folder,
            port: free.port(),
        };
        site.configure("h", "");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.toml` for the data in `NAME`, with `more` at its end.
    fn configure(&self, name: &str, more: &str) {
        let (folder, port) = (self.folder.path().display(), self.port);
        let text = format!(
            "[node]\ndata_dir = \"{folder}/{name}\"\nlisten = [\"127.0.0.1:{port}\"]\nshards = 1\n\
             [tun]\nenabled = \"never\"\n[api]\nsocket = \"{folder}/{name}.sock\"\n\
             [[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n{more}"
        );
        let file = self.path(&format!("{name}.toml"));
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

    fn start(&self) -> Daemon {
        let mut command = self.command(&["run", "--config", "h.toml"]);
        let daemon = Daemon(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("started"),
        );
        until("it answers", || {
            self.holdfast(&["status", "--config", "h.toml"]).status.success()
        });
        daemon
    }

    fn status(&self) -> Value {
        let output = self.holdfast(&["status", "--counters", "--json", "--config", "h.toml"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn counter(&self, name: &str) -> u64 {
        self.counter_where(name, |_| true)
    }

    /// Packets that the one shard has dropped for this reason.
    fn drops(&self, reason: &str) -> u64 {
        self.counter_where("shard_drops_total", |row| row["labels"]["reason"] == reason)
    }

    fn counter_where(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> u64 {
        let status = self.status();
        let mut rows = status["counters"].as_array().expect("counters").iter();
        let row = rows
            .find(|row| row["name"] == name && wanted(row))
            .expect("the counter");
        row["value"].as_u64().expect("a number")
    }
}

/// SIGSTOP, and waits until none of its threads runs any more.
fn freeze(daemon: &Daemon) {
    daemon.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", daemon.0.id());
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).expect("a thread of ours");
        // The state follows the name, which stands in parentheses.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    until("it stands still", || {
        let tasks = fs::read_dir(&tasks).expect("a process of ours");
        tasks.flatten().all(is_stopped)
    });
}

fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happens() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn status_and_shutdown() {
    let site = Site::new();
    let daemon = site.start();
    let status = site.status();
    assert_eq!(status["listen"][0], format!("127.0.0.1:{}", site.port));
    assert_eq!(status["table"]["role"], "leader");
    assert!(status["table"]["log_octets"].as_u64() > Some(0), "{status}");
    assert_eq!(status["pools"][0]["size"], 253);
    let limits = status["limits"].as_array().expect("limits");
    assert!(
        limits
            .iter()
            .any(|limit| limit["name"] == "max_sessions" && limit["value"] == 200_000)
    );
    assert_eq!(site.counter("tunnels_opened_total"), 0);
    let stopped = site.holdfast(&["shutdown", "--config", "h.toml"]);
    assert_eq!(
        (stopped.status.code(), text(&stopped.stderr).as_str()),
        (Some(0), "")
    );
    assert_eq!(daemon.end(), Some(0));
    assert!(!site.path("h.sock").exists(), "the socket goes with the daemon");
}

#[test]
fn reload_says_what_changed_and_survives_a_mistake() {
    let site = Site::new();
    let daemon = site.start();
    site.configure(
        "h",
        "[[user]]\nname = \"ada\"\npassword = \"hunter2\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n",
    );
    let reload = site.holdfast(&["reload", "--config", "h.toml"]);
    let said = text(&reload.stdout);
    for expected in [
        "log.level: info -> debug",
        "user ada: added",
        "waits for the next start:",
        "log.format: text",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");

    site.configure("h", "[[user]]\nname = \"ada\"\n");
    let reload = site.holdfast(&["reload", "--socket", "h.sock"]);
    assert_eq!(reload.status.code(), Some(1));
    assert!(
        text(&reload.stderr).contains("user[0].password: is missing"),
        "{}",
        text(&reload.stderr)
    );

    site.configure("h", "");
    let before = site.counter("reloads_total");
    daemon.signal(Signal::SIGHUP);
    until("SIGHUP reloads", || site.counter("reloads_total") > before);
    assert_eq!(daemon.stop(Signal::SIGTERM), Some(0));
}

#[test]
fn a_pool_is_drained_grown_and_shrunk_by_reload_and_overlaps_are_refused() {
    let site = Site::new();
    let _daemon = site.start();
    let reload = |from: &str, to: &str| {
        let file = site.path("h.toml");
        let text = fs::read_to_string(&file).expect("written");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("written");
        site.holdfast(&["reload", "--socket", "h.sock"])
    };
    let size = || site.status()["pools"][0]["size"].as_u64();
    let grown = "prefixes = [\"100.64.0.0/24\", \"100.65.0.0/24\"]\ndrain = true";
    let said = reload("prefixes = [\"100.64.0.0/24\"]", grown);
    assert!(
        text(&said.stdout).contains("pool p: prefixes, drain changed"),
        "{said:?}"
    );
    assert_eq!(size(), Some(253 + 254));
    assert_eq!(site.status()["pools"][0]["draining"], true);
    let shown = text(&site.holdfast(&["status", "--config", "h.toml"]).stdout);
    assert!(shown.contains("draining"), "{shown}");

    let overlapping = "[[lac]]\nname = \"l\"\nhost_name = \"l\"\n[[pool]]\nname = \"q\"\nprefixes = [\"100.65.0.128/25\"]\n[[lac]]";
    let said = reload("[[lac]]", overlapping);
    assert_eq!(said.status.code(), Some(1));
    let said = text(&said.stderr);
    assert!(
        said.contains("100.65.0.128/25 overlaps 100.65.0.0/24 of the pool \"p\""),
        "{said}"
    );
    let file = site.path("h.toml");
    let good = fs::read_to_string(&file)
        .expect("written")
        .replace(overlapping, "[[lac]]");
    fs::write(&file, good).expect("written");
    assert_eq!(size(), Some(253 + 254), "nothing has changed");
    reload(grown, "prefixes = [\"100.64.0.0/24\"]");
    assert_eq!(size(), Some(253));
}

#[test]
fn a_second_daemon_is_told_why_it_cannot_start() {
    let site = Site::new();
    let daemon = site.start();
    let same_data = site.holdfast(&["run", "--config", "h.toml"]);
    assert_eq!(same_data.status.code(), Some(1));
    let folder = site.path("h").display().to_string();
    let said = text(&same_data.stderr);
    assert!(
        said.contains(&folder) || said.contains(&format!(":{}", site.port)),
        "{said}"
    );

    site.configure("other", "");
    let same_port = site.holdfast(&["run", "--config", "other.toml"]);
    assert_eq!(same_port.status.code(), Some(1));
    assert!(
        text(&same_port.stderr).contains(&format!("127.0.0.1:{}", site.port)),
        "{}",
        text(&same_port.stderr)
    );

    assert!(
        site.holdfast(&["status", "--config", "h.toml"]).status.success(),
        "the first one goes on"
    );
    drop(daemon);
}

#[test]
fn after_kill_9_it_starts_on_the_same_data_and_the_stale_socket() {
    let site = Site::new();
    let daemon = site.start();
    assert_eq!(daemon.stop(Signal::SIGKILL), None);
    assert!(site.path("h.sock").exists());
    let daemon = site.start();
    assert_eq!(daemon.stop(Signal::SIGTERM), Some(0));
}

#[test]
fn what_waited_through_a_stall_is_thrown_away_and_counted() {
    const DATAGRAMS: u64 = 100;
    let site = Site::new();
    let daemon = site.start();
    let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    // Data for a tunnel that does not exist: counted as such by whoever looks at it.
    let send = || {
        let sent = lac.send_to(&[0, 2, 0x12, 0x34, 0, 1, 0xff, 3], ("127.0.0.1", site.port));
        assert!(sent.is_ok(), "{sent:?}");
    };
    let before = site.drops("backlog");
    freeze(&daemon);
    (0..DATAGRAMS).for_each(|_| send());
    std::thread::sleep(STALL);
    daemon.signal(Signal::SIGCONT);
    until("the backlog is gone", || {
        site.drops("backlog") == before + DATAGRAMS
    });
    assert_eq!(site.drops("unknown_tunnel"), 0, "none of it was looked at");
    assert!(site.counter("shard_stalls_total") > 0);
    until("what comes now is", || {
        send();
        site.drops("unknown_tunnel") > 0
    });
}
