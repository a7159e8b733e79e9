//! Packets of one flow become a large one for the TUN, by the rules of the kernel's GRO (`inet_gro_receive`,
//! `ipv6_gro_receive`, `tcp_gro_receive`, `udp_gro_receive_segment`), so that GSO takes it apart into the same packets again.
//!
//! ```text
//!   received:  .. TCP a1 .. UDP x .. TCP a2 .. TCP a3 (PSH) ..
//!   written:   [a1 header, lengths and checksum changed | a1 | a2 | a3], [x]
//! ```
//!
//! Nothing is copied: a run is a list of places in the receive buffer, and what changes in the header of its first packet
//! is changed there. Nothing waits: the caller takes all runs out at the end of a batch.
//!
//! Order: runs come out in the order of their first packets, and a run never grows after a packet of its flow that could
//! not join it. So the packets of one flow keep their order.
//!
//! A packet with a wrong checksum joins nothing: GSO computes checksums anew and would make it a right one. One field may
//! come out otherwise than it came in: senders that never fragment may give all packets one identification, and GSO
//! counts it up. As in the kernel's GRO this is taken only with DF, where nobody looks at it (RFC 6864 §4.1).

use std::ops::Range;

use super::vnet::{Kind, VnetHeader};
use crate::dataplane::checksum;
use crate::dataplane::ip::{self, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP, UDP};

/// Packets that one large packet stands for at most. GSO for UDP took no more before Linux 6.10 (`UDP_MAX_SEGMENTS`).
pub const MAX_RUN: usize = 64;
/// Packets that are held at most; then all are written and a new batch begins.
pub const CAPACITY: usize = 1024;
/// Octets of a large packet at most: the length fields have no more.
const MAX_LENGTH: usize = 65_535;
/// Flows that may be open at once.
const FLOWS: usize = 1024;
/// Places that a flow may take. If other flows have all of them, the run that began first gives way.
const WAYS: usize = 4;
/// No run, no piece.
const NONE: u16 = u16::MAX;

const TCP_HEADER: usize = 20;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;
/// One version and one length of an IPv4 header without options.
const IPV4_PLAIN: u8 = 0x45;

/// Where the parts of a packet are that may join others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    kind: Kind,
    /// Octets of the IP header.
    ip: usize,
    /// Octets of the IP and the TCP or UDP header.
    headers: usize,
}

/// What a packet is to others of its flow.
enum Form {
    /// It has ports in plain sight.
    Flow(Layout),
    /// Neither TCP nor UDP.
    Other,
    /// Part of a TCP or UDP flow, but which cannot be told at once: a fragment, options, extension headers.
    Hidden,
}

/// A part of a run: the whole packet if it is the first, else its payload.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
    next: u16,
}

/// Packets that are written as one.
#[derive(Clone, Copy, Debug)]
struct Run {
    layout: Layout,
    /// Where it is among the open ones, as long as it may grow.
    slot: usize,
    first: u16,
    last: u16,
    count: u16,
    /// Octets of payload in each packet but the last.
    segment: usize,
    /// Octets of the large packet.
    length: usize,
    /// Of TCP: the sequence number behind the last packet.
    next_sequence: u32,
    /// FIN and PSH of the last packet.
    last_flags: u8,
    /// All have the same IPv4 identification.
    one_identification: bool,
    /// The checksums of the first packet have been looked at and are right.
    verified: bool,
}

/// The runs of one batch. Allocates once.
#[derive(Debug)]
pub struct Coalescer {
    tcp: bool,
    udp: bool,
    /// By hash of the flow, [`WAYS`] each: its run that may still grow.
    open: [u16; FLOWS],
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    /// Runs, from the first, of which none grows any more.
    closed: usize,
    /// Runs that have been taken out.
    taken: usize,
}

/// A packet to be written, large or single.
#[derive(Debug)]
pub struct Joined<'a> {
    /// What to write in front of it.
    pub header: VnetHeader,
    /// How many packets it stands for.
    pub packets: usize,
    pieces: &'a [Piece],
    first: u16,
}

impl Joined<'_> {
    /// Where it is, if it stands for itself alone.
    pub fn single(&self) -> Option<Range<usize>> {
        self.pieces().next().filter(|_| self.packets == 1)
    }

    /// Where its octets are, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Range<usize>> {
        let piece = |at: u16| self.pieces.get(usize::from(at));
        std::iter::successors(piece(self.first), move |last| piece(last.next))
            .map(|piece| piece.start as usize..piece.end as usize)
    }
}

