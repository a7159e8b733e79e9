//! Which packets are heard, and which were heard before (RFC 5176 §2.3, §3.3, §6).
//!
//! What does not prove that a client sent it just now is dropped without an answer: the source must be a client's, the Request
//! Authenticator right, a Message-Authenticator that is there too, and the Event-Timestamp, required unless configured otherwise, within
//! the window around now. Without it nothing tells a recorded packet from a new one once the cache has forgotten it.
//!
//! Each packet is acted upon once and answered alike for as long as its Event-Timestamp could be believed. Its octets are what counts,
//! told by the authenticator that signs them: one with Event-Timestamp is the same packet from whatever port it comes again, or whoever
//! recorded it could send it from another. Each node has its own cache. Another node knows a CoA-Request by its mark in the session's row, and
//! a session that began after the request was made is not meant by it, unless the request names its Acct-Session-Id.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::answer::{self, ErrorCause};
use crate::aaa::radius::authenticator::has_message_authenticator;
use crate::aaa::radius::dictionary::{Code, attribute};
use crate::aaa::radius::{Packet, verify_request};
use crate::config::Secret;
use crate::lns::ordered::Mark;

/// Requests that are remembered at once. Further ones are refused until the window of earlier ones is over.
pub const REMEMBERED_MAX: usize = 16_384;

/// By how much a request may seem to be older than a session that it means: a second of Event-Timestamp, a step of table time, and what
/// table time lags behind after a change of leader.
const AGE_TOLERANCE: Duration = Duration::from_secs(5);

/// Who may order what, and how it has to be proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Those who may.
    pub clients: Vec<Client>,
    /// How far an Event-Timestamp may be from now, either way.
    pub window: Duration,
    /// A request without Event-Timestamp is dropped.
    pub require_event_timestamp: bool,
    /// A request without Message-Authenticator is dropped.
    pub require_message_authenticator: bool,
}

/// Who may order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// By which it is told from others.
    pub label: String,
    /// Its address, or those of several.
    pub net: IpNet,
    /// Shared with it.
    pub secret: Secret,
}

impl Policy {
    /// The client with this address; of several the one that is named most exactly.
    fn client(&self, address: IpAddr) -> Option<&Client> {
        let address = address.to_canonical();
        let meant = self.clients.iter().filter(|client| client.net.contains(&address));
        meant.max_by_key(|client| client.net.prefix_len())
    }
}

/// Why a packet is dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Dropped {
    /// The source address is no client's.
    #[error("its source is no [[coa_client]]")]
    UnknownClient,
    /// It is no packet, or none that is expected here.
    #[error("it is no CoA-Request or Disconnect-Request")]
    Malformed,
    /// The Request Authenticator or the Message-Authenticator is wrong.
    #[error("its authenticator is wrong: is the secret the same on both sides?")]
    Unverified,
    /// It has no Message-Authenticator, which is required.
    #[error("it has no Message-Authenticator, which [coa] requires")]
    MessageAuthenticatorMissing,
    /// It has no Event-Timestamp, or several, or one of a wrong length.
    #[error("it has no Event-Timestamp, which [coa] requires")]
    TimestampMissing,
    /// Its Event-Timestamp is too far from now.
    #[error("its Event-Timestamp is too far from now: a replay, or clocks that differ")]
    OutOfWindow,
    /// The first copy has no answer yet; that one will do.
    #[error("the same request is being carried out")]
    UnderWay,
}

/// What a packet comes to.
#[derive(Debug)]
pub enum Arrival {
    /// Nothing.
    Drop(Dropped),
    /// It was here before: the same answer.
    Again(Arc<[u8]>),
    /// Too many are remembered: a NAK that is not.
    Full(Vec<u8>),
    /// Work, whose outcome goes to [`Server::answer`].
    Work(Request),
}

/// A request that was verified.
#[derive(Debug)]
pub struct Request {
    key: Key,
    /// Seconds since 1970; `None`: it does not say.
    made_at: Option<u64>,
    octets: Vec<u8>,
    secret: Secret,
}

impl Request {
    /// The packet.
    pub fn packet(&self) -> Packet<'_> {
        Packet::parse(&self.octets).expect("it was verified")
    }

    /// Whether a session is to be ended.
    pub fn is_disconnect(&self) -> bool {
        self.packet().code() == Code::DISCONNECT_REQUEST
    }

    /// What tells it from all others, at every node; `None`: nothing does.
    pub fn mark(&self) -> Option<Mark> {
        let made_at = u32::try_from(self.made_at?).ok()?;
        Some(Mark::new(made_at, self.key.authenticator))
    }

    /// Whether it was made before a session began that has lasted so long by table time: it cannot mean that one.
    pub fn is_older_than(&self, session_age: Duration, unix_s: u64) -> bool {
        let age = self.made_at.map(|made_at| unix_s.saturating_sub(made_at));
        age.is_some_and(|age| Duration::from_secs(age) > session_age + AGE_TOLERANCE)
    }

    fn encode(&self, outcome: Result<(), ErrorCause>) -> Option<Vec<u8>> {
        answer::encode(&self.packet(), outcome, self.secret.expose()).ok()
    }
}

