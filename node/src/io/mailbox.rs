//! The bounded channels into a packet thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::Segments;
use super::handle::PppRoute;
use super::wake::Wake;
use crate::dataplane::TableUpdate;

/// Table updates that may wait for a shard; whoever has more waits.
pub const UPDATE_CAPACITY: usize = 16_384;
/// Control and PPP messages that may wait to be sent by a shard; more are refused.
pub const OUTGOING_CAPACITY: usize = 8192;
/// Messages of datagrams that may wait for the shard they are handed to; more are dropped and counted.
pub const HAND_OVER_CAPACITY: usize = 1024;

/// IP packets that other nodes or shards passed here and that may wait for a shard; more are dropped and counted. What a shard
/// reads from its TUN queue in one round may all be another's.
pub const PASSED_CAPACITY: usize = 4096;

/// A message of the control side.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Control {
        local: Option<SocketAddr>,
        peer: SocketAddr,
        datagram: Vec<u8>,
    },
    Ppp {
        route: PppRoute,
        frame: Vec<u8>,
        fresh_until: Option<Duration>,
    },
}

/// Datagrams that another shard received in one message.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// One behind another.
    pub(crate) octets: Vec<u8>,
    /// Octets of each but the last.
    pub(crate) segment: usize,
}

impl HandedOver {
    /// The datagrams, in `octets`.
    pub(crate) fn segments(&self) -> Segments {
        Segments::new(0..self.octets.len(), self.segment)
    }
}

/// The thread's end.
pub(crate) struct Mailbox {
    pub(crate) updates: Receiver<TableUpdate>,
    pub(crate) outgoing: Receiver<Outgoing>,
    pub(crate) handed_over: Receiver<HandedOver>,
    pub(crate) passed: Receiver<Vec<u8>>,
    pub(crate) wake: Arc<Wake>,
}

/// The end of everybody else.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) updates: Sender<TableUpdate>,
    pub(crate) outgoing: Sender<Outgoing>,
    pub(crate) handed_over: Sender<HandedOver>,
    pub(crate) passed: Sender<Vec<u8>>,
    pub(crate) wake: Arc<Wake>,
}

/// Both ends of one shard's channels.
pub(crate) fn open() -> io::Result<(Mailbox, Remote)> {
    let (updates_sender, updates) = bounded(UPDATE_CAPACITY);
    let (outgoing_sender, outgoing) = bounded(OUTGOING_CAPACITY);
    let (handed_over_sender, handed_over) = bounded(HAND_OVER_CAPACITY);
    let (passed_sender, passed) = bounded(PASSED_CAPACITY);
    let wake = Arc::new(Wake::new()?);
    let remote = Remote {
        updates: updates_sender,
        outgoing: outgoing_sender,
        handed_over: handed_over_sender,
        passed: passed_sender,
        wake: Arc::clone(&wake),
    };
    Ok((
        Mailbox {
            updates,
            outgoing,
            handed_over,
            passed,
            wake,
        },
        remote,
    ))
}
