//! TLS 1.3 (RFC 8446), both sides authenticated: who a certificate says its owner is, and whether to believe it.
//!
//! A certificate names its node by a URI among its subject alternative names (RFC 5280 §4.2.1.6),
//! `holdfast://CLUSTER/node/ID`. Names of hosts mean nothing here: an address may move to another host. Sessions are
//! not resumed, so that each stream shows its certificate anew.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::refusal::Refusal;

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster.
    pub cluster_id: String,
    /// Of the node.
    pub node: u64,
}

impl Identity {
    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("holdfast://{}/node/{}", self.cluster_id, self.node)
    }

    fn parse(uri: &str) -> Option<Self> {
        let (cluster_id, node) = uri.strip_prefix("holdfast://")?.split_once("/node/")?;
        let identity = Self {
            cluster_id: cluster_id.to_owned(),
            node: node.parse().ok()?,
        };
        // One way to write it: no sign, no leading zero.
        (identity.uri() == uri).then_some(identity)
    }

    /// The one that a certificate names, whoever signed it. Two are as bad as none.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let parsed = EndEntityCert::try_from(certificate)
            .map_err(|error| Refusal::Certificate(format!("its certificate does not parse: {error}")))?;
        let mut found = parsed.valid_uri_names().filter_map(Self::parse);
        match (found.next(), found.next()) {
            (Some(identity), None) => Ok(identity),
            (None, _) => Err(Refusal::Certificate(
                "its certificate names no node: it needs one URI holdfast://CLUSTER/node/ID among its subject \
                 alternative names; \"holdfast cluster init\" makes such certificates"
                    .to_owned(),
            )),
            (Some(_), Some(_)) => Err(Refusal::Certificate(
                "its certificate names several nodes".to_owned(),
            )),
        }
    }
}

/// Which side of a stream a certificate is used on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Dialler,
    Acceptor,
}

/// What our own CA has signed.
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// `anchors` are the CA's.
    pub(super) fn new(anchors: Vec<TrustAnchor<'static>>) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { anchors, algorithms }
    }

    /// Whether a certificate is signed by the CA, within its time and fit for the role; if so, whose it is.
    pub(super) fn identify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: Role,
    ) -> Result<Identity, Refusal> {
        let parsed = EndEntityCert::try_from(certificate)
            .map_err(|error| Refusal::Certificate(format!("its certificate does not parse: {error}")))?;
        let usage = match role {
            Role::Dialler => KeyUsage::client_auth(),
            Role::Acceptor => KeyUsage::server_auth(),
        };
        parsed
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(|error| Refusal::Certificate(explain(&error)))?;
        Identity::of(certificate)
    }
}

impl Credentials {
    /// Whether nothing of it has changed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let key = |credentials: &Self| credentials.key.secret_der().to_vec();
        self.chain == other.chain
            && self.trust.anchors == other.trust.anchors
            && zeroize::Zeroizing::new(key(self)) == zeroize::Zeroizing::new(key(other))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} anchors)", self.anchors.len())
    }
}

fn explain(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            let ago = rounded(time.as_secs().saturating_sub(not_after.as_secs()));
            format!(
                "its certificate, or its CA's, expired {ago} ago: make new ones; or, if that is not so, set the clocks by NTP"
            )
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            let ahead = rounded(not_before.as_secs().saturating_sub(time.as_secs()));
            format!("its certificate, or its CA's, begins to be valid in {ahead} by our clock: set the clocks by NTP")
        }
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            "its certificate is not signed by our [cluster] ca: all members need certificates of one CA"
                .to_owned()
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            "its certificate is not meant for TLS in both roles: it needs serverAuth and clientAuth, or no \
             extended key usage"
                .to_owned()
        }
        webpki::Error::CaUsedAsEndEntity => {
            "it is a CA's certificate: a node needs one that the CA has signed for it, with basicConstraints CA:FALSE".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}

/// Coarsely, so that one reason has one text, which is logged once.
fn rounded(seconds: u64) -> String {
    match seconds {
        0..5_400 => "about an hour or less".to_owned(),
        5_400..172_800 => format!("{} hours", (seconds + 1_800) / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Who may be at the other end.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Ours.
    pub(super) own: Identity,
    /// Ids of the other members.
    pub(super) members: Arc<[u64]>,
    /// Whom we dialled.
    pub(super) dialled: Option<u64>,
}

impl Expected {
    fn check(&self, found: &Identity) -> Result<(), Refusal> {
        if found.cluster_id != self.own.cluster_id {
            return Err(Refusal::Cluster {
                ours: self.own.cluster_id.clone(),
                found: found.cluster_id.clone(),
            });
        }
        if found.node == self.own.node {
            return Err(Refusal::Ourselves(found.node));
        }
        if !self.members.contains(&found.node) {
            return Err(Refusal::Stranger(found.node));
        }
        match self.dialled {
            Some(wanted) if wanted != found.node => Err(Refusal::OtherNode {
                wanted,
                found: found.node,
            }),
            _ => Ok(()),
        }
    }
}

/// Judges the other end's certificate during the handshake, so that it learns of the refusal by an alert.
#[derive(Debug)]
struct Verifier {
    trust: Arc<Trust>,
    expected: Expected,
}

impl Verifier {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: Role,
    ) -> Result<(), Error> {
        self.trust
            .identify(certificate, intermediates, now, role)
            .and_then(|identity| self.expected.check(&identity))
            .map_err(|refusal| CertificateError::Other(OtherError(Arc::new(refusal))).into())
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.trust.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now, Role::Acceptor)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now, Role::Dialler)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// A certificate with those between it and the CA, and its key.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) trust: Arc<Trust>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Its `Debug` shows nothing of the key.
    pub(super) key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// For dialling `expected.dialled`.
    pub(super) fn dialler(&self, expected: Expected) -> Result<Arc<ClientConfig>, Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(expected))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// For whoever dials us.
    pub(super) fn acceptor(&self, expected: Expected) -> Result<Arc<ServerConfig>, Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.verifier(expected))
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn verifier(&self, expected: Expected) -> Arc<Verifier> {
        Arc::new(Verifier {
            trust: self.trust.clone(),
            expected,
        })
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The refusal behind a failed handshake. `None`: the connection itself failed, or the other end refused us.
pub(super) fn refusal(error: &std::io::Error) -> Option<Refusal> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => refusal.clone(),
                None => Refusal::Certificate(other.to_string()),
            }
        }
        Error::InvalidCertificate(other) => {
            Refusal::Certificate(format!("its certificate is not accepted: {other:?}"))
        }
        Error::NoCertificatesPresented => Refusal::Certificate("it shows no certificate".to_owned()),
        Error::AlertReceived(_) => return None,
        other => Refusal::Protocol(format!("what it sends is no TLS 1.3: {other}")),
    })
}

/// Whether the other end ended the handshake because of our certificate.
pub(super) fn refused_us(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    matches!(error, Some(Error::AlertReceived(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_one_way() {
        let identity = Identity {
            cluster_id: "c-1".to_owned(),
            node: 7,
        };
        assert_eq!(Identity::parse("holdfast://c-1/node/7"), Some(identity));
        for wrong in [
            "holdfast://c-1/node/07",
            "holdfast://c-1/node/+7",
            "holdfast://c-1/node/",
            "holdfast://c-1/node/7/",
            "https://c-1/node/7",
        ] {
            assert_eq!(Identity::parse(wrong), None, "{wrong}");
        }
    }
}
