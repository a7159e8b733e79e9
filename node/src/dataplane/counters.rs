//! Counters of the packet path: reasons for a drop, totals per shard, totals per session.
//!
//! Every counter has one writer, the shard it belongs to: it is loaded, added to and stored without a locked
//! instruction. Readers on other threads add up the shards; a sum may be a few packets old but never decreases.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::rate::Buckets;
use super::sequence::SendSequence;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet was not forwarded. The first [`DropReason::OF_SESSIONS`] are counted per session as well.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All of them, in order of their index.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The name that metrics and logs use.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// User data before the session's network protocol is open (S-91).
    NotOpen = "not_open",
    /// Ns older than the expected one (S-95).
    SequenceOld = "sequence_old",
    /// No Ns although the session requires it (S-96).
    SequenceMissing = "sequence_missing",
    /// All committed Ns of the session are used up, or another node has just begun to give them.
    SequenceExhausted = "sequence_exhausted",
    /// Not a well-formed IPv4 or IPv6 packet.
    MalformedIp = "malformed_ip",
    /// The source address does not belong to the session (S-99).
    SourceAddress = "source_address",
    /// L2TP through L2TP: to or from a tunnel endpoint of ours, inside a session (S-100).
    Recursion = "recursion",
    /// Larger than the session's MTU and not to be fragmented (S-101).
    TooBig = "too_big",

    /// A subscriber that plays the router or the DHCPv6 server (S-139).
    Guard = "ipv6_guard",
    /// IPv6 for the link alone, or for a group, and nothing that is answered there; or to the prefixes of the session that sends it,
    /// which would come back for ever.
    LinkScope = "ipv6_link_scope",
    /// A filter of the session denies it.
    Filter = "filter",
    /// From a subscriber, denied by a filter and not answered: too many others were in this second.
    FilterAnswerRate = "filter_answer_rate",
    /// From a subscriber, beyond the rate of the session.
    RateUp = "rate_up",
    /// For a subscriber: it waited too long for the session's rate, or too many did.
    RateDown = "rate_down",
    /// For a subscriber: it would have had to wait, and there is no room on this shard, or it is too long for it.
    RateFull = "rate_full",
    /// A data message without a whole PPP protocol field, or with nothing behind it (S-92).
    EmptyPpp = "empty_ppp",
    /// The node forwards no user data: it has no TUN device.
    NoTun = "no_tun",
    /// The TUN device did not take the packet.
    TunRefused = "tun_refused",
    /// Shorter than the smallest header (S-1).
    Runt = "runt",
    /// Not L2TP version 2 (S-2).
    Version = "version",
    /// A control message whose flag bits are not those of one (S-3).
    Flags = "flags",
    /// Length field beyond the datagram or shorter than the header (S-4).
    Length = "length",
    /// Offset Size beyond the end (S-6).
    Offset = "offset",
    /// A datagram larger than the receive buffer.
    Truncated = "truncated",
    /// No such tunnel (S-7, S-90).
    UnknownTunnel = "unknown_tunnel",
    /// No such session in the tunnel, or session 0 (S-90).
    UnknownSession = "unknown_session",
    /// From another address or port than the tunnel's peer (S-8).
    Spoof = "spoof",
    /// A packet for the subscribers whose destination no session has.
    NoRoute = "no_route",
    /// The control side was slower than the messages for it.
    InboundFull = "inbound_full",
    /// A message with tunnel id 0 while half of the control side's queue was taken: established tunnels have the rest.
    SetupFull = "setup_full",
    /// The shard to which a datagram was to be handed over was slower than we.
    HandOverFull = "hand_over_full",
    /// For a sequenced session that another node numbers, while that node is dead or not known yet.
    NoOwner = "no_owner",
    /// For a sequenced session that another node numbers: more than may be passed to it, or no connection to it.
    PassFull = "pass_full",
    /// Passed here by another node although the session is not numbered here: ownership has just moved.
    PassAstray = "pass_astray",
    /// An LCP Echo-Request beyond those that a shard answers in one second.
    EchoRate = "echo_rate",
    /// This node may not forward: it has not followed the cluster for the isolation limit, or not yet.
    Isolated = "isolated",
    /// It had waited in a socket, the TUN device or a mailbox while its packet thread stalled.
    Backlog = "backlog",
    /// A PPP frame whose deadline had passed when its turn to be sent came.
    Stale = "stale",
    /// No socket of ours has the address family of the peer.
    NoSocket = "no_socket",
    /// A control or PPP message longer than [`crate::io::MAX_DATAGRAM`] octets.
    Oversize = "oversize",
    /// A datagram larger than the MTU of the interface it leaves by: the sessions' MTU is set too high for it.
    OuterTooBig = "outer_too_big",
    /// The kernel did not take a datagram.
    SendFailed = "send_failed",
    /// The kernel had no room for it in a socket of ours: this thread was slower than the LACs. The kernel counts a large
    /// message of many datagrams once, and tells with the next message that arrives.
    SocketFull = "socket_full",
}

