//! The thread on which all of it runs, and what it is made of.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::accept::Acceptor;
use super::datagram::{Dropped, SEALED_OCTETS_MAX};
use super::dial::Dialler;
use super::handle::{Member, Shared};
use super::limits::REDIAL;
use super::{PeerEvents, StartError};
use crate::metrics::Counter;

/// What is opened before the thread starts, so that a mistake is told to whoever starts it.
pub(super) struct Sockets {
    tcp: TcpListener,
    pub(super) udp: UdpSocket,
}

impl Sockets {
    /// Listens on `address`, TCP and UDP.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let (tcp, udp) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok(Self { tcp, udp })
    }
}

/// Starts it: who comes by `to_dial` is dialled until he is hung up on. It ends when the other end of `stop` is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    sockets: Sockets,
    events: Arc<dyn PeerEvents>,
    mut to_dial: UnboundedReceiver<Arc<Member>>,
    stop: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>, StartError> {
    let acceptor = Arc::new(Acceptor {
        shared: shared.clone(),
        events: events.clone(),
        room: Acceptor::room(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let (tcp, udp) = {
        let _inside = runtime.enter();
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(StartError::Thread)?;
        let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(StartError::Thread)?;
        (Arc::new(tcp), Arc::new(udp))
    };
    let body = move || {
        runtime.block_on(async {
            let dial = {
                let (shared, events) = (shared.clone(), events.clone());
                async move {
                    while let Some(member) = to_dial.recv().await {
                        dial(member, shared.clone(), events.clone());
                    }
                }
            };
            tokio::spawn(dial);
            tokio::spawn(keep("accept", move || acceptor.clone().run(tcp.clone())));
            tokio::spawn(keep("datagrams", move || {
                receive(udp.clone(), shared.clone(), events.clone())
            }));
            // Nothing is ever sent: it ends when the other end is dropped.
            stop.await.unwrap_or_default();
        });
        // Dropping the runtime ends all tasks, and each takes its line away.
    };
    std::thread::Builder::new()
        .name("peers".to_owned())
        .spawn(body)
        .map_err(StartError::Thread)
}

fn dial(member: Arc<Member>, shared: Arc<Shared>, events: Arc<dyn PeerEvents>) {
    let dialler = Arc::new(Dialler {
        node: member.config.load().id,
        member,
        shared,
        events,
    });
    tokio::spawn(keep("dial", move || {
        let dialler = dialler.clone();
        async move { dialler.run().await }
    }));
}

/// Begins a task anew when it panics: one broken peer must not silence the others.
async fn keep<F>(name: &'static str, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = tokio::spawn(task()).await {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(name, "a task of the peers thread panicked and begins anew");
        tokio::time::sleep(REDIAL.0).await;
    }
}

/// Opens datagrams for ever.
async fn receive(socket: Arc<tokio::net::UdpSocket>, shared: Arc<Shared>, events: Arc<dyn PeerEvents>) {
    // One octet more than may come, so that a longer one is seen to be longer.
    let mut buffer = [0; SEALED_OCTETS_MAX + 1];
    loop {
        let Ok((length, address)) = socket.recv_from(&mut buffer).await else {
            // ICMP's word on what we sent, or no memory: neither is a reason to stop, nor to spin.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        match shared.openers.open(&buffer[..length]) {
            Ok((node, octets)) => {
                shared.metrics.count(Counter::PeersDatagramsReceived);
                events.on_datagram(node, octets);
            }
            Err(dropped) => {
                let (counter, text) = match dropped {
                    Dropped::Unknown => (
                        Counter::PeersDatagramsRefused,
                        "a datagram that no connected member sealed was dropped",
                    ),
                    Dropped::Replayed => (
                        Counter::PeersDatagramsReplayed,
                        "a datagram that came twice was dropped",
                    ),
                };
                shared
                    .refusals
                    .note_plain(&shared.metrics, counter, format_args!("{text}; from {address}"));
            }
        }
    }
}
