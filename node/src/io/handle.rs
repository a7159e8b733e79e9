//! The packet threads as the rest of the node sees them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use holdfast_protocol::{SessionId, TunnelId};
use tokio::sync::{mpsc, watch};

use super::clock;
use super::inbound::Inbound;
use super::mailbox::{self, Mailbox, Outgoing, Remote};
use super::passage::{Entrance, Passage};
use super::pulse::Pulses;
use super::shard::Shard;
use super::socket::SocketGroup;
use super::tun::Tun;
use crate::dataplane::uplink::Policy;
use crate::dataplane::{SessionShared, ShardCounters, ShardTotals, TableUpdate};

/// Where the PPP frames of one session go. It does not depend on the forwarding table, so that the last frame of a
/// session that was just removed still leaves.
#[derive(Clone, Debug)]
pub struct PppRoute {
    /// Our id of the tunnel; its shard sends.
    pub tunnel: TunnelId,
    /// Our id of the session.
    pub session: SessionId,
    /// The address and port we send from, as in [`crate::dataplane::TunnelEntry::local`].
    pub local: Option<SocketAddr>,
    /// The LAC's address and port.
    pub peer: SocketAddr,
    /// The LAC's id of the tunnel.
    pub peer_tunnel: TunnelId,
    /// The LAC's id of the session.
    pub peer_session: SessionId,
    /// Whether the LAC required sequence numbers (AVP 39).
    pub sequencing: bool,
    /// The same as in the session's forwarding entry.
    pub shared: Arc<SessionShared>,
}

/// A packet thread that comes round no more for this long hangs: the routers must look elsewhere. An idle one comes round every
/// 50 ms; ten of these, for a host that is short of CPU.
const PULSE_LIMIT: Duration = Duration::from_millis(500);

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The shard has [`mailbox::OUTGOING_CAPACITY`] messages waiting; this one is dropped and counted.
    #[error("the packet thread has too many messages waiting")]
    Full,
    /// The packet threads have ended.
    #[error("the packet threads have ended")]
    Ended,
}

/// One shard from outside.
struct Link {
    remote: Remote,
    counters: Arc<ShardCounters>,
}

struct Inner {
    links: Vec<Link>,
    stop: Arc<AtomicBool>,
    forward_until_ms: Arc<AtomicU64>,
    refused: AtomicU64,
    addresses: Vec<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    died: watch::Sender<Option<usize>>,
}

/// Tells that the thread that holds it panicked.
struct LastWords {
    shard: usize,
    died: watch::Sender<Option<usize>>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.died.send_replace(Some(self.shard));
        }
    }
}

/// A handle on the packet threads; clones share them.
#[derive(Clone)]
pub struct Dataplane {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane")
            .field("addresses", &self.inner.addresses)
            .finish_non_exhaustive()
    }
}

impl Dataplane {
    /// Starts one packet thread a shard. Without `tun` no user data is forwarded, and a ping to `own_address` inside a
    /// session is answered here. `inbound` has one sender a shard ([`super::inbound::channels`]). `passage` leads to the other
    /// nodes of a cluster. The threads sign on to `pulses`, if anybody watches over them.
    ///
    /// # Errors
    /// No eventfd or no thread could be had.
    ///
    /// # Panics
    /// If `sockets`, `tun` and `inbound` are not for the same number of shards.
    pub fn start(
        own_address: Ipv4Addr,
        sockets: SocketGroup,
        tun: Option<Tun>,
        inbound: Vec<mpsc::Sender<Inbound>>,
        passage: Option<Arc<dyn Passage>>,
        pulses: Option<&Pulses>,
    ) -> io::Result<Self> {
        let shards = sockets.shards();
        assert_eq!(inbound.len(), shards, "one inbound channel a shard");
        let addresses = sockets.addresses().to_vec();
        let has_tun = tun.is_some();
        let mut queues: Vec<_> = tun
            .map(Tun::into_queues)
            .unwrap_or_default()
            .into_iter()
            .map(Some)
            .collect();
        assert!(!has_tun || queues.len() == shards, "one TUN queue a shard");
        queues.resize_with(shards, || None);
        let stop = Arc::new(AtomicBool::new(false));
        let forward_until_ms = Arc::new(AtomicU64::new(u64::MAX));
        let mailboxes: Vec<(Mailbox, Remote)> =
            (0..shards).map(|_| mailbox::open()).collect::<io::Result<_>>()?;
        let remotes: Vec<Remote> = mailboxes.iter().map(|(_, remote)| remote.clone()).collect();
        let (mut links, mut ready) = (Vec::new(), Vec::new());
        let given = mailboxes.into_iter().zip(sockets.into_shards()).zip(queues);
        for (index, (((mailbox, remote), sockets), tun)) in given.enumerate() {
            let counters = Arc::new(ShardCounters::default());
            links.push(Link {
                remote,
                counters: Arc::clone(&counters),
            });
            ready.push(Shard {
                policy: Policy {
                    shard: index,
                    shards,
                    own_address,
                    has_tun,
                },
                sockets,
                tun,
                mailbox,
                shards: remotes.clone(),
                inbound: inbound.clone(),
                passage: passage.clone(),
                counters,
                stop: Arc::clone(&stop),
                forward_until_ms: Arc::clone(&forward_until_ms),
                pulse: pulses.map(|pulses| pulses.sign_on(&name(index), PULSE_LIMIT, clock::since_boot())),
            });
        }
        let inner = Inner {
            links,
            stop,
            forward_until_ms,
            refused: AtomicU64::new(0),
            addresses,
            threads: Mutex::default(),
            died: watch::Sender::default(),
        };
        // If a thread cannot be had, dropping `inner` ends those before it.
        ready.into_iter().try_for_each(|shard| inner.spawn(shard))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.inner.links.len()
    }