impl Coalescer {
    /// Joins the packets of the protocols of which the kernel takes large ones.
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self {
            tcp,
            udp,
            open: [NONE; FLOWS],
            runs: Vec::with_capacity(CAPACITY),
            pieces: Vec::with_capacity(CAPACITY),
            closed: 0,
            taken: 0,
        }
    }

    /// Whether everything must be taken out before more is added.
    pub fn is_full(&self) -> bool {
        self.pieces.len() >= CAPACITY
    }

    /// How many packets, large and single, are to be taken out.
    pub fn waiting(&self) -> usize {
        self.runs.len() - self.taken
    }

    /// Adds the IP packet at `place` in `octets`, without padding. `octets` is the same until everything is taken out again.
    ///
    /// # Panics
    /// If `place` is beyond `octets`, or those have 4 GiB or more.
    pub fn add(&mut self, octets: &[u8], place: Range<usize>) {
        debug_assert!(!self.is_full() && self.taken == 0);
        let packet = &octets[place.clone()];
        let layout = match form(packet) {
            Form::Flow(layout) => layout,
            Form::Other => return self.single(place),
            Form::Hidden => {
                self.close_all();
                return self.single(place);
            }
        };
        let slot = self.place_of(octets, packet, layout);
        if let Some(run) = self.runs.get_mut(usize::from(self.open[slot])) {
            let first = self.pieces[usize::from(run.first)];
            let head = &octets[first.start as usize..first.end as usize];
            if run.takes(head, packet, layout) {
                let start = place.start + layout.headers;
                let piece = u16::try_from(self.pieces.len()).expect("there is room for few");
                self.pieces[usize::from(run.last)].next = piece;
                run.grow(packet, piece);
                if run.is_complete(packet) {
                    self.open[slot] = NONE;
                }
                return self.piece(start..place.end);
            }
        }
        self.open[slot] = if self.begins(packet, layout) {
            u16::try_from(self.runs.len()).expect("there is room for few")
        } else {
            NONE
        };
        self.begin(place, Run::new(packet, layout, slot));
    }

    /// Takes out the next packet to be written and puts its header into `octets`, those of [`Coalescer::add`]. When none is
    /// left the next batch can begin.
    pub fn take(&mut self, octets: &mut [u8]) -> Option<Joined<'_>> {
        let Some(run) = self.runs.get(self.taken) else {
            self.clear();
            return None;
        };
        self.taken += 1;
        let first = self.pieces[usize::from(run.first)];
        let header = if run.count > 1 {
            run.finish(&mut octets[first.start as usize..first.end as usize])
        } else {
            VnetHeader::default()
        };
        Some(Joined {
            header,
            packets: usize::from(run.count),
            pieces: &self.pieces,
            first: run.first,
        })
    }

    /// Where the run of the packet's flow is if it may still grow, and else where it may be.
    fn place_of(&self, octets: &[u8], packet: &[u8], layout: Layout) -> usize {
        let first = first_place(packet, layout);
        let places = first..first + WAYS;
        let is_its = |place: &usize| {
            let run = self.runs.get(usize::from(self.open[*place]));
            run.is_some_and(|run| {
                let head = self.pieces[usize::from(run.first)];
                run.is_of_flow(&octets[head.start as usize..head.end as usize], packet, layout)
            })
        };
        // Else a free place, where NONE is and becomes 0, or that of the run that began first.
        places.clone().find(is_its).unwrap_or_else(|| {
            places
                .min_by_key(|place| self.open[*place].wrapping_add(1))
                .expect("there are places")
        })
    }

    /// No run grows any more. The table is larger than a batch of few packets, so only what is in use is looked at.
    fn close_all(&mut self) {
        for run in &self.runs[self.closed..] {
            self.open[run.slot] = NONE;
        }
        self.closed = self.runs.len();
    }

    fn clear(&mut self) {
        self.close_all();
        self.runs.clear();
        self.pieces.clear();
        self.closed = 0;
        self.taken = 0;
    }

    /// Whether others may join `packet`.
    fn begins(&self, packet: &[u8], layout: Layout) -> bool {
        if layout.kind == Kind::Udp {
            return self.udp;
        }
        let transport = &packet[layout.ip..];
        // The reserved bits are zero.
        self.tcp && transport[12] & 0x0f == 0 && transport[TCP_FLAGS] == ACK
    }

    /// Adds a packet that nothing joins.
    fn single(&mut self, place: Range<usize>) {
        let layout = Layout {
            kind: Kind::Whole,
            ip: 0,
            headers: 0,
        };
        self.begin(place, Run::single(layout));
    }

    fn begin(&mut self, place: Range<usize>, run: Run) {
        let piece = u16::try_from(self.pieces.len()).expect("there is room for few");
        self.runs.push(Run {
            first: piece,
            last: piece,
            ..run
        });
        self.piece(place);
    }

    fn piece(&mut self, place: Range<usize>) {
        let octet = |at| u32::try_from(at).expect("the receive buffers are smaller");
        self.pieces.push(Piece {
            start: octet(place.start),
            end: octet(place.end),
            next: NONE,
        });
    }
}

