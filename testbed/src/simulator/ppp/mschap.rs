//! MS-CHAPv2 as the client computes it (RFC 2759 §8), apart from the server's own code.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use md4::{Digest, Md4};
use sha1::Sha1;

const MAGIC_1: &[u8] = b"Magic server to client signing constant";
const MAGIC_2: &[u8] = b"Pad to make it do more than one iteration";

/// The client's answer to a challenge and the proof that it expects back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response value: peer challenge, eight zero octets, NT response, a zero flag.
    pub response: [u8; 49],
    /// The first 42 octets of a truthful server's success message, `S=` and 40 hex digits.
    pub proof: String,
}

/// Answers `challenge` for `user`; `peer_challenge` must not be used twice.
pub fn answer(challenge: &[u8; 16], peer_challenge: &[u8; 16], user: &[u8], password: &str) -> Answer {
    let name = user.rsplit(|&octet| octet == b'\\').next().unwrap_or(user);
    let hash = Sha1::new()
        .chain_update(peer_challenge)
        .chain_update(challenge)
        .chain_update(name)
        .finalize();
    let short: [u8; 8] = hash[..8].try_into().expect("eight octets of twenty");
    let unicode: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let secret = Md4::digest(&unicode);
    let nt_response = encrypt(&secret, short);

    let mut response = [0; 49];
    response[..16].copy_from_slice(peer_challenge);
    response[24..48].copy_from_slice(&nt_response);

    let first = Sha1::new()
        .chain_update(Md4::digest(secret))
        .chain_update(nt_response)
        .chain_update(MAGIC_1)
        .finalize();
    let second = Sha1::new()
        .chain_update(first)
        .chain_update(short)
        .chain_update(MAGIC_2)
        .finalize();
    let digits: String = second.iter().map(|octet| format!("{octet:02X}")).collect();
    Answer {
        response,
        proof: format!("S={digits}"),
    }
}

/// Three DES encryptions under the password's hash, padded to 21 octets.
fn encrypt(secret: &[u8], clear: [u8; 8]) -> [u8; 24] {
    let mut padded = [0; 21];
    padded[..16].copy_from_slice(secret);
    let mut result = [0; 24];
    for (key, block) in padded.chunks(7).zip(result.chunks_mut(8)) {
        let key = spread(key.try_into().expect("chunks of seven"));
        let mut octets = clear.into();
        Des::new(&key.into()).encrypt_block(&mut octets);
        block.copy_from_slice(&octets);
    }
    result
}

/// Spreads 56 key bits over eight octets; the lowest bit of each is parity, which DES ignores.
fn spread(key: [u8; 7]) -> [u8; 8] {
    let bits = key
        .iter()
        .fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
    std::array::from_fn(|index| ((bits >> (49 - 7 * index)) as u8 & 0x7f) << 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2759_section_9_2() {
        let challenge = *b"\x5B\x5D\x7C\x7D\x7B\x3F\x2F\x3E\x3C\x2C\x60\x21\x32\x26\x26\x28";
        let peer = *b"\x21\x40\x23\x24\x25\x5E\x26\x2A\x28\x29\x5F\x2B\x3A\x33\x7C\x7E";
        let answer = answer(&challenge, &peer, b"DOMAIN\\User", "clientPass");
        let expected = [
            0x82, 0x30, 0x9e, 0xcd, 0x8d, 0x70, 0x8b, 0x5e, 0xa0, 0x8f, 0xaa, 0x39, 0x81, 0xcd, 0x83, 0x54,
            0x42, 0x33, 0x11, 0x4a, 0x3d, 0x85, 0xd6, 0xdf,
        ];
        assert_eq!(answer.response[24..48], expected);
        assert_eq!(answer.proof, "S=407A5589115FD0D6209F510FE9C04566932CDA56");
    }
}
