//! The files behind `[cluster] ca`, `certificate` and `key`: read, and judged as the other members will judge them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::sign::CertifiedKey;

use time::OffsetDateTime;

use super::issue::CA_NAME;
use super::refusal::Refusal;
use super::tls::{Credentials, Identity, Role, Trust, provider};
use crate::config::{ClusterConfig, is_cluster_id};

/// A certificate that ends within this is worth a warning, in days.
const SOON_DAYS: u32 = 30;

/// What is wrong with one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `ca`, `certificate` or `key`, a key of `[cluster]`.
    pub key: &'static str,
    /// What is wrong, and what to do about it. Never anything of the key.
    pub text: String,
}

/// Whether the files will do for this node; all that is wrong with them.
pub fn examine(cluster: &ClusterConfig, node: u64) -> Vec<Finding> {
    load(cluster, node).err().unwrap_or_default()
}

/// Says so if the certificate ends within a month: which file, when, and what to do.
pub fn ends_soon(cluster: &ClusterConfig, node: u64) -> Option<String> {
    let credentials = load(cluster, node).ok()?;
    let (own, between) = credentials.chain.split_first()?;
    let day = std::time::Duration::from_secs(86_400);
    let after =
        |days: u32| UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().as_secs()) + day * days);
    let ended = |days: &u32| {
        let judged = credentials
            .trust
            .identify(own, between, after(*days), Role::Dialler);
        judged.is_err()
    };
    let days = (1..=SOON_DAYS).find(ended)?;
    let date = (OffsetDateTime::now_utc() + day * (days - 1)).date();
    Some(format!(
        "{} ends within a day of {date}, and without it this node is alone: where the CA is kept, \"holdfast cluster certificate \
         DIR --node {node} --replace\"; copy the new files here, then \"holdfast reload\"",
        cluster.certificate.display()
    ))
}

/// The cluster that a CA was made for by `holdfast cluster init`, by its certificate.
pub fn cluster_of_ca(path: &Path) -> Result<String, String> {
    let anchors = anchors(path)?;
    let name = |anchor: &TrustAnchor<'_>| {
        let subject = String::from_utf8_lossy(&anchor.subject).into_owned();
        subject
            .split_once(CA_NAME)
            .map(|(_, id)| id.to_owned())
            .filter(|id| is_cluster_id(id))
    };
    anchors.first().and_then(name).ok_or_else(|| {
        let path = path.display();
        format!("{path} was not made by \"holdfast cluster init\": use your own CA's tools to issue the certificate")
    })
}

/// Whether a certificate (PEM) that was just issued for a node is what the CA of `ca` signs, for both sides of a stream.
pub fn is_issued_by(ca: &Path, certificate: &str, node: u64) -> Result<(), String> {
    let trust = Trust::new(anchors(ca)?);
    let own = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| error.to_string())?;
    for role in [Role::Dialler, Role::Acceptor] {
        let identity = trust
            .identify(&own, &[], now(), role)
            .map_err(|refusal| refusal.to_string())?;
        if identity.node != node {
            return Err(format!("it is for node {}", identity.node));
        }
    }
    Ok(())
}

/// Reads and judges the files.
pub(super) fn load(cluster: &ClusterConfig, node: u64) -> Result<Credentials, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut note = |key, text| findings.push(Finding { key, text });
    let anchors = anchors(&cluster.ca).map_err(|text| note("ca", text)).ok();
    let chain = certificates(&cluster.certificate)
        .map_err(|text| note("certificate", text))
        .ok();
    let key = private_key(&cluster.key).map_err(|text| note("key", text)).ok();
    let trust = anchors.map(|anchors| Arc::new(Trust::new(anchors)));
    if let Some(chain) = &chain
        && let Err(text) = judge(chain, trust.as_deref(), cluster, node)
    {
        note("certificate", text);
    }
    if let (Some(chain), Some(key)) = (&chain, &key)
        && let Err(error) = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())
    {
        let (key, certificate) = (cluster.key.display(), cluster.certificate.display());
        let text = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{key} does not belong to the certificate {certificate}: copy both from one place")
            }
            _ => format!(
                "{key} is of a kind that is not taken: use ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits"
            ),
        };
        note("key", text);
    }
    match (trust, chain, key) {
        (Some(trust), Some(chain), Some(key)) if findings.is_empty() => Ok(Credentials { trust, chain, key }),
        _ => Err(findings),
    }
}

fn judge(
    chain: &[CertificateDer<'static>],
    trust: Option<&Trust>,
    cluster: &ClusterConfig,
    node: u64,
) -> Result<(), String> {
    let path = cluster.certificate.display();
    let Some((own, between)) = chain.split_first() else {
        return Err(format!("{path} holds no certificate"));
    };
    let about = |refusal: Refusal| format!("{path}: {refusal}");
    let found = match trust {
        None => Identity::of(own).map_err(about)?,
        Some(trust) => {
            trust
                .identify(own, between, now(), Role::Acceptor)
                .map_err(about)?;
            trust
                .identify(own, between, now(), Role::Dialler)
                .map_err(about)?
        }
    };
    if found.cluster_id != cluster.id {
        return Err(format!(
            "{path} is for the cluster \"{}\", not for \"{}\" ([cluster] id): copy this cluster's certificate",
            found.cluster_id, cluster.id
        ));
    }
    if found.node != node {
        return Err(format!(
            "{path} is for node {}, not for node {node} ([node] id): copy node {node}'s own certificate and key",
            found.node
        ));
    }
    Ok(())
}

fn anchors(path: &Path) -> Result<Vec<TrustAnchor<'static>>, String> {
    let anchor = |certificate: &CertificateDer<'static>| {
        webpki::anchor_from_trusted_cert(certificate)
            .map(|anchor| anchor.to_owned())
            .map_err(|error| format!("{} holds what is no CA certificate: {error}", path.display()))
    };
    certificates(path)?.iter().map(anchor).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let octets = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} holds no certificate (PEM)", path.display())),
        Err(error) => Err(format!("{} is no PEM: {error}", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let octets = zeroize::Zeroizing::new(read(path)?);
    let is_encrypted = octets.windows(9).any(|window| window == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(&octets).map_err(|_| match is_encrypted {
        true => format!(
            "{} is encrypted, and nobody could give the password when the node starts: decrypt it (\"openssl pkey\"), and keep it \
             readable by holdfast alone",
            path.display()
        ),
        false => format!("{} holds no private key (PEM)", path.display()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| {
        format!(
            "cannot read {}: {error}; \"holdfast cluster init\" makes certificates and keys",
            path.display()
        )
    })
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
