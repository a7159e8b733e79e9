//! Members whose network falls silent, in a network namespace of its own. Needs root.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use holdfast::config::{ClusterConfig, MemberConfig};
use holdfast::metrics::Metrics;
use holdfast::peers::issue::{Authority, Validity};
use holdfast::peers::{Frame, Hello, Past, PeerEvents, Peers, PeersConfig, PeersHandle};
use nix::sched::{CloneFlags, unshare};

const CLUSTER: &str = "c-1";

/// When a member was heard to be down, and whether it was refused.
#[derive(Clone, Default)]
struct Downs(Arc<Mutex<Vec<(Instant, bool)>>>);

impl PeerEvents for Downs {
    fn on_frame(&self, _from: u64, _frame: Frame) {}
    fn on_datagram(&self, _from: u64, _octets: Vec<u8>) {}
    fn on_up(&self, _node: u64, _hello: Hello) {}
    fn on_superseded(&self, _node: u64) {}

    fn on_down(&self, _node: u64, refused: bool) {
        let mut downs = self.0.lock().expect("no test panics in it");
        downs.push((Instant::now(), refused));
    }
}

fn start(folder: &Path, authority: &Authority, members: &[MemberConfig], node: u64) -> (PeersHandle, Downs) {
    let path = |name: &str| folder.join(format!("{node}-{name}"));
    let validity = Validity::starting_at(time::OffsetDateTime::now_utc());
    let issued = authority.issue(node, validity).expect("a certificate");
    let cluster = ClusterConfig {
        id: CLUSTER.to_owned(),
        listen: members[node as usize - 1].address,
        ca: path("ca.pem"),
        certificate: path("node.pem"),
        key: path("node.key"),
        join: false,
        isolation_limit: std::time::Duration::from_secs(600),
    };
    std::fs::write(&cluster.ca, authority.issued().certificate).expect("written");
    std::fs::write(&cluster.certificate, issued.certificate).expect("written");
    std::fs::write(&cluster.key, issued.key.as_bytes()).expect("written");
    let downs = Downs::default();
    let config = PeersConfig {
        node,
        cluster,
        members: members.to_vec(),
        hello: Hello {
            cluster_id: CLUSTER.to_owned(),
            node,
            program: "test".to_owned(),
            oldest_version: 1,
            newest_version: 1,
            configuration: Vec::new(),
            boot: 1,
            lineage: holdfast_cluster::replica::Lineage::default(),
            past: Past::default(),
        },
        metrics: Arc::new(Metrics::default()),
    };
    (Peers::start(config, downs.clone()).expect("started"), downs)
}

fn ip(args: &str) {
    let status = Command::new("ip")
        .args(args.split(' '))
        .status()
        .expect("ip runs");
    assert!(status.success(), "ip {args}");
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "waited in vain: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody says goodbye: the stream ends within two seconds, and not as refused; and it comes back.
#[test]
fn a_silent_network_is_noticed_within_two_seconds() {
    let test = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        ip("link set lo up");
        let folder = tempfile::tempdir().expect("a folder");
        let validity = Validity::starting_at(time::OffsetDateTime::now_utc());
        let authority = Authority::new(CLUSTER, validity).expect("a CA");
        let member = |id: u8| MemberConfig {
            id: id.into(),
            address: ([127, 0, 0, id], 1710).into(),
            witness: false,
        };
        let members = [member(1), member(2)];
        let (first, downs) = start(folder.path(), &authority, &members, 1);
        let (second, _) = start(folder.path(), &authority, &members, 2);
        let up = || first.connected() == [2] && second.connected() == [1];
        wait("up", up);
        downs.0.lock().expect("no test panics in it").clear();
        let began = Instant::now();
        ip("link set lo down");
        wait("noticed", || {
            first.connected().is_empty() && second.connected().is_empty()
        });
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(
            downs
                .0
                .lock()
                .expect("no test panics in it")
                .iter()
                .all(|(_, refused)| !refused)
        );
        ip("link set lo up");
        wait("up again", up);
        first.stop();
        second.stop();
    });
    test.join().expect("no failure");
}
