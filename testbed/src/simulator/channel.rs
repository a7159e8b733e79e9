//! The simulator's own reliable control channel (RFC 2661 §5.8): window, go-back retransmission, order.
//!
//! Deliberately plain and apart from the server's: no slow start, and a timeout sends everything outstanding
//! again. It works on bodies; the header is put before them when they leave, with the Nr of that moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdfast_protocol::header::{CONTROL_HEADER_LEN, ControlHeader, ControlPacket};
use holdfast_protocol::message::Message;
use holdfast_protocol::{SessionId, TunnelId};

/// Times that the timer runs out until the peer counts as dead: 1 + 2 + 4 + 8 + 16 s, the full cycle.
const MAX_TIMEOUTS: u32 = 5;
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(1);
const LONGEST_RETRANSMISSION: Duration = Duration::from_secs(16);
/// The same cycle for a channel that repeats at a steady pace.
const FULL_CYCLE: Duration = Duration::from_secs(31);
/// Messages from the future that are kept.
const MAX_EARLY: u16 = 64;

/// A message on its way to the peer.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The peer's session, for the header.
    pub session: Option<SessionId>,
    pub body: Vec<u8>,
    /// The caller's mark, handed back when the message leaves first and when it is acknowledged.
    pub tag: Tag,
}

impl Outgoing {
    /// Encodes `message` for the peer's session, if it concerns one.
    pub fn new(message: &Message, session: Option<SessionId>, tag: Tag) -> Self {
        // What the header holds is known only when the message leaves; the body does not depend on it.
        let placeholder = ControlHeader {
            tunnel: None,
            session,
            ns: 0,
            nr: 0,
        };
        let body = message.encode(placeholder, None).split_off(CONTROL_HEADER_LEN);
        Self { session, body, tag }
    }
}

/// What a message is about, for those who wait for it to leave or arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Plain,
    Hello,
    /// The ICRQ of this subscriber.
    Call(u32),
    /// An ICCN.
    Connect,
    /// A CDN.
    Clear,
}

/// A message from the peer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Our session, from the header.
    pub session: Option<SessionId>,
    pub body: Vec<u8>,
}

/// A datagram that leaves, and what is in it if it leaves for the first time.
#[derive(Clone, Debug)]
pub struct Departure {
    pub octets: Vec<u8>,
    pub first: Option<Tag>,
    /// It is a HELLO, whether for the first time or again.
    pub hello: bool,
}

/// The full cycle of retransmissions ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerDead;

/// One end of a reliable control channel.
#[derive(Debug)]
pub struct Channel {
    /// The peer's id of the tunnel, for the header; `None` until it is learnt.
    pub peer: Option<TunnelId>,
    /// Messages that the peer takes at once.
    pub peer_window: u16,
    /// Not acknowledged yet, the oldest first; the first of them carries `oldest`.
    queue: VecDeque<Outgoing>,
    oldest: u16,
    /// Of the queue: how many have left at least once, and which one leaves next.
    sent: usize,
    next: usize,
    timeouts: u32,
    deadline: Option<Duration>,
    /// Between two copies of a message, always; absent: 1, 2, 4, 8 and 16 s.
    repeat: Option<Duration>,
    expected: u16,
    early: BTreeMap<u16, Incoming>,
    acknowledgement_due: bool,
    /// Since when the oldest message waits for its acknowledgement.
    unanswered_since: Option<Duration>,
    /// Messages sent again.
    pub retransmitted: u64,
}

impl Channel {
    pub fn new() -> Self {
        Self {
            peer: None,
            // RFC 2661 §4.4.3: a peer that names no window takes four.
            peer_window: 4,
            queue: VecDeque::new(),
            oldest: 0,
            sent: 0,
            next: 0,
            timeouts: 0,
            deadline: None,
            repeat: None,
            expected: 0,
            early: BTreeMap::new(),
            acknowledgement_due: false,
            unanswered_since: None,
            retransmitted: 0,
        }
    }

    /// Queues a message.
    pub fn send(&mut self, message: Outgoing) {
        self.queue.push_back(message);
    }

