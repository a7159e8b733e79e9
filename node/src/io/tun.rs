//! The TUN device: one queue a shard, an address of our own, the routes of the subscribers' pool.
//!
//! The device is not persistent: when the process dies the kernel removes it, its address and its routes with it. It is
//! configured by ioctl(2), which answers at once, but for further addresses, which take netlink.
//!
//! It also carries the anycast addresses that LACs dial, so the kernel takes these away with a dead process as well.

mod offload;
mod queue;
mod ring;

use std::ffi::c_char;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libc::{c_int, ifreq};
use socket2::{Domain, Socket, Type};

use super::netlink::{Netlink, Route};

pub use offload::Offload;
pub(crate) use queue::TunQueue;
pub(crate) use ring::{LEAST_WRITES, WriteRing, Written};

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Bounds of the device's MTU, octets: what RFC 791 §3.2 asks for, and what a packet buffer holds.
pub const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=9000;

/// Below that of the routes that BIRD keeps in the same table for when the device is gone (32); zero is taken for 1024.
const IPV6_METRIC: u32 = 1;

/// What the device is to look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// Its name, at most 15 octets.
    pub name: String,
    /// The node's own address in all sessions.
    pub address: Ipv4Addr,
    /// Octets, within [`MTU_RANGE`]; not less than any session's.
    pub mtu: u16,
    /// What the kernel routes to the subscribers.
    pub routes: Vec<Ipv4Net>,
    /// The same of IPv6.
    pub routes6: Vec<Ipv6Net>,
    /// Further addresses, /32 or /128 each: those that LACs dial.
    pub anycast: Vec<IpAddr>,
    /// Whether the kernel is asked for large packets that stand for many; without, each packet comes and goes by itself.
    pub offload: bool,
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel or the container has no TUN driver.
    #[error(
        "no TUN device: {CLONE_DEVICE} is missing (load the module tun, or give the container the device)"
    )]
    NoDevice,
    /// The process may not make one.
    #[error("not permitted to make TUN device {name}: CAP_NET_ADMIN is needed")]
    NotPermitted {
        /// Which.
        name: String,
    },
    /// The name is taken.
    #[error("TUN device {name} is in use by another program (is another holdfast running?)")]
    Busy {
        /// Which.
        name: String,
    },
    /// The configuration cannot be carried out.
    #[error("TUN device {name}: {what}")]
    Config {
        /// Which.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A route to the subscribers was refused.
    #[error("TUN device {name}: route {route}: {source}")]
    Route {
        /// Which device.
        name: String,
        /// Which route.
        route: IpNet,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("TUN device {name}: {step}: {source}")]
    Io {
        /// Which device.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The open device.
#[derive(Debug)]
pub struct Tun {
    queues: Vec<TunQueue>,
    link: TunLink,
}

/// The device as an interface of the host. It does not keep the device alive.
#[derive(Clone, Debug)]
pub struct TunLink {
    config: TunConfig,
    index: u32,
}

impl Tun {
    /// Makes the device with `queues` queues, gives it its address, MTU and routes, and sets the link up.
    ///
    /// # Errors
    /// The first that went wrong; the device is gone again then.
    pub fn open(config: &TunConfig, queues: usize) -> Result<Self, TunError> {
        let name = || config.name.clone();
        if config.name.is_empty()
            || config.name.len() >= libc::IFNAMSIZ
            || config.name.contains(['\0', '/', '%'])
        {
            return Err(TunError::Config {
                name: name(),
                what: "a name has 1 to 15 octets, none of them / or %",
            });
        }
        if !MTU_RANGE.contains(&config.mtu) {
            return Err(TunError::Config {
                name: name(),
                what: "the MTU is between 68 and 9000",
            });
        }
        let queues = open_queues(config, queues)?;
        let index = nix::net::if_::if_nametoindex(config.name.as_str()).map_err(|error| TunError::Io {
            name: name(),
            step: "its index",
            source: error.into(),
        })?;
        let link = TunLink {
            config: config.clone(),
            index,
        };
        link.configure(false)?;
        Ok(Self { queues, link })
    }

    /// The device as an interface.
    pub fn link(&self) -> &TunLink {
        &self.link
    }

    /// The descriptors of a device without offload: a packet a read, a packet a write.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        self.queues.into_iter().map(TunQueue::into_descriptor).collect()
    }

    /// One queue a shard.
    pub(crate) fn into_queues(self) -> Vec<TunQueue> {
        self.queues
    }
}

impl TunLink {
    /// The kernel's number of the interface, which it keeps as long as it lives.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sets the interface up again after someone has set it down, which takes away its routes and IPv6 addresses.
    ///
    /// # Errors
    /// The first that went wrong; to be tried again then.
    pub fn restore(&self) -> Result<(), TunError> {
        self.configure(true)
    }

    /// Gives the interface its addresses, MTU and routes, and sets it up. With `again`, a route that is there is our own.
    fn configure(&self, again: bool) -> Result<(), TunError> {
        let config = &self.config;
        let fail = |step| {
            move |source| TunError::Io {
                name: config.name.clone(),
                step,
                source,
            }
        };
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(fail("socket"))?;
        let control = Control {
            socket,
            name: &config.name,
        };
        control
            .set_address(config.address)
            .map_err(fail("setting the address"))?;
        control.set_mtu(config.mtu).map_err(fail("setting the MTU"))?;
        control.set_up().map_err(fail("setting the link up"))?;
        self.add_anycast().map_err(fail("adding an anycast address"))?;
        for route in &config.routes {
            match control.add_route(*route) {
                Err(error) if again && error.raw_os_error() == Some(libc::EEXIST) => {}
                outcome => outcome.map_err(|source| TunError::Route {
                    name: config.name.clone(),
                    route: IpNet::V4(*route),
                    source,
                })?,
            }
        }
        self.add_routes6()
    }

    /// One that is there is left as it is.
    fn add_routes6(&self) -> Result<(), TunError> {
        for to in self.config.routes6.iter().copied().map(IpNet::V6) {
            let route = Route {
                to,
                interface: self.index,
                table: u32::from(libc::RT_TABLE_MAIN),
                protocol: libc::RTPROT_BOOT,
                metric: IPV6_METRIC,
            };
            let added = Netlink::open().and_then(|mut netlink| netlink.add_route(&route));
            added.map_err(|source| TunError::Route {
                name: self.config.name.clone(),
                route: to,
                source,
            })?;
        }
        Ok(())
    }

    fn add_anycast(&self) -> io::Result<()> {
        if self.config.anycast.is_empty() {
            return Ok(());
        }
        let mut netlink = Netlink::open()?;
        self.config
            .anycast
            .iter()
            .try_for_each(|address| netlink.add_address(self.index, *address))
    }
}

/// The first queue makes the device. It must not exist yet: a second daemon would else get queues of the first one's
/// device, in silence.
fn open_queues(config: &TunConfig, queues: usize) -> Result<Vec<TunQueue>, TunError> {
    let mut header = config.offload;
    let mut first = attach(config, header, true);
    if header
        && matches!(&first, Err(TunError::Io { source, .. }) if source.raw_os_error() == Some(libc::EINVAL))
    {
        header = false;
        first = attach(config, header, true);
    }
    let mut descriptors = vec![first?];
    for _ in 1..queues {
        descriptors.push(attach(config, header, false)?);
    }
    let device = descriptors[0].as_raw_fd();
    let offload = offload::negotiate(config.offload, header, |features| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe { libc::ioctl(device, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(features)) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    });
    let queue = |descriptor| TunQueue::new(descriptor, offload);
    Ok(descriptors.into_iter().map(queue).collect())
}

/// Opens a queue, with a header before each packet if `header`.
fn attach(config: &TunConfig, header: bool, first: bool) -> Result<OwnedFd, TunError> {
    let name = config.name.clone();
    let device: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDevice,
            Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted { name: name.clone() },
            _ => TunError::Io {
                name: name.clone(),
                step: "opening /dev/net/tun",
                source,
            },
        })?;
    let mut request = request(&config.name);
    let exclusive = if first { libc::IFF_TUN_EXCL } else { 0 };
    let header = if header { libc::IFF_VNET_HDR } else { 0 };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | header | exclusive;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    let result = unsafe { ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    result.map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted { name },
        Some(libc::EBUSY) => TunError::Busy { name },
        _ => TunError::Io {
            name,
            step: "TUNSETIFF",
            source,
        },
    })?;
    Ok(device.into())
}

