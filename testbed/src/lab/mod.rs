//! A laboratory of network namespaces on this machine, with real clients in it.
//!
//! A [`Lab`] is one access network, one LNS and one host behind the LNS:
//!
//! ```text
//!   guest        guest                namespace "lns"                   namespace "behind"
//!   xl2tpd+pppd  xl2tpd+pppd
//!      |            |           bridge 10.71.0.1    veth 203.0.113.1 ---- 203.0.113.2
//!      +-- tap -----+-- tap --------+   Holdfast, its TUN
//! ```
//!
//! The interfaces are made inside the namespaces, so nothing here touches the machine's own network. Namespaces and
//! processes go when their owner is dropped or the program gets SIGINT, SIGTERM or SIGHUP ([`cleanup`]); what a killed run
//! left is removed by the next one.

pub mod apt;
pub mod behind;
pub mod cleanup;
pub mod dhcp6;
pub mod dialup;
pub mod error;
pub mod freeradius;
pub mod guest;
pub mod image;
pub mod namespace;
pub mod process;
pub mod radclient;
pub mod server;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

pub use error::{LabError, Result};
use guest::Guest;
use image::Image;
use namespace::Namespace;

/// The LNS's address on the access network.
pub const LNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 71, 0, 1);
/// The address of the host behind the LNS.
pub const BEHIND_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The same of IPv6.
pub const BEHIND_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 2);
/// Octets. The access network carries a subscriber's full packet and L2TP around it without outer fragments.
pub const ACCESS_MTU: u16 = 1600;
/// Where the guests' addresses on the access network begin.
const FIRST_GUEST: u8 = 2;

/// One access network with an LNS and a host behind it.
#[derive(Debug)]
pub struct Lab {
    pub lns: Namespace,
    pub behind: Namespace,
    directory: PathBuf,
    image: Image,
    guests: AtomicU8,
}

impl Lab {
    /// Builds the namespaces and the links; no guest runs yet.
    pub fn build(image: &Image) -> Result<Self> {
        let lns = Namespace::create("lns")?;
        let behind = Namespace::create("behind")?;
        lns.ip("link add access type bridge")?;
        lns.ip(&format!("addr add {LNS_ADDRESS}/24 dev access"))?;
        lns.ip("link set access up")?;
        lns.ip(&format!(
            "link add core type veth peer name eth0 netns {}",
            behind.name()
        ))?;
        lns.ip("addr add 203.0.113.1/24 dev core")?;
        lns.ip("link set core up")?;
        behind.ip(&format!("addr add {BEHIND_ADDRESS}/24 dev eth0"))?;
        behind.ip("link set eth0 up")?;
        behind.ip("route add default via 203.0.113.1")?;
        lns.ip("-6 addr add 2001:db8:ff::1/64 dev core nodad")?;
        behind.ip(&format!("-6 addr add {BEHIND_ADDRESS6}/64 dev eth0 nodad"))?;
        behind.ip("-6 route add default via 2001:db8:ff::1")?;
        for path in [
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
        ] {
            let forward = lns.enter(|| fs::write(path, "1"))?;
            forward.map_err(|source| LabError::io(path, source))?;
        }

        let directory = std::env::temp_dir().join(lns.name());
        fs::create_dir_all(&directory).map_err(|source| LabError::io(&directory, source))?;
        Ok(Self {
            lns,
            behind,
            directory,
            image: image.clone(),
            guests: AtomicU8::new(0),
        })
    }

    /// Where the lab keeps configurations, logs and the guests' shared folders until it is dropped.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Boots a guest on a tap of its own and gives it the next free address.
    pub fn boot_guest(&self) -> Result<Guest> {
        let number = self.guests.fetch_add(1, Ordering::Relaxed);
        self.lns.ip(&format!("tuntap add tap{number} mode tap"))?;
        self.lns
            .ip(&format!("link set tap{number} mtu {ACCESS_MTU} master access up"))?;
        self.boot(number, Ipv4Addr::new(10, 71, 0, FIRST_GUEST + number))
    }

    fn boot(&self, number: u8, address: Ipv4Addr) -> Result<Guest> {
        let folder = self.directory.join(format!("guest{number}"));
        let guest = Guest::boot(&self.image, &self.lns, &format!("tap{number}"), &folder, address)?;
        guest.check(&format!(
            "ip link set eth0 mtu {ACCESS_MTU}; ip addr add {address}/24 dev eth0"
        ))?;
        Ok(guest)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is left behind in the temporary folder is removed by the next run.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
