//! Authenticators, Message-Authenticator and hidden values (RFC 2865 §3 and §5.2, RFC 2866 §3, RFC 2868 §3.5, RFC 3579 §3.2, RFC 5176 §2.3).
//!
//! MD5 and HMAC-MD5 are what RADIUS has; who does not trust the network between uses TLS.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::dictionary::{Code, attribute};
use super::error::Unverified;
use super::packet::{HEADER, Packet};

/// Octets of a digest, of an authenticator and of a block of a hidden value.
const BLOCK: usize = 16;
/// The longest User-Password, octets (RFC 2865 §5.2).
pub const LONGEST_PASSWORD: usize = 128;

/// MD5 over the packet with `authenticator` in its field, and the secret: the Response Authenticator with the request's, the Request
/// Authenticator of signed requests with zeros.
pub fn signature(packet: &[u8], authenticator: &[u8; 16], secret: &[u8]) -> [u8; BLOCK] {
    Md5::new()
        .chain_update(&packet[..4])
        .chain_update(authenticator)
        .chain_update(&packet[HEADER..])
        .chain_update(secret)
        .finalize()
        .into()
}

/// HMAC-MD5 over the packet with `authenticator` in its field and zeros at `at`, where the value of Message-Authenticator lies.
pub fn message_authenticator(
    packet: &[u8],
    at: usize,
    authenticator: &[u8; 16],
    secret: &[u8],
) -> [u8; BLOCK] {
    let mut hmac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes keys of any length");
    hmac.update(&packet[..4]);
    hmac.update(authenticator);
    hmac.update(&packet[HEADER..at]);
    hmac.update(&[0; BLOCK]);
    hmac.update(&packet[at + BLOCK..]);
    hmac.finalize().into_bytes().into()
}

/// Parses a request of a peer and checks that he knows the secret: by its authenticator where it is signed, by Message-Authenticator
/// where it is there. An Access-Request without one proves nothing, and a Status-Server packet must have one.
pub fn verify_request<'a>(octets: &'a [u8], secret: &[u8]) -> Result<Packet<'a>, Unverified> {
    let packet = Packet::parse(octets)?;
    let signed = match packet.code() {
        Code::ACCOUNTING_REQUEST | Code::COA_REQUEST | Code::DISCONNECT_REQUEST => true,
        Code::ACCESS_REQUEST | Code::STATUS_SERVER => false,
        other => return Err(Unverified::Code(other.0)),
    };
    let field = if signed { [0; 16] } else { packet.authenticator() };
    if signed {
        check_signature(&packet, &field, secret)?;
    }
    let has_message_authenticator = check_message_authenticator(&packet, &field, secret)?;
    if packet.code() == Code::STATUS_SERVER && !has_message_authenticator {
        return Err(Unverified::MessageAuthenticatorMissing);
    }
    Ok(packet)
}

/// Parses a reply to our request with `request_authenticator` and checks who sent it.
///
/// A Message-Authenticator that is there must be right; `require_message_authenticator` asks that it be there. A reply with
/// Proxy-State is a forgery, for we send none.
pub fn verify_reply<'a>(
    octets: &'a [u8],
    secret: &[u8],
    request_authenticator: &[u8; 16],
    require_message_authenticator: bool,
) -> Result<Packet<'a>, Unverified> {
    let packet = Packet::parse(octets)?;
    check_signature(&packet, request_authenticator, secret)?;
    let has_message_authenticator = check_message_authenticator(&packet, request_authenticator, secret)?;
    if require_message_authenticator && !has_message_authenticator {
        return Err(Unverified::MessageAuthenticatorMissing);
    }
    if packet.first(attribute::PROXY_STATE).is_some() {
        return Err(Unverified::ProxyState);
    }
    Ok(packet)
}

/// Whether the packet carries a Message-Authenticator; nothing is said of its worth.
pub fn has_message_authenticator(packet: &Packet<'_>) -> bool {
    packet.first(attribute::MESSAGE_AUTHENTICATOR).is_some()
}

fn check_signature(packet: &Packet<'_>, field: &[u8; 16], secret: &[u8]) -> Result<(), Unverified> {
    let right = signature(packet.octets(), field, secret);
    match bool::from(right.ct_eq(&packet.authenticator())) {
        true => Ok(()),
        false => Err(Unverified::Authenticator),
    }
}

/// Whether there is one; an error if it is wrong.
fn check_message_authenticator(
    packet: &Packet<'_>,
    field: &[u8; 16],
    secret: &[u8],
) -> Result<bool, Unverified> {
    let mut found = packet
        .with_offsets()
        .filter(|(_, attribute)| attribute.kind == attribute::MESSAGE_AUTHENTICATOR);
    let Some((at, attribute)) = found.next() else {
        return Ok(false);
    };
    if attribute.value.len() != BLOCK || found.next().is_some() {
        return Err(Unverified::MessageAuthenticator);
    }
    let right = message_authenticator(packet.octets(), at, field, secret);
    match bool::from(right.ct_eq(attribute.value)) {
        true => Ok(true),
        false => Err(Unverified::MessageAuthenticator),
    }
}

