//! From the LAC: what a received datagram is and where it goes (RFC 2661 §3.1, §5.4; RFC 1661 §2).
//!
//! A peer is never answered from here: what cannot be used is dropped and counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use holdfast_protocol::{SessionId, TunnelId};

use super::counters::DropReason;
use super::header::{self, Header};
use super::icmp;
use super::ip::{UDP, View};
use super::lcp_echo::{self, PPP_LCP};
use super::link_scope;
use super::mss;
use super::table::Table;

/// PPP protocol numbers of user data; everything else but an LCP echo goes to the control side.
pub const PPP_IPV4: u16 = 0x0021;
/// See [`PPP_IPV4`].
pub const PPP_IPV6: u16 = 0x0057;

/// Address and Control fields of a PPP frame, all stations and unnumbered information (RFC 1662 §3.1).
const ADDRESS_CONTROL: [u8; 2] = [0xff, 0x03];

/// What does not change while a shard runs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// This shard.
    pub shard: usize,
    /// Of how many.
    pub shards: usize,
    /// The node's own address in all sessions.
    pub own_address: Ipv4Addr,
    /// Whether user data can be passed on.
    pub has_tun: bool,
}

/// Where a datagram goes. Ranges are within the datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Uplink {
    /// To the control side, without octets behind its end.
    Control {
        /// Our id as the header carries it; 0 = not known yet.
        tunnel: u16,
        /// Octets of the message.
        end: usize,
    },
    /// A PPP frame for the control side.
    Ppp {
        /// Our id.
        tunnel: TunnelId,
        /// Our id.
        session: SessionId,
        /// From the Address field, if there is one.
        frame: Range<usize>,
    },
    /// An IP packet for the TUN, to be counted for its session if it may be forwarded.
    Packet {
        /// Index of the session it came from.
        session: u32,
        /// The packet without padding.
        packet: Range<usize>,
    },
    /// An Echo-Request to our own address that no kernel will answer: there is no TUN.
    Echo {
        /// Index of the session it came from.
        session: u32,
        /// The packet without padding.
        packet: Range<usize>,
    },
    /// An LCP Echo-Request on an open link, to be answered from its forwarding entry.
    LcpEcho {
        /// Index of the session it came from.
        session: u32,
        /// The LCP packet without padding.
        packet: Range<usize>,
    },
    /// The tunnel is another shard's.
    Foreign {
        /// Whose.
        shard: usize,
    },
    /// Nowhere.
    Drop(DropReason),
}

/// Judges a datagram that came from `from`, `now_ms` milliseconds of CLOCK_BOOTTIME. The MSS of a TCP SYN is changed in
/// place; a drop that a session is to blame for is counted there, other counters are the caller's.
pub fn classify(
    table: &mut Table,
    policy: &Policy,
    from: SocketAddr,
    datagram: &mut [u8],
    now_ms: u64,
) -> Uplink {
    let header = match header::parse(datagram) {
        Ok(header) => header,
        Err(reason) => return Uplink::Drop(reason),
    };
    let Some(id) = TunnelId::new(header.tunnel()) else {
        return match header {
            Header::Control { tunnel, end } => Uplink::Control { tunnel, end },
            Header::Data { .. } => Uplink::Drop(DropReason::UnknownTunnel),
        };
    };
    // The kernel may deliver to the wrong shard: a GSO super-packet with several tunnels goes whole to one socket.
    let shard = id.shard(policy.shards);
    if shard != policy.shard {
        return Uplink::Foreign { shard };
    }
    let Some(tunnel) = table.tunnel(id.get()) else {
        return Uplink::Drop(DropReason::UnknownTunnel);
    };
    if (tunnel.peer.ip(), tunnel.peer.port()) != (from.ip(), from.port()) {
        return Uplink::Drop(DropReason::Spoof);
    }
    tunnel.shared.note_received(now_ms);
    match header {
        Header::Control { tunnel, end } => Uplink::Control { tunnel, end },
        Header::Data {
            session, ns, frame, ..
        } => {
            let Some(index) = table.find_session_again(id.get(), session) else {
                return Uplink::Drop(DropReason::UnknownSession);
            };
            table.session(index).shared.note_received(now_ms);
            let verdict = classify_data(table, policy, id, index, ns, frame, datagram);
            verdict.unwrap_or_else(|reason| {
                table.session(index).shared.count_drop(policy.shard, reason);
                Uplink::Drop(reason)
            })
        }
    }
}