/// Tells a packet from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: IpAddr,
    /// 0 if an Event-Timestamp tells when it was made.
    port: u16,
    id: u8,
    authenticator: [u8; 16],
}

/// See the module.
#[derive(Debug, Default)]
pub struct Server {
    /// `None`: being carried out.
    remembered: HashMap<Key, Option<Arc<[u8]>>>,
    /// When which is forgotten, with a number that tells those of one moment apart.
    forget: BTreeMap<(Duration, u64), Key>,
    next: u64,
}

impl Server {
    /// A datagram. `now` is monotonic, `unix_s` the time of day.
    pub fn handle_input(
        &mut self,
        policy: &Policy,
        now: Duration,
        unix_s: u64,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Arrival {
        self.expire(now);
        match verified(policy, unix_s, from, datagram) {
            Err(why) => Arrival::Drop(why),
            Ok((request, keep)) => self.heard(now + keep, request),
        }
    }

    fn heard(&mut self, until: Duration, request: Request) -> Arrival {
        match self.remembered.get(&request.key) {
            Some(Some(answer)) => return Arrival::Again(answer.clone()),
            Some(None) => return Arrival::Drop(Dropped::UnderWay),
            None => {}
        }
        if self.remembered.len() >= REMEMBERED_MAX {
            let refused = request.encode(Err(ErrorCause::ResourcesUnavailable));
            return refused.map_or(Arrival::Drop(Dropped::Malformed), Arrival::Full);
        }
        self.remembered.insert(request.key, None);
        self.forget.insert((until, self.next), request.key);
        self.next += 1;
        Arrival::Work(request)
    }

    /// What became of a request, as its client is told, now and again. `None`: what must be copied does not fit into a packet.
    pub fn answer(&mut self, request: &Request, outcome: Result<(), ErrorCause>) -> Option<Arc<[u8]>> {
        let answer: Arc<[u8]> = request.encode(outcome)?.into();
        if let Some(remembered) = self.remembered.get_mut(&request.key) {
            *remembered = Some(answer.clone());
        }
        Some(answer)
    }

    /// How many requests are remembered.
    pub fn remembered(&self) -> usize {
        self.remembered.len()
    }

    fn expire(&mut self, now: Duration) {
        while let Some(entry) = self.forget.first_entry().filter(|entry| entry.key().0 <= now) {
            self.remembered.remove(&entry.remove());
        }
    }
}

/// The request, and for how long it could be believed.
fn verified(
    policy: &Policy,
    unix_s: u64,
    from: SocketAddr,
    datagram: &[u8],
) -> Result<(Request, Duration), Dropped> {
    let client = policy.client(from.ip()).ok_or(Dropped::UnknownClient)?;
    let code = Packet::parse(datagram).map_err(|_| Dropped::Malformed)?.code();
    if !matches!(code, Code::COA_REQUEST | Code::DISCONNECT_REQUEST) {
        return Err(Dropped::Malformed);
    }
    let packet = verify_request(datagram, client.secret.expose()).map_err(|_| Dropped::Unverified)?;
    if policy.require_message_authenticator && !has_message_authenticator(&packet) {
        return Err(Dropped::MessageAuthenticatorMissing);
    }
    let made_at = event_timestamp(&packet)?;
    if made_at.is_none() && policy.require_event_timestamp {
        return Err(Dropped::TimestampMissing);
    }
    let keep = match made_at {
        None => policy.window,
        Some(made_at) if made_at.abs_diff(unix_s) > policy.window.as_secs() => {
            return Err(Dropped::OutOfWindow);
        }
        // A client whose clock is ahead is believed longer.
        Some(made_at) => policy.window + Duration::from_secs(made_at.saturating_sub(unix_s) + 1),
    };
    let key = Key {
        address: from.ip().to_canonical(),
        port: if made_at.is_some() { 0 } else { from.port() },
        id: packet.id(),
        authenticator: packet.authenticator(),
    };
    let request = Request {
        key,
        made_at,
        octets: packet.octets().to_vec(),
        secret: client.secret.clone(),
    };
    Ok((request, keep))
}

/// Seconds since 1970.
fn event_timestamp(packet: &Packet<'_>) -> Result<Option<u64>, Dropped> {
    let mut all = packet.all(attribute::EVENT_TIMESTAMP);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(a), None) => a
            .u32()
            .map(|made_at| Some(u64::from(made_at)))
            .map_err(|_| Dropped::TimestampMissing),
        (Some(_), Some(_)) => Err(Dropped::TimestampMissing),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aaa::radius::Builder;