/// The socket by which a device is configured.
struct Control<'a> {
    socket: Socket,
    name: &'a str,
}

impl Control<'_> {
    /// A point-to-point device takes the address as a /32.
    fn set_address(&self, address: Ipv4Addr) -> io::Result<()> {
        let mut request = request(self.name);
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.ioctl(libc::SIOCSIFADDR, &mut request)
    }

    fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let mut request = request(self.name);
        request.ifr_ifru.ifru_mtu = c_int::from(mtu);
        self.ioctl(libc::SIOCSIFMTU, &mut request)
    }

    fn set_up(&self) -> io::Result<()> {
        let mut request = request(self.name);
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has just filled this field.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.ioctl(libc::SIOCSIFFLAGS, &mut request)
    }

    fn add_route(&self, route: Ipv4Net) -> io::Result<()> {
        let mut name: [c_char; libc::IFNAMSIZ] = request(self.name).ifr_name;
        // SAFETY: rtentry is plain data for which zero is a value.
        let mut entry: libc::rtentry = unsafe { std::mem::zeroed() };
        entry.rt_dst = socket_address(route.network());
        entry.rt_genmask = socket_address(route.netmask());
        entry.rt_flags = libc::RTF_UP
            | if route.prefix_len() == 32 {
                libc::RTF_HOST
            } else {
                0
            };
        entry.rt_dev = name.as_mut_ptr();
        self.ioctl(libc::SIOCADDRT, &mut entry)
    }

    fn ioctl<T>(&self, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
        // SAFETY: every caller pairs the request with the structure that the kernel reads and writes for it (ifreq for
        // SIOC*IF*, rtentry for SIOCADDRT), and what that points to lives through the call.
        unsafe { ioctl(self.socket.as_raw_fd(), number, argument) }
    }
}

