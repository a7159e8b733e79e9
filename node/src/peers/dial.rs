//! Our stream to another member: dialled again and again, and written to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rand::RngExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::datagram::{Key, Sealer};
use super::frame::{self, BEAT as EMPTY};
use super::handle::{Line, Member, Shared};
use super::limits::{BEAT, REDIAL, SETUP_TIMEOUT};
use super::refusal::Refusal;
use super::stream::{self, Ended};
use super::{Hello, PeerEvents};
use crate::metrics::Counter;

/// Small frames that wait are written together, up to so many octets.
const TOGETHER_OCTETS: usize = 32 * 1024;

/// All that it takes to dial one member.
pub(super) struct Dialler {
    pub(super) node: u64,
    pub(super) member: Arc<Member>,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Arc<dyn PeerEvents>,
}

impl Dialler {
    /// Until the member is one no more.
    pub(super) async fn run(&self) {
        let hung_up = async {
            self.member.hang_up.notified().await;
            self.member.line.load().is_some()
        };
        let was_up = tokio::select! {
            () = self.dial() => return,
            was_up = hung_up => was_up,
        };
        tracing::info!(node = self.node, "hung up on a node that is no member any more");
        if was_up {
            self.shared.metrics.count(Counter::PeersLost);
            self.events.on_down(self.node, false);
        }
    }

    /// For ever.
    async fn dial(&self) {
        let member = &*self.member;
        // Whether `on_down` has said that nobody listens there.
        let mut told = false;
        let mut wait = REDIAL.0;
        loop {
            let address = member.address();
            let attempt = timeout(SETUP_TIMEOUT, self.connect(address)).await;
            let began = Instant::now();
            match attempt.unwrap_or(Err(Ended::Silent)) {
                Ok((stream, hello, sealer)) => {
                    let ended = self.carry(address, stream, hello, sealer).await;
                    self.lost(address, &ended);
                    told = false;
                    if began.elapsed() >= REDIAL.1 {
                        wait = REDIAL.0;
                        // At once: whether it is refused tells a process that is gone from a network that is.
                        continue;
                    }
                }
                Err(ended) => {
                    self.failed(address, &ended);
                    if matches!(ended, Ended::Nobody) && !told {
                        told = true;
                        self.events.on_down(self.node, true);
                    }
                }
            }
            // Not all members at the same moment.
            let jitter = rand::rng().random_range(0.8..1.2);
            tokio::select! {
                () = tokio::time::sleep(wait.mul_f64(jitter)) => wait = (wait * 2).min(REDIAL.1),
                () = member.heard_of.notified() => wait = REDIAL.0,
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<(TlsStream<TcpStream>, Hello, Sealer), Ended> {
        let local = self.shared.listen;
        let target = stream::reachable_from(local, address);
        let socket = if target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if !local.ip().is_unspecified() {
            // From the address that the others know us by.
            socket.bind(SocketAddr::new(local.ip(), 0))?;
        }
        let tcp = socket.connect(target).await?;
        stream::set_options(&tcp)?;
        // The name is not looked at: nodes are known by their ids.
        let name = ServerName::IpAddress(address.ip().into());
        let shared = &self.shared;
        let config = shared
            .credentials
            .load()
            .dialler(shared.expected(Some(self.node)));
        let config = config.map_err(|error| Refusal::Protocol(format!("our own TLS: {error}")))?;
        let mut tls = TlsConnector::from(config).connect(name, tcp).await?;
        let certified = stream::certified(tls.get_ref().1)?;
        let sealer = Key::export(tls.get_ref().1)
            .map_err(|error| Refusal::Protocol(format!("no key for datagrams: {error}")))?;
        stream::write_hello(&mut tls, &self.shared.hello.load_full()).await?;
        let hello = match stream::read_hello(&mut tls, &certified).await {
            // Who lets us in says Hello first.
            Err(Ended::Closed) => Err(Ended::RefusedUs),
            heard => heard,
        }?;
        self.shared.same_generation(&hello, &*self.events)?;
        Ok((tls, hello, Sealer::new(sealer)))
    }

    /// Writes what is sent, until the stream ends.
    async fn carry(
        &self,
        address: SocketAddr,
        stream: TlsStream<TcpStream>,
        hello: Hello,
        sealer: Sealer,
    ) -> Ended {
        let member = &*self.member;
        let (frames, queue) = unbounded_channel();
        let (long, long_queue) = unbounded_channel();
        let line = Arc::new(Line::new(frames, long, address, sealer));
        member.line.store(Some(line.clone()));
        let _down = Down(member);
        let node = self.node;
        tracing::info!(node, %address, program = hello.program, "connected to a member");
        member.note(|notes| {
            notes.hello = Some(hello.clone());
            notes.last_error = None;
        });
        self.shared.metrics.count(Counter::PeersConnected);
        self.events.on_up(node, hello);
        let (reader, writer) = tokio::io::split(stream);
        // Both at once: a peer that is gone is noticed while a frame waits for room.
        tokio::select! {
            ended = watch(reader) => ended,
            ended = write(writer, queue, long_queue, &line) => ended,
        }
    }

    fn lost(&self, address: SocketAddr, ended: &Ended) {
        let node = self.node;
        tracing::warn!(node, %address, "lost the connection to a member: {ended}");
        self.member
            .note(|notes| notes.last_error = Some(ended.to_string()));
        self.shared.metrics.count(Counter::PeersLost);
        self.events.on_down(node, false);
    }

    fn failed(&self, address: SocketAddr, ended: &Ended) {
        let node = self.node;
        let metrics = &self.shared.metrics;
        if let Ended::Refused(refusal) = ended {
            self.shared.refusals.note(metrics, address, refusal);
        }
        metrics.count(Counter::PeersDialFailed);
        // A new reason is worth a line, the same one again is not.
        let text = ended.to_string();
        let is_news = self.member.note(|notes| {
            let is_news = notes.last_error.as_ref() != Some(&text);
            notes.last_error = Some(text);
            is_news
        });
        if is_news {
            tracing::warn!(node, %address, "cannot reach a member: {ended}");
        }
    }
}

/// Takes the line away however its task ends.
struct Down<'m>(&'m Member);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.line.store(None);
    }
}