/// A value of User-Password (RFC 2865 §5.2): zeros at the end up to full blocks. `None` for one that is too long.
pub fn hide_password(password: &[u8], secret: &[u8], request_authenticator: &[u8; 16]) -> Option<Vec<u8>> {
    if password.len() > LONGEST_PASSWORD {
        return None;
    }
    let mut padded = password.to_vec();
    padded.resize(password.len().div_ceil(BLOCK).max(1) * BLOCK, 0);
    hide(&mut padded, secret, &[request_authenticator]);
    Some(padded)
}

/// The inverse of [`hide_password`], without the zeros at the end. `None` if the value cannot be one.
pub fn reveal_password(
    hidden: &[u8],
    secret: &[u8],
    request_authenticator: &[u8; 16],
) -> Option<Zeroizing<Vec<u8>>> {
    if hidden.is_empty() || hidden.len() > LONGEST_PASSWORD || !hidden.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut plain = reveal(hidden, secret, &[request_authenticator]);
    let length = plain.iter().rposition(|octet| *octet != 0).map_or(0, |at| at + 1);
    plain.truncate(length);
    Some(plain)
}

/// What follows the tag in a Tunnel-Password (RFC 2868 §3.5): the salt, its highest bit set, and the hidden value. `None` for a password
/// that is too long.
pub fn hide_tunnel_password(
    password: &[u8],
    salt: [u8; 2],
    secret: &[u8],
    request_authenticator: &[u8; 16],
) -> Option<Vec<u8>> {
    let length = u8::try_from(password.len()).ok().filter(|length| *length < 240)?;
    let salt = [salt[0] | 0x80, salt[1]];
    let mut plain = vec![length];
    plain.extend(password);
    plain.resize(plain.len().div_ceil(BLOCK) * BLOCK, 0);
    hide(&mut plain, secret, &[request_authenticator, &salt]);
    plain.splice(0..0, salt);
    Some(plain)
}

/// The inverse of [`hide_tunnel_password`]. `None` if the value cannot be one.
pub fn reveal_tunnel_password(
    value: &[u8],
    secret: &[u8],
    request_authenticator: &[u8; 16],
) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, hidden) = value.split_first_chunk::<2>()?;
    if hidden.is_empty() || !hidden.len().is_multiple_of(BLOCK) || salt[0] & 0x80 == 0 {
        return None;
    }
    let mut plain = reveal(hidden, secret, &[request_authenticator, salt]);
    let length = usize::from(*plain.first()?);
    plain.remove(0);
    (length <= plain.len()).then(|| {
        plain.truncate(length);
        plain
    })
}

/// Each block is covered by MD5 of the secret and of the hidden block before it; the first by that of `start`.
fn hide(blocks: &mut [u8], secret: &[u8], start: &[&[u8]]) {
    let mut cover = cover(secret, start);
    for block in blocks.chunks_exact_mut(BLOCK) {
        block
            .iter_mut()
            .zip(cover)
            .for_each(|(octet, cover)| *octet ^= cover);
        cover = self::cover(secret, &[block]);
    }
}

fn reveal(hidden: &[u8], secret: &[u8], start: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut cover = cover(secret, start);
    let mut plain = Zeroizing::new(Vec::with_capacity(hidden.len()));
    for block in hidden.chunks_exact(BLOCK) {
        plain.extend(block.iter().zip(cover).map(|(octet, cover)| octet ^ cover));
        cover = self::cover(secret, &[block]);
    }
    plain
}

