//! Tunnel authentication (RFC 2661 §5.1.1): `response = MD5(id || secret || challenge)`.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::iana::MessageType;
use crate::secret::Secret;

/// A Challenge Response: an MD5 digest.
pub type Response = [u8; 16];

/// The response to `challenge`. `carrier` is the message that carries it (SCCRP or SCCCN), whose type is the id
/// that enters the digest; so a response cannot be mirrored.
pub fn response(carrier: MessageType, secret: &Secret, challenge: &[u8]) -> Response {
    let id = carrier.wire() as u8;
    let mut digest = Md5::new();
    digest.update([id]);
    digest.update(secret.expose());
    digest.update(challenge);
    digest.finalize().into()
}

/// Whether `given` is the response to `challenge`, compared in constant time.
pub fn verify(carrier: MessageType, secret: &Secret, challenge: &[u8], given: &Response) -> bool {
    response(carrier, secret, challenge).ct_eq(given).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const IN_SCCRP: Response = *b"\x6c\x0d\xa2\xfa\xf7\xa3\x97\xaa\x3f\x88\xf5\x50\x61\xea\x91\x34";
    const IN_SCCCN: Response = *b"\x6a\x59\xc6\x70\xd4\x86\xac\xf7\xf9\x62\x71\x69\x5c\x68\x74\xf8";

    #[test]
    fn vectors() {
        let secret = Secret::new("tunnel-secret");
        assert_eq!(response(MessageType::Sccrp, &secret, &CHALLENGE), IN_SCCRP);
        assert_eq!(response(MessageType::Scccn, &secret, &CHALLENGE), IN_SCCCN);
    }

    #[test]
    fn verify_tells_right_from_wrong_and_from_mirrored() {
        let secret = Secret::new("tunnel-secret");
        assert!(verify(MessageType::Scccn, &secret, &CHALLENGE, &IN_SCCCN));
        assert!(!verify(MessageType::Scccn, &secret, &CHALLENGE, &IN_SCCRP));
        assert!(!verify(
            MessageType::Scccn,
            &Secret::new("other"),
            &CHALLENGE,
            &IN_SCCCN
        ));
    }
}
