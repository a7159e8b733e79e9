//! Someone who takes any node for a member of his own cluster, and shows a foreign certificate or none.
//!
//! A stray node of another cluster would turn away by itself, since it does not know our certificate authority either. This
//! one does not look.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// How long the node may take to answer or hang up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the intruder shows of himself.
#[derive(Clone, Debug)]
pub struct Intruder {
    config: Arc<ClientConfig>,
}

impl Intruder {
    /// Without any certificate.
    pub fn naked() -> io::Result<Self> {
        let config = builder()?.with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// With that of a member of another cluster, from the folder that `holdfast cluster init` wrote.
    pub fn foreign(folder: &Path, node: u8) -> io::Result<Self> {
        let file = |end: &str| folder.join(format!("node-{node}.{end}"));
        let certificate = CertificateDer::from_pem_file(file("pem")).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(file("key")).map_err(io::Error::other)?;
        let config = builder()?
            .with_client_auth_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Connects and speaks; whether the node has answered with anything but a refusal.
    pub fn enter(&self, node: SocketAddr) -> io::Result<bool> {
        let socket = TcpStream::connect_timeout(&node, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(node.ip());
        let connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        // In TLS 1.3 the client is done before the server has seen his certificate: the answer shows.
        let spoken = stream.write_all(&[0; 64]).and_then(|()| stream.flush());
        let mut answer = [0; 1];
        Ok(spoken.is_ok() && matches!(stream.read(&mut answer), Ok(length) if length > 0))
    }
}

fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer)))
}

/// Believes every server.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
