//! The other members' streams to us: let in or refused, and read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::datagram::Key;
use super::frame::{Assembly, Received};
use super::handle::{Member, Shared};
use super::limits::{HANDSHAKES_MAX, SETUP_TIMEOUT};
use super::refusal::Refusal;
use super::stream::{self, Ended};
use super::{Hello, PeerEvents};
use crate::metrics::{Counter, Limit};

/// Octets read from one that is refused; a Hello is much shorter.
const PARTING_OCTETS: u64 = 64 * 1024;

/// All that it takes to let members in.
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) events: Arc<dyn PeerEvents>,
    /// Of members' addresses and of others: strangers must not keep members out.
    pub(super) room: [Arc<Semaphore>; 2],
}

/// The stream that a member has to us.
#[derive(Debug)]
pub(super) struct Inbound {
    task: AbortHandle,
    /// The name of its datagrams' key.
    key: u64,
    boot: u64,
    from: IpAddr,
}

impl Inbound {
    /// Ends the stream.
    pub(super) fn end(&self) {
        self.task.abort();
    }
}

impl Acceptor {
    /// Room for [`HANDSHAKES_MAX`] of each kind.
    pub(super) fn room() -> [Arc<Semaphore>; 2] {
        std::array::from_fn(|_| Arc::new(Semaphore::new(HANDSHAKES_MAX)))
    }