    /// From here on repeats every `repeat` what is not acknowledged; the full cycle takes as long as before.
    pub fn set_repeat(&mut self, repeat: Option<Duration>) {
        self.repeat = repeat;
    }

    /// Whether everything sent was acknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Since when nothing of what was sent has been acknowledged.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.unanswered_since
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// Takes a datagram of the peer. `acknowledged` gets the tags of messages that are now acknowledged,
    /// `deliver` the messages whose turn has come.
    pub fn handle_input(
        &mut self,
        now: Duration,
        packet: &ControlPacket<'_>,
        acknowledged: &mut Vec<Tag>,
        deliver: &mut Vec<Incoming>,
    ) {
        self.take_acknowledgement(now, packet.header.nr, acknowledged);
        if packet.is_zlb() {
            return;
        }
        let message = Incoming {
            session: packet.header.session,
            body: packet.body.to_vec(),
        };
        match packet.header.ns.wrapping_sub(self.expected) {
            0 => {
                self.acknowledgement_due = true;
                self.expected = self.expected.wrapping_add(1);
                deliver.push(message);
                while let Some(next) = self.early.remove(&self.expected) {
                    self.expected = self.expected.wrapping_add(1);
                    deliver.push(next);
                }
            }
            ahead @ 1..0x8000 => {
                if ahead < MAX_EARLY {
                    self.early.insert(packet.header.ns, message);
                }
            }
            // An old one: our acknowledgement was lost or is late.
            0x8000.. => self.acknowledgement_due = true,
        }
    }

