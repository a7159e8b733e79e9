//! One stream: the socket's options, frames read from it, and the words exchanged first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Hello;
use super::frame::{self, LENGTH_OCTETS, Received};
use super::limits::{FRAME_OCTETS_MAX, RAFT_FRAME_OCTETS_MAX, SILENCE_MAX, UNACKNOWLEDGED_MAX};
use super::refusal::Refusal;
use super::tls::{self, Identity};

/// Octets by which the buffer of a frame grows at the least: its length is believed only as far as it arrives.
const READ_OCTETS: usize = 64 * 1024;

/// Why a stream is not there, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// Nobody listens there.
    #[error("nobody listens there: is it running, and is this its address in [[member]]?")]
    Nobody,
    /// The network, or the other process ended.
    #[error("{0}")]
    Io(io::Error),
    /// The other end did not take our certificate.
    #[error("it refused us; its log says why")]
    RefusedUs,
    /// Nothing came for too long.
    #[error(
        "it does not answer: is it running, is this its address in [[member]], does a firewall let TCP and UDP through?"
    )]
    Silent,
    /// The other end closed it in order.
    #[error("it closed the connection")]
    Closed,
    /// We do not want the other end.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        if let Some(refusal) = tls::refusal(&error) {
            return Self::Refused(refusal);
        }
        if tls::refused_us(&error) {
            return Self::RefusedUs;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Nobody,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// A dead peer is to be noticed within two seconds, whether or not there is something to send.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    let second = Duration::from_secs(1);
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(second)
            .with_interval(second)
            .with_retries(1),
    )?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// The next message: its octets are read as they come, and no more than its kind may have.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Received, Ended> {
    let mut length = [0; LENGTH_OCTETS];
    exactly(stream, &mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(Received::Beat);
    }
    if length > RAFT_FRAME_OCTETS_MAX {
        return Err(too_long(length));
    }
    let mut first = [0];
    exactly(stream, &mut first).await?;
    if length > frame::limit(first[0]) {
        return Err(too_long(length));
    }
    let mut octets = Vec::with_capacity(length.min(READ_OCTETS));
    octets.push(first[0]);
    while octets.len() < length {
        let missing = (length - octets.len()).min(READ_OCTETS) as u64;
        let mut part = (&mut *stream).take(missing);
        let read = timeout(SILENCE_MAX, part.read_buf(&mut octets)).await;
        if read.map_err(|_| Ended::Silent)?? == 0 {
            return Err(Ended::Closed);
        }
    }
    frame::decode(&octets).map_err(|error| Refusal::Protocol(error.to_string()).into())
}

async fn exactly(stream: &mut (impl AsyncRead + Unpin), octets: &mut [u8]) -> Result<(), Ended> {
    let read = timeout(SILENCE_MAX, stream.read_exact(octets)).await;
    read.map_err(|_| Ended::Silent)??;
    Ok(())
}

fn too_long(length: usize) -> Ended {
    Refusal::Protocol(format!("a frame of {length} octets is too long")).into()
}

/// Says who we are.
pub(super) async fn write_hello(stream: &mut (impl AsyncWrite + Unpin), hello: &Hello) -> Result<(), Ended> {
    let octets =
        frame::encode_hello(hello).map_err(|error| Refusal::Protocol(format!("our own Hello: {error}")))?;
    stream.write_all(&octets).await?;
    stream.flush().await?;
    Ok(())
}

/// Hears who the other end is; it must be who its certificate says.
pub(super) async fn read_hello(
    stream: &mut (impl AsyncRead + Unpin),
    certified: &Identity,
) -> Result<Hello, Ended> {
    let refuse = |text: &str| Err(Refusal::Protocol(text.to_owned()).into());
    match read(stream).await? {
        Received::Hello(hello) if hello.node != certified.node => {
            refuse("its Hello says another node than its certificate")
        }
        Received::Hello(hello) if hello.cluster_id != certified.cluster_id => {
            refuse("its Hello says another cluster than its certificate")
        }
        Received::Hello(hello) => Ok(hello),
        Received::Beat | Received::Frame(_) | Received::Part(..) => refuse("it did not begin with a Hello"),
    }
}

/// Whose certificate the other end has shown.
pub(super) fn certified<Data>(connection: &rustls::ConnectionCommon<Data>) -> Result<Identity, Ended> {
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let certificate =
        certificate.ok_or_else(|| Refusal::Certificate("it shows no certificate".to_owned()))?;
    Ok(Identity::of(certificate)?)
}

/// For IPv6 sockets that IPv4 members are to be reached from.
pub(super) fn reachable_from(local: SocketAddr, address: SocketAddr) -> SocketAddr {
    match (local, address) {
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        _ => address,
    }
}

const _: () = assert!(FRAME_OCTETS_MAX < RAFT_FRAME_OCTETS_MAX);
