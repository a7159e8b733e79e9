//! To the subscriber: route, clamp, judge the size, encapsulate (RFC 2661 §3.1, §5.4; RFC 1661 §2).
//!
//! The packet stands in a buffer with [`HEADROOM`] octets before it, into which the headers are written: nothing is
//! copied. The PPP frame has `FF 03` and a protocol of two octets whatever was negotiated, which every receiver takes.

use super::counters::{DropReason, SessionShared};
use super::filter::Direction;
use super::header::{self, DATA_HEADER, SEQUENCED_DATA_HEADER};
use super::ip::View;
use super::mss;
use super::sequence::Drawn;
use super::table::{Session, Table};
use super::uplink::{PPP_IPV4, PPP_IPV6, Policy};

/// Octets of Address, Control and Protocol in front of a packet.
const PPP_HEADER: usize = 4;

/// Octets to leave free in front of a packet.
pub const HEADROOM: usize = SEQUENCED_DATA_HEADER + PPP_HEADER;

/// Octets in front of a packet in a data message without a number.
pub const DATA_LEAD: usize = DATA_HEADER + PPP_HEADER;

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

/// Whether another node numbers the data messages of `session` and so sends them. For a session without numbers this is one
/// bit of the entry.
pub fn is_numbered_elsewhere(session: &Session) -> bool {
    session.sequencing && !session.shared.sequence.is_here()
}