    /// Holds the shard whose packet thread has panicked, if one has: its tunnels are mute then.
    pub fn deaths(&self) -> watch::Receiver<Option<usize>> {
        self.inner.died.subscribe()
    }

    /// Where the node listens for L2TP, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }

    /// Gives a change to all shards. Waits while a shard has [`mailbox::UPDATE_CAPACITY`] changes before it, which a packet
    /// thread never makes long: it waits for nobody itself. A datagram that arrives after this call finds the change
    /// made.
    ///
    /// # Errors
    /// [`SendError::Ended`].
    ///
    /// # Panics
    /// If the counters of a session are for another number of shards.
    pub fn update(&self, update: TableUpdate) -> Result<(), SendError> {
        if let TableUpdate::Session(entry) = &update {
            assert_eq!(
                entry.shared.shards(),
                self.shards(),
                "counters are made for all shards"
            );
        }
        let (last, others) = self.inner.links.split_last().ok_or(SendError::Ended)?;
        for link in others {
            link.update(update.clone())?;
        }
        last.update(update)
    }

    /// Sends a control message from `local` (see [`crate::dataplane::TunnelEntry::local`]) to `peer` by way of `shard`.
    ///
    /// # Errors
    /// The message is dropped then.
    pub fn send_control(
        &self,
        shard: usize,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        datagram: Vec<u8>,
    ) -> Result<(), SendError> {
        self.send(
            shard,
            Outgoing::Control {
                local,
                peer,
                datagram,
            },
        )
    }

    /// Sends a PPP frame, numbered if the session is sequenced. With `fresh_until` (time since boot, see
    /// [`super::clock::since_boot`]) it is dropped and counted as `stale` if its turn comes later.
    ///
    /// # Errors
    /// The frame is dropped then.
    ///
    /// # Panics
    /// If the counters of the session are for another number of shards.
    pub fn send_ppp(
        &self,
        route: PppRoute,
        frame: Vec<u8>,
        fresh_until: Option<Duration>,
    ) -> Result<(), SendError> {
        assert_eq!(
            route.shared.shards(),
            self.shards(),
            "counters are made for all shards"
        );
        let shard = route.tunnel.shard(self.shards());
        self.send(
            shard,
            Outgoing::Ppp {
                route,
                frame,
                fresh_until,
            },
        )
    }

    /// From `until` (time since boot) on no user data is forwarded and no echo answered; what is dropped is counted as `isolated`. It
    /// may be moved at any time; before it is first set there is no end.
    pub fn set_forward_until(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.inner.forward_until_ms.store(until, Ordering::Relaxed);
    }

    /// The way in for what other nodes pass here.
    pub fn entrance(&self) -> Entrance {
        Entrance::new(self.inner.links.iter().map(|link| link.remote.clone()))
    }

    /// The totals of each shard.
    pub fn totals(&self) -> Vec<ShardTotals> {
        self.inner
            .links
            .iter()
            .map(|link| link.counters.totals())
            .collect()
    }

    /// How many messages were refused because a shard had too many waiting.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Ends the packet threads and waits for them. Messages given before are sent. Sockets and TUN are closed then.
    ///
    /// The last handle does the same when it is dropped.
    pub fn shutdown(&self) {
        self.inner.shutdown();
    }

    fn send(&self, shard: usize, message: Outgoing) -> Result<(), SendError> {
        let link = self.inner.links.get(shard).ok_or(SendError::Ended)?;
        match link.remote.outgoing.try_send(message) {
            Ok(()) => link.remote.wake.notify(),
            Err(TrySendError::Full(_)) => {
                self.inner.refused.fetch_add(1, Ordering::Relaxed);
                return Err(SendError::Full);
            }
            Err(TrySendError::Disconnected(_)) => return Err(SendError::Ended),
        }
        Ok(())
    }
}

impl Inner {
    fn spawn(&self, shard: Shard) -> io::Result<()> {
        let last_words = LastWords {
            shard: shard.policy.shard,
            died: self.died.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(name(shard.policy.shard))
            .spawn(move || {
                let _last_words = last_words;
                shard.run();
            })?;
        self.threads().push(thread);
        Ok(())
    }

    fn shutdown(&self) {
        self.stop.store(true, Ordering::Release);
        for link in &self.links {
            link.remote.wake.notify();
        }
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a packet thread had panicked");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a shard's packet thread.
fn name(shard: usize) -> String {
    format!("packets-{shard}")
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Link {
    fn update(&self, update: TableUpdate) -> Result<(), SendError> {
        // The thread must be awake to make room, so a full channel is told before it is waited for.
        let update = match self.remote.updates.try_send(update) {
            Ok(()) => {
                self.remote.wake.notify();
                return Ok(());
            }
            Err(TrySendError::Full(update)) => update,
            Err(TrySendError::Disconnected(_)) => return Err(SendError::Ended),
        };
        self.remote.wake.notify();
        self.remote.updates.send(update).map_err(|_| SendError::Ended)?;
        self.remote.wake.notify();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_told_and_one_that_ends_is_not() {
        let died = watch::Sender::default();
        let deaths = died.subscribe();
        let words = |shard| LastWords {
            shard,
            died: died.clone(),
        };
        drop(words(0));
        assert_eq!(*deaths.borrow(), None);
        let last_words = words(1);
        let ended = std::thread::spawn(move || {
            let _last_words = last_words;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.join().is_err());
        assert_eq!(*deaths.borrow(), Some(1));
    }
}
