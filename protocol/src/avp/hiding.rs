//! Hiding of AVP values (RFC 2661 §4.3).
//!
//! The value, with its length in front and padding behind, is xored in blocks of 16 octets with
//! `b1 = MD5(attribute || secret || random vector)`, `bi = MD5(secret || c(i-1))`, where `c` is the *hidden*
//! block. Only AVPs of vendor 0 and the Broadband Forum are hidden in practice; the vendor does not enter.

use md5::{Digest, Md5};
use thiserror::Error;

use super::raw::MAX_VALUE_LEN;
use crate::secret::Secret;

const BLOCK: usize = 16;

/// What a sender hides, and with what.
#[derive(Clone, Debug)]
pub struct Hiding {
    /// The tunnel's secret.
    pub secret: Secret,
    /// The Random Vector of this message: 16 octets or more, never used twice.
    pub random_vector: Vec<u8>,
    /// The attributes to hide; those that must not be hidden stay open.
    pub attributes: Vec<u16>,
    /// Octets of padding after each value, to cover its length.
    pub padding: usize,
}

/// Why a hidden value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HidingError {
    /// No secret is configured for this peer.
    #[error("no shared secret is configured")]
    NoSecret,
    /// No Random Vector AVP stands before it.
    #[error("no random vector precedes it")]
    NoRandomVector,
    /// The length inside does not fit: mostly a wrong secret.
    #[error("the length inside does not fit; is the secret right?")]
    Length,
}

/// Hides `value`, followed by `padding` octets. A value too long to be hidden is cut.
pub fn hide(attribute: u16, value: &[u8], padding: usize, secret: &Secret, random_vector: &[u8]) -> Vec<u8> {
    let value = &value[..value.len().min(MAX_VALUE_LEN - 2)];
    let padding = padding.min(MAX_VALUE_LEN - 2 - value.len());
    let mut octets = Vec::with_capacity(2 + value.len() + padding);
    octets.extend_from_slice(&(value.len() as u16).to_be_bytes());
    octets.extend_from_slice(value);
    octets.resize(2 + value.len() + padding, 0);
    cipher(&mut octets, attribute, secret, random_vector, Direction::Hide);
    octets
}

/// The value that was hidden in `hidden`.
pub fn unhide(
    attribute: u16,
    hidden: &[u8],
    secret: &Secret,
    random_vector: &[u8],
) -> Result<Vec<u8>, HidingError> {
    let mut octets = hidden.to_vec();
    cipher(&mut octets, attribute, secret, random_vector, Direction::Unhide);
    let (length, padded) = octets.split_first_chunk::<2>().ok_or(HidingError::Length)?;
    let length = usize::from(u16::from_be_bytes(*length));
    padded
        .get(..length)
        .map(<[u8]>::to_vec)
        .ok_or(HidingError::Length)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Hide,
    Unhide,
}

fn cipher(octets: &mut [u8], attribute: u16, secret: &Secret, random_vector: &[u8], direction: Direction) {
    let mut digest = Md5::new();
    digest.update(attribute.to_be_bytes());
    digest.update(secret.expose());
    digest.update(random_vector);
    let mut key: [u8; BLOCK] = digest.finalize().into();
    for block in octets.chunks_mut(BLOCK) {
        let mut hidden = [0; BLOCK];
        hidden[..block.len()].copy_from_slice(block);
        for (octet, key) in block.iter_mut().zip(key) {
            *octet ^= key;
        }
        if direction == Direction::Hide {
            hidden[..block.len()].copy_from_slice(block);
        }
        let mut digest = Md5::new();
        digest.update(secret.expose());
        digest.update(hidden);
        key = digest.finalize().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM_VECTOR: [u8; 16] = [
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
    ];

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn vectors_are_unhidden() {
        let secret = Secret::new("tunnel-secret");
        let cases = [
            (9, octets("1234"), "d69c0280"),
            (9, octets("1234"), "d69c0280a416fe803a6b9eed32237980"),
            (
                30,
                b"user@example.net".to_vec(),
                "5f29b6f617a7c468f2419a69b0a32eebe2db",
            ),
            (
                33,
                b"correct horse battery staple".to_vec(),
                "a7286c9f3e553afb3bc29d9672d2a47aa5f590d99f33c65e1112a5c9b3582c378ab1",
            ),
        ];
        for (attribute, clear, hidden) in cases {
            assert_eq!(
                unhide(attribute, &octets(hidden), &secret, &RANDOM_VECTOR),
                Ok(clear)
            );
        }
    }

    #[test]
    fn vectors_without_padding_are_hidden() {
        let secret = Secret::new("tunnel-secret");
        assert_eq!(
            hide(9, &[0x12, 0x34], 0, &secret, &RANDOM_VECTOR),
            octets("d69c0280")
        );
        assert_eq!(
            hide(30, b"user@example.net", 0, &secret, &RANDOM_VECTOR),
            octets("5f29b6f617a7c468f2419a69b0a32eebe2db")
        );
    }

    #[test]
    fn long_values_survive_hiding_with_padding() {
        let secret = Secret::new("s");
        for len in [0, 1, 13, 14, 15, 16, 17, 100, 1015] {
            let value: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let hidden = hide(28, &value, 7, &secret, b"vector");
            assert!(hidden.len() <= MAX_VALUE_LEN);
            assert_eq!(unhide(28, &hidden, &secret, b"vector"), Ok(value));
        }
    }

    #[test]
    fn s_63_a_wrong_secret_shows_in_the_length() {
        let hidden = hide(9, &[0x12, 0x34], 0, &Secret::new("one"), &RANDOM_VECTOR);
        assert_eq!(
            unhide(9, &hidden, &Secret::new("two"), &RANDOM_VECTOR),
            Err(HidingError::Length)
        );
        assert_eq!(
            unhide(9, &[7], &Secret::new("one"), &RANDOM_VECTOR),
            Err(HidingError::Length)
        );
    }
}