/// Which other shard of this node numbers the data messages of `session`: that of its tunnel does, if it has numbers.
pub fn numbering_shard(table: &Table, session: &Session, policy: &Policy) -> Option<usize> {
    if !session.sequencing {
        return None;
    }
    let shard = table.tunnel_of(session).id.shard(policy.shards);
    (shard != policy.shard).then_some(shard)
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

/// Whether the filters of the session let `packets` from the core pass, which are like `packet` but for what they carry.
///
/// # Errors
/// The reason to drop them.
pub fn pass_filters(
    table: &Table,
    session: u32,
    view: &View,
    packet: &[u8],
    packets: usize,
) -> Result<(), DropReason> {
    let Some(filters) = table.filters(session) else {
        return Ok(());
    };
    let judged = filters.judge(Direction::Out, view, packet, packets);
    judged.map_err(|_| DropReason::Filter)
}

/// Judges a packet for `session` and clamps the MSS of a TCP SYN in place. Drops are counted for the session.
pub fn judge(session: &Session, policy: &Policy, packet: &mut [u8], view: View) -> Downlink {
    if !session.open {
        session.shared.count_drop(policy.shard, DropReason::NotOpen);
        return Downlink::Drop(DropReason::NotOpen);
    }
    clamp_mss(session, packet, &view);
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

/// Whether packets of at most `length` octets for `session` leave as they are, and without a number: then nobody need judge
/// each by itself.
pub fn is_plain(session: &Session, length: usize) -> bool {
    session.open && !session.sequencing && length <= usize::from(session.mtu)
}

/// Clamps the MSS of a TCP SYN in place.
pub fn clamp_mss(session: &Session, packet: &mut [u8], view: &View) {
    if session.mss_clamp {
        mss::clamp(packet, view, session.mtu);
    }
}

/// What stands in front of each packet for a session that has no numbers.
pub fn lead(table: &Table, session: &Session, ipv4: bool) -> [u8; DATA_LEAD] {
    let mut lead = [0; DATA_LEAD];
    write_lead(table, session, &mut lead, DATA_LEAD, ipv4, None);
    lead
}

/// Writes PPP and L2TP headers right before `at`; returns where they begin.
fn write_lead(
    table: &Table,
    session: &Session,
    buffer: &mut [u8],
    at: usize,
    ipv4: bool,
    ns: Option<u16>,
) -> usize {
    let protocol = if ipv4 { PPP_IPV4 } else { PPP_IPV6 };
    let [high, low] = protocol.to_be_bytes();
    let frame_at = at - PPP_HEADER;
    buffer[frame_at..at].copy_from_slice(&[0xff, 0x03, high, low]);
    let peer_tunnel = table.tunnel_of(session).peer_tunnel.get();
    header::write_data(buffer, frame_at, peer_tunnel, session.peer_session.get(), ns)
}

/// Where an encapsulated packet begins in its buffer, and whether the next block of Ns is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulated {
    /// The first octet of the L2TP header.
    pub start: usize,
    /// See [`Drawn::ask`].
    pub ask: Option<u64>,
}

/// Writes PPP and L2TP headers in front of the IP packet of `length` octets at `buffer[at..]` and counts it. Before it are
/// [`HEADROOM`] octets, or [`DATA_LEAD`] if the session has no numbers.
///
/// # Errors
/// No number is left; what to ask for, if it was not asked for yet.
pub fn encapsulate(
    table: &Table,
    session: &Session,
    policy: &Policy,
    buffer: &mut [u8],
    at: usize,
    length: usize,
) -> Result<Encapsulated, Option<u64>> {
    let ipv4 = buffer[at] >> 4 == 4;
    let (ns, ask) = if session.sequencing {
        number(&session.shared, policy.shard)?
    } else {
        (None, None)
    };
    let start = write_lead(table, session, buffer, at, ipv4, ns);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::fragment::Fragments;
    use crate::dataplane::icmp;
    use crate::dataplane::sequence::{BLOCK, SendSequence};
    use crate::dataplane::table::MIN_MTU;
    use crate::dataplane::table::tests::{SHARDS, session, tunnel};
    use crate::dataplane::{SessionEntry, TableUpdate};
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use std::sync::Arc;

    const POLICY: Policy = Policy {
        shard: 2,
        shards: SHARDS,
        own_address: std::net::Ipv4Addr::new(10, 9, 9, 9),
        has_tun: true,
    };

    fn table(entry: SessionEntry) -> Table {
        let mut table = Table::new(&["0.0.0.0:1701".parse().expect("an address")]);
        table.apply(TableUpdate::Tunnel(tunnel(4)));
        table.apply(TableUpdate::Session(entry));
        table
    }

    fn entry() -> SessionEntry {
        session(4, 10, [10, 0, 0, 1])
    }

    /// A packet of `length` octets to 10.0.0.1.
    fn packet(source: [u8; 4], source_port: u16, length: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, [10, 0, 0, 1], 64)
            .udp(source_port, 6)
            .write(&mut packet, &vec![0x5a; length - 28])
            .expect("a vector takes it");
        packet
    }

    fn judged(table: &Table, packet: &[u8]) -> Downlink {
        let (index, view) = route(table, packet).expect("a session has the address");
        judge(table.session(index), &POLICY, &mut packet.to_vec(), view)
    }

    fn encapsulated(table: &Table, packet: &[u8]) -> Result<(Vec<u8>, Option<u64>), Option<u64>> {
        let (index, view) = route(table, packet).expect("a session has the address");
        let mut buffer = [&[0xee; HEADROOM], packet].concat();
        let done = encapsulate(
            table,
            table.session(index),
            &POLICY,
            &mut buffer,
            HEADROOM,
            view.length,
        )?;
        Ok((buffer.split_off(done.start), done.ask))
    }

    #[test]
    fn the_octets_on_the_wire() {
        let table = table(entry());
        let packet = packet([192, 0, 2, 9], 53, 40);
        let (datagram, ask) = encapsulated(&table, &packet).expect("no number is needed");
        assert_eq!(datagram[..10], [0, 2, 0x70, 0x04, 0x70, 0x0a, 0xff, 3, 0, 0x21]);
        assert_eq!((&datagram[10..], ask), (&packet[..], None));
        let totals = table.session(0).shared.totals();
        assert_eq!((totals.sent_packets, totals.sent_octets), (1, 40));
    }

    #[test]
    fn ipv6_has_its_own_ppp_protocol_and_is_never_fragmented() {
        let mut entry = entry();
        entry.routes = vec!["2001:db8::/56".parse().expect("a prefix")];
        let table = table(entry);
        let to = |length: usize| {
            let mut packet = Vec::new();
            let destination = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
            let builder = PacketBuilder::ipv6([0x20; 16], destination, 64).udp(5, 6);
            builder
                .write(&mut packet, &vec![0; length - 48])
                .expect("a vector takes it");
            packet
        };
        let (datagram, _) = encapsulated(&table, &to(60)).expect("no number is needed");
        assert_eq!(datagram[6..10], [0xff, 3, 0, 0x57]);
        assert!(matches!(
            judged(&table, &to(1401)),
            Downlink::TooBig { mtu: 1400, .. }
        ));
    }

    #[test]
    fn a_sequenced_session_numbers_from_its_committed_block_and_no_further() {
        let mut entry = entry();
        entry.sequencing = true;
        entry.shared = Arc::new(SessionShared::new(SHARDS, SendSequence::new(BLOCK, BLOCK + 2)));
        let table = table(entry);
        let packet = packet([192, 0, 2, 9], 53, 40);
        let (datagram, ask) = encapsulated(&table, &packet).expect("two are left");
        assert_eq!(
            (&datagram[..2], &datagram[6..10]),
            (&[0x08, 0x02][..], &[0x10, 0, 0, 0][..])
        );
        assert_eq!(ask, Some(BLOCK + 2));
        let (datagram, ask) = encapsulated(&table, &packet).expect("one is left");
        assert_eq!((&datagram[6..8], ask), (&[0x10, 1][..], None));
        assert_eq!(encapsulated(&table, &packet), Err(None));
        assert_eq!(
            table
                .session(0)
                .shared
                .totals()
                .dropped(DropReason::SequenceExhausted),
            1
        );
        table.session(0).shared.sequence.grant(2 * BLOCK);
        let (datagram, _) = encapsulated(&table, &packet).expect("a block was granted");
        assert_eq!(datagram[6..8], [0x10, 2]);
    }

    #[test]
    fn s_101_what_is_larger_than_the_mtu_is_cut_or_refused() {
        let table = table(entry());
        let mut packet = packet([192, 0, 2, 9], 53, 1401);
        packet[6] = 0;
        assert!(matches!(
            judged(&table, &packet),
            Downlink::Fragment { mtu: 1400, .. }
        ));
        packet[6] = 0x40; // DF
        assert!(matches!(
            judged(&table, &packet),
            Downlink::TooBig { mtu: 1400, .. }
        ));
        assert_eq!(table.session(0).shared.totals().dropped(DropReason::TooBig), 1);
        let fits = self::packet([192, 0, 2, 9], 53, 1400);
        assert!(matches!(judged(&table, &fits), Downlink::Send(view) if view.length == 1400));
    }

    #[test]
    fn a_session_that_is_not_open_gets_nothing() {
        let mut entry = entry();
        entry.open = false;
        let table = table(entry);
        let verdict = judged(&table, &packet([192, 0, 2, 9], 53, 40));
        assert_eq!(verdict, Downlink::Drop(DropReason::NotOpen));
        assert_eq!(table.session(0).shared.totals().dropped(DropReason::NotOpen), 1);
    }

    #[test]
    fn addresses_without_a_session_have_no_route() {
        let table = table(entry());
        let mut packet = packet([192, 0, 2, 9], 53, 40);
        packet[19] = 2;
        assert_eq!(route(&table, &packet), Err(DropReason::NoRoute));
    }

    #[test]
    fn s_100_our_own_l2tp_does_not_come_back_through_the_tun() {
        let table = table(entry());
        assert_eq!(
            route(&table, &packet([198, 51, 100, 1], 1701, 40)),
            Err(DropReason::Recursion)
        );
        assert!(route(&table, &packet([198, 51, 100, 1], 53, 40)).is_ok());
        assert!(route(&table, &packet([192, 0, 2, 9], 1701, 40)).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_the_kernel_gives_panics(mut packet in prop::collection::vec(any::<u8>(), 20..200), mtu in 0u16..200) {
            packet[0] = 0x40 | packet[0] & 0x0f;
            packet[2] = 0;
            packet[16..20].copy_from_slice(&[10, 0, 0, 1]);
            let mut entry = entry();
            entry.mtu = mtu;
            let table = table(entry);
            let Ok((index, view)) = route(&table, &packet) else { return Ok(()) };
            match judge(table.session(index), &POLICY, &mut packet, view) {
                Downlink::Send(view) => prop_assert!(view.length <= usize::from(mtu.max(MIN_MTU))),
                Downlink::Fragment { view, mtu } => {
                    let mut out = [0; 200];
                    let fragments = Fragments::new(&packet[..view.length], view.header, mtu);
                    let lengths = fragments.map(|mut fragments| {
                        std::iter::from_fn(|| fragments.next_into(&mut out)).collect::<Vec<_>>()
                    });
                    prop_assert!(lengths.is_some_and(|all| all.iter().all(|length| *length <= usize::from(mtu))));
                }
                Downlink::TooBig { view, mtu } => {
                    icmp::error(&packet, &view, icmp::Error::TooBig(mtu), &mut [0; icmp::MAX_ERROR]);
                }
                Downlink::Drop(reason) => prop_assert!(false, "{reason:?}"),
            }
        }
    }
}
