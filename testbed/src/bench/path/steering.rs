//! The sockets of one LAC, and which of them takes a datagram from the LNS: classic BPF on a SO_REUSEPORT group.
//!
//! Control messages, PPP control and pings go to the simulator, so that its tunnels and sessions live on under any load;
//! the load goes to a socket that drops it in the kernel or hands it to the forwarder of the TCP tests; the probes that
//! measure latency go to a third. The program sees the UDP payload at offset 0; a load beyond its end returns 0.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use libc::sock_filter;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockFilter, Socket, Type};

/// The type of service of the probes; the load has none.
pub const PROBE_TOS: u8 = 0x20;
/// Octets asked for; as root the kernel's limit does not hold.
const BUFFER: usize = 16 << 20;

/// How long former sockets of a LAC may take to go, and how often that is looked at.
const FREE_PATIENCE: Duration = Duration::from_secs(5);
const FREE_RETRY: Duration = Duration::from_millis(20);

/// Places in the group.
const SIMULATOR: u32 = 0;
const LOAD: u32 = 1;
const PROBE: u32 = 2;

/// Instruction codes (linux/filter.h).
mod code {
    pub(super) const LOAD_HALF: u16 = 0x28; // LD | H | ABS
    pub(super) const LOAD_HALF_AT_X: u16 = 0x48; // LD | H | IND
    pub(super) const LOAD_OCTET_AT_X: u16 = 0x50; // LD | B | IND
    pub(super) const LOAD_X: u16 = 0x01; // LDX | IMM
    pub(super) const X_TO_A: u16 = 0x87; // MISC | TXA
    pub(super) const A_TO_X: u16 = 0x07; // MISC | TAX
    pub(super) const ADD: u16 = 0x04; // ALU | ADD | K
    pub(super) const JUMP: u16 = 0x05; // JMP | JA
    pub(super) const JUMP_EQUAL: u16 = 0x15; // JMP | JEQ | K
    pub(super) const JUMP_ANY_BIT: u16 = 0x45; // JMP | JSET | K
    pub(super) const RETURN: u16 = 0x06; // RET | K
}

/// Bits of a data message (RFC 2661 §3.1) that send it to the simulator: T, S and O; no session of the load has the last two.
const NOT_PLAIN: u32 = 0x8a00;
/// The L bit.
const LENGTH: u32 = 0x4000;
const TCP: u32 = 6;
const UDP: u32 = 17;

const fn step(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const PROGRAM: [sock_filter; 21] = [
    /*  0 */ step(code::LOAD_HALF, 0),
    /*  1 */ jump(code::JUMP_ANY_BIT, NOT_PLAIN, 16, 0), // 18 or 2
    /*  2 */ jump(code::JUMP_ANY_BIT, LENGTH, 2, 0), // 5 or 3
    /*  3 */ step(code::LOAD_X, 6),
    /*  4 */ step(code::JUMP, 1), // 6
    /*  5 */ step(code::LOAD_X, 8),
    // X is where the PPP frame begins, with address and control or without.
    /*  6 */
    step(code::LOAD_HALF_AT_X, 0),
    /*  7 */ jump(code::JUMP_EQUAL, 0xff03, 0, 3), // 8 or 11
    /*  8 */ step(code::X_TO_A, 0),
    /*  9 */ step(code::ADD, 2),
    /* 10 */ step(code::A_TO_X, 0),
    // X is where the protocol stands, two octets before the IP header.
    /* 11 */
    step(code::LOAD_HALF_AT_X, 0),
    /* 12 */ jump(code::JUMP_EQUAL, 0x0021, 0, 5), // 13 or 18
    /* 13 */ step(code::LOAD_OCTET_AT_X, 2 + 9),
    /* 14 */ jump(code::JUMP_EQUAL, TCP, 4, 0), // 19 or 15
    /* 15 */ jump(code::JUMP_EQUAL, UDP, 0, 2), // 16 or 18
    /* 16 */ step(code::LOAD_OCTET_AT_X, 2 + 1),
    /* 17 */ jump(code::JUMP_EQUAL, PROBE_TOS as u32, 2, 1), // 20 or 19
    /* 18 */ step(code::RETURN, SIMULATOR),
    /* 19 */ step(code::RETURN, LOAD),
    /* 20 */ step(code::RETURN, PROBE),
];

/// One LAC's sockets, all of one address and port.
#[derive(Debug)]
pub struct LacSockets {
    pub simulator: UdpSocket,
    /// Takes whole super-packets; drops all unless [`Self::receive_load`] was called.
    pub load: UdpSocket,
    pub probe: UdpSocket,
}

impl LacSockets {
    /// Binds them in the network namespace of the calling thread.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        wait_until_free(address)?;
        // The order is that of the places in the group.
        let simulator = bind(address)?;
        let mut program = PROGRAM;
        let steering = libc::sock_fprog {
            len: PROGRAM.len() as u16,
            filter: program.as_mut_ptr(),
        };
        setsockopt(&simulator, sockopt::AttachReusePortCbpf, &steering)?;
        let load = bind(address)?;
        setsockopt(&load, sockopt::UdpGroSegment, &true)?;
        let sockets = Self {
            simulator,
            load,
            probe: bind(address)?,
        };
        sockets.drop_load()?;
        Ok(sockets)
    }

    /// From here on the load ends in the kernel.
    pub fn drop_load(&self) -> io::Result<()> {
        let nothing = SockFilter::new(code::RETURN, 0, 0, 0);
        socket2::SockRef::from(&self.load).attach_filter(&[nothing])
    }

    /// From here on the load can be received.
    pub fn receive_load(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.load).detach_filter()
    }
}

