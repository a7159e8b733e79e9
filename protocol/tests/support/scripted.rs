//! A peer that says exactly what a test tells it to, against one connection whose gate is always open.

use std::time::Duration;

use holdfast_protocol::avp::{Avp, Context, ResultCode};
use holdfast_protocol::header::{self, ControlHeader, Packet};
use holdfast_protocol::message::{Cdn, Iccn, Icrp, Icrq, Message, Scccn, Sccrp, Sccrq, StopCcn};
use holdfast_protocol::{Connection, Event, Refusal, Secret, SessionId, Settings, TunnelId, challenge};

use super::{dial, session, tunnel};

/// A message that the connection sent: its header and, unless it was a ZLB, its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub header: ControlHeader,
    pub message: Option<Message>,
}

/// The peer and the connection under test.
pub struct Scripted {
    pub now: Duration,
    pub connection: Connection,
    /// The peer's next Ns.
    pub ns: u16,
    /// What the peer acknowledges.
    pub nr: u16,
}

pub fn secret() -> Secret {
    Secret::new("tunnel-secret")
}

pub fn plain() -> Settings {
    Settings {
        setup_timeout: Duration::from_secs(60),
        ..Settings::default()
    }
}

pub fn challenging() -> Settings {
    Settings {
        secret: Some(secret()),
        challenge: Some([0x5a; 16]),
        ..plain()
    }
}

pub fn sccrq() -> Sccrq {
    Sccrq {
        framing: 3,
        bearer: None,
        tie_breaker: None,
        firmware: None,
        host_name: b"lac1".to_vec(),
        vendor_name: None,
        assigned_tunnel_id: tunnel(0x1001),
        receive_window: 8,
        challenge: None,
    }
}

pub fn icrq(id: u16) -> Message {
    Message::Icrq(Icrq {
        assigned_session_id: session(id),
        ..dial(1).icrq
    })
}

pub fn iccn() -> Message {
    Message::Iccn(Box::new(Iccn {
        tx_speed: 1000,
        framing_type: 1,
        ..Iccn::default()
    }))
}

pub fn cdn(assigned: Option<u16>) -> Message {
    Message::Cdn(Cdn {
        assigned_session_id: assigned.map(session),
        ..Cdn::new(ResultCode::new(3))
    })
}

/// A body of this message type and these AVPs (M, vendor, attribute, value).
pub fn body(message_type: u16, avps: &[(bool, u16, u16, &[u8])]) -> Vec<u8> {
    let message_type = message_type.to_be_bytes();
    let mut out = Vec::new();
    let first = (true, 0, 0, &message_type[..]);
    for (mandatory, vendor, attribute, value) in [first].iter().chain(avps).copied() {
        Avp {
            mandatory,
            hidden: false,
            reserved: false,
            vendor,
            attribute,
            value,
        }
        .encode(&mut out);
    }
    out
}

impl Scripted {
    /// An LNS that has answered `sccrq`.
    pub fn lns(settings: Settings, sccrq: &Sccrq) -> Result<Self, Refusal> {
        let now = Duration::from_secs(1000);
        let connection = Connection::respond(settings, now, tunnel(0x2002), sccrq)?;
        Ok(Self {
            now,
            connection,
            ns: 1,
            nr: 0,
        })
    }

    /// A LAC that has sent its SCCRQ.
    pub fn lac(settings: Settings) -> Self {
        let now = Duration::from_secs(1000);
        let connection = Connection::initiate(settings, now, tunnel(0x1001));
        Self {
            now,
            connection,
            ns: 0,
            nr: 0,
        }
    }

    /// An LNS with an open tunnel and no authentication.
    pub fn open() -> Self {
        Self::open_with(plain())
    }

    pub fn open_with(settings: Settings) -> Self {
        let mut lns = Self::lns(settings, &sccrq()).expect("acceptable");
        lns.drain();
        lns.send(None, &Message::Scccn(Scccn { response: None }));
        assert!(lns.events().contains(&Event::Established));
        lns
    }

    /// An LNS with a call: its id 0x4004, the peer's 0x3003; `connected` after the ICCN.
    pub fn with_call(connected: bool) -> Self {
        let mut lns = Self::open();
        lns.offer(0x3003, 0x4004);
        if connected {
            lns.send(Some(0x4004), &iccn());
            assert_eq!(lns.events().len(), 1);
        }
        lns
    }

    /// The peer offers a call and it is taken.
    pub fn offer(&mut self, peer: u16, local: u16) -> Vec<Sent> {
        self.send(None, &icrq(peer));
        self.events();
        self.connection
            .accept_call(self.now, session(peer), session(local))
            .expect("offered");
        self.drain()
    }

    /// A LAC with an open tunnel.
    pub fn open_lac() -> Self {
        let mut lac = Self::lac(plain());
        lac.drain();
        lac.send(None, &Message::Sccrp(sccrp()));
        assert!(lac.events().contains(&Event::Established));
        lac
    }

