//! A frame as octets: four of length, then a `PeerFrame` of proto/peers.proto.

use std::net::{IpAddr, SocketAddr};

use holdfast_cluster::replica::Lineage;
use prost::Message;

use super::limits::{FRAME_OCTETS_MAX, LONG_OCTETS_MIN, PART_OCTETS, RAFT_FRAME_OCTETS_MAX, RAFT_OCTETS_MAX};
use super::{Hello, Past, proto};

/// What a node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of the Raft group.
    Raft(Vec<u8>),
    /// A datagram for the owner of its group.
    Relay(Relay),
    /// From node to node, outside the log; opaque here.
    Order(Vec<u8>),
    /// Traffic counters; opaque here.
    Counters(Vec<u8>),
}

/// A control message or PPP control frame on its way to the owner of its group; never relayed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Of the group, as the sender knows it.
    pub epoch: u64,
    /// The LAC's address.
    pub from: SocketAddr,
    /// Ours that it sent to.
    pub to: SocketAddr,
    /// Our tunnel id.
    pub tunnel: u32,
    /// Our session id, for a PPP frame.
    pub session: Option<u32>,
    /// The datagram.
    pub octets: Vec<u8>,
}

/// Octets of the length before a frame.
pub(super) const LENGTH_OCTETS: usize = 4;

/// The first octet of a `PeerFrame` that holds a Raft message, or a part of one: fields 2 and 6, length-delimited.
const RAFT_TAGS: [u8; 2] = [0x12, 0x32];

/// Why octets are no frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Beyond what its kind may have.
    #[error("a frame of {0} octets is too long")]
    TooLong(usize),
    /// No `PeerFrame`.
    #[error("a frame does not parse: {0}")]
    Malformed(String),
}

/// What came on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Hello(Hello),
    Frame(Frame),
    /// A piece of a Raft message, and whether it is the last.
    Part(Vec<u8>, bool),
    /// An empty frame, or one of a kind that a newer version knows.
    Beat,
}

/// How long a frame may be whose message begins with `first`.
pub(super) fn limit(first: u8) -> usize {
    if RAFT_TAGS.contains(&first) {
        RAFT_FRAME_OCTETS_MAX
    } else {
        FRAME_OCTETS_MAX
    }
}

impl Frame {
    /// As it is to be written.
    pub(super) fn encode(self) -> Result<Encoded, FrameError> {
        use proto::peer_frame::Kind;
        let kind = match self {
            Self::Raft(octets) if octets.len() > RAFT_OCTETS_MAX => {
                return Err(FrameError::TooLong(octets.len()));
            }
            Self::Raft(octets) if octets.len() > LONG_OCTETS_MIN => return Ok(Encoded::Long(octets)),
            Self::Raft(octets) => Kind::Raft(octets),
            Self::Relay(relay) => Kind::Relay(relay.into()),
            Self::Order(octets) => Kind::Order(octets),
            Self::Counters(octets) => Kind::Counters(octets),
        };
        encode(kind).map(Encoded::Frame)
    }
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Encoded {
    /// A length and its message.
    Frame(Vec<u8>),
    /// A Raft message to be cut by [`encode_part`], behind which nothing else should wait.
    Long(Vec<u8>),
}

/// The part of a long Raft message that begins at `offset`, as a frame; and where the next one begins.
pub(super) fn encode_part(message: &[u8], offset: usize) -> Result<(Vec<u8>, usize), FrameError> {
    let end = message.len().min(offset + PART_OCTETS);
    let part = proto::RaftPart {
        octets: message[offset..end].to_vec(),
        last: end == message.len(),
    };
    let octets = encode(proto::peer_frame::Kind::RaftPart(part))?;
    Ok((octets, end))
}

/// Puts the parts of a long Raft message together.
#[derive(Debug, Default)]
pub(super) struct Assembly(Vec<u8>);

impl Assembly {
    /// The whole message with its last part.
    pub(super) fn add(&mut self, part: Vec<u8>, last: bool) -> Result<Option<Frame>, FrameError> {
        let length = self.0.len() + part.len();
        if length > RAFT_OCTETS_MAX {
            return Err(FrameError::TooLong(length));
        }
        self.0.extend_from_slice(&part);
        Ok(last.then(|| Frame::Raft(std::mem::take(&mut self.0))))
    }
}

/// A Hello with its length.
pub(super) fn encode_hello(hello: &Hello) -> Result<Vec<u8>, FrameError> {
    encode(proto::peer_frame::Kind::Hello(hello.clone().into()))
}

/// A frame without a kind.
pub(super) const BEAT: [u8; LENGTH_OCTETS] = [0; LENGTH_OCTETS];

fn encode(kind: proto::peer_frame::Kind) -> Result<Vec<u8>, FrameError> {
    let message = proto::PeerFrame { kind: Some(kind) };
    let length = message.encoded_len();
    let is_raft = matches!(
        message.kind,
        Some(proto::peer_frame::Kind::Raft(_) | proto::peer_frame::Kind::RaftPart(_))
    );
    let limit = if is_raft {
        RAFT_FRAME_OCTETS_MAX
    } else {
        FRAME_OCTETS_MAX
    };
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= limit)
        .ok_or(FrameError::TooLong(length))?;
    let mut octets = Vec::with_capacity(LENGTH_OCTETS + length);
    octets.extend_from_slice(&prefix.to_be_bytes());
    message
        .encode(&mut octets)
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(octets)
}

