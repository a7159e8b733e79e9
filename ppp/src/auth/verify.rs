//! Judging a request where the clear password is at hand.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::{AuthRequest, Credential, ms_chap};
use crate::secret::Secret;

/// The password was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// For [`Verdict::Accept`](super::Verdict::Accept).
    pub ms_chap_success: Option<Vec<u8>>,
}

impl AuthRequest {
    /// Checks the request against the user's password; `None` if it does not prove that the peer knows it. A request
    /// without a credential proves nothing.
    pub fn verify(&self, password: &Secret) -> Option<Accepted> {
        let password = password.expose();
        let plain = |right: bool| {
            right.then_some(Accepted {
                ms_chap_success: None,
            })
        };
        match &self.credential {
            Credential::None => None,
            Credential::Pap { password: presented } => plain(presented.expose().ct_eq(password).into()),
            Credential::ChapMd5 {
                id,
                challenge,
                response,
            } => plain(chap_md5(*id, password, challenge).ct_eq(response).into()),
            Credential::MsChapV2 {
                challenge, response, ..
            } => {
                let success = ms_chap::verify(challenge, response, &self.name, password)?;
                Some(Accepted {
                    ms_chap_success: Some(success),
                })
            }
        }
    }
}

/// The response of CHAP with MD5 (RFC 1994 §4.1).
fn chap_md5(id: u8, secret: &[u8], challenge: &[u8]) -> [u8; 16] {
    Md5::new()
        .chain_update([id])
        .chain_update(secret)
        .chain_update(challenge)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(credential: Credential) -> AuthRequest {
        AuthRequest {
            name: b"user".to_vec(),
            credential,
        }
    }

    #[test]
    fn pap_compares_the_password() {
        let request = request(Credential::Pap {
            password: Secret::new(*b"secret"),
        });
        assert!(request.verify(&Secret::new(*b"secret")).is_some());
        assert!(request.verify(&Secret::new(*b"secreT")).is_none());
        assert!(request.verify(&Secret::new(*b"")).is_none());
    }

    #[test]
    fn chap_computes_the_response() {
        let request = request(Credential::ChapMd5 {
            id: 7,
            challenge: 0x00112233445566778899aabbccddeeff_u128.to_be_bytes().to_vec(),
            response: 0x15c1682eb7ac3daca85d727884af20a0_u128.to_be_bytes(),
        });
        assert!(request.verify(&Secret::new(*b"secret")).is_some());
        assert!(request.verify(&Secret::new(*b"other")).is_none());
    }

    #[test]
    fn no_credential_proves_nothing() {
        assert!(request(Credential::None).verify(&Secret::new(*b"")).is_none());
    }

    #[test]
    fn a_credential_does_not_show_in_debug_output() {
        let request = request(Credential::ChapMd5 {
            id: 7,
            challenge: vec![1],
            response: [0x5a; 16],
        });
        let text = format!("{request:?}");
        assert!(text.contains("ChapMd5") && !text.contains("90"), "{text}");
    }
}
