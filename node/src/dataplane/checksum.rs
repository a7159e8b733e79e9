//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// One's-complement sum of `data` as big-endian words, an odd last octet padded with zero. Not inverted.
pub fn sum(data: &[u8]) -> u32 {
    let mut words = data.chunks_exact(2);
    let total: u64 = words
        .by_ref()
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let last = words
        .remainder()
        .first()
        .map_or(0, |octet| u64::from(*octet) << 8);
    fold(total + last)
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

    proptest! {
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
