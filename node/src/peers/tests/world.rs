//! Members on loopback addresses of their own, and an impostor with any certificate.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::issue::{Authority, Issued, Validity};
use super::super::tls::{Credentials, Expected, Trust};
use super::super::{Frame, Hello, Identity, Past, PeerEvents, Peers, PeersConfig, PeersHandle};
use crate::config::{ClusterConfig, MemberConfig};
use crate::metrics::{Counter, Metrics};

pub const CLUSTER: &str = "c-1";
const PATIENCE: Duration = Duration::from_secs(10);

/// What a member heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Frame(u64, Frame),
    Datagram(u64, Vec<u8>),
    /// Node and boot.
    Up(u64, u64),
    Down(u64, bool),
    Superseded(u64),
}

#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Vec<Event>>>);

impl PeerEvents for Heard {
    fn on_frame(&self, from: u64, frame: Frame) {
        self.push(Event::Frame(from, frame));
    }

    fn on_datagram(&self, from: u64, octets: Vec<u8>) {
        self.push(Event::Datagram(from, octets));
    }

    fn on_up(&self, node: u64, hello: Hello) {
        assert_eq!((hello.node, hello.cluster_id.as_str()), (node, CLUSTER));
        self.push(Event::Up(node, hello.boot));
    }

    fn on_superseded(&self, node: u64) {
        self.push(Event::Superseded(node));
    }

    fn on_down(&self, node: u64, refused: bool) {
        self.push(Event::Down(node, refused));
    }
}

impl Heard {
    fn push(&self, event: Event) {
        self.0.lock().expect("no test panics in it").push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no test panics in it").clone()
    }

    pub fn clear(&self) {
        self.0.lock().expect("no test panics in it").clear();
    }

    pub fn has(&self, event: &Event) -> bool {
        self.events().contains(event)
    }
}

/// A member that runs.
pub struct Running {
    pub handle: PeersHandle,
    pub heard: Heard,
    pub metrics: Arc<Metrics>,
}

impl Running {
    pub fn count(&self, counter: Counter) -> u64 {
        self.metrics.get(counter)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

pub struct World {
    folder: TempDir,
    pub authority: Authority,
    pub members: Vec<MemberConfig>,
}

#[track_caller]
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn valid() -> Validity {
    Validity::starting_at(OffsetDateTime::now_utc())
}

pub fn expired() -> Validity {
    Validity::starting_at(OffsetDateTime::now_utc() - time::Duration::days(4000))
}

impl World {
    /// Members 1 to `count`, none running yet.
    pub fn new(count: u8) -> Self {
        let mut random = rand::rng();
        let net: [u8; 2] = [random.random_range(1..255), random.random_range(1..255)];
        let member = |id: u8| MemberConfig {
            id: id.into(),
            address: (Ipv4Addr::new(127, net[0], net[1], id), 1710).into(),
            witness: false,
        };
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            authority: Authority::new(CLUSTER, valid()).expect("a CA"),
            members: (1..=count).map(member).collect(),
        }
    }

    pub fn address(&self, node: u64) -> SocketAddr {
        let member = self.members.iter().find(|member| member.id == node);
        member.expect("a member").address
    }

    /// `[cluster]` of a node, its files freshly made.
    pub fn cluster(&self, node: u64) -> ClusterConfig {
        let issued = self.authority.issue(node, valid()).expect("a certificate");
        self.cluster_with(node, &self.authority.issued(), &issued)
    }

    pub fn cluster_with(&self, node: u64, ca: &Issued, issued: &Issued) -> ClusterConfig {
        let path = |name: &str| self.folder.path().join(format!("{node}-{name}"));
        let config = ClusterConfig {
            id: CLUSTER.to_owned(),
            listen: self.address(node),
            ca: path("ca.pem"),
            certificate: path("node.pem"),
            key: path("node.key"),
            join: false,
            isolation_limit: std::time::Duration::from_secs(600),
        };
        fs::write(&config.ca, &ca.certificate).expect("written");
        fs::write(&config.certificate, &issued.certificate).expect("written");
        fs::write(&config.key, issued.key.as_bytes()).expect("written");
        config
    }

    /// Starts a member; `boot` tells its processes apart.
    pub fn start(&self, node: u64, boot: u64) -> Running {
        let metrics = Arc::new(Metrics::default());
        let config = PeersConfig {
            node,
            cluster: self.cluster(node),
            members: self.members.clone(),
            hello: hello(node, boot),
            metrics: metrics.clone(),
        };
        let heard = Heard::default();
        let handle = Peers::start(config, heard.clone()).expect("started");
        Running {
            handle,
            heard,
            metrics,
        }
    }

    /// Starts all of them, with boot 1, and waits until each has each.
    pub fn start_all(&self) -> Vec<Running> {
        let running: Vec<_> = self
            .members
            .iter()
            .map(|member| self.start(member.id, 1))
            .collect();
        wait("all connected", || {
            running.iter().all(|node| {
                let status = node.handle.status();
                node.handle.connected().len() + 1 == self.members.len()
                    && status.iter().all(|peer| peer.heard)
            })
        });
        running
    }

    /// Credentials that trust this cluster's CA and show this certificate.
    pub fn showing(&self, issued: &Issued) -> Credentials {
        let ca = CertificateDer::from_pem_slice(self.authority.issued().certificate.as_bytes()).expect("PEM");
        let anchor = webpki::anchor_from_trusted_cert(&ca).expect("a CA").to_owned();
        Credentials {
            trust: Arc::new(Trust::new(vec![anchor])),
            chain: vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM")],
            key: PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM"),
        }
    }

    /// Dials member 1 from the address of `from`, showing a certificate.
    pub async fn dial(&self, from: u64, issued: &Issued) -> io::Result<TlsStream<TcpStream>> {
        let expected = Expected {
            own: identity(99),
            members: [1].into(),
            dialled: Some(1),
        };
        let config = self.showing(issued).dialler(expected).expect("a configuration");
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address(from).ip(), 0).into())?;
        let tcp = socket.connect(self.address(1)).await?;
        let name = ServerName::IpAddress(self.address(1).ip().into());
        TlsConnector::from(config).connect(name, tcp).await
    }

    /// Takes streams in the place of a member.
    pub fn acceptor(&self, issued: &Issued) -> TlsAcceptor {
        let expected = Expected {
            own: identity(99),
            members: self.members.iter().map(|member| member.id).collect(),
            dialled: None,
        };
        self.showing(issued)
            .acceptor(expected)
            .expect("a configuration")
            .into()
    }
}

pub fn identity(node: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node,
    }
}

pub fn hello(node: u64, boot: u64) -> Hello {
    Hello {
        cluster_id: CLUSTER.to_owned(),
        node,
        program: "test".to_owned(),
        oldest_version: 1,
        newest_version: 1,
        configuration: vec![1, 2, 3],
        boot,
        lineage: holdfast_cluster::replica::Lineage::default(),
        past: Past::default(),
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