fn cover(secret: &[u8], parts: &[&[u8]]) -> [u8; BLOCK] {
    let start = Md5::new().chain_update(secret);
    let whole = parts.iter().fold(start, |digest, part| digest.chain_update(part));
    whole.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::aaa::radius::Builder;

    const SECRET: &[u8] = b"radsecret";
    /// RFC 2865 §7 and RFC 5997 §6 use this one.
    const RFC_SECRET: &[u8] = b"xyzzy5461";
    const RANDOM: [u8; 16] = [
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
    ];

    fn octets(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect()
    }

    fn block(text: &str) -> [u8; 16] {
        octets(text).try_into().expect("16 octets")
    }

    const ACCESS_REQUEST: &str = "012a003d101112131415161718191a1b1c1d1e1f5012b6b8348c24cc3ff1918fc21b73295150\
                                  0105626f620212991bc029d26876fd07171418a9257f35";
    const ACCESS_ACCEPT: &str =
        "022a002cd35a202d159ba7b1f9c0ba2f2fcaf70650125e93fbd65b181a18f1818e03cf44169e08060a000001";

    #[test]
    fn rfc_2865_password_and_reply() {
        let random = block("0f403f9473978057bd83d5cb98f4227a");
        let hidden = hide_password(b"arctangent", RFC_SECRET, &random).expect("short");
        assert_eq!(hidden, octets("0dbe708d93d413ce3196e43f782a0aee"));
        assert_eq!(
            reveal_password(&hidden, RFC_SECRET, &random)
                .expect("one")
                .as_slice(),
            b"arctangent"
        );
        let mut reply = Builder::new(Code::ACCESS_ACCEPT, 0);
        reply.u32(6, 1).u32(15, 0).ipv4(14, [192, 168, 1, 3].into());
        let reply = reply.finish_reply(RFC_SECRET, &random).expect("it fits");
        assert_eq!(reply[4..20], octets("86fe220e7624ba2a1005f6bf9b55e0b2"));
        assert!(verify_reply(&reply, RFC_SECRET, &random, false).is_ok());
    }

    #[test]
    fn rfc_5997_status_server() {
        let asked = octets("0cda00268a54f4686fb394c52866e302185d062350125a665e2e1e8411f3e243822097c84fa3");
        let packet = verify_request(&asked, RFC_SECRET).expect("signed");
        assert_eq!(packet.code(), Code::STATUS_SERVER);
        let mut again = Builder::new(Code::STATUS_SERVER, 0xda);
        assert_eq!(
            again.finish_access(RFC_SECRET, packet.authenticator()),
            Ok(asked.clone())
        );
        let answer = octets("02da0014ef0d552a4bf2d693ec2b6fe8b5411d66");
        assert!(verify_reply(&answer, RFC_SECRET, &packet.authenticator(), false).is_ok());
        let unsigned = &[&asked[..2], &[0, 20], &asked[4..20]].concat();
        assert_eq!(
            verify_request(unsigned, RFC_SECRET),
            Err(Unverified::MessageAuthenticatorMissing)
        );
    }

    #[test]
    fn accounting_request() {
        let expected =
            octets("040900294d40ec0507f6b774d032e68e2667588d2806000000012c0a61626364313233340105626f62");
        let written = Builder::new(Code::ACCOUNTING_REQUEST, 9)
            .u32(40, 1)
            .text(44, "abcd1234")
            .text(1, "bob")
            .finish_request(SECRET);
        assert_eq!(written.as_ref(), Ok(&expected));
        assert!(verify_request(&expected, SECRET).is_ok());
        assert_eq!(
            verify_request(&expected, b"another"),
            Err(Unverified::Authenticator)
        );
    }

    #[test]
    fn access_request_and_accept() {
        let hidden = hide_password(b"hello", SECRET, &RANDOM).expect("short");
        let mut request = Builder::new(Code::ACCESS_REQUEST, 42);
        request.message_authenticator().text(1, "bob").octets(2, &hidden);
        assert_eq!(request.finish_access(SECRET, RANDOM), Ok(octets(ACCESS_REQUEST)));
        assert!(verify_request(&octets(ACCESS_REQUEST), SECRET).is_ok());
        let mut accept = Builder::new(Code::ACCESS_ACCEPT, 42);
        accept.message_authenticator().ipv4(8, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(accept.finish_reply(SECRET, &RANDOM), Ok(octets(ACCESS_ACCEPT)));
        let accept = octets(ACCESS_ACCEPT);
        let packet = verify_reply(&accept, SECRET, &RANDOM, true).expect("signed");
        assert!(has_message_authenticator(&packet));
    }

    #[test]
    fn coa_request() {
        let expected = octets(
            "2b050030958b9a7829a7c91dc04134d27e92188550129c0d039a33220d0f0392678caf0ff91a2c0a6162636431323334",
        );
        let mut request = Builder::new(Code::COA_REQUEST, 5);
        request.message_authenticator().text(44, "abcd1234");
        assert_eq!(request.finish_request(SECRET).as_ref(), Ok(&expected));
        assert!(verify_request(&expected, SECRET).is_ok());
        let mut signed = Builder::new(Code::COA_REQUEST, 5);
        let signed = signed
            .octets(80, &[0; 16])
            .finish_request(SECRET)
            .expect("it fits");
        assert_eq!(
            verify_request(&signed, SECRET),
            Err(Unverified::MessageAuthenticator)
        );
    }

    #[test]
    fn tunnel_password() {
        let attribute = octets("451501800151c46987f064f5cc6d01da6b297174ba");
        let hidden = hide_tunnel_password(b"tpass", [0x80, 1], SECRET, &RANDOM).expect("short");
        assert_eq!(hidden, attribute[3..]);
        let plain = reveal_tunnel_password(&hidden, SECRET, &RANDOM).expect("one");
        assert_eq!(plain.as_slice(), b"tpass");
        assert_eq!(reveal_tunnel_password(&[], SECRET, &RANDOM), None);
        assert_eq!(reveal_tunnel_password(&[0x80, 1], SECRET, &RANDOM), None);
        assert_eq!(reveal_tunnel_password(&hidden[..17], SECRET, &RANDOM), None);
        assert_eq!(hide_tunnel_password(&[b'x'; 240], [0; 2], SECRET, &RANDOM), None);
    }

    /// A reply with a wrong authenticator is none.
    #[test]
    fn s_150_a_forged_reply_proves_nothing() {
        let accept = octets(ACCESS_ACCEPT);
        for at in 0..accept.len() {
            let mut forged = accept.clone();
            forged[at] ^= 1;
            assert!(
                verify_reply(&forged, SECRET, &RANDOM, false).is_err(),
                "octet {at}"
            );
        }
        assert_eq!(
            verify_reply(&accept, SECRET, &[0; 16], false),
            Err(Unverified::Authenticator)
        );
        assert_eq!(
            verify_reply(&accept, b"other", &RANDOM, false),
            Err(Unverified::Authenticator)
        );
    }

    /// Accepts without Message-Authenticator where it is required, and with Proxy-State.
    #[test]
    fn s_151_the_rules_against_blastradius() {
        let reply = |attributes: &[(u8, &[u8])]| {
            let mut builder = Builder::new(Code::ACCESS_ACCEPT, 1);
            for (kind, value) in attributes {
                builder.octets(*kind, value);
            }
            builder.finish_reply(SECRET, &RANDOM).expect("it fits")
        };
        let plain = reply(&[(18, b"hi")]);
        assert!(verify_reply(&plain, SECRET, &RANDOM, false).is_ok());
        assert_eq!(
            verify_reply(&plain, SECRET, &RANDOM, true),
            Err(Unverified::MessageAuthenticatorMissing)
        );
        let proxied = reply(&[(33, b"x")]);
        assert_eq!(
            verify_reply(&proxied, SECRET, &RANDOM, false),
            Err(Unverified::ProxyState)
        );
        for wrong in [&[0_u8; 16][..], &[0; 15], &[0; 17]] {
            assert_eq!(
                verify_reply(&reply(&[(80, wrong)]), SECRET, &RANDOM, false),
                Err(Unverified::MessageAuthenticator)
            );
        }
        let mut twice = Builder::new(Code::ACCESS_ACCEPT, 1);
        twice.message_authenticator().octets(80, &[0; 16]);
        let twice = twice.finish_reply(SECRET, &RANDOM).expect("it fits");
        assert_eq!(
            verify_reply(&twice, SECRET, &RANDOM, false),
            Err(Unverified::MessageAuthenticator)
        );
    }

    #[test]
    fn passwords_that_cannot_be() {
        assert_eq!(hide_password(&[b'x'; 129], SECRET, &RANDOM), None);
        assert_eq!(
            hide_password(b"", SECRET, &RANDOM).map(|hidden| hidden.len()),
            Some(16)
        );
        assert_eq!(reveal_password(&[0; 15], SECRET, &RANDOM), None);
        assert_eq!(reveal_password(&[], SECRET, &RANDOM), None);
        assert_eq!(reveal_password(&[0; 144], SECRET, &RANDOM), None);
    }

    #[test]
    fn a_client_is_asked_nothing() {
        let accept = octets(ACCESS_ACCEPT);
        assert_eq!(verify_request(&accept, SECRET), Err(Unverified::Code(2)));
    }

    proptest! {
        #[test]
        fn hidden_values_come_back(mut password in prop::collection::vec(any::<u8>(), 0..=128), secret: Vec<u8>, salt: [u8; 2]) {
            let hidden = hide_tunnel_password(&password, salt, &secret, &RANDOM).expect("short");
            let plain = reveal_tunnel_password(&hidden, &secret, &RANDOM).expect("one");
            prop_assert_eq!(plain.as_slice(), password.as_slice());
            let hidden = hide_password(&password, &secret, &RANDOM).expect("short");
            while password.last() == Some(&0) {
                password.pop();
            }
            let plain = reveal_password(&hidden, &secret, &RANDOM).expect("one");
            prop_assert_eq!(plain.as_slice(), password.as_slice());
        }

        #[test]
        fn any_octets_are_judged(received in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = verify_request(&received, SECRET);
            let _ = verify_reply(&received, SECRET, &RANDOM, true);
        }
    }
}
