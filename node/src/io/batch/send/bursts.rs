//! Which datagrams leave as one message, pure.
//!
//! Datagrams to one destination that are of one size form a *burst*: the kernel carries it through its stack as one packet and
//! cuts it behind (UDP_SEGMENT). A shorter datagram may be the last of its burst; a longer one begins the next. Whose
//! sessions and tunnels they belong to does not matter.
//!
//! Packets for several LACs come mixed, so several bursts are open at a time: a small table, indexed by a hash of the
//! destination, holds them, a few in each place (one alone would have two LACs of ten take turns in closing each other's
//! bursts). Where more destinations share a place the oldest burst gets no more. Bursts leave in the order in
//! which they began, so that the order within a destination is kept. Where the order must be kept over several destinations
//! (one session's packets differ in TOS, and its LAC drops a number that is older than the last), a datagram is added to
//! the youngest burst or begins one.
//!
//! A datagram is one or two ranges of the buffer. Ranges that follow one another without a gap become one, so that packets
//! that were read one behind the other cost the kernel one copy for all.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Messages of one system call.
pub(super) const MESSAGES: usize = 64;
/// Ranges of all messages. One large packet and its like fill a quarter of it.
pub(super) const PIECES: usize = 1024;
/// Ranges of one datagram at most.
pub(super) const PIECES_OF_ONE: usize = 2;
/// Datagrams of one burst (`UDP_MAX_SEGMENTS`, half of what newer kernels take).
pub(super) const SEGMENTS: usize = 64;
/// Octets of one burst: what fits into an IPv4 packet behind its own header and that of UDP.
const BURST_OCTETS: usize = 65_507;
/// Bursts to which datagrams may still be added. A power of two.
const OPEN_BURSTS: usize = 128;
/// How many of them share a place. A power of two.
const WAYS: usize = 4;
const NONE: u16 = u16::MAX;

/// Where a datagram goes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Index of the shard's socket.
    pub(crate) socket: usize,
    pub(crate) to: SocketAddr,
    /// The address it leaves from; `None` = the kernel picks.
    pub(crate) source: Option<IpAddr>,
    /// TOS or Traffic Class of the outer header.
    pub(crate) tos: u8,
}

/// Datagrams that leave as one message.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    pub(super) destination: Destination,
    /// Octets of each datagram but the last.
    pub(super) size: usize,
    pub(super) datagrams: usize,
    octets: usize,
    /// How many ranges, and the last of them.
    pieces: usize,
    last_piece: usize,
    /// Where its ranges begin among the sorted ones.
    first: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    burst: u16,
    start: u32,
    end: u32,
}

/// All that is to leave by the next system call.
pub(super) struct Bursts {
    bursts: Vec<Burst>,
    pieces: Vec<Piece>,
    sorted: Vec<Range<usize>>,
    open: [u16; OPEN_BURSTS],
}

impl Bursts {
    pub(super) fn new() -> Self {
        Self {
            bursts: Vec::with_capacity(MESSAGES),
            pieces: Vec::with_capacity(PIECES),
            sorted: vec![0..0; PIECES],
            open: [NONE; OPEN_BURSTS],
        }
    }

    /// Whether there may be no room for one more datagram.
    pub(super) fn is_full(&self) -> bool {
        self.bursts.len() == MESSAGES || self.pieces.len() + PIECES_OF_ONE > PIECES
    }

