//! The arithmetic of MS-CHAPv2 (RFC 2759 §8).
//!
//! MD4 and DES are weak; this is here because peers speak it, and PAP or CHAP-MD5 are no stronger on the wire.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use md4::Md4;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const SIGNING: &[u8] = b"Magic server to client signing constant";
const PADDING: &[u8] = b"Pad to make it do more than one iteration";

/// The pieces of a Response's value (RFC 2759 §4).
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub peer_challenge: &'a [u8; 16],
    pub nt_response: &'a [u8; 24],
}

impl<'a> Response<'a> {
    /// Takes the 49 octets apart. The reserved octets and the flags are not looked at.
    pub fn new(value: &'a [u8; 49]) -> Self {
        let peer_challenge = value[..16].try_into().expect("16 octets");
        let nt_response = value[24..48].try_into().expect("24 octets");
        Self {
            peer_challenge,
            nt_response,
        }
    }
}

/// Checks a Response against the clear password (UTF-8) and, if it is right, gives the authenticator response:
/// `S=` and 40 upper-case hex digits.
pub fn verify(challenge: &[u8; 16], response: &[u8; 49], name: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let response = Response::new(response);
    let challenge = challenge_hash(response.peer_challenge, challenge, name);
    let hash = nt_password_hash(password)?;
    let expected = nt_response(&challenge, &hash);
    if !bool::from(expected.ct_eq(response.nt_response)) {
        return None;
    }
    Some(authenticator_response(&hash, response.nt_response, &challenge))
}

/// ChallengeHash: over the user name without its domain.
pub fn challenge_hash(peer_challenge: &[u8; 16], challenge: &[u8; 16], name: &[u8]) -> [u8; 8] {
    let user = name
        .iter()
        .position(|octet| *octet == b'\\')
        .map_or(name, |at| &name[at + 1..]);
    let digest = Sha1::new()
        .chain_update(peer_challenge)
        .chain_update(challenge)
        .chain_update(user)
        .finalize();
    digest[..8].try_into().expect("8 octets")
}

/// NtPasswordHash: MD4 of the password in UTF-16LE; `None` if it is no UTF-8.
pub fn nt_password_hash(password: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    let text = std::str::from_utf8(password).ok()?;
    let mut hasher = Md4::new();
    for unit in text.encode_utf16() {
        hasher.update(unit.to_le_bytes());
    }
    Some(Zeroizing::new(hasher.finalize().into()))
}

/// ChallengeResponse: three DES blocks under the hash, padded to 21 octets and cut in three.
pub fn nt_response(challenge: &[u8; 8], hash: &[u8; 16]) -> [u8; 24] {
    let mut padded = Zeroizing::new([0; 21]);
    padded[..16].copy_from_slice(hash);
    let mut response = [0; 24];
    for (block, key) in response.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        block.copy_from_slice(&des_block(key.try_into().expect("7 octets"), challenge));
    }
    response
}

fn des_block(key: &[u8; 7], clear: &[u8; 8]) -> [u8; 8] {
    let mut spread = Zeroizing::new([0; 8]);
    let bits = key.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
    for (at, octet) in spread.iter_mut().enumerate() {
        // Seven bits of key, then a parity bit that DES ignores.
        *octet = ((bits >> (49 - 7 * at) & 0x7f) << 1) as u8;
    }
    let mut block = (*clear).into();
    Des::new((&*spread).into()).encrypt_block(&mut block);
    block.into()
}

/// GenerateAuthenticatorResponse.
fn authenticator_response(hash: &[u8; 16], nt_response: &[u8; 24], challenge: &[u8; 8]) -> Vec<u8> {
    let hash_hash = Zeroizing::new(<[u8; 16]>::from(Md4::digest(hash)));
    let first = Sha1::new()
        .chain_update(*hash_hash)
        .chain_update(nt_response)
        .chain_update(SIGNING)
        .finalize();
    let second = Sha1::new()
        .chain_update(first)
        .chain_update(challenge)
        .chain_update(PADDING)
        .finalize();
    let mut text = b"S=".to_vec();
    text.extend(
        second
            .iter()
            .flat_map(|octet| format!("{octet:02X}").into_bytes()),
    );
    text
}

/// The message of a Failure packet (RFC 2759 §6): no retry, and the challenge to be used if there were one.
pub(crate) fn failure_message(error: u16, challenge: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = format!("E={error} R=0 C=").into_bytes();
    message.extend(
        challenge
            .iter()
            .flat_map(|octet| format!("{octet:02X}").into_bytes()),
    );
    message.extend_from_slice(b" V=3 M=");
    message.extend_from_slice(text);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"User";
    const PASSWORD: &[u8] = b"clientPass";
    const CHALLENGE: [u8; 16] = 0x5B5D7C7D7B3F2F3E3C2C602132262628_u128.to_be_bytes();
    const PEER_CHALLENGE: [u8; 16] = 0x21402324255E262A28295F2B3A337C7E_u128.to_be_bytes();
    const NT_RESPONSE: [u8; 24] = [
        0x82, 0x30, 0x9e, 0xcd, 0x8d, 0x70, 0x8b, 0x5e, 0xa0, 0x8f, 0xaa, 0x39, 0x81, 0xcd, 0x83, 0x54, 0x42,
        0x33, 0x11, 0x4a, 0x3d, 0x85, 0xd6, 0xdf,
    ];

    fn response() -> [u8; 49] {
        let mut value = [0; 49];
        value[..16].copy_from_slice(&PEER_CHALLENGE);
        value[24..48].copy_from_slice(&NT_RESPONSE);
        value
    }

    /// RFC 2759 §9.2.
    #[test]
    fn the_vectors_of_the_rfc_pass() {
        let challenge = challenge_hash(&PEER_CHALLENGE, &CHALLENGE, NAME);
        assert_eq!(challenge, 0xd02e4386bce91226_u64.to_be_bytes());
        let hash = nt_password_hash(PASSWORD).unwrap();
        assert_eq!(*hash, 0x44ebba8d5312b8d611474411f56989ae_u128.to_be_bytes());
        assert_eq!(nt_response(&challenge, &hash), NT_RESPONSE);
        let success = b"S=407A5589115FD0D6209F510FE9C04566932CDA56";
        assert_eq!(verify(&CHALLENGE, &response(), NAME, PASSWORD).unwrap(), success);
    }

    #[test]
    fn a_domain_before_the_name_does_not_count() {
        assert!(verify(&CHALLENGE, &response(), b"REALM\\User", PASSWORD).is_some());
    }

    #[test]
    fn a_wrong_password_or_name_fails() {
        assert!(verify(&CHALLENGE, &response(), NAME, b"clientpass").is_none());
        assert!(verify(&CHALLENGE, &response(), b"user", PASSWORD).is_none());
        assert!(verify(&CHALLENGE, &response(), NAME, b"\xff").is_none());
    }

    #[test]
    fn a_failure_message_allows_no_retry() {
        assert_eq!(
            failure_message(691, &CHALLENGE, b"no"),
            b"E=691 R=0 C=5B5D7C7D7B3F2F3E3C2C602132262628 V=3 M=no"
        );
    }
}
