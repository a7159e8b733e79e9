//! The namespaces of the data-path bench: LAC side, server and core, joined by veths.
//!
//! ```text
//!   namespace "lac"                   namespace "server"                     namespace "core"
//!   10.72.0.2, .3 ... eth0 ---- access 10.72.0.1   core 203.0.113.1 ---- eth0 203.0.113.2
//!   simulator, generator             the server, its TUN                  generator, 198.51.100.0/24 to nowhere
//! ```
//!
//! What arrives for the load's address in the core is dropped there, what arrives at the LAC as load is dropped by its
//! socket's filter: the interfaces count it before.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;

use super::counter::Counter;
use crate::cleanup::ChangedSetting;
use crate::lab::error::{LabError, Result};
use crate::lab::namespace::Namespace;
use crate::lab::process::run;

/// The server's address for LACs.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 72, 0, 1), 1701);
/// The first LAC's address; each other has the next one.
const FIRST_LAC: Ipv4Addr = Ipv4Addr::new(10, 72, 0, 2);
/// LACs at most.
pub const LACS: u16 = 10;
/// The host in the core.
pub const CORE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Where the uplink's load goes.
pub const SINK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4000);
/// The first subscriber's address with a server that takes addresses from RADIUS.
pub const FIRST_SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// All subscribers' addresses.
pub const POOL: &str = "100.64.0.0/10";

/// Octets. The access network carries a full packet and L2TP around it without outer fragments.
const ACCESS_MTU: u16 = 1600;
/// Packets that an interface may hold.
const QUEUE: u16 = 1000;
/// Octets that a socket gets, asked for or not.
const SOCKET_BUFFER: u32 = 16 << 20;
const BUFFER_SETTINGS: [&str; 4] = ["rmem_max", "rmem_default", "wmem_max", "wmem_default"];

/// Real network cards have receive offload on by default, so the server's two interfaces have it too, whichever server.
const NEAR: &str = "gro on rx-udp-gro-forwarding on";

/// See the module.
#[derive(Debug)]
pub struct Bed {
    pub lac: Namespace,
    pub server: Namespace,
    pub core: Namespace,
    /// What arrives at the LACs and in the core.
    pub at_lac: Counter,
    pub at_core: Counter,
    /// Put back as they were when the bed is dropped.
    _buffers: Vec<ChangedSetting>,
}

impl Bed {
    /// Builds the namespaces; nothing runs in them yet.
    pub fn build() -> Result<Self> {
        let buffers = raise_buffers()?;
        let (lac, server, core) = (
            Namespace::create("lac")?,
            Namespace::create("srv")?,
            Namespace::create("core")?,
        );
        for (near, far, address) in [
            ("access", &lac, format!("{}/16", SERVER.ip())),
            ("core", &core, "203.0.113.1/24".to_owned()),
        ] {
            server.ip(&format!(
                "link add {near} mtu {ACCESS_MTU} txqueuelen {QUEUE} type veth peer name eth0 mtu {ACCESS_MTU} txqueuelen \
                 {QUEUE} netns {}",
                far.name()
            ))?;
            server.ip(&format!("addr add {address} dev {near}"))?;
            server.ip(&format!("link set {near} up"))?;
            far.ip("link set eth0 up")?;
            offload(&server, near, NEAR)?;
        }
        for number in 0..LACS {
            lac.ip(&format!("addr add {}/16 dev eth0", lac_address(number).ip()))?;
        }
        core.ip(&format!("addr add {CORE}/24 dev eth0"))?;
        core.ip("route add default via 203.0.113.1")?;
        lac.ip(&format!("route add default via {}", SERVER.ip()))?;
        core.ip("route add blackhole 198.51.100.0/24")?;
        server.ip(&format!("route add 198.51.100.0/24 via {CORE}"))?;
        for namespace in [&lac, &server, &core] {
            namespace.enter(sysctl)??;
        }
        Ok(Self {
            at_lac: Counter::open(&lac, "eth0")?,
            at_core: Counter::open(&core, "eth0")?,
            lac,
            server,
            core,
            _buffers: buffers,
        })
    }

    /// Receive offload of the far ends: off while packets are counted, so that the far hosts cost the server's core little;
    /// on for TCP, as real hosts have it.
    pub fn set_far_offload(&self, on: bool) -> Result<()> {
        for namespace in [&self.lac, &self.core] {
            offload(namespace, "eth0", if on { "gro on" } else { "gro off" })?;
        }
        Ok(())
    }

    /// Whether bursts cross the veths uncut, or are cut by the sender's kernel.
    pub fn set_sender_segmentation(&self, uncut: bool) -> Result<()> {
        let feature = if uncut {
            "tx-udp-segmentation on"
        } else {
            "tx-udp-segmentation off"
        };
        [&self.lac, &self.core]
            .into_iter()
            .try_for_each(|namespace| offload(namespace, "eth0", feature))
    }

    /// The settings that bear on the figures, one a line.
    pub fn settings(&self) -> Vec<String> {
        vec![
            format!("server's interfaces, both sides: ethtool -K {NEAR} (as network cards have it), txqueuelen {QUEUE}"),
            "far ends: gro off for UDP, on for TCP; what arrives is counted by the interface and dropped there".into(),
            format!("socket buffers: net.core.{{{}}} = {SOCKET_BUFFER}", BUFFER_SETTINGS.join(",")),
        ]
    }
}

/// Address and port of a LAC.
pub fn lac_address(number: u16) -> SocketAddr {
    SocketAddr::from((
        super::packet::address(FIRST_LAC, u32::from(number)),
        SERVER.port(),
    ))
}

fn sysctl() -> Result<()> {
    for (path, value) in [
        // Nobody solicits routers between the packets that are counted.
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
    ] {
        let path = format!("/proc/sys/net/{path}");
        fs::write(&path, value).map_err(|source| LabError::io(&path, source))?;
    }
    Ok(())
}

fn offload(namespace: &Namespace, interface: &str, features: &str) -> Result<()> {
    let mut command: Command = namespace.command("ethtool");
    command.args(["-K", interface]).args(features.split_whitespace());
    run(&mut command).map(drop)
}

/// The machine's sizes of socket buffers; those of a program that asks for none are among them.
fn raise_buffers() -> Result<Vec<ChangedSetting>> {
    let raise = |name: &str| {
        let path = PathBuf::from(format!("/proc/sys/net/core/{name}"));
        ChangedSetting::new(path.clone(), &SOCKET_BUFFER.to_string())
            .map_err(|source| LabError::io(&path, source))
    };
    BUFFER_SETTINGS.into_iter().map(raise).collect()
}