    /// Sends everything outstanding again, or finds the peer dead.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), PeerDead> {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        if self.repeat.is_none() {
            self.timeouts += 1;
        }
        let gave_up = self
            .unanswered_since
            .is_some_and(|since| now >= since + FULL_CYCLE);
        if self.timeouts == MAX_TIMEOUTS || self.repeat.is_some() && gave_up {
            return Err(PeerDead);
        }
        self.next = 0;
        self.deadline = Some(now + self.patience());
        Ok(())
    }

    /// The next datagram to send: a message within the window, or the acknowledgement that is due.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Departure> {
        let open = usize::from(self.peer_window).min(self.queue.len());
        if self.next < open {
            let (index, ns) = (self.next, self.oldest.wrapping_add(self.next as u16));
            let message = &self.queue[index];
            let mut octets = self
                .header(message.session, ns)
                .encode(message.body.len())
                .to_vec();
            octets.extend_from_slice(&message.body);
            let hello = message.tag == Tag::Hello;
            let first = (index >= self.sent).then_some(message.tag);
            self.next += 1;
            self.retransmitted += u64::from(first.is_none());
            self.sent = self.sent.max(self.next);
            let patience = self.patience();
            self.deadline.get_or_insert(now + patience);
            self.unanswered_since.get_or_insert(now);
            self.acknowledgement_due = false;
            return Some(Departure { octets, first, hello });
        }
        if !std::mem::take(&mut self.acknowledgement_due) {
            return None;
        }
        // A ZLB carries the next number and does not use it up.
        let ns = self.oldest.wrapping_add(self.sent as u16);
        Some(Departure {
            octets: self.header(None, ns).encode(0).to_vec(),
            first: None,
            hello: false,
        })
    }

    fn header(&self, session: Option<SessionId>, ns: u16) -> ControlHeader {
        ControlHeader {
            tunnel: self.peer,
            session,
            ns,
            nr: self.expected,
        }
    }

    fn take_acknowledgement(&mut self, now: Duration, nr: u16, acknowledged: &mut Vec<Tag>) {
        let count = usize::from(nr.wrapping_sub(self.oldest));
        if count == 0 || count > self.sent {
            return;
        }
        acknowledged.extend(self.queue.drain(..count).map(|message| message.tag));
        self.oldest = nr;
        self.sent -= count;
        self.next = self.next.saturating_sub(count);
        self.timeouts = 0;
        self.deadline = (self.sent > 0).then(|| now + self.patience());
        self.unanswered_since = (self.sent > 0).then_some(now);
    }

    fn patience(&self) -> Duration {
        let doubled = (FIRST_RETRANSMISSION * 2_u32.pow(self.timeouts)).min(LONGEST_RETRANSMISSION);
        self.repeat.unwrap_or(doubled)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::header::{self, Packet};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn message(tag: Tag) -> Outgoing {
        Outgoing {
            session: None,
            body: vec![0x80, 0x08, 0, 0, 0, 0, 0, 6],
            tag,
        }
    }

    fn feed(channel: &mut Channel, octets: &[u8]) -> (Vec<Tag>, usize) {
        let (mut tags, mut delivered) = (Vec::new(), Vec::new());
        let Ok(Packet::Control(packet)) = header::decode(octets) else {
            panic!("control expected")
        };
        channel.handle_input(NOW, &packet, &mut tags, &mut delivered);
        (tags, delivered.len())
    }

    fn from_peer(ns: u16, nr: u16, body: bool) -> Vec<u8> {
        let body: &[u8] = if body {
            &[0x80, 0x08, 0, 0, 0, 0, 0, 6]
        } else {
            &[]
        };
        let header = ControlHeader {
            tunnel: TunnelId::new(1),
            session: None,
            ns,
            nr,
        };
        [&header.encode(body.len())[..], body].concat()
    }

    #[test]
    fn the_window_bounds_what_is_outstanding() {
        let mut channel = Channel::new();
        for index in 0..6 {
            channel.send(message(Tag::Call(index)));
        }
        let sent: Vec<_> = std::iter::from_fn(|| channel.poll_transmit(NOW)).collect();
        assert_eq!(sent.len(), 4);
        assert_eq!(sent[3].first, Some(Tag::Call(3)));
        let (tags, _) = feed(&mut channel, &from_peer(0, 2, false));
        assert_eq!(tags, [Tag::Call(0), Tag::Call(1)]);
        assert_eq!(std::iter::from_fn(|| channel.poll_transmit(NOW)).count(), 2);
    }

    #[test]
    fn the_full_cycle_takes_31_seconds_and_then_the_peer_is_dead() {
        let mut channel = Channel::new();
        channel.send(message(Tag::Hello));
        assert!(channel.poll_transmit(NOW).is_some());
        let mut waited = Vec::new();
        let mut now = NOW;
        loop {
            let deadline = channel.poll_timeout().unwrap();
            waited.push((deadline - now).as_secs());
            now = deadline;
            if channel.handle_timeout(now).is_err() {
                break;
            }
            let again = channel.poll_transmit(now).unwrap();
            assert_eq!(again.first, None, "not for the first time");
        }
        assert_eq!(waited, [1, 2, 4, 8, 16]);
    }

    #[test]
    fn at_a_steady_pace_the_full_cycle_is_as_long() {
        let mut channel = Channel::new();
        channel.set_repeat(Some(Duration::from_millis(50)));
        channel.send(message(Tag::Hello));
        assert!(channel.poll_transmit(NOW).unwrap().hello);
        let mut copies = 1;
        let end = loop {
            let now = channel.poll_timeout().unwrap();
            if channel.handle_timeout(now).is_err() {
                break now;
            }
            let again = channel.poll_transmit(now).unwrap();
            assert!(again.hello && again.first.is_none());
            copies += 1;
        };
        assert_eq!((end - NOW, copies), (FULL_CYCLE, 620));
    }

    #[test]
    fn order_is_restored_and_repeats_are_acknowledged_only() {
        let mut channel = Channel::new();
        assert_eq!(feed(&mut channel, &from_peer(1, 0, true)), (vec![], 0));
        assert!(channel.poll_transmit(NOW).is_none(), "a gap is not acknowledged");
        assert_eq!(feed(&mut channel, &from_peer(0, 0, true)), (vec![], 2));
        assert_eq!(channel.poll_transmit(NOW).unwrap().octets[10..12], [0, 2]);
        assert!(channel.poll_transmit(NOW).is_none());
        assert_eq!(feed(&mut channel, &from_peer(0, 0, true)), (vec![], 0));
        assert_eq!(channel.poll_transmit(NOW).unwrap().octets.len(), 12);
    }
}
