//! The UDP sockets (RFC 2661 §8.1): one SO_REUSEPORT group a listening address, one socket a shard.
//!
//! Whoever sets SO_REUSEPORT joins a group in silence, a second daemon too. So a plain bind without it comes first: it
//! fails if anybody has the port.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::c_int;
use socket2::{Domain, Protocol, Socket, Type};

use super::steering;

/// What a socket's queues are asked to hold, octets: some ten milliseconds at 4 Gb/s.
const BUFFER: usize = 4 << 20;

/// Why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there already.
    #[error(
        "UDP {address} is in use by another program (is another holdfast running?); stop that one, or listen elsewhere"
    )]
    AddressInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The configuration names it twice.
    #[error("UDP {address} is listed twice")]
    Twice {
        /// Where.
        address: SocketAddr,
    },
    /// The host does not have the address.
    #[error("UDP {address}: this host does not have that address")]
    AddressNotAvailable {
        /// Which.
        address: SocketAddr,
    },
    /// The process may not use the port.
    #[error("UDP {address}: not permitted (ports below the unprivileged range need CAP_NET_BIND_SERVICE)")]
    NotPermitted {
        /// Which.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("UDP {address}: {step}: {source}")]
    Io {
        /// Which socket.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One socket of one shard.
#[derive(Debug)]
pub struct ShardSocket {
    /// Where it listens; the address may be a wildcard.
    pub address: SocketAddr,
    socket: Socket,
    /// What the kernel last said of how many messages it had no room for. It counts from when the socket was opened and
    /// wraps.
    dropped: Cell<u32>,
}

impl ShardSocket {
    /// How many messages the kernel had no room for since it last told; `total` is what it tells now.
    pub(crate) fn newly_dropped(&self, total: u32) -> u64 {
        u64::from(total.wrapping_sub(self.dropped.replace(total)))
    }
}

impl AsFd for ShardSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The sockets of all shards, bound and steered.
#[derive(Debug)]
pub struct SocketGroup {
    addresses: Vec<SocketAddr>,
    by_shard: Vec<Vec<ShardSocket>>,
}

impl SocketGroup {
    /// Opens `shards` (at least one) sockets for each address. Port 0 takes a free one, the same for all shards.
    ///
    /// # Errors
    /// The first that went wrong; nothing stays open.
    pub fn open(listen: &[SocketAddr], shards: usize) -> Result<Self, SocketError> {
        let mut addresses = Vec::with_capacity(listen.len());
        for address in listen {
            if addresses.contains(address) {
                return Err(SocketError::Twice { address: *address });
            }
            addresses.push(probe(*address)?);
        }
        let mut by_shard: Vec<Vec<ShardSocket>> = (0..shards).map(|_| Vec::new()).collect();
        let mut refused = None;
        for address in &addresses {
            for (shard, sockets) in by_shard.iter_mut().enumerate() {
                let socket = open(*address, true)?;
                bind(&socket, *address)?;
                if shard == 0 {
                    steer(&socket, *address, shards)?;
                }
                // Many datagrams of one size and sender in one message.
                refused = refused.or(set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).err());
                sockets.push(ShardSocket {
                    address: *address,
                    socket,
                    dropped: Cell::new(0),
                });
            }
        }
        if let Some(error) = refused {
            tracing::warn!(
                %error,
                "the kernel has no UDP_GRO (Linux 5.0 has it): datagrams are received one by one, which costs more CPU"
            );
        }
        Ok(Self { addresses, by_shard })
    }

    /// Where the sockets listen, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many shards have sockets here.
    pub fn shards(&self) -> usize {
        self.by_shard.len()
    }

    /// The sockets of each shard, one a listening address.
    pub(crate) fn into_shards(self) -> Vec<Vec<ShardSocket>> {
        self.by_shard
    }
}

/// Binds for a moment without SO_REUSEPORT; returns the address with its port.
fn probe(address: SocketAddr) -> Result<SocketAddr, SocketError> {
    let socket = open(address, false)?;
    bind(&socket, address)?;
    let bound = socket.local_addr().map_err(|source| SocketError::Io {
        address,
        step: "getsockname",
        source,
    })?;
    Ok(bound.as_socket().unwrap_or(address))
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    socket
        .bind(&address.into())
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SocketError::AddressInUse { address },
            io::ErrorKind::AddrNotAvailable => SocketError::AddressNotAvailable { address },
            io::ErrorKind::PermissionDenied => SocketError::NotPermitted { address },
            _ => SocketError::Io {
                address,
                step: "bind",
                source,
            },
        })
}

fn open(address: SocketAddr, reuse_port: bool) -> Result<Socket, SocketError> {
    let fail = |step| {
        move |source| SocketError::Io {
            address,
            step,
            source,
        }
    };
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(fail("socket"))?;
    socket.set_nonblocking(true).map_err(fail("O_NONBLOCK"))?;
    if address.is_ipv6() {
        // IPv4 has its own sockets: a mapped address would not be steered by the right offset.
        socket.set_only_v6(true).map_err(fail("IPV6_V6ONLY"))?;
    }
    socket.set_reuse_port(reuse_port).map_err(fail("SO_REUSEPORT"))?;
    if reuse_port {
        set_options(&socket, address.is_ipv6()).map_err(fail("socket options"))?;
    }
    Ok(socket)
}

