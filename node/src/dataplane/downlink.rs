//! To the subscriber: route, clamp, judge the size, encapsulate (RFC 2661 §3.1, §5.4; RFC 1661 §2).
//!
//! The packet stands in a buffer with [`HEADROOM`] octets before it, into which the headers are written: nothing is
//! copied. The PPP frame has `FF 03` and a protocol of two octets whatever was negotiated, which every receiver takes.

use super::counters::{DropReason, SessionShared};
use super::header::{self, SEQUENCED_DATA_HEADER};
use super::ip::View;
use super::mss;
use super::sequence::Drawn;
use super::table::{Session, Table};
use super::uplink::{PPP_IPV4, PPP_IPV6, Policy};

/// Octets of Address, Control and Protocol in front of a packet.
const PPP_HEADER: usize = 4;

/// Octets to leave free in front of a packet.
pub const HEADROOM: usize = SEQUENCED_DATA_HEADER + PPP_HEADER;

/// How a packet for a subscriber leaves.
#[derive(Debug, PartialEq, Eq)]
pub enum Downlink {
    /// As it is.
    Send(View),
    /// In IPv4 fragments of at most `mtu` octets.
    Fragment {
        /// The packet's header.
        view: View,
        /// The session's MTU, octets.
        mtu: u16,
    },
    /// Not at all, and its sender is to be told the `mtu` (S-101).
    TooBig {
        /// The packet's header.
        view: View,
        /// The session's MTU, octets.
        mtu: u16,
    },
    /// Not at all.
    Drop(DropReason),
}

/// The index of the session to which the packet from the TUN goes, and its header.
///
/// # Errors
/// The reason to drop the packet.
pub fn route(table: &Table, packet: &[u8]) -> Result<(u32, View), DropReason> {
    let view = View::parse(packet)?;
    // A LAC whose address is routed to the subscribers: our own datagrams would come back for ever (S-100).
    if table.is_endpoint(view.source)
        && view
            .udp_source(packet)
            .is_some_and(|port| table.is_listening(port))
    {
        return Err(DropReason::Recursion);
    }
    let session = table.route(view.destination).ok_or(DropReason::NoRoute)?;
    Ok((session, view))
}

/// Judges a packet for `session` and clamps the MSS of a TCP SYN in place. Drops are counted for the session.
pub fn judge(session: &Session, policy: &Policy, packet: &mut [u8], view: View) -> Downlink {
    if !session.open {
        session.shared.count_drop(policy.shard, DropReason::NotOpen);
        return Downlink::Drop(DropReason::NotOpen);
    }
    if session.mss_clamp {
        mss::clamp(packet, &view, session.mtu);
    }
    let mtu = session.mtu;
    if view.length <= usize::from(mtu) {
        Downlink::Send(view)
    } else if view.dont_fragment {
        session.shared.count_drop(policy.shard, DropReason::TooBig);
        Downlink::TooBig { view, mtu }
    } else {
        Downlink::Fragment { view, mtu }
    }
}

/// Where an encapsulated packet begins in its buffer, and whether the next block of Ns is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulated {
    /// The first octet of the L2TP header.
    pub start: usize,
    /// See [`Drawn::ask`].
    pub ask: Option<u64>,
}

/// Writes PPP and L2TP headers in front of the IP packet of `length` octets at `buffer[HEADROOM..]` and counts it.
///
/// # Errors
/// No number is left; what to ask for, if it was not asked for yet.
pub fn encapsulate(
    table: &Table,
    session: &Session,
    policy: &Policy,
    buffer: &mut [u8],
    length: usize,
) -> Result<Encapsulated, Option<u64>> {
    let protocol = if buffer[HEADROOM] >> 4 == 4 {
        PPP_IPV4
    } else {
        PPP_IPV6
    };
    let frame_at = HEADROOM - PPP_HEADER;
    let (ns, ask) = if session.sequencing {
        number(&session.shared, policy.shard)?
    } else {
        (None, None)
    };
    let [high, low] = protocol.to_be_bytes();
    buffer[frame_at..HEADROOM].copy_from_slice(&[0xff, 0x03, high, low]);
    let peer_tunnel = table.tunnel_of(session).peer_tunnel.get();
    let start = header::write_data(buffer, frame_at, peer_tunnel, session.peer_session.get(), ns);
    session.shared.count_sent(policy.shard, length);
    Ok(Encapsulated { start, ask })
}

/// The Ns for the next data message of a sequenced session, and what to ask for.
///
/// # Errors
/// As [`encapsulate`].
pub fn number(shared: &SessionShared, shard: usize) -> Result<(Option<u16>, Option<u64>), Option<u64>> {
    let Drawn { ns, ask } = shared.sequence.draw();
    if ns.is_none() {
        shared.count_drop(shard, DropReason::SequenceExhausted);
        return Err(ask);
    }
    Ok((ns, ask))
}