    /// Adds a datagram that consists of `pieces`, to a burst of at most `segments`. With `in_order` it leaves behind all that
    /// were added so before it, whatever their destination. There must be room.
    pub(super) fn add(
        &mut self,
        destination: &Destination,
        pieces: &[Range<usize>],
        segments: usize,
        in_order: bool,
    ) {
        let size = pieces.iter().map(Range::len).sum();
        let place = self.place(destination);
        let open = self.open[place];
        let joins = self.bursts.get(usize::from(open)).is_some_and(|burst| {
            let youngest = usize::from(open) + 1 == self.bursts.len();
            burst.destination == *destination && burst.takes(size, segments) && (youngest || !in_order)
        });
        let index = if joins {
            let burst = &mut self.bursts[usize::from(open)];
            burst.datagrams += 1;
            burst.octets += size;
            usize::from(open)
        } else {
            self.bursts.push(Burst {
                destination: *destination,
                size,
                datagrams: 1,
                octets: size,
                pieces: 0,
                last_piece: 0,
                first: 0,
            });
            self.bursts.len() - 1
        };
        let ends = size < self.bursts[index].size;
        self.open[place] = if ends { NONE } else { index as u16 };
        for piece in pieces {
            self.add_piece(index, piece);
        }
    }

    /// Its place in the table of open bursts: that of its open burst, a free one, or that of the oldest.
    fn place(&self, destination: &Destination) -> usize {
        let first = hash(destination) & !(WAYS - 1);
        let ways = first..first + WAYS;
        let is_same = |at: &usize| {
            let burst = self.bursts.get(usize::from(self.open[*at]));
            burst.is_some_and(|burst| burst.destination == *destination)
        };
        let same = ways.clone().find(is_same);
        same.or_else(|| ways.clone().find(|at| self.open[*at] == NONE))
            .or_else(|| ways.min_by_key(|at| self.open[*at]))
            .expect("there are several ways")
    }

    fn add_piece(&mut self, index: usize, piece: &Range<usize>) {
        let burst = &mut self.bursts[index];
        if burst.pieces > 0 && self.pieces[burst.last_piece].end as usize == piece.start {
            self.pieces[burst.last_piece].end = piece.end as u32;
            return;
        }
        burst.pieces += 1;
        burst.last_piece = self.pieces.len();
        self.pieces.push(Piece {
            burst: index as u16,
            start: piece.start as u32,
            end: piece.end as u32,
        });
    }

    /// Puts the ranges of each burst side by side, in their order. To be called before they are looked at.
    pub(super) fn sort(&mut self) {
        let mut first = 0;
        for burst in &mut self.bursts {
            burst.first = first;
            first += burst.pieces;
            burst.pieces = 0;
        }
        for piece in &self.pieces {
            let burst = &mut self.bursts[usize::from(piece.burst)];
            self.sorted[burst.first + burst.pieces] = piece.start as usize..piece.end as usize;
            burst.pieces += 1;
        }
    }

    pub(super) fn all(&self) -> &[Burst] {
        &self.bursts
    }

    /// The ranges of all bursts, sorted.
    pub(super) fn sorted(&self) -> &[Range<usize>] {
        &self.sorted[..self.pieces.len()]
    }

    pub(super) fn clear(&mut self) {
        self.bursts.clear();
        self.pieces.clear();
        self.open = [NONE; OPEN_BURSTS];
    }
}

impl Burst {
    fn takes(&self, size: usize, segments: usize) -> bool {
        size <= self.size && self.datagrams < segments && self.octets + size <= BURST_OCTETS
    }

    /// Where its ranges are among the sorted ones.
    pub(super) fn pieces(&self) -> Range<usize> {
        self.first..self.first + self.pieces
    }

    /// The ranges of each of its datagrams, from `sorted`, that of all bursts.
    pub(super) fn each<'a>(&self, sorted: &'a [Range<usize>]) -> impl Iterator<Item = Datagram> + use<'a> {
        let mut pieces = sorted[self.pieces()].iter().cloned();
        let mut piece = 0..0;
        let (mut left, size) = (self.octets, self.size);
        std::iter::from_fn(move || {
            let mut datagram = Datagram::default();
            let mut wanted = left.min(size);
            left -= wanted;
            while wanted > 0 {
                if piece.is_empty() {
                    piece = pieces.next()?;
                }
                let taken = wanted.min(piece.len());
                datagram.add(piece.start..piece.start + taken);
                piece.start += taken;
                wanted -= taken;
            }
            (datagram.count > 0).then_some(datagram)
        })
    }
}