fn set_options(socket: &Socket, ipv6: bool) -> io::Result<()> {
    // PKTINFO: the listening address may be a wildcard, and an answer leaves from the address the datagram came to.
    // MTU_DISCOVER = INTERFACE: the kernel neither fragments nor believes an ICMP "fragmentation needed", which anybody
    // can forge, and sets no DF. What is too large is cut inside the tunnel. Other ICMP errors never reach an
    // unconnected socket without IP_RECVERR.
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_INTERFACE,
        )?;
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set_option(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_INTERFACE,
        )?;
    }
    // With each message, how many had no room before it.
    set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it as much as the limit allows.
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER as c_int).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER as c_int).is_err() {
        socket.set_send_buffer_size(BUFFER)?;
    }
    Ok(())
}

/// Gives the group of `socket` its program. Until the last socket has joined the kernel spreads by hash what the program
/// sends to those not there yet; the shards hand it over.
fn steer(socket: &Socket, address: SocketAddr, shards: usize) -> Result<(), SocketError> {
    let mut program = steering::program(shards as u32, address.is_ipv6());
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, filter).map_err(|source| {
        SocketError::Io {
            address,
            step: "SO_ATTACH_REUSEPORT_CBPF",
            source,
        }
    })
}

fn set_option<T: Copy>(socket: &Socket, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call; what it points to itself (the
    // filter of `steer`) does too, and the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::TunnelId;
    use std::net::UdpSocket;

    fn open_on(address: &str, shards: usize) -> SocketGroup {
        SocketGroup::open(&[address.parse().expect("an address")], shards).expect("loopback sockets")
    }

    /// Which shard's socket holds a datagram now.
    fn taker(group: &SocketGroup) -> Option<usize> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
        (0..200).find_map(|_| {
            let found = group
                .by_shard
                .iter()
                .position(|sockets| sockets[0].socket.recv(&mut buffer).is_ok());
            if found.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            found
        })
    }

    fn steers(listen: &str) {
        let group = open_on(listen, 3);
        let sender = UdpSocket::bind(listen).expect("a loopback socket");
        for id in [1u16, 2, 3, 0x0100, 0x0102, 0x1234, 0xffff, 0xff00, 0x00ff] {
            let [high, low] = id.to_be_bytes();
            let bare = [0, 2, high, low, 0, 1, 0xff];
            let with_length = [0xc8, 2, 0, 12, high, low, 0, 0, 0, 0, 0, 0];
            let expected = TunnelId::new(id).expect("not zero").shard(3);
            for datagram in [&bare[..], &with_length[..]] {
                sender
                    .send_to(datagram, group.addresses()[0])
                    .expect("loopback takes it");
                assert_eq!(taker(&group), Some(expected), "{id:#06x}");
            }
        }
        let sccrq = [0xc8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0];
        for _ in 0..4 {
            let sender = UdpSocket::bind(listen).expect("a loopback socket");
            sender
                .send_to(&sccrq, group.addresses()[0])
                .expect("loopback takes it");
            let port = sender.local_addr().expect("it is bound").port();
            assert_eq!(taker(&group), Some(usize::from(port) % 3));
        }
    }

    #[test]
    fn the_kernel_steers_ipv4() {
        steers("127.0.0.1:0");
    }

    #[test]
    fn the_kernel_steers_ipv6() {
        steers("[::1]:0");
    }

    #[test]
    fn what_the_kernel_dropped_is_the_difference_though_the_total_wraps() {
        let group = open_on("127.0.0.1:0", 1);
        let socket = &group.by_shard[0][0];
        let dropped = [3, 3, u32::MAX, 1].map(|total| socket.newly_dropped(total));
        assert_eq!(dropped, [3, 0, u64::from(u32::MAX) - 3, 2]);
    }

    #[test]
    fn a_second_daemon_is_told_that_the_address_is_in_use() {
        let group = open_on("127.0.0.1:0", 2);
        let taken = group.addresses()[0];
        let error = SocketGroup::open(&[taken], 2).expect_err("it is taken");
        assert!(matches!(error, SocketError::AddressInUse { address } if address == taken));
        assert!(error.to_string().contains(&taken.to_string()));
        let wildcard = SocketAddr::new([0, 0, 0, 0].into(), taken.port());
        assert!(matches!(
            SocketGroup::open(&[wildcard], 1),
            Err(SocketError::AddressInUse { .. })
        ));
    }

    #[test]
    fn an_address_that_is_listed_twice_is_refused() {
        let free = open_on("127.0.0.1:0", 1).addresses()[0];
        let error = SocketGroup::open(&[free, free], 1).expect_err("twice the same");
        assert!(matches!(error, SocketError::Twice { address } if address == free));
    }

    #[test]
    fn an_address_of_another_host_is_named() {
        let foreign = "192.0.2.77:1701".parse().expect("an address");
        let error = SocketGroup::open(&[foreign], 1).expect_err("not ours");
        assert!(matches!(error, SocketError::AddressNotAvailable { address } if address == foreign));
    }
}