impl DropReason {
    /// How many reasons, from the first, are counted per session too.
    pub const OF_SESSIONS: usize = DropReason::TooBig as usize + 1;
}

/// Adds to a counter of which the caller is the only writer.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// "Nothing was received yet" where a time is noted in milliseconds since boot.
const NEVER: u64 = 0;

fn since_boot(noted_ms: u64) -> Option<Duration> {
    (noted_ms != NEVER).then(|| Duration::from_millis(noted_ms))
}

/// What one shard counts. Only that shard's thread may call the `count_` methods.
#[derive(Debug)]
pub struct ShardCounters {
    received: AtomicU64,
    sent: AtomicU64,
    uplink: AtomicU64,
    downlink: AtomicU64,
    control: AtomicU64,
    ppp: AtomicU64,
    handed_over: AtomicU64,
    taken_over: AtomicU64,
    passed_on: AtomicU64,
    passed_in: AtomicU64,
    lcp_echoes: AtomicU64,
    stalls: AtomicU64,
    fallbacks: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            uplink: AtomicU64::new(0),
            downlink: AtomicU64::new(0),
            control: AtomicU64::new(0),
            ppp: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            taken_over: AtomicU64::new(0),
            passed_on: AtomicU64::new(0),
            passed_in: AtomicU64::new(0),
            lcp_echoes: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            drops: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
        }
    }
}

/// Totals of one shard since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Datagrams read from this shard's sockets.
    pub received: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// IP packets from subscribers passed on.
    pub uplink: u64,
    /// IP packets to subscribers encapsulated (a fragment counts as one).
    pub downlink: u64,
    /// Control messages passed to the control side.
    pub control: u64,
    /// PPP frames passed to the control side.
    pub ppp: u64,
    /// Datagrams of other shards' tunnels handed to them.
    pub handed_over: u64,
    /// Datagrams that other shards handed to this one.
    pub taken_over: u64,
    /// IP packets for sequenced sessions passed to the node or the shard that numbers them.
    pub passed_on: u64,
    /// IP packets for sequenced sessions that other nodes or shards passed to this one.
    pub passed_in: u64,
    /// LCP Echo-Requests answered.
    pub lcp_echoes: u64,
    /// Times that the packet thread did not run for more than 200 ms and threw away what had waited.
    pub stalls: u64,
    /// Times that the kernel did not do something for many packets at once: an offload or io_uring that it lacks, counted
    /// by each shard at the start, and a burst that had to be sent datagram by datagram.
    pub fallbacks: u64,
    /// Drops by `DropReason as usize`.
    pub drops: Vec<u64>,
}

impl ShardTotals {
    /// How many packets were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }
}