    /// For ever.
    pub(super) async fn run(self: Arc<Self>, listener: Arc<TcpListener>) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.let_in(stream, address),
                Err(error) => {
                    tracing::warn!("cannot accept a connection from another member: {error}");
                    // Out of descriptors, most likely: trying again at once would only burn time.
                    tokio::time::sleep(SETUP_TIMEOUT / 10).await;
                }
            }
        }
    }

    fn let_in(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        let is_known = self
            .shared
            .members
            .load()
            .values()
            .any(|member| member.address().ip() == ip);
        let Ok(permit) = self.room[usize::from(is_known)].clone().try_acquire_owned() else {
            let metrics = &self.shared.metrics;
            metrics.hit(Limit::PeerHandshakes);
            metrics.count(Counter::PeersRefusedBusy);
            return;
        };
        let acceptor = self.clone();
        tokio::spawn(async move {
            let set_up = timeout(SETUP_TIMEOUT, acceptor.greet(stream)).await;
            drop(permit);
            let ended = match set_up {
                Ok(Ok((stream, hello))) => return acceptor.admit(stream, hello, address),
                Ok(Err(ended)) => ended,
                Err(_) => Refusal::Protocol("it did not say Hello in time".to_owned()).into(),
            };
            match ended {
                Ended::Refused(refusal) => {
                    let metrics = &acceptor.shared.metrics;
                    acceptor.shared.refusals.note(metrics, address, &refusal);
                }
                other => tracing::debug!(%address, "a connection from a peer came to nothing: {other}"),
            }
        });
    }

    async fn greet(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, Hello), Ended> {
        stream::set_options(&tcp)?;
        let config = self
            .shared
            .credentials
            .load()
            .acceptor(self.shared.expected(None));
        let config = config.map_err(|error| Refusal::Protocol(format!("our own TLS: {error}")))?;
        let mut tls = match TlsAcceptor::from(config).accept(tcp).into_fallible().await {
            Ok(tls) => tls,
            Err((error, tcp)) => {
                part(tcp).await;
                return Err(error.into());
            }
        };
        let certified = stream::certified(tls.get_ref().1)?;
        let hello = stream::read_hello(&mut tls, &certified).await?;
        if let Err(refusal) = self.shared.same_generation(&hello, &*self.events) {
            // So that it knows, and ends, if it is the one that was left behind.
            stream::write_hello(&mut tls, &self.shared.hello.load_full()).await?;
            return Err(refusal.into());
        }
        Ok((tls, hello))
    }

    /// Puts the stream in the place of an earlier one of the same member, which is dead: unless it is another process at another
    /// address, which is then refused. The earlier one, if it is dead, ends within [`super::limits::SILENCE_MAX`].
    fn admit(self: &Arc<Self>, stream: TlsStream<TcpStream>, hello: Hello, address: SocketAddr) {
        let Some(member) = self.shared.member(hello.node) else {
            return;
        };
        let from = address.ip().to_canonical();
        let mut inbound = member.inbound.lock().expect("never poisoned: held for a swap");
        if self.shared.member(hello.node).is_none() {
            // Hung up on just now.
            return;
        }
        let is_double = |earlier: &&Inbound| {
            earlier.boot != hello.boot && earlier.from != from && !earlier.task.is_finished()
        };
        if let Some(earlier) = inbound.as_ref().filter(is_double) {
            self.refuse_double(&member, &hello, earlier.from, from);
            return;
        }
        let key = match Key::export(stream.get_ref().1) {
            Ok(key) => self.shared.openers.add(hello.node, key),
            Err(error) => {
                tracing::warn!(%address, "no key for datagrams: {error}");
                return;
            }
        };
        let (node, boot) = (hello.node, hello.boot);
        let task = tokio::spawn(self.clone().listen_to(member.clone(), stream, address, key));
        let entry = Inbound {
            task: task.abort_handle(),
            key,
            boot,
            from,
        };
        if let Some(earlier) = inbound.replace(entry) {
            // Not polled again: nothing of the earlier stream follows what comes on this one.
            earlier.task.abort();
            self.shared.openers.remove(earlier.key);
            if earlier.boot != boot {
                let (refusals, metrics) = (&self.shared.refusals, &self.shared.metrics);
                refusals.note_plain(
                    metrics,
                    Counter::PeersReplaced,
                    format_args!("another process of node {node} took the place of one that was still connected, at {address}"),
                );
            }
        }
        drop(inbound);
        member.note(|notes| {
            notes.heard = true;
            notes.hello = Some(hello);
        });
        self.shared.metrics.count(Counter::PeersAccepted);
        // It is there, so it is worth while to dial it now.
        member.heard_of.notify_one();
    }

    fn refuse_double(&self, member: &Member, hello: &Hello, first: IpAddr, second: IpAddr) {
        let refusal = Refusal::Doubled {
            node: hello.node,
            first,
            second,
        };
        member.note(|notes| notes.doubled = Some((Instant::now(), refusal.to_string())));
        let (refusals, metrics) = (&self.shared.refusals, &self.shared.metrics);
        refusals.note(metrics, SocketAddr::new(second, 0), &refusal);
    }

    async fn listen_to(
        self: Arc<Self>,
        member: Arc<Member>,
        mut stream: TlsStream<TcpStream>,
        address: SocketAddr,
        key: u64,
    ) {
        let node = member.config.load().id;
        let _gone = Gone {
            member: &member,
            shared: &self.shared,
            key,
        };
        let ended = match stream::write_hello(&mut stream, &self.shared.hello.load_full()).await {
            Ok(()) => self.read(node, &mut stream).await,
            Err(ended) => ended,
        };
        if let Ended::Refused(refusal) = &ended {
            self.shared.refusals.note(&self.shared.metrics, address, refusal);
        }
        tracing::debug!(node, %address, "a member's stream to us ended: {ended}");
    }

    async fn read(&self, node: u64, stream: &mut TlsStream<TcpStream>) -> Ended {
        let mut assembly = Assembly::default();
        loop {
            match stream::read(stream).await {
                Ok(Received::Beat) => {}
                Ok(Received::Part(part, last)) => match assembly.add(part, last) {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        self.events.on_frame(node, frame);
                        self.shared.metrics.count(Counter::PeersFramesReceived);
                    }
                    Err(error) => return Refusal::Protocol(error.to_string()).into(),
                },
                Ok(Received::Frame(frame)) => {
                    self.events.on_frame(node, frame);
                    self.shared.metrics.count(Counter::PeersFramesReceived);
                }
                Ok(Received::Hello(_)) => {
                    return Refusal::Protocol("it said Hello twice".to_owned()).into();
                }
                Err(ended) => return ended,
            }
        }
    }
}

/// Reads what the other end has said already: closed over it, the connection would be reset, and our alert lost.
async fn part(mut tcp: TcpStream) {
    let drain = async {
        tcp.shutdown().await?;
        let mut rest = (&mut tcp).take(PARTING_OCTETS);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // However it ends, the connection is closed.
    drop(timeout(SETUP_TIMEOUT / 4, drain).await);
}

/// Forgets a stream however its task ends, unless another has taken its place.
struct Gone<'m> {
    member: &'m Member,
    shared: &'m Shared,
    key: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.shared.openers.remove(self.key);
        let mut inbound = self
            .member
            .inbound
            .lock()
            .expect("never poisoned: held for a swap");
        if inbound.as_ref().is_some_and(|inbound| inbound.key == self.key) {
            *inbound = None;
            self.member.note(|notes| notes.heard = false);
        }
    }
}