fn classify_data(
    table: &mut Table,
    policy: &Policy,
    tunnel: TunnelId,
    index: u32,
    ns: Option<u16>,
    frame: Range<usize>,
    datagram: &mut [u8],
) -> Result<Uplink, DropReason> {
    let session = table.session_mut(index);
    match ns {
        Some(ns) if !session.receive.accept(ns) => return Err(DropReason::SequenceOld),
        None if session.sequencing => return Err(DropReason::SequenceMissing),
        Some(_) | None => {}
    }
    let (protocol, at) = ppp_protocol(&datagram[frame.clone()])?;
    let session = table.session(index);
    if protocol == PPP_LCP && session.open && !session.sequencing {
        let start = frame.start + at;
        let request = lcp_echo::request(&datagram[start..frame.end], session.magics, session.mtu);
        if let Some(length) = request {
            return Ok(Uplink::LcpEcho {
                session: index,
                packet: start..start + length,
            });
        }
    }
    if !matches!(protocol, PPP_IPV4 | PPP_IPV6) {
        return Ok(Uplink::Ppp {
            tunnel,
            session: session.id,
            frame,
        });
    }
    if !session.open {
        return Err(DropReason::NotOpen);
    }
    let start = frame.start + at;
    let view = View::parse(&datagram[start..frame.end])?;
    if view.source.is_ipv4() != (protocol == PPP_IPV4) {
        return Err(DropReason::MalformedIp);
    }
    let packet = start..start + view.length;
    let octets = &mut datagram[packet.clone()];
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (view.source, view.destination) {
        if !session.ipv6 {
            return Err(DropReason::NotOpen);
        }
        if link_scope::judge(&view, source, destination, octets)? {
            return Ok(Uplink::Ppp {
                tunnel,
                session: session.id,
                frame,
            });
        }
        if session.owns(view.destination) {
            return Err(DropReason::LinkScope);
        }
    }
    if !session.owns(view.source) {
        return Err(DropReason::SourceAddress);
    }
    if is_recursion(table, policy, &view, octets) {
        return Err(DropReason::Recursion);
    }
    if !policy.has_tun {
        let echo = icmp::is_echo_request(octets, &view, policy.own_address);
        return echo
            .then_some(Uplink::Echo {
                session: index,
                packet,
            })
            .ok_or(DropReason::NoTun);
    }
    if session.mss_clamp {
        mss::clamp(octets, &view, session.mtu);
    }
    Ok(Uplink::Packet {
        session: index,
        packet,
    })
}

/// The PPP protocol number of a frame and where the information field begins. `FF 03` and the first octet of the
/// protocol may both be missing whatever was negotiated (S-93). A number with an even last octet (S-94) comes out as it
/// is and goes to the control side like any unknown one.
fn ppp_protocol(frame: &[u8]) -> Result<(u16, usize), DropReason> {
    let at = if frame.starts_with(&ADDRESS_CONTROL) {
        ADDRESS_CONTROL.len()
    } else {
        0
    };
    match frame[at..] {
        [first, _, ..] if first & 1 == 1 => Ok((u16::from(first), at + 1)),
        [first, second, _, ..] => Ok((u16::from_be_bytes([first, second]), at + 2)),
        [] | [_] | [_, _] => Err(DropReason::EmptyPpp),
    }
}

/// Whether the packet goes to a tunnel endpoint of ours (S-100). Where the endpoint's address is also the node's address
/// in the sessions only L2TP is meant.
fn is_recursion(table: &Table, policy: &Policy, view: &View, packet: &[u8]) -> bool {
    if !table.is_endpoint(view.destination) {
        return false;
    }
    if view.destination != IpAddr::V4(policy.own_address) {
        return true;
    }
    let later_fragment = view.protocol == UDP && view.later_fragment;
    later_fragment
        || view
            .udp_destination(packet)
            .is_some_and(|port| table.is_listening(port))
}

#[cfg(test)]
mod tests;