impl Run {
    fn single(layout: Layout) -> Self {
        Self {
            layout,
            slot: 0,
            first: NONE,
            last: NONE,
            count: 1,
            segment: 0,
            length: 0,
            next_sequence: 0,
            last_flags: 0,
            one_identification: false,
            verified: false,
        }
    }

    fn new(packet: &[u8], layout: Layout, slot: usize) -> Self {
        let segment = packet.len() - layout.headers;
        Self {
            slot,
            segment,
            length: packet.len(),
            next_sequence: sequence(packet, layout).wrapping_add(segment as u32),
            ..Self::single(layout)
        }
    }

    /// Whether `packet` has the protocol, addresses and ports of the run, whose first packet is `head`.
    fn is_of_flow(&self, head: &[u8], packet: &[u8], layout: Layout) -> bool {
        let same = (layout.kind, layout.ip) == (self.layout.kind, self.layout.ip);
        same && key(head, layout) == key(packet, layout)
    }

    /// Whether `packet` may come behind what is there. `head` is the first packet. The checksums, which are dear, come
    /// last.
    fn takes(&mut self, head: &[u8], packet: &[u8], layout: Layout) -> bool {
        let payload = packet.len() - layout.headers;
        let joins = layout == self.layout
            && (1..=self.segment).contains(&payload)
            && self.length + payload <= MAX_LENGTH
            && self.follows_ip(head, packet)
            && self.follows_transport(head, packet);
        if !joins {
            return false;
        }
        self.verified = self.verified || is_right(head, layout);
        self.verified && is_right(packet, layout)
    }

    /// Whether the IP headers are the same as far as they must be.
    fn follows_ip(&mut self, head: &[u8], packet: &[u8]) -> bool {
        if self.layout.ip == IPV6_HEADER {
            // Version, traffic class and flow label; next header, hop limit and addresses.
            return head[..4] == packet[..4] && head[6..IPV6_HEADER] == packet[6..IPV6_HEADER];
        }
        // Version and TOS; DF, TTL and protocol; addresses.
        let same = head[..2] == packet[..2] && head[6..10] == packet[6..10] && head[12..20] == packet[12..20];
        let ahead = word(packet, 4).wrapping_sub(word(head, 4));
        if self.count == 1 && ahead == 0 {
            self.one_identification = ip::dont_fragment(head);
        }
        same && ahead == if self.one_identification { 0 } else { self.count }
    }

    /// Whether the TCP or UDP headers are the same as far as they must be.
    fn follows_transport(&self, head: &[u8], packet: &[u8]) -> bool {
        let (before, after) = (&head[self.layout.ip..], &packet[self.layout.ip..]);
        if before[..4] != after[..4] {
            return false;
        }
        if self.layout.kind == Kind::Udp {
            return true;
        }
        let header = self.layout.headers - self.layout.ip;
        // Acknowledgement, length of the header and reserved bits; window; urgent pointer and options.
        before[8..13] == after[8..13]
            && after[TCP_FLAGS] & !(FIN | PSH) == ACK
            && before[14..16] == after[14..16]
            && before[18..header] == after[18..header]
            && sequence(packet, self.layout) == self.next_sequence
    }

    /// Takes `packet`, which is the piece `at`.
    fn grow(&mut self, packet: &[u8], at: u16) {
        let payload = packet.len() - self.layout.headers;
        self.last = at;
        self.count += 1;
        self.length += payload;
        self.next_sequence = self.next_sequence.wrapping_add(payload as u32);
        if self.layout.kind != Kind::Udp {
            self.last_flags = packet[self.layout.ip + TCP_FLAGS] & (FIN | PSH);
        }
    }

    /// Whether nothing may come behind `last`.
    fn is_complete(&self, last: &[u8]) -> bool {
        usize::from(self.count) == MAX_RUN
            || last.len() - self.layout.headers < self.segment
            || self.last_flags != 0
    }

