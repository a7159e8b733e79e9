//! RADIUS over TLS (RFC 6614): packets behind each other on a stream. A stream that breaks is made anew for the next packet.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Arrival;
use crate::aaa::radius::client::{EndpointId, TlsSettings};
use crate::aaa::radius::packet::{HEADER, LONGEST};

/// From the call to the end of the handshake.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Both sides show certificates; the server's must be signed by the CA and bear its name.
pub(super) fn config(files: &TlsSettings) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| wrong(&files.ca, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&files.certificate)?, key)
        .map_err(|error| wrong(&files.certificate, &error))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let octets = fs::read(path).map_err(|error| wrong(path, &error))?;
    CertificateDer::pem_slice_iter(&octets)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// As configured, or the address.
pub(super) fn server_name(files: &TlsSettings, address: SocketAddr) -> io::Result<ServerName<'static>> {
    match &files.server_name {
        Some(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        None => Ok(ServerName::IpAddress(address.ip().into())),
    }
}

/// Connects, then carries packets both ways until the stream ends or nobody has packets for it any more.
pub(super) async fn carry(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    mut packets: mpsc::Receiver<Arc<[u8]>>,
    (endpoint, socket): (EndpointId, u16),
    line: u64,
    arrivals: mpsc::Sender<Arrival>,
) {
    let connected = tokio::time::timeout(SETUP_TIMEOUT, connect(address, config, name)).await;
    let ended = match connected {
        Ok(Ok(stream)) => exchange(stream, &mut packets, (endpoint, socket), &arrivals).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("it did not come up in time")),
    };
    let why = match ended {
        Ok(()) => "the server has closed it".to_owned(),
        Err(error) => error.to_string(),
    };
    let ended = Arrival::Ended {
        endpoint,
        socket,
        line,
        why,
    };
    // Without a client there is nobody to be told.
    let _ = arrivals.send(ended).await;
}

async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, tcp).await
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    packets: &mut mpsc::Receiver<Arc<[u8]>>,
    place: (EndpointId, u16),
    arrivals: &mpsc::Sender<Arrival>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        while let Some(packet) = packets.recv().await {
            writer.write_all(&packet).await?;
            writer.flush().await?;
        }
        Ok(())
    };
    let read = async {
        while let Some(octets) = read_packet(&mut reader).await? {
            let (endpoint, socket) = place;
            let reply = Arrival::Reply {
                endpoint,
                socket,
                octets,
            };
            if arrivals.send(reply).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}

/// The next packet, by the length in its header; `None` at the end of the stream. A length that cannot be ends the stream (RFC 6614 §3.4).
async fn read_packet(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut octets = vec![0; 4];
    match reader.read_exact(&mut octets).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
    if !(HEADER..=LONGEST).contains(&length) {
        return Err(io::Error::other(format!(
            "a packet says that it has {length} octets"
        )));
    }
    octets.resize(length, 0);
    reader.read_exact(&mut octets[4..]).await?;
    Ok(Some(octets))
}