/// Waits for the end of the sockets that had this address before: those that joined their group would change places as they go.
fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + FREE_PATIENCE;
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(FREE_RETRY);
            }
            outcome => return outcome.map(drop),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::SndBuf, &BUFFER)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::super::packet::udp;
    use super::*;

    /// Sends a datagram to a fresh group; the place of the socket that got it.
    fn place(datagram: &[u8]) -> usize {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sockets = LacSockets::bind(free).unwrap();
        sockets.receive_load().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(datagram, free).unwrap();
        let mut buffer = [0; 2048];
        for _ in 0..500 {
            let all = [&sockets.simulator, &sockets.load, &sockets.probe];
            if let Some(found) = all.iter().position(|socket| socket.recv(&mut buffer).is_ok()) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("nobody got {datagram:02x?}");
    }

    fn framed(header: &[u8], ppp: &[u8], packet: &[u8]) -> Vec<u8> {
        [header, ppp, packet].concat()
    }

    #[test]
    fn each_kind_of_message_finds_its_socket() {
        let ends = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let load = udp(ends.0, ends.1, 0, 64, &[]);
        let probe = udp(ends.0, ends.1, PROBE_TOS, 64, &[]);
        let mut tcp = load.clone();
        tcp[9] = 6;
        let mut ping = load.clone();
        ping[9] = 1;
        let (short, long) = ([0, 2, 0, 1, 0, 1], [0x40, 2, 0, 80, 0, 1, 0, 1]);
        let (bare, full) = ([0x00, 0x21], [0xff, 0x03, 0x00, 0x21]);
        for header in [&short[..], &long] {
            for ppp in [&bare[..], &full] {
                assert_eq!(place(&framed(header, ppp, &load)), 1);
                assert_eq!(place(&framed(header, ppp, &tcp)), 1);
                assert_eq!(place(&framed(header, ppp, &probe)), 2);
                assert_eq!(place(&framed(header, ppp, &ping)), 0);
            }
            let echo = [0xff, 0x03, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0];
            assert_eq!(place(&framed(header, &echo, &[])), 0);
        }
        assert_eq!(place(&[0xc8, 2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 1]), 0, "control");
    }

    #[test]
    fn the_load_is_dropped_unless_someone_wants_it() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sockets = LacSockets::bind(free).unwrap();
        let ends = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let message = framed(
            &[0, 2, 0, 1, 0, 1],
            &[0xff, 0x03, 0x00, 0x21],
            &udp(ends.0, ends.1, 0, 64, &[]),
        );
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 2048];
        let mut arrives = || {
            sender.send_to(&message, free).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            sockets.load.recv(&mut buffer).is_ok()
        };
        assert!(!arrives());
        sockets.receive_load().unwrap();
        assert!(arrives());
    }
}