/// The other end says nothing after its Hello: whatever comes is the end.
async fn watch(mut reader: impl AsyncRead + Unpin) -> Ended {
    match reader.read_u8().await {
        Ok(_) => Refusal::Protocol("it speaks on our stream".to_owned()).into(),
        Err(error) => error.into(),
    }
}

/// Writes frames as they come, and between them one part of a long message at a time, so that a snapshot does not make
/// heartbeats wait.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: UnboundedReceiver<Vec<u8>>,
    mut long_frames: UnboundedReceiver<Vec<u8>>,
    line: &Line,
) -> Ended {
    // A long message, and how much of it is written.
    let mut long: Option<(Vec<u8>, usize)> = None;
    loop {
        let mut octets = Vec::new();
        if long.is_none() {
            // The line holds the other ends of both queues, so that neither is ever closed.
            tokio::select! {
                biased;
                Some(frame) = frames.recv() => octets = frame,
                Some(message) = long_frames.recv() => long = Some((message, 0)),
                () = tokio::time::sleep(BEAT) => octets = EMPTY.to_vec(),
            }
        }
        // A beat is in no queue.
        let mut taken = if octets == EMPTY { 0 } else { octets.len() };
        while octets.len() < TOGETHER_OCTETS
            && let Ok(more) = frames.try_recv()
        {
            taken += more.len();
            octets.extend_from_slice(&more);
        }
        let mut finished = 0;
        if let Some((message, offset)) = &mut long {
            match frame::encode_part(message, *offset) {
                Ok((part, next)) => {
                    octets.extend_from_slice(&part);
                    *offset = next;
                }
                Err(error) => return Refusal::Protocol(error.to_string()).into(),
            }
            if *offset == message.len() {
                finished = message.len();
                long = None;
            }
        }
        let written = async {
            writer.write_all(&octets).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
        line.frames.queued.fetch_sub(taken, Ordering::Relaxed);
        line.long.queued.fetch_sub(finished, Ordering::Relaxed);
    }
}