    pub fn send(&mut self, session: Option<u16>, message: &Message) -> Vec<Sent> {
        let encoded = message.encode(
            ControlHeader {
                tunnel: None,
                session: None,
                ns: 0,
                nr: 0,
            },
            None,
        );
        self.send_body(session, &encoded[header::CONTROL_HEADER_LEN..])
    }

    /// Sends with the next Ns, acknowledging all; returns the answer.
    pub fn send_body(&mut self, session: Option<u16>, body: &[u8]) -> Vec<Sent> {
        let ns = self.ns;
        self.ns = self.ns.wrapping_add(1);
        self.send_numbered(ns, session, body)
    }

    pub fn send_numbered(&mut self, ns: u16, session: Option<u16>, body: &[u8]) -> Vec<Sent> {
        let header = ControlHeader {
            tunnel: Some(self.connection.local()),
            session: session.and_then(SessionId::new),
            ns,
            nr: self.nr,
        };
        let mut datagram = header.encode(body.len()).to_vec();
        datagram.extend_from_slice(body);
        self.connection
            .handle_input(self.now, &datagram)
            .expect("a valid message");
        self.drain()
    }

    /// Lets time pass, with what it brings about.
    pub fn wait(&mut self, span: Duration) -> Vec<Sent> {
        let end = self.now + span;
        let mut out = Vec::new();
        while let Some(due) = self.connection.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.connection.handle_timeout(self.now);
            out.extend(self.drain());
        }
        self.now = end;
        out
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    /// Opens the gate and takes what leaves; the peer acknowledges it with its next message.
    pub fn drain(&mut self) -> Vec<Sent> {
        self.connection.accept(self.now, self.connection.progress());
        let mut out = Vec::new();
        while let Some(octets) = self.connection.poll_transmit(self.now) {
            let Ok(Packet::Control(packet)) = header::decode(&octets) else {
                panic!("control alone")
            };
            let context = Context::default();
            let message = (!packet.is_zlb()).then(|| Message::decode(packet.body, &context).expect("sound"));
            if message.is_some() {
                self.nr = packet.header.ns.wrapping_add(1);
            }
            out.push(Sent {
                header: packet.header,
                message,
            });
        }
        out
    }
}

pub fn sccrp() -> Sccrp {
    Sccrp {
        framing: 3,
        bearer: None,
        firmware: None,
        host_name: b"lns1".to_vec(),
        vendor_name: None,
        assigned_tunnel_id: tunnel(0x2002),
        receive_window: 16,
        response: None,
        challenge: None,
    }
}

/// The response that the SCCCN of an honest peer carries.
pub fn response_to(sent: &[Sent], secret: &Secret) -> Scccn {
    let challenge = sent.iter().find_map(|sent| match &sent.message {
        Some(Message::Sccrp(sccrp)) => sccrp.challenge.clone(),
        _ => None,
    });
    let response = challenge.map(|challenge| {
        challenge::response(holdfast_protocol::iana::MessageType::Scccn, secret, &challenge)
    });
    Scccn { response }
}

/// Result and error of the one StopCCN that was sent.
pub fn stopped(sent: &[Sent]) -> (u16, Option<u16>) {
    let [
        Sent {
            message: Some(Message::StopCcn(StopCcn { result, .. })),
            ..
        },
    ] = sent
    else {
        panic!("one StopCCN expected: {sent:?}")
    };
    (result.result, result.error)
}

/// Header session, result and error of the one CDN that was sent.
pub fn disconnected(sent: &[Sent]) -> (u16, u16, Option<u16>) {
    let [
        Sent {
            header,
            message: Some(Message::Cdn(cdn)),
        },
    ] = sent
    else {
        panic!("one CDN expected: {sent:?}")
    };
    (
        header.session.map_or(0, SessionId::get),
        cdn.result.result,
        cdn.result.error,
    )
}

/// Nothing but an acknowledgement was sent.
pub fn only_acknowledged(sent: &[Sent], nr: u16) -> bool {
    matches!(sent, [Sent { header, message: None }] if header.nr == nr)
}

pub fn icrp_id(sent: &[Sent]) -> Option<(u16, u16)> {
    sent.iter().find_map(|sent| match &sent.message {
        Some(Message::Icrp(Icrp { assigned_session_id })) => Some((
            sent.header.session.map_or(0, SessionId::get),
            assigned_session_id.get(),
        )),
        _ => None,
    })
}

pub fn refused(refusal: &Refusal) -> (TunnelId, u16, Option<u16>) {
    let Ok(Packet::Control(packet)) = header::decode(&refusal.octets) else {
        panic!("a control message")
    };
    let Ok(Message::StopCcn(stop)) = Message::decode(packet.body, &Context::default()) else {
        panic!("a StopCCN")
    };
    assert_eq!(stop.result, refusal.result);
    (
        packet.header.tunnel.expect("addressed"),
        stop.result.result,
        stop.result.error,
    )
}
