//! What the packet threads tell the control side.

use std::net::SocketAddr;

use holdfast_protocol::{SessionId, TunnelId};
use tokio::sync::mpsc;

/// Messages that may wait for the control side of one shard; more are dropped and counted as `inbound_full`. Messages
/// with tunnel id 0, which anybody can send, get half of it and are counted as `setup_full` beyond (S-9). PPP frames get three
/// quarters.
pub const INBOUND_CAPACITY: usize = 4096;

/// From the packet thread of a tunnel's shard (of the shard that the kernel chose, if the tunnel id is 0) to the
/// control side of that shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A control message with a well-formed header, from its tunnel's peer if the tunnel id is not 0.
    Control {
        /// Where it came from.
        from: SocketAddr,
        /// The address and port it was sent to, which is where the answer leaves from.
        to: SocketAddr,
        /// Our tunnel id in the header, 0 = not known yet.
        tunnel: u16,
        /// The message without octets behind its Length.
        datagram: Vec<u8>,
    },
    /// A PPP frame other than user data, as the data message carried it (`FF 03` and a two-octet protocol may be
    /// missing).
    Ppp {
        /// Our id.
        tunnel: TunnelId,
        /// Our id.
        session: SessionId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// What another node received for a tunnel of ours, as it thought.
    Relayed {
        /// Of the tunnel's group, as the other node knew it.
        epoch: u32,
        /// A control message or a PPP frame.
        message: Box<Inbound>,
    },
    /// An operator at another node wants a session ended, or a tunnel with all of its sessions.
    Disconnect {
        /// Our id.
        tunnel: TunnelId,
        /// Our id; `None`: all.
        session: Option<SessionId>,
    },
    /// Half of the last block of Ns is used: commit the next one and grant it
    /// ([`crate::dataplane::sequence::SendSequence::grant`]).
    SequenceLow {
        /// Our id.
        tunnel: TunnelId,
        /// Our id.
        session: SessionId,
        /// The committed end so far; the next block begins here.
        reserved: u64,
    },
}

/// One bounded channel a shard.
pub fn channels(shards: usize) -> (Vec<mpsc::Sender<Inbound>>, Vec<mpsc::Receiver<Inbound>>) {
    (0..shards).map(|_| mpsc::channel(INBOUND_CAPACITY)).unzip()
}