    /// Makes the header of the first packet that of the large one, whose checksum the kernel finishes.
    fn finish(&self, head: &mut [u8]) -> VnetHeader {
        let Layout { kind, ip, headers } = self.layout;
        let transport_length = self.length - ip;
        let (protocol, addresses) = if ip == IPV4_HEADER {
            head[2..4].copy_from_slice(&length_field(self.length));
            ip::set_checksum(&mut head[..IPV4_HEADER]);
            (head[9], &head[12..20])
        } else {
            head[4..6].copy_from_slice(&length_field(transport_length));
            (head[6], &head[8..40])
        };
        let pseudo = checksum::pseudo_header(addresses, protocol, transport_length) as u16;
        let transport = &mut head[ip..headers];
        let checksum_offset = if kind == Kind::Udp {
            transport[4..6].copy_from_slice(&length_field(transport_length));
            UDP_CHECKSUM
        } else {
            transport[TCP_FLAGS] |= self.last_flags;
            TCP_CHECKSUM
        };
        transport[checksum_offset..checksum_offset + 2].copy_from_slice(&pseudo.to_be_bytes());
        VnetHeader {
            kind,
            needs_checksum: true,
            ecn: false,
            header_length: headers as u16,
            segment: self.segment as u16,
            checksum_start: ip as u16,
            checksum_offset: checksum_offset as u16,
        }
    }
}

fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("a run is held to what the field has")
        .to_be_bytes()
}

fn word(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// The sequence number of a TCP segment; 0 for UDP.
fn sequence(packet: &[u8], layout: Layout) -> u32 {
    let at = layout.ip + 4;
    match packet[at..at + 4] {
        [a, b, c, d] if layout.kind != Kind::Udp => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn form(packet: &[u8]) -> Form {
    let flow = match packet.first().map(|octet| octet >> 4) {
        Some(4) if packet.len() >= IPV4_HEADER => match packet[9] {
            TCP | UDP => flow_v4(packet),
            _ => return Form::Other,
        },
        Some(6) if packet.len() >= IPV6_HEADER => match packet[6] {
            ICMPV6 => return Form::Other,
            protocol => flow_v6(packet, protocol),
        },
        _ => None,
    };
    flow.map_or(Form::Hidden, Form::Flow)
}

fn flow_v4(packet: &[u8]) -> Option<Layout> {
    let whole = ip::fragment_word(packet) == (false, 0);
    let plain = packet[0] == IPV4_PLAIN && whole && usize::from(word(packet, 2)) == packet.len();
    if plain {
        layout(packet, IPV4_HEADER, packet[9], Kind::Tcp4)
    } else {
        None
    }
}

fn flow_v6(packet: &[u8], protocol: u8) -> Option<Layout> {
    if usize::from(word(packet, 4)) == packet.len() - IPV6_HEADER {
        layout(packet, IPV6_HEADER, protocol, Kind::Tcp6)
    } else {
        None
    }
}

fn layout(packet: &[u8], ip: usize, protocol: u8, tcp: Kind) -> Option<Layout> {
    let (kind, header, least) = match protocol {
        TCP => {
            let header = usize::from(packet.get(ip + 12)? >> 4) * 4;
            (tcp, header, TCP_HEADER)
        }
        UDP => (Kind::Udp, UDP_HEADER, UDP_HEADER),
        _ => return None,
    };
    let headers = ip + header;
    (header >= least && packet.len() >= headers).then_some(Layout { kind, ip, headers })
}

/// Addresses and ports.
fn key(packet: &[u8], layout: Layout) -> &[u8] {
    let addresses = if layout.ip == IPV4_HEADER { 12 } else { 8 };
    &packet[addresses..layout.ip + 4]
}

/// The first of the [`WAYS`] places that the flow of `packet` may have: by addresses and ports.
fn first_place(packet: &[u8], layout: Layout) -> usize {
    let mixed = key(packet, layout).chunks_exact(4).fold(0u64, |mixed, word| {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        (mixed.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 48) as usize % (FLOWS / WAYS) * WAYS
}

/// Whether the checksums are those that GSO would compute, and the length of UDP. Of the two forms of zero it writes 0, but
/// in UDP 0xffff, as 0 means none there.
fn is_right(packet: &[u8], layout: Layout) -> bool {
    const NEGATIVE_ZERO: u16 = 0xffff;
    let Layout { kind, ip, .. } = layout;
    let transport = &packet[ip..];
    let (protocol, addresses) = if ip == IPV4_HEADER {
        if word(packet, 10) == NEGATIVE_ZERO || checksum::sum(&packet[..IPV4_HEADER]) != 0xffff {
            return false;
        }
        (packet[9], &packet[12..20])
    } else {
        (packet[6], &packet[8..40])
    };
    let written_otherwise = if kind == Kind::Udp {
        word(transport, UDP_CHECKSUM) == 0 || usize::from(word(transport, 4)) != transport.len()
    } else {
        word(transport, TCP_CHECKSUM) == NEGATIVE_ZERO
    };
    if written_otherwise {
        return false;
    }
    let pseudo = checksum::pseudo_header(addresses, protocol, transport.len());
    checksum::add(pseudo, checksum::sum(transport)) == 0xffff
}

#[cfg(test)]
pub(crate) mod tests;
