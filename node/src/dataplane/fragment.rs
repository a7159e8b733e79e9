//! Fragmentation of IPv4 packets for subscribers (RFC 791 §3.2).
//!
//! Packets are cut inside the tunnel, never outside: the nodes of a cluster share one source address, so the
//! identifications of outer fragments would collide.

use super::ip;

/// The offset field of RFC 791 counts octets by eight.
const UNIT: usize = 8;

/// The longest IPv4 header, octets.
const MAX_HEADER: usize = 60;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
/// Options with this bit go into every fragment.
const OPTION_COPIED: u8 = 0x80;

/// Cuts one IPv4 packet into pieces of at most `mtu` octets.
#[derive(Debug)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    header: usize,
    later_header: [u8; MAX_HEADER],
    later_header_length: usize,
    mtu: usize,
    /// Octets of the payload already cut off.
    done: usize,
}

impl<'a> Fragments<'a> {
    /// `packet` is one whole IPv4 packet (padding cut off) without DF whose header has `header` octets. `None` if `mtu`
    /// is too small for its header and eight octets.
    pub fn new(packet: &'a [u8], header: usize, mtu: u16) -> Option<Self> {
        let mtu = usize::from(mtu);
        if mtu < header + UNIT {
            return None;
        }
        let (later_header, later_header_length) = later_header(&packet[..header]);
        Some(Self {
            packet,
            header,
            later_header,
            later_header_length,
            mtu,
            done: 0,
        })
    }

    /// Writes the next fragment into `out`, which holds at least `mtu` octets, and returns its length.
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        let payload = &self.packet[self.header..];
        let left = payload.len().checked_sub(self.done).filter(|left| *left > 0)?;
        let header: &[u8] = if self.done == 0 {
            &self.packet[..self.header]
        } else {
            &self.later_header[..self.later_header_length]
        };
        let room = self.mtu - header.len();
        let take = if left <= room { left } else { room / UNIT * UNIT };
        let length = header.len() + take;
        let out = &mut out[..length];
        out[..header.len()].copy_from_slice(header);
        out[header.len()..].copy_from_slice(&payload[self.done..self.done + take]);
        let (more_behind, first_offset) = ip::fragment_word(self.packet);
        let offset = first_offset + (self.done / UNIT) as u16;
        self.done += take;
        let out_header = &mut out[..length - take];
        out_header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        ip::set_fragment_word(out_header, take < left || more_behind, offset);
        ip::set_checksum(out_header);
        Some(length)
    }
}

/// The header of the fragments behind the first: only options with the copied bit, filled up to a multiple of four.
fn later_header(header: &[u8]) -> ([u8; MAX_HEADER], usize) {
    let mut out = [0; MAX_HEADER];
    let mut length = ip::IPV4_HEADER;
    out[..length].copy_from_slice(&header[..length]);
    let mut options = &header[length..];
    while let [kind, rest @ ..] = options {
        let size = match *kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => rest.first().map_or(0, |size| usize::from(*size)),
        };
        // A length that makes no sense ends the list, as an end-of-options octet would.
        let Some(option) = options
            .get(..size)
            .filter(|_| size > 0 && (*kind == OPTION_NOP || size >= 2))
        else {
            break;
        };
        if kind & OPTION_COPIED != 0 {
            out[length..length + size].copy_from_slice(option);
            length += size;
        }
        options = &options[size..];
    }
    let length = length.next_multiple_of(4);
    out[0] = 0x40 | (length / 4) as u8;
    (out, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpFragOffset, Ipv4Header, Ipv4HeaderSlice, ip_number};
    use proptest::prelude::*;

    fn packet(options: &[u8], payload: usize, offset: u16, more: bool) -> Vec<u8> {
        let mut header =
            Ipv4Header::new(payload as u16, 64, ip_number::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).expect("short");
        header.options = options.try_into().expect("whole words");
        header.total_len = (header.header_len() + payload) as u16;
        header.identification = 0xbeef;
        header.fragment_offset = IpFragOffset::try_new(offset).expect("thirteen bits");
        header.more_fragments = more;
        let mut out = Vec::new();
        header.write(&mut out).expect("a vector takes it");
        out.extend((0..payload).map(|n| n as u8));
        out
    }

    fn cut(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let header = usize::from(packet[0] & 0xf) * 4;
        let mut fragments = Fragments::new(packet, header, mtu).expect("a sane MTU");
        let mut out = vec![0; usize::from(mtu)];
        std::iter::from_fn(|| fragments.next_into(&mut out).map(|length| out[..length].to_vec())).collect()
    }

    /// Puts the fragments together again with etherparse's reading of them.
    fn join(fragments: &[Vec<u8>]) -> (u16, Vec<u8>, bool) {
        let mut payload = Vec::new();
        let first = Ipv4HeaderSlice::from_slice(&fragments[0])
            .expect("well formed")
            .fragments_offset()
            .value();
        let mut more = true;
        for fragment in fragments {
            let header = Ipv4HeaderSlice::from_slice(fragment).expect("well formed");
            assert_eq!(usize::from(header.total_len()), fragment.len());
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            assert_eq!(header.identification(), 0xbeef);
            assert_eq!(
                usize::from(header.fragments_offset().value() - first) * 8,
                payload.len()
            );
            assert!(more, "a fragment behind the last");
            more = header.more_fragments();
            payload.extend_from_slice(&fragment[usize::from(header.ihl()) * 4..]);
        }
        (first, payload, more)
    }

    #[test]
    fn s_101_1500_octets_become_two_packets_of_at_most_1400() {
        let whole = packet(&[], 1480, 0, false);
        let fragments = cut(&whole, 1400);
        assert_eq!(fragments.iter().map(Vec::len).collect::<Vec<_>>(), [1396, 124]);
        assert_eq!(join(&fragments), (0, whole[20..].to_vec(), false));
    }

    #[test]
    fn a_fragment_is_cut_again() {
        let whole = packet(&[], 1480, 185, true);
        let fragments = cut(&whole, 576);
        assert_eq!(join(&fragments), (185, whole[20..].to_vec(), true));
    }

    #[test]
    fn only_options_with_the_copied_bit_go_into_later_fragments() {
        // NOP, Record Route (7, not copied, 7 octets), Stream Id (0x88, copied, 4 octets).
        let whole = packet(&[1, 7, 7, 4, 0, 0, 0, 0, 0x88, 4, 1, 2], 200, 0, false);
        let fragments = cut(&whole, 120);
        assert_eq!(&fragments[0][20..32], &whole[20..32]);
        assert_eq!(
            (fragments[1][0], &fragments[1][20..24]),
            (0x46, &[0x88, 4, 1, 2][..])
        );
        assert_eq!(join(&fragments), (0, whole[32..].to_vec(), false));
    }

    #[test]
    fn no_room_for_eight_octets() {
        let whole = packet(&[], 100, 0, false);
        assert!(Fragments::new(&whole, 20, 27).is_none());
        assert!(Fragments::new(&whole, 20, 28).is_some());
    }

    proptest! {
        #[test]
        fn the_pieces_fit_and_make_the_whole(payload in 1usize..3000, mtu in 68u16..1500, words in 0usize..11,
                                             octets in prop::collection::vec(any::<u8>(), 40)) {
            let whole = packet(&octets[..words.min(10) * 4], payload, 0, false);
            let fragments = cut(&whole, mtu);
            prop_assert!(fragments.iter().all(|fragment| fragment.len() <= usize::from(mtu)));
            let (_, joined, more) = join(&fragments);
            prop_assert_eq!(&joined, &whole[20 + words.min(10) * 4..]);
            prop_assert!(!more);
        }
    }
}