/// The message behind a length.
pub(super) fn decode(octets: &[u8]) -> Result<Received, FrameError> {
    use proto::peer_frame::Kind;
    if octets.len() > octets.first().map_or(FRAME_OCTETS_MAX, |first| limit(*first)) {
        return Err(FrameError::TooLong(octets.len()));
    }
    let message =
        proto::PeerFrame::decode(octets).map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(match message.kind {
        None => Received::Beat,
        Some(Kind::Hello(hello)) => Received::Hello(hello.into()),
        Some(Kind::Raft(octets)) => Received::Frame(Frame::Raft(octets)),
        Some(Kind::Relay(relay)) => Received::Frame(Frame::Relay(relay.try_into()?)),
        Some(Kind::RaftPart(part)) => Received::Part(part.octets, part.last),
        Some(Kind::Order(octets)) => Received::Frame(Frame::Order(octets)),
        Some(Kind::Counters(octets)) => Received::Frame(Frame::Counters(octets)),
    })
}

impl From<Relay> for proto::Relay {
    fn from(relay: Relay) -> Self {
        Self {
            epoch: relay.epoch,
            from: Some(relay.from.into()),
            to: Some(relay.to.into()),
            tunnel: relay.tunnel,
            session: relay.session,
            octets: relay.octets,
        }
    }
}

impl TryFrom<proto::Relay> for Relay {
    type Error = FrameError;

    fn try_from(relay: proto::Relay) -> Result<Self, FrameError> {
        Ok(Self {
            epoch: relay.epoch,
            from: address(relay.from)?,
            to: address(relay.to)?,
            tunnel: relay.tunnel,
            session: relay.session,
            octets: relay.octets,
        })
    }
}

impl From<SocketAddr> for proto::Address {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Self {
            ip,
            port: address.port().into(),
        }
    }
}

fn address(address: Option<proto::Address>) -> Result<SocketAddr, FrameError> {
    let parse = |address: &proto::Address| {
        let ip = match address.ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(address.ip.as_slice()).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(address.ip.as_slice()).ok()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::try_from(address.port).ok()?))
    };
    address
        .as_ref()
        .and_then(parse)
        .ok_or_else(|| FrameError::Malformed("a relay without its addresses".to_owned()))
}

impl From<Hello> for proto::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            cluster_id: hello.cluster_id,
            node: hello.node,
            program: hello.program,
            oldest_version: hello.oldest_version,
            newest_version: hello.newest_version,
            configuration: hello.configuration,
            boot: hello.boot,
            group: hello.past.group,
            known: hello.past.known,
            generation: hello.lineage.generation,
            fresh: hello.lineage.fresh,
        }
    }
}

impl From<proto::Hello> for Hello {
    fn from(hello: proto::Hello) -> Self {
        Self {
            cluster_id: hello.cluster_id,
            node: hello.node,
            program: hello.program,
            oldest_version: hello.oldest_version,
            newest_version: hello.newest_version,
            configuration: hello.configuration,
            boot: hello.boot,
            past: Past {
                group: hello.group,
                known: hello.known,
            },
            lineage: Lineage {
                generation: hello.generation,
                fresh: hello.fresh,
            },
        }
    }
}
