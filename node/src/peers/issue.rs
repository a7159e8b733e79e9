//! A CA for one cluster, and a certificate for each of its nodes (RFC 5280).

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Date, Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::Identity;

/// How long certificates are valid. They are renewed by hand, and nobody thinks of it in time.
pub const VALIDITY: Duration = Duration::days(3650);

/// A CA's name is this and the cluster's id.
pub(super) const CA_NAME: &str = "Holdfast CA of ";

/// They are valid from so long before they are made: members' clocks may be behind.
pub const BACK_DATED: Duration = Duration::days(1);

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// [`BACK_DATED`], and [`VALIDITY`] long.
    pub fn starting_at(now: OffsetDateTime) -> Self {
        let not_before = now - BACK_DATED;
        Self {
            not_before,
            not_after: not_before + VALIDITY,
        }
    }

    /// [`BACK_DATED`], and for so many days from now.
    pub fn lasting(now: OffsetDateTime, days: u16) -> Self {
        Self {
            not_before: now - BACK_DATED,
            not_after: now + Duration::days(days.into()),
        }
    }

    /// The last day.
    pub fn ends(&self) -> Date {
        self.not_after.date()
    }
}

/// A certificate and its key, as files hold them. `Debug` shows no key.
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: Zeroizing<String>,
}

/// Who signs for a cluster.
pub struct Authority {
    cluster_id: String,
    issuer: Issuer<'static, KeyPair>,
    /// Its own, PEM.
    certificate: String,
}

impl Authority {
    /// With a new key.
    pub fn new(cluster_id: &str, validity: Validity) -> Result<Self, rcgen::Error> {
        let (params, key) = (ca_params(cluster_id, validity), KeyPair::generate()?);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            cluster_id: cluster_id.to_owned(),
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// One that was made by [`Self::new`], from what its files hold, PEM. What it then issues shows whether they belong together.
    pub fn open(cluster_id: &str, certificate: String, key: &str) -> Result<Self, rcgen::Error> {
        // What it signs with is the key and the name; its validity stands in its own certificate.
        let validity = Validity::starting_at(OffsetDateTime::UNIX_EPOCH + BACK_DATED);
        let key = KeyPair::from_pem(key)?;
        Ok(Self {
            cluster_id: cluster_id.to_owned(),
            issuer: Issuer::new(ca_params(cluster_id, validity), key),
            certificate,
        })
    }

    /// Its own certificate and key.
    pub fn issued(&self) -> Issued {
        Issued {
            certificate: self.certificate.clone(),
            key: Zeroizing::new(self.issuer.key().serialize_pem()),
        }
    }

    /// For a node: a new key, and a certificate that names it, for both sides of a stream.
    pub fn issue(&self, node: u64, validity: Validity) -> Result<Issued, rcgen::Error> {
        let identity = Identity {
            cluster_id: self.cluster_id.clone(),
            node,
        };
        self.issue_to(&identity, validity)
    }

    /// For whomever: a CA may serve several clusters.
    pub fn issue_to(&self, identity: &Identity, validity: Validity) -> Result<Issued, rcgen::Error> {
        let name = format!("node {} of {}", identity.node, identity.cluster_id);
        let mut params = params(&name, validity);
        params.subject_alt_names = vec![SanType::URI(identity.uri().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(..)")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.cluster_id)
    }
}

fn ca_params(cluster_id: &str, validity: Validity) -> CertificateParams {
    let mut params = params(&format!("{CA_NAME}{cluster_id}"), validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params
}
