//! A node behind an anycast address: the parent process that watches for a hang, and what a real BIRD passes on to a router.
//! Each test in network namespaces of its own. Needs root; the tests with BIRD need Debian's bird2.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A slow machine under load gets this long for whatever it is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);

const TUN: &str = "hfa0";

/// A network namespace with a name; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hfa-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> String {
        run(self.command("ip").args(arguments.split(' ')))
    }

    /// Whether `ip ARGUMENTS` prints `text`; a missing device prints nothing.
    fn shows(&self, arguments: &str, text: &str) -> bool {
        let output = self
            .command("ip")
            .args(arguments.split(' '))
            .output()
            .expect("iproute2 is installed");
        String::from_utf8_lossy(&output.stdout).contains(text)
    }

    fn link_is_up(&self) -> bool {
        self.shows(&format!("link show dev {TUN}"), ",UP")
    }

    fn has_device(&self) -> bool {
        self.shows("link show", TUN)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("iproute2 is installed");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(STEP);
    }
}

/// The node's process; killed when the test ends before it does.
struct Node {
    parent: Child,
    folder: tempfile::TempDir,
}

/// Writes the configuration of a node into `folder`.
fn configure(folder: &Path, anycast: &str) -> PathBuf {
    let shown = folder.display();
    let text = format!(
        "[node]\ndata_dir = \"{shown}/data\"\nlisten = [\"192.0.2.1:1701\", \"[2001:db8::1]:1701\"]\nshards = 1\n\
         [tun]\nname = \"{TUN}\"\nenabled = \"always\"\n[api]\nsocket = \"{shown}/api.sock\"\n\
         [anycast]\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\n{anycast}\n\
         [[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/16\"]\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n"
    );
    let file = folder.join("node.toml");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("private");
    file
}

