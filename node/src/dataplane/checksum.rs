//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Octets that one step of [`sum`] takes.
const STEP: usize = 32;

/// One's-complement sum of `data` as big-endian words, an odd last octet padded with zero. Not inverted.
///
/// The words are added in the machine's own order and the octets of the sum swapped at the end, which comes to the same
/// (RFC 1071 §2 (B)): so the compiler can add many at once. The accumulators are wide enough never to overflow; to look
/// for it would take the adding of many at once away.
pub fn sum(data: &[u8]) -> u32 {
    let mut accumulators = [0u64; STEP / 4];
    let mut steps = data.chunks_exact(STEP);
    for step in steps.by_ref() {
        for (accumulator, word) in accumulators.iter_mut().zip(step.chunks_exact(4)) {
            let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            *accumulator = accumulator.wrapping_add(u64::from(word));
        }
    }
    let mut total: u64 = accumulators.iter().sum();
    let mut words = steps.remainder().chunks_exact(2);
    for word in words.by_ref() {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u32::from(u16::from_be(fold(total) as u16))
}

/// The sum of two parts, the first of an even number of octets.
pub fn add(first: u32, second: u32) -> u32 {
    fold(u64::from(first) + u64::from(second))
}

/// The sum of the pseudo-header of TCP and UDP (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1). `addresses` are the source and the
/// destination as the IP header has them; `length` octets are the TCP or UDP header and what is behind.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> u32 {
    add(sum(addresses), fold(u64::from(protocol) + length as u64))
}

/// The checksum of `data`, whose checksum field holds zero.
pub fn of(data: &[u8]) -> u16 {
    !(sum(data) as u16)
}

/// The checksum after the 16-bit value `old` became `new` (RFC 1624 equation 3).
///
/// `odd` tells that the value starts at an odd offset of the sum: one's-complement addition does not care which
/// octet of a word comes first as long as both values are swapped.
pub fn update(checksum: u16, old: u16, new: u16, odd: bool) -> u16 {
    let (old, new) = if odd {
        (old.swap_bytes(), new.swap_bytes())
    } else {
        (old, new)
    };
    !(fold(u64::from(!checksum) + u64::from(!old) + u64::from(new)) as u16)
}

fn fold(mut total: u64) -> u32 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn a_pseudo_header_is_as_etherparse_sums_it() {
        let mut packet = Vec::new();
        let udp = etherparse::PacketBuilder::ipv4([10, 1, 2, 3], [192, 0, 2, 9], 64).udp(4000, 53);
        udp.write(&mut packet, b"odd").expect("a vector takes it");
        let pseudo = pseudo_header(&packet[12..20], 17, packet.len() - 20);
        assert_eq!(add(pseudo, sum(&packet[20..])), 0xffff);
        packet[30] ^= 1;
        assert_ne!(add(pseudo, sum(&packet[20..])), 0xffff);
    }

    /// The sum by the letter, word for word.
    fn plainly(data: &[u8]) -> u32 {
        let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
        fold(data.chunks(2).map(word).sum())
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        for length in [31, 32, 33, 65_535, 1 << 20] {
            assert_eq!(sum(&vec![0xff; length]), plainly(&vec![0xff; length]), "{length}");
        }
        assert_eq!((sum(&[0; 100]), sum(&[])), (0, 0));
    }

    proptest! {
        #[test]
        fn equals_the_plain_sum(data in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(sum(&data), plainly(&data));
        }

        #[test]
        fn update_equals_a_fresh_sum(mut data in prop::collection::vec(any::<u8>(), 4..80), at in 0usize..80, new: u16) {
            data[0] = 0x45; // never all zero: the one case where the two forms of zero differ
            let at = 1 + at % (data.len() - 2);
            let before = of(&data);
            let old = u16::from_be_bytes([data[at], data[at + 1]]);
            data[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new, at % 2 == 1), of(&data));
        }
    }
}