/// # Safety
/// `T` must be the structure that `number` reads and writes, and its pointers valid.
unsafe fn ioctl<T>(fd: RawFd, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the caller promises that `argument` is what `number` takes.
    let result = unsafe { libc::ioctl(fd, number as _, &raw mut *argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A request about the device `name`, which is short enough ([`Tun::open`]).
fn request(name: &str) -> ifreq {
    // SAFETY: ifreq is plain data for which zero is a value.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let internet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.octets()),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are the 16 octets that a socket address of family AF_INET has.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(internet) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_device_can_have_is_refused_before_anything_is_opened() {
        let good = TunConfig {
            name: "hf0".into(),
            address: [10, 0, 0, 1].into(),
            mtu: 1500,
            routes: Vec::new(),
            routes6: Vec::new(),
            anycast: Vec::new(),
            offload: true,
        };
        let bad_names = ["", "a-name-of-16-oct", "a/b", "hf%d"];
        for name in bad_names {
            let error = Tun::open(
                &TunConfig {
                    name: name.into(),
                    ..good.clone()
                },
                1,
            )
            .expect_err("a bad name");
            assert!(matches!(error, TunError::Config { .. }), "{error}");
        }
        for mtu in [67, 9001] {
            let error = Tun::open(&TunConfig { mtu, ..good.clone() }, 1).expect_err("a bad MTU");
            assert!(matches!(error, TunError::Config { .. }), "{error}");
        }
    }
}