impl ShardCounters {
    pub(crate) fn count_received(&self, datagrams: u64) {
        add(&self.received, datagrams);
    }
    pub(crate) fn count_sent(&self, datagrams: u64) {
        add(&self.sent, datagrams);
    }
    pub(crate) fn count_uplink(&self, packets: u64) {
        add(&self.uplink, packets);
    }
    /// Packets that the TUN took, and those that it refused.
    pub(crate) fn count_to_tun(&self, taken: u64, refused: u64) {
        self.count_uplink(taken);
        self.count_drops(DropReason::TunRefused, refused);
    }
    pub(crate) fn count_downlink(&self) {
        add(&self.downlink, 1);
    }
    pub(crate) fn count_control(&self) {
        add(&self.control, 1);
    }
    pub(crate) fn count_ppp(&self) {
        add(&self.ppp, 1);
    }
    pub(crate) fn count_handed_over(&self, datagrams: u64) {
        add(&self.handed_over, datagrams);
    }
    pub(crate) fn count_taken_over(&self, datagrams: u64) {
        add(&self.taken_over, datagrams);
    }
    pub(crate) fn count_passed_on(&self) {
        add(&self.passed_on, 1);
    }
    pub(crate) fn count_passed_in(&self, packets: u64) {
        add(&self.passed_in, packets);
    }
    pub(crate) fn count_lcp_echo(&self) {
        add(&self.lcp_echoes, 1);
    }
    pub(crate) fn count_stall(&self) {
        add(&self.stalls, 1);
    }
    pub(crate) fn count_fallbacks(&self, times: u64) {
        add(&self.fallbacks, times);
    }
    pub(crate) fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }
    pub(crate) fn count_drops(&self, reason: DropReason, packets: u64) {
        add(&self.drops[reason as usize], packets);
    }

    /// The totals now. Any thread may ask.
    pub fn totals(&self) -> ShardTotals {
        ShardTotals {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            uplink: self.uplink.load(Relaxed),
            downlink: self.downlink.load(Relaxed),
            control: self.control.load(Relaxed),
            ppp: self.ppp.load(Relaxed),
            handed_over: self.handed_over.load(Relaxed),
            taken_over: self.taken_over.load(Relaxed),
            passed_on: self.passed_on.load(Relaxed),
            passed_in: self.passed_in.load(Relaxed),
            lcp_echoes: self.lcp_echoes.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            drops: self.drops.iter().map(|counter| counter.load(Relaxed)).collect(),
        }
    }
}

/// What one shard counts for one session: a cache line of its own, so that shards do not fight over it. Drops stop at
/// 2^32 - 1.
#[derive(Debug, Default)]
#[repr(align(64))]
struct SessionCounters {
    received_packets: AtomicU64,
    received_octets: AtomicU64,
    sent_packets: AtomicU64,
    sent_octets: AtomicU64,
    drops: [AtomicU32; DropReason::OF_SESSIONS],
}

/// Totals of one session since its forwarding entry was made. Octets are those of the IP packets, so that they do not
/// depend on the encapsulation; PPP control frames are not counted. What the kernel refuses in the end (counted by the shard as
/// `tun_refused`, `outer_too_big` or `send_failed`) is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// From the subscriber.
    pub received_packets: u64,
    /// From the subscriber.
    pub received_octets: u64,
    /// To the subscriber.
    pub sent_packets: u64,
    /// To the subscriber.
    pub sent_octets: u64,
    /// Drops by `DropReason as usize`, of the first [`DropReason::OF_SESSIONS`].
    pub drops: [u64; DropReason::OF_SESSIONS],
}

impl SessionTotals {
    /// How many packets of the session were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }
}

/// The part of a session that its actor and all shards see: counters and the send sequence.
#[derive(Debug)]
pub struct SessionShared {
    shards: Box<[SessionCounters]>,
    /// Written by the shard of the session's tunnel alone.
    last_received_ms: AtomicU64,
    /// Ns of the data messages that we send, if the session is sequenced.
    pub sequence: SendSequence,
    /// What is left of the session's rates.
    pub buckets: Buckets,
}

