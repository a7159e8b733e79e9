//! Sequence numbers of control messages: the arithmetic modulo 65536 (RFC 2661 §5.8).

/// Half of the number space: what lies that far back, or further, is ahead.
const HALF: u16 = 0x8000;

/// How far `number` is ahead of `reference`, modulo 65536.
pub fn distance(number: u16, reference: u16) -> u16 {
    number.wrapping_sub(reference)
}

/// Whether `number` lies in the 32768 values before `reference`.
pub fn is_before(number: u16, reference: u16) -> bool {
    distance(number, reference) >= HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_space_is_old() {
        assert!(!is_before(15, 15));
        assert!(is_before(14, 15));
        assert!(is_before(15u16.wrapping_sub(0x8000), 15));
        assert!(!is_before(15 + 0x7fff, 15));
        assert!(is_before(65535, 0));
    }
}