impl Node {
    /// Starts a node and waits until it announces itself.
    fn start(namespace: &Namespace, anycast: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = configure(folder.path(), anycast);
        // `ip netns exec` becomes the program, so the child is the node's parent process.
        let parent = namespace
            .command(env!("CARGO_BIN_EXE_holdfast"))
            .args(["run", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("the built program");
        let node = Self { parent, folder };
        wait_until("announced", || announced(namespace));
        node
    }

    fn parent(&self) -> Pid {
        Pid::from_raw(self.parent.id() as i32)
    }

    /// The server's process.
    fn child(&self) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.parent.id());
        let children = fs::read_to_string(path).expect("the parent lives");
        Pid::from_raw(children.trim().parse().expect("it has one child"))
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the parent process ends", || {
            status = self.parent.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("waited for")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its child goes with it.
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

fn announced(namespace: &Namespace) -> bool {
    namespace.shows("route show table 1701", "192.0.2.1")
        && namespace.shows("route show table 1701", "100.64.0.0/16")
        && namespace.shows("-6 route show table 1701", "2001:db8::1")
}

/// Whether a process is there and not just waited for by nobody.
fn lives(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_stopped_server_loses_its_link_and_restores_it_when_it_resumes() {
    let namespace = Namespace::new();
    let mut node = Node::start(&namespace, "");
    let child = node.child();
    assert!(namespace.link_is_up());
    for _ in 0..2 {
        kill(child, Signal::SIGSTOP).expect("it lives");
        wait_until("the link is down", || !namespace.link_is_up());
        assert!(namespace.has_device() && !announced(&namespace));
        kill(child, Signal::SIGCONT).expect("it lives");
        wait_until("the link is up and announced", || {
            namespace.link_is_up() && announced(&namespace)
        });
        let addresses = namespace.ip(&format!("addr show dev {TUN}"));
        for address in ["100.64.0.1/32", "192.0.2.1/32", "2001:db8::1/128"] {
            assert!(addresses.contains(address), "{address} in {addresses}");
        }
        assert!(namespace.shows("route show", "100.64.0.0/16 dev hfa0"));
    }
    kill(node.parent(), Signal::SIGTERM).expect("it lives");
    assert_eq!(node.wait().code(), Some(0));
    assert!(!namespace.has_device());
}

/// A thread that is held as a debugger holds it, while all others run; goes on when dropped.
struct Held(Pid);

impl Held {
    /// The thread of `process` whose name begins so.
    fn new(process: Pid, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it lives");
        let of_name =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|found| found.starts_with(name));
        let task = tasks.map(|task| task.expect("read").path()).find(of_name);
        let task = task.expect("there is such a thread");
        let id = task.file_name().and_then(|id| id.to_str()?.parse().ok());
        let thread = Pid::from_raw(id.expect("a number"));
        ptrace::seize(thread, ptrace::Options::empty()).expect("we are root");
        ptrace::interrupt(thread).expect("it lives");
        // Only a thread that has stopped can be let go.
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        Self(thread)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

/// `packets-0` sleeps in poll(2), as nobody sends anything: that alone is no hang. The other is the control thread.
#[test]
#[ignore = "needs root: run by the test command"]
fn one_hung_thread_loses_the_link_and_an_idle_one_does_not() {
    let namespace = Namespace::new();
    let node = Node::start(&namespace, "");
    for name in ["packets-0", "actix-rt|system"] {
        for _ in 0..100 {
            sleep(STEP);
            assert!(namespace.link_is_up(), "idle");
        }
        let held = Held::new(node.child(), name);
        wait_until("the link is down", || !namespace.link_is_up());
        drop(held);
        wait_until("the link is up and announced", || {
            namespace.link_is_up() && announced(&namespace)
        });
    }
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_parent_that_was_stopped_does_no_harm() {
    let namespace = Namespace::new();
    let node = Node::start(&namespace, "");
    kill(node.parent(), Signal::SIGSTOP).expect("it lives");
    // Longer than the silence that it allows its child.
    sleep(Duration::from_secs(1));
    assert!(announced(&namespace));
    kill(node.parent(), Signal::SIGCONT).expect("it lives");
    sleep(Duration::from_secs(1));
    assert!(namespace.link_is_up() && announced(&namespace));
    assert!(lives(node.child()));
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_server_dies_with_its_parent() {
    let namespace = Namespace::new();
    let mut node = Node::start(&namespace, "");
    let child = node.child();
    kill(node.parent(), Signal::SIGKILL).expect("it lives");
    node.wait();
    wait_until("the child is gone", || !lives(child));
    wait_until("its device is gone", || !namespace.has_device());
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_parent_ends_with_its_server_and_its_code() {
    let namespace = Namespace::new();
    let mut node = Node::start(&namespace, "");
    kill(node.child(), Signal::SIGKILL).expect("it lives");
    assert_eq!(node.wait().code(), Some(128 + 9));
    wait_until("its device is gone", || !namespace.has_device());
    // One that cannot start: its data folder is a file.
    let folder = &node.folder;
    fs::remove_dir_all(folder.path().join("data")).expect("the data");
    fs::write(folder.path().join("data"), "").expect("written");
    let output = namespace
        .command(env!("CARGO_BIN_EXE_holdfast"))
        .args(["run", "--config"])
        .arg(folder.path().join("node.toml"))
        .output()
        .expect("the built program");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
#[ignore = "needs root: run by the test command"]
fn sighup_reaches_the_server() {
    let namespace = Namespace::new();
    let mut node = Node::start(&namespace, "");
    kill(node.parent(), Signal::SIGHUP).expect("it lives");
    // It would have ended by now if nobody had caught it.
    sleep(Duration::from_millis(300));
    assert!(announced(&namespace));
    kill(node.parent(), Signal::SIGINT).expect("it lives");
    assert_eq!(node.wait().code(), Some(0));
}

/// A BIRD; ended when dropped.
struct Bird {
    process: Child,
    socket: PathBuf,
}

impl Bird {
    fn start(namespace: &Namespace, folder: &Path, name: &str, configuration: &str) -> Self {
        let file = folder.join(format!("{name}.conf"));
        let socket = folder.join(format!("{name}.ctl"));
        fs::write(&file, configuration).expect("written");
        let process = namespace
            .command("bird")
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&socket)
            .spawn()
            .expect("bird2 is installed");
        let bird = Self { process, socket };
        wait_until("BIRD answers", || {
            bird.ask("show status").contains("up and running")
        });
        bird
    }

    fn ask(&self, question: &str) -> String {
        let output = Command::new("birdc")
            .arg("-s")
            .arg(&self.socket)
            .args(question.split(' '))
            .output()
            .expect("bird2 is installed");
        text(&output)
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node's namespace and a router's, with a link between them.
fn two_namespaces() -> (Namespace, Namespace) {
    let (node, router) = (Namespace::new(), Namespace::new());
    node.ip(&format!("link add r1 type veth peer name n1 netns {}", router.0));
    for (namespace, device, host) in [(&node, "r1", 2), (&router, "n1", 1)] {
        namespace.ip(&format!("addr add 10.1.1.{host}/24 dev {device}"));
        namespace.ip(&format!("addr add fd00:1::{host}/64 dev {device} nodad"));
        namespace.ip(&format!("link set {device} up"));
    }
    (node, router)
}

const TO_THE_ROUTER: &str =
    "neighbours = [\"10.1.1.1\", \"fd00:1::1\"]\nrouter_id = \"10.0.0.1\"\nbfd_interval = \"100ms\"\n";

const ROUTER: &str = "log stderr all;\nrouter id 10.0.0.254;\nprotocol device { scan time 10; }\n\
    protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }\n\
    protocol bgp n4 { local as 65000; neighbor 10.1.1.2 as 65001; connect delay time 1; error wait time 1, 2; bfd on; \
    ipv4 { import all; export none; }; }\n\
    protocol bgp n6 { local as 65000; neighbor fd00:1::2 as 65001; connect delay time 1; error wait time 1, 2; bfd on; \
    ipv6 { import all; export none; }; }\n";

fn bird_configuration(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["anycast", "bird-config", "--config"])
        .arg(folder.join("node.toml"))
        .output()
        .expect("the built program");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_router_hears_of_a_node_while_it_is_ready() {
    let (namespace, router) = two_namespaces();
    let mut node = Node::start(&namespace, TO_THE_ROUTER);
    let folder = node.folder.path();
    let beside = Bird::start(&namespace, folder, "node", &bird_configuration(folder));
    let far = Bird::start(&router, folder, "router", ROUTER);
    let heard = |net: &str| far.ask(&format!("show route {net}")).contains(net);
    wait_until("the router hears of all", || {
        ["192.0.2.1/32", "100.64.0.0/16", "2001:db8::1/128"]
            .into_iter()
            .all(heard)
    });
    assert!(!heard("10.1.1.0/24"), "what is not ours stays here");

    // A slice, and the last resort, as the announcer makes them.
    namespace.ip(&format!(
        "route add 100.64.3.0/24 dev {TUN} table 1701 proto 171 metric 100"
    ));
    wait_until("the slice", || heard("100.64.3.0/24"));
    namespace.ip("route del 100.64.3.0/24 table 1701 metric 100");
    wait_until("the slice is withdrawn", || !heard("100.64.3.0/24"));
    let path = || far.ask("show route all 100.64.4.0/24");
    namespace.ip(&format!(
        "route add 100.64.4.0/24 dev {TUN} table 1701 proto 171 metric 200"
    ));
    wait_until("the long path", || path().contains("65001 65001 65001 65001"));
    namespace.ip(&format!(
        "route add 100.64.4.0/24 dev {TUN} table 1701 proto 171 metric 100"
    ));
    wait_until("the short path", || {
        path().contains("65001") && !path().contains("65001 65001")
    });
    namespace.ip("route del 100.64.4.0/24 table 1701 metric 100");
    wait_until("the long path again", || {
        path().contains("65001 65001 65001 65001")
    });

    // Hung, resumed, dead.
    let child = node.child();
    kill(child, Signal::SIGSTOP).expect("it lives");
    let all_gone = || {
        ["192.0.2.1/32", "100.64.0.0/16", "2001:db8::1/128"]
            .into_iter()
            .all(|net| !heard(net))
    };
    wait_until("withdrawn by the parent", all_gone);
    kill(child, Signal::SIGCONT).expect("it lives");
    wait_until("heard again", || {
        heard("192.0.2.1/32") && heard("2001:db8::1/128")
    });
    kill(child, Signal::SIGKILL).expect("it lives");
    node.wait();
    wait_until("withdrawn by the kernel", all_gone);
    assert!(
        beside.ask("show protocols").contains("holdfast_router1"),
        "BIRD itself lives on"
    );
    wait_until("late packets go nowhere", || {
        namespace.shows("route show", "blackhole 192.0.2.1")
    });
}
