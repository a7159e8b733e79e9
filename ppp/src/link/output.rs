//! What a link asks of its owner, and the row from which it can be born again.

use std::collections::VecDeque;

use sha1::{Digest, Sha1};

use crate::auth::{AuthMethod, AuthRequest};
use crate::cause::Cause;
use crate::frame;
use crate::ncp::{Ncp, NcpConfig};
use crate::packet::Packet;

/// What a link asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this PPP frame to the peer.
    Frame(Vec<u8>),
    /// Judge this and answer with [`Link::verdict`](super::Link::verdict), naming the serial.
    Authenticate { serial: u32, request: Box<AuthRequest> },
    /// Commit this and answer with [`Link::commit_accepted`](super::Link::commit_accepted). One at a time.
    Commit { serial: u32, transition: Transition },
    /// The peer may use this protocol.
    Up(Ncp),
    /// It may no more.
    Down(Ncp),
    /// The link is dead; it says nothing more.
    Finished(Cause),
    /// Something worth counting happened.
    Count(Counter),
}

/// A change of what the session table holds about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The link is about to open, or what is open changes: this is the row from now on.
    Open(Box<OpenLink>),
    /// The link is about to leave open: the row is void.
    Leave,
}

/// An open link: all that [`Link::resume`](super::Link::resume) needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLink {
    /// Our magic number; 0 for none.
    pub local_magic: u32,
    /// The peer's magic number; 0 for none.
    pub peer_magic: u32,
    /// What we said that we can receive, in octets.
    pub local_mru: u16,
    /// What the peer said that it can receive, in octets.
    pub peer_mru: u16,
    /// The peer takes a compressed protocol field.
    pub peer_pfc: bool,
    /// The peer takes frames without address and control field.
    pub peer_acfc: bool,
    /// How the peer has authenticated itself.
    pub auth: Option<AuthMethod>,
    /// The name by which it did, as received.
    pub user: Vec<u8>,
    /// The protocols that are open; never empty.
    pub ncps: Vec<OpenNcp>,
    /// What the others would agree on, that the peer may open yet.
    pub granted: Vec<NcpConfig>,
}

/// An open network control protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenNcp {
    /// What was agreed.
    pub config: NcpConfig,
    /// Identifier of the peer's Configure-Request that we acknowledge.
    pub request_id: u8,
    /// Hash of its options.
    pub request_hash: u64,
}

impl OpenNcp {
    /// The protocol.
    pub fn ncp(&self) -> Ncp {
        self.config.ncp()
    }

    /// Whether this is the request that was acknowledged.
    pub(crate) fn is_request(&self, packet: &Packet<'_>) -> bool {
        self.request_id == packet.id && self.request_hash == request_hash(packet.data)
    }
}

/// The first eight octets of SHA-1: the row is read by other versions and other nodes, so the function is fixed.
pub(crate) fn request_hash(options: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 20]>::from(Sha1::digest(options));
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Things worth counting, a name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// No protocol or no information in a frame.
    MalformedFrame,
    /// A packet or its options do not parse.
    MalformedPacket,
    /// A known protocol outside its phase, or data.
    WrongPhase,
    /// An answer to something that we did not say, a malformed option list, or garbage beyond what is rejected.
    Discarded,
    /// A protocol that we do not speak; it was rejected if LCP is open, within the limit on rejects.
    UnknownProtocol,
    /// The peer rejects a protocol.
    ProtocolRejected,
    /// Our own magic number in an echo: the line is looped, or the peer confused.
    LoopedEcho,
    /// A magic number in an echo that is not the peer's.
    ForeignMagic,
    /// An Identification or Time-Remaining was received.
    Information,
    /// A repeated authentication request, answered as before or dropped while it is judged.
    AuthRepeated,
    /// A Configure-Request was withheld for too long and dropped.
    WithheldDropped,
    /// The peer repeated the request that opened a protocol, and it was acknowledged again; or a late copy of one that
    /// had been refused before came, and was dropped.
    RequestRepeated,
    /// Proxy LCP was offered but not used.
    ProxyLcpRefused,
    /// Proxy authentication was offered but not used.
    ProxyAuthRefused,
}

/// Outputs in order. Drained after each input, so its length is bounded by what one input can cause.
#[derive(Debug, Default)]
pub(super) struct Outputs(VecDeque<Output>);

impl Outputs {
    pub(super) fn push(&mut self, output: Output) {
        self.0.push_back(output);
    }

    pub(super) fn send(&mut self, protocol: u16, packet: &[u8]) {
        self.push(Output::Frame(frame::encode(protocol, packet)));
    }

    pub(super) fn count(&mut self, counter: Counter) {
        self.push(Output::Count(counter));
    }

    /// The next one. A drained queue gives its memory back: an open link is silent for most of its life.
    pub(super) fn pop(&mut self) -> Option<Output> {
        let output = self.0.pop_front();
        if output.is_none() {
            self.0 = VecDeque::new();
        }
        output
    }
}