/// The ranges of one datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Datagram {
    pieces: [Range<usize>; PIECES_OF_ONE],
    count: usize,
}

impl Datagram {
    fn add(&mut self, piece: Range<usize>) {
        self.pieces[self.count] = piece;
        self.count += 1;
    }

    pub(super) fn pieces(&self) -> &[Range<usize>] {
        &self.pieces[..self.count]
    }

    pub(super) fn len(&self) -> usize {
        self.pieces().iter().map(Range::len).sum()
    }
}

/// A number below [`OPEN_BURSTS`].
fn hash(destination: &Destination) -> usize {
    let address = match destination.to.ip() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            let all = u128::from(address);
            all as u64 ^ (all >> 64) as u64
        }
    };
    let rest =
        u64::from(destination.to.port()) << 16 | u64::from(destination.tos) << 8 | destination.socket as u64;
    // The upper bits of a product depend on all of the factor's (Knuth's multiplicative hash).
    let hash = (address ^ rest << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (u64::BITS - OPEN_BURSTS.trailing_zeros())) as usize
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a datagram may be one range
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to(port: u16, tos: u8) -> Destination {
        Destination {
            socket: 0,
            to: ([192, 0, 2, 1], port).into(),
            source: None,
            tos,
        }
    }

    /// Datagrams to a port, of a size each, behind one another in the buffer; what leaves: port, size and number.
    fn bursts(datagrams: &[(u16, usize)]) -> Vec<(u16, usize, usize)> {
        let mut bursts = Bursts::new();
        let mut at = 0;
        for (port, size) in datagrams {
            bursts.add(&to(*port, 0), &[at..at + size], SEGMENTS, false);
            at += size;
        }
        bursts.sort();
        let burst = |burst: &Burst| (burst.destination.to.port(), burst.size, burst.datagrams);
        bursts.all().iter().map(burst).collect()
    }

    #[test]
    fn a_shorter_datagram_ends_a_burst_and_a_longer_one_begins_the_next() {
        assert_eq!(bursts(&[(1, 100); 3]), [(1, 100, 3)]);
        assert_eq!(
            bursts(&[(1, 100), (1, 40), (1, 40), (1, 40)]),
            [(1, 100, 2), (1, 40, 2)]
        );
        assert_eq!(bursts(&[(1, 40), (1, 100), (1, 100)]), [(1, 40, 1), (1, 100, 2)]);
    }

    #[test]
    fn destinations_may_come_mixed() {
        let mixed = [(1, 100), (2, 60), (1, 100), (2, 60), (1, 30), (1, 100)];
        assert_eq!(bursts(&mixed), [(1, 100, 3), (2, 60, 2), (1, 100, 1)]);
        let other = Destination {
            source: Some([198, 51, 100, 1].into()),
            ..to(1, 0)
        };
        for (destination, expected) in [(to(1, 0), 1), (to(1, 8), 2), (to(2, 0), 2), (other, 2)] {
            let mut bursts = Bursts::new();
            bursts.add(&to(1, 0), &[0..10], SEGMENTS, false);
            bursts.add(&destination, &[10..20], SEGMENTS, false);
            assert_eq!(bursts.all().len(), expected);
        }
    }

    #[test]
    fn sixteen_lacs_do_not_close_each_others_bursts() {
        let mixed: Vec<_> = (0..64).map(|number| (40_000 + 7 * (number % 16), 100)).collect();
        let all = bursts(&mixed);
        assert_eq!(all.len(), 16);
        assert!(all.iter().all(|burst| burst.2 == 4));
    }

    #[test]
    fn a_burst_has_its_limits() {
        assert_eq!(bursts(&[(1, 10); 65]), [(1, 10, 64), (1, 10, 1)]);
        assert_eq!(bursts(&[(1, 1410); 48]), [(1, 1410, 46), (1, 1410, 2)]);
        assert_eq!(bursts(&[(1, 65_507), (1, 1)]), [(1, 65_507, 1), (1, 1, 1)]);
        let mut single = Bursts::new();
        single.add(&to(1, 0), &[0..10], 1, false);
        single.add(&to(1, 0), &[10..20], 1, false);
        assert_eq!(single.all().len(), 2);
    }

    #[test]
    fn what_must_keep_its_order_joins_the_youngest_burst_alone() {
        let mut bursts = Bursts::new();
        for (destination, in_order) in [
            (to(1, 0), true),
            (to(1, 0), true),
            (to(1, 8), true),
            (to(1, 0), true),
        ] {
            bursts.add(&destination, &[0..10], SEGMENTS, in_order);
        }
        bursts.add(&to(1, 8), &[0..10], SEGMENTS, false);
        let numbers: Vec<_> = bursts.all().iter().map(|burst| burst.datagrams).collect();
        assert_eq!(numbers, [2, 2, 1]);
    }

    #[test]
    fn ranges_without_a_gap_are_one() {
        let mut bursts = Bursts::new();
        for piece in [0..10, 10..20, 24..34, 34..44] {
            bursts.add(&to(1, 0), &[piece], SEGMENTS, false);
        }
        bursts.add(&to(1, 0), &[44..46, 60..68], SEGMENTS, false);
        bursts.sort();
        assert_eq!(bursts.sorted(), [0..20, 24..46, 60..68]);
        let mut each = bursts.all()[0].each(bursts.sorted());
        for expected in [&[0..10][..], &[10..20], &[24..34], &[34..44], &[44..46, 60..68]] {
            assert_eq!(each.next().as_ref().map(Datagram::pieces), Some(expected));
        }
        assert_eq!(each.next(), None);
    }

    proptest! {
        /// Each datagram leaves once, whole, and behind those to its destination that came before it.
        #[test]
        fn nothing_is_lost_and_the_order_is_kept(
            datagrams in prop::collection::vec((0u16..5, 0u8..2, 1usize..4, any::<bool>(), any::<bool>()), 1..400),
        ) {
            let mut bursts = Bursts::new();
            let (mut at, mut came) = (0, Vec::new());
            for (port, tos, size, two, in_order) in datagrams {
                if bursts.is_full() {
                    break;
                }
                let (first, second) = (at..at + size, at + size + 9..at + size + 12);
                at += size + if two { 12 } else { 0 };
                let pieces = if two { vec![first, second] } else { vec![first] };
                bursts.add(&to(port, tos), &pieces, SEGMENTS, in_order);
                came.push((to(port, tos), in_order, pieces));
            }
            bursts.sort();
            let mut left = Vec::new();
            for burst in bursts.all() {
                let each: Vec<_> = burst.each(bursts.sorted()).collect();
                prop_assert_eq!(each.len(), burst.datagrams);
                prop_assert!(each.len() <= SEGMENTS);
                let (last, others) = each.split_last().expect("no burst is empty");
                prop_assert!(others.iter().all(|datagram| datagram.len() == burst.size) && last.len() <= burst.size);
                left.extend(each.iter().map(|datagram| (burst.destination, datagram.pieces().to_vec())));
            }
            let of = |destination: Destination| {
                let came = came.iter().filter(|came| came.0 == destination).map(|came| came.2.clone());
                let left = left.iter().filter(|left| left.0 == destination).map(|left| left.1.clone());
                (came.collect::<Vec<_>>(), left.collect::<Vec<_>>())
            };
            for (port, tos) in (0..5).flat_map(|port| [(port, 0), (port, 1)]) {
                let (came, left) = of(to(port, tos));
                prop_assert_eq!(came, left);
            }
            let in_order = came.iter().filter(|came| came.1).map(|came| &came.2);
            let places = in_order.map(|pieces| left.iter().position(|left| left.1 == *pieces).expect("it left"));
            prop_assert!(places.is_sorted());
        }
    }
}
