//! Octets as hexadecimal text, for commands.

/// The octets that `text` stands for; white space is skipped. `None` if it is no hexadecimal.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_digits_only() {
        assert_eq!(decode("c8 02\n000C"), Some(vec![0xc8, 0x02, 0x00, 0x0c]));
        assert_eq!(decode("c80"), None);
        assert_eq!(decode("xy"), None);
    }
}