impl SessionShared {
    /// For a session forwarded by `shards` shards, all of the node's ([`crate::io::Dataplane::shards`]). `sequence` holds the Ns that are committed for this node's use; see
    /// [`SendSequence::new`].
    pub fn new(shards: usize, sequence: SendSequence) -> Self {
        let shards = (0..shards).map(|_| SessionCounters::default()).collect();
        Self {
            shards,
            last_received_ms: AtomicU64::new(NEVER),
            sequence,
            buckets: Buckets::default(),
        }
    }

    /// For how many shards it was made.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn count_received(&self, shard: usize, octets: usize) {
        let counters = &self.shards[shard];
        add(&counters.received_packets, 1);
        add(&counters.received_octets, octets as u64);
    }

    pub(crate) fn count_sent(&self, shard: usize, octets: usize) {
        let counters = &self.shards[shard];
        add(&counters.sent_packets, 1);
        add(&counters.sent_octets, octets as u64);
    }

    pub(crate) fn count_drop(&self, shard: usize, reason: DropReason) {
        if let Some(counter) = self.shards[shard].drops.get(reason as usize) {
            counter.store(counter.load(Relaxed).saturating_add(1), Relaxed);
        }
    }

    /// A new millisecond alone is written: other shards read what shares the cache line with it for each packet.
    pub(crate) fn note_received(&self, now_ms: u64) {
        if self.last_received_ms.load(Relaxed) != now_ms {
            self.last_received_ms.store(now_ms, Relaxed);
        }
    }

    /// When the last data message came from the LAC, PPP control included: time since boot, by the millisecond.
    pub fn last_received(&self) -> Option<Duration> {
        since_boot(self.last_received_ms.load(Relaxed))
    }

    /// The totals over all shards now.
    pub fn totals(&self) -> SessionTotals {
        let mut totals = SessionTotals::default();
        for shard in &self.shards {
            totals.received_packets += shard.received_packets.load(Relaxed);
            totals.received_octets += shard.received_octets.load(Relaxed);
            totals.sent_packets += shard.sent_packets.load(Relaxed);
            totals.sent_octets += shard.sent_octets.load(Relaxed);
            for (total, counter) in totals.drops.iter_mut().zip(&shard.drops) {
                *total += u64::from(counter.load(Relaxed));
            }
        }
        totals
    }
}

/// The part of a tunnel that its actor and its shard see.
#[derive(Debug, Default)]
pub struct TunnelShared {
    last_received_ms: AtomicU64,
}

impl TunnelShared {
    pub(crate) fn note_received(&self, now_ms: u64) {
        self.last_received_ms.store(now_ms, Relaxed);
    }

    /// When the last datagram came from the tunnel's peer: time since boot, by the millisecond.
    pub fn last_received(&self) -> Option<Duration> {
        since_boot(self.last_received_ms.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_the_shards() {
        let shared = SessionShared::new(2, SendSequence::default());
        shared.count_received(0, 100);
        shared.count_received(1, 50);
        shared.count_sent(1, 40);
        shared.count_drop(0, DropReason::SourceAddress);
        shared.count_drop(0, DropReason::Spoof); // not a reason of sessions: ignored
        shared.note_received(77);
        let totals = shared.totals();
        assert_eq!((totals.received_packets, totals.received_octets), (2, 150));
        assert_eq!((totals.sent_packets, totals.sent_octets), (1, 40));
        assert_eq!(
            (
                totals.dropped(DropReason::SourceAddress),
                totals.dropped(DropReason::Spoof)
            ),
            (1, 0)
        );
        assert_eq!(shared.last_received(), Some(Duration::from_millis(77)));
        assert_eq!(TunnelShared::default().last_received(), None);
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> =
            DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn a_session_costs_one_cache_line_a_shard() {
        assert_eq!(std::mem::size_of::<SessionCounters>(), 64);
    }
}