    const SECRET: &[u8] = b"radsecret";
    const NOW: Duration = Duration::from_secs(1000);
    const UNIX: u64 = 1_800_000_000;

    fn policy() -> Policy {
        let client = |net: &str, secret: &str| Client {
            label: net.to_owned(),
            net: net.parse().expect("a network"),
            secret: Secret::new(secret),
        };
        Policy {
            clients: vec![client("10.0.0.0/8", "other"), client("10.0.0.5/32", "radsecret")],
            window: Duration::from_secs(300),
            require_event_timestamp: true,
            require_message_authenticator: false,
        }
    }

    fn from(port: u16) -> SocketAddr {
        ([10, 0, 0, 5], port).into()
    }

    fn request(id: u8, fill: impl FnOnce(&mut Builder)) -> Vec<u8> {
        let mut builder = Builder::new(Code::DISCONNECT_REQUEST, id);
        builder.text(1, "bob");
        fill(&mut builder);
        builder.finish_request(SECRET).expect("it fits")
    }

    fn stamped(id: u8, at: u64) -> Vec<u8> {
        request(id, |b| _ = b.u32(55, at as u32))
    }

    fn dropped(server: &mut Server, policy: &Policy, from: SocketAddr, octets: &[u8]) -> Option<Dropped> {
        match server.handle_input(policy, NOW, UNIX, from, octets) {
            Arrival::Drop(why) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn who_is_heard() {
        let mut server = Server::default();
        let mut ask =
            |policy: &Policy, from: SocketAddr, octets: &[u8]| dropped(&mut server, policy, from, octets);
        let plain = policy();
        let good = stamped(1, UNIX);
        assert_eq!(
            ask(&plain, ([192, 0, 2, 1], 5).into(), &good),
            Some(Dropped::UnknownClient)
        );
        // Another client's secret.
        assert_eq!(
            ask(&plain, ([10, 0, 0, 6], 5).into(), &good),
            Some(Dropped::Unverified)
        );
        assert_eq!(ask(&plain, from(5), &good[..19]), Some(Dropped::Malformed));
        let mut forged = good.clone();
        forged[21] ^= 1;
        assert!(ask(&plain, from(5), &forged).is_some());
        let accounting = Builder::new(Code::ACCOUNTING_REQUEST, 1)
            .u32(55, UNIX as u32)
            .finish_request(SECRET);
        assert_eq!(
            ask(&plain, from(5), &accounting.expect("it fits")),
            Some(Dropped::Malformed)
        );
        let unsigned = request(2, |b| _ = b.octets(80, &[0; 16]).u32(55, UNIX as u32));
        assert_eq!(ask(&plain, from(5), &unsigned), Some(Dropped::Unverified));
        assert_eq!(
            ask(&plain, from(5), &request(3, |_| ())),
            Some(Dropped::TimestampMissing)
        );
        let twice = request(4, |b| _ = b.u32(55, UNIX as u32).u32(55, UNIX as u32));
        assert_eq!(ask(&plain, from(5), &twice), Some(Dropped::TimestampMissing));
        let strict = Policy {
            require_message_authenticator: true,
            ..policy()
        };
        assert_eq!(
            ask(&strict, from(5), &good),
            Some(Dropped::MessageAuthenticatorMissing)
        );
        let signed = request(5, |b| _ = b.message_authenticator().u32(55, UNIX as u32));
        assert_eq!(ask(&strict, from(5), &signed), None);
        assert_eq!(ask(&plain, from(5), &good), None);
        // As an IPv6 socket that takes IPv4 too would name it.
        let mapped: SocketAddr = "[::ffff:10.0.0.5]:5".parse().expect("an address");
        assert_eq!(ask(&plain, mapped, &stamped(9, UNIX)), None);
    }

    /// Ten minutes old: dropped. Within the window: carried out once, and answered alike as often as it comes.
    #[test]
    fn s_157_a_replay_changes_nothing() {
        let mut server = Server::default();
        let policy = policy();
        for at in [UNIX - 600, UNIX - 301, UNIX + 301] {
            assert_eq!(
                dropped(&mut server, &policy, from(5), &stamped(1, at)),
                Some(Dropped::OutOfWindow)
            );
        }
        let octets = stamped(1, UNIX - 300);
        let Arrival::Work(first) = server.handle_input(&policy, NOW, UNIX, from(5), &octets) else {
            panic!("it is heard")
        };
        assert_eq!(
            dropped(&mut server, &policy, from(5), &octets),
            Some(Dropped::UnderWay)
        );
        let answer = server.answer(&first, Ok(())).expect("it fits");
        assert_eq!(answer[0], Code::DISCONNECT_ACK.0);
        for port in [5, 6] {
            let Arrival::Again(again) = server.handle_input(&policy, NOW, UNIX, from(port), &octets) else {
                panic!("it was here, from whichever port")
            };
            assert_eq!(again, answer);
        }
        let other = server.handle_input(&policy, NOW, UNIX, from(5), &stamped(2, UNIX));
        assert!(matches!(other, Arrival::Work(_)), "another id is another request");
    }

    #[test]
    fn remembered_for_as_long_as_it_could_be_believed() {
        let mut server = Server::default();
        let policy = policy();
        // Its clock is ahead: believed for ten minutes.
        let octets = stamped(1, UNIX + 300);
        let mut ask = |after: u64| {
            let after_s = Duration::from_secs(after);
            server.handle_input(&policy, NOW + after_s, UNIX + after, from(5), &octets)
        };
        assert!(matches!(ask(0), Arrival::Work(_)));
        assert!(matches!(ask(301), Arrival::Drop(Dropped::UnderWay)));
        assert!(matches!(ask(600), Arrival::Drop(Dropped::UnderWay)));
        assert!(matches!(ask(601), Arrival::Drop(Dropped::OutOfWindow)));
        assert_eq!(server.remembered(), 0);
    }

    #[test]
    fn without_a_timestamp_the_port_counts() {
        let mut server = Server::default();
        let lenient = Policy {
            require_event_timestamp: false,
            ..policy()
        };
        let octets = request(1, |_| ());
        for port in [5, 6] {
            let arrival = server.handle_input(&lenient, NOW, UNIX, from(port), &octets);
            assert!(matches!(arrival, Arrival::Work(_)));
        }
        let later = NOW + lenient.window;
        let arrival = server.handle_input(&lenient, later, UNIX + 300, from(5), &octets);
        assert!(matches!(arrival, Arrival::Work(_)), "forgotten");
    }

    #[test]
    fn s_157_a_session_that_began_later_is_not_meant() {
        let mut server = Server::default();
        let mut ask =
            |policy: &Policy, octets: &[u8]| match server.handle_input(policy, NOW, UNIX, from(5), octets) {
                Arrival::Work(request) => request,
                other => panic!("{other:?}"),
            };
        let policy = policy();
        let request = ask(&policy, &stamped(1, UNIX - 100));
        let seconds = Duration::from_secs;
        assert!(request.is_older_than(seconds(0), UNIX));
        assert!(request.is_older_than(seconds(94), UNIX));
        assert!(!request.is_older_than(seconds(95), UNIX));
        assert!(!ask(&policy, &stamped(2, UNIX + 100)).is_older_than(seconds(0), UNIX));
        let mark = request.mark().expect("it has a time");
        assert_eq!(u64::from(mark.made_at), UNIX - 100);
        assert_ne!(Some(mark), ask(&policy, &stamped(3, UNIX - 100)).mark());
        let lenient = Policy {
            require_event_timestamp: false,
            ..policy
        };
        let undated = ask(&lenient, &self::request(4, |_| ()));
        assert!(undated.mark().is_none() && !undated.is_older_than(seconds(0), UNIX));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut server = Server::default();
        let policy = policy();
        for number in 0..=REMEMBERED_MAX {
            let octets = request(1, |b| _ = b.u32(55, UNIX as u32).u32(5, number as u32));
            match server.handle_input(&policy, NOW, UNIX, from(5), &octets) {
                Arrival::Work(_) => assert!(number < REMEMBERED_MAX),
                Arrival::Full(nak) => {
                    assert_eq!(number, REMEMBERED_MAX);
                    assert_eq!(nak[0], Code::DISCONNECT_NAK.0);
                }
                other => panic!("{number}: {other:?}"),
            }
        }
        let later = NOW + Duration::from_secs(301);
        server.handle_input(&policy, later, UNIX, from(5), &[]);
        assert_eq!(server.remembered(), 0);
    }

    proptest! {
        #[test]
        fn any_octets_are_judged(received in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut server = Server::default();
            let arrival = server.handle_input(&policy(), NOW, UNIX, from(5), &received);
            prop_assert!(matches!(arrival, Arrival::Drop(_)), "nobody signs by chance");
        }
    }
}
