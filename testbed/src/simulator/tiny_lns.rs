//! The least LNS that a subscriber can dial into, for tests of the simulator itself: answers at once, repeats
//! nothing, forgets nothing. It takes the network for perfect.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use holdfast_protocol::avp::Context;
use holdfast_protocol::header::{ControlHeader, DataHeader, Packet, decode};
use holdfast_protocol::iana::framing;
use holdfast_protocol::message::{Icrp, Message, Sccrp};
use holdfast_protocol::{SessionId, TunnelId};

pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const AUTHENTICATE_BY_PAP: [u8; 10] = [3, 4, 0xc0, 0x23, 5, 6, 0xde, 0xad, 0xbe, 0xef];

#[derive(Debug)]
struct Peer {
    remote: SocketAddr,
    tunnel: TunnelId,
    ns: u16,
    nr: u16,
    sessions: HashMap<SessionId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    theirs: SessionId,
    address: Ipv4Addr,
}

/// The LNS and what it has to send.
#[derive(Debug, Default)]
pub struct TinyLns {
    tunnels: HashMap<TunnelId, Peer>,
    pub outbox: Vec<(SocketAddr, Vec<u8>)>,
    next_tunnel: u16,
    next_address: u32,
    /// Set, the LNS is silent.
    pub dead: bool,
}

impl TinyLns {
    pub fn handle_datagram(&mut self, from: SocketAddr, octets: &[u8]) {
        if self.dead {
            return;
        }
        match decode(octets).expect("the simulator sends no garbage unasked") {
            Packet::Control(packet) => {
                let Some(local) = packet.header.tunnel else {
                    return self.open(from, packet.body);
                };
                let Some(peer) = self.tunnels.get_mut(&local) else {
                    return;
                };
                if packet.is_zlb() || packet.header.ns != peer.nr {
                    return;
                }
                peer.nr += 1;
                self.handle_message(local, packet.header.session, packet.body);
            }
            Packet::Data(packet) => {
                let (Some(tunnel), Some(session)) = (packet.tunnel, packet.session) else {
                    return;
                };
                self.handle_frame(tunnel, session, packet.payload);
            }
        }
    }

    /// Sends a PPP frame to every session.
    pub fn send_to_all(&mut self, frame: &[u8]) {
        let sessions: Vec<_> = self
            .tunnels
            .iter()
            .flat_map(|(tunnel, peer)| peer.sessions.keys().map(|session| (*tunnel, *session)))
            .collect();
        for (tunnel, session) in sessions {
            self.send_frame(tunnel, session, frame);
        }
    }

    fn open(&mut self, from: SocketAddr, body: &[u8]) {
        let Ok(Message::Sccrq(sccrq)) = Message::decode(body, &Context::default()) else {
            return;
        };
        self.next_tunnel += 1;
        let local = TunnelId::new(self.next_tunnel).expect("not zero");
        let peer = sccrq.assigned_tunnel_id;
        self.tunnels.insert(
            local,
            Peer {
                remote: from,
                tunnel: peer,
                ns: 0,
                nr: 1,
                sessions: HashMap::new(),
            },
        );
        let sccrp = Sccrp {
            framing: framing::SYNCHRONOUS,
            bearer: None,
            firmware: None,
            host_name: b"tiny".to_vec(),
            vendor_name: None,
            assigned_tunnel_id: local,
            receive_window: 16,
            response: None,
            challenge: None,
        };
        self.send(local, None, Some(&Message::Sccrp(sccrp)));
    }

    fn handle_message(&mut self, local: TunnelId, session: Option<SessionId>, body: &[u8]) {
        match Message::decode(body, &Context::default()).expect("a sound message") {
            Message::Icrq(icrq) => {
                self.next_address += 1;
                let address = Ipv4Addr::from(u32::from(ADDRESS) + self.next_address);
                let theirs = icrq.assigned_session_id;
                let sessions = &mut self.tunnels.get_mut(&local).expect("known").sessions;
                let ours = SessionId::new(sessions.len() as u16 + 1).expect("not zero");
                sessions.insert(ours, Session { theirs, address });
                self.send(
                    local,
                    Some(theirs),
                    Some(&Message::Icrp(Icrp {
                        assigned_session_id: ours,
                    })),
                );
            }
            Message::Iccn(_) => {
                self.send(local, None, None);
                let request = [&[1, 1, 0, 14][..], &AUTHENTICATE_BY_PAP].concat();
                self.send_ppp(
                    local,
                    session.expect("an ICCN names its session"),
                    0xc021,
                    &request,
                );
            }
            _ => self.send(local, None, None),
        }
    }

    fn handle_frame(&mut self, tunnel: TunnelId, session: SessionId, frame: &[u8]) {
        let protocol = u16::from_be_bytes([frame[2], frame[3]]);
        let packet = &frame[4..];
        let mut answer = packet.to_vec();
        match (protocol, packet[0]) {
            (0xc021, 1) => answer[0] = 2,
            (0xc021, 9) => answer[0] = 10,
            (0xc023, 1) => {
                answer = vec![2, packet[1], 0, 5, 0];
                self.send_ppp(tunnel, session, protocol, &answer);
                let request = [&[1, 1, 0, 10, 3, 6][..], &ADDRESS.octets()].concat();
                return self.send_ppp(tunnel, session, 0x8021, &request);
            }
            (0x8021, 1) => {
                let address = self.tunnels[&tunnel].sessions[&session].address.octets();
                let right = packet[6..10] == address;
                answer[0] = if right { 2 } else { 3 };
                answer[6..10].copy_from_slice(&address);
            }
            (0x0021, _) => {
                // Source and destination change places, which leaves every checksum but ICMP's own as it was.
                answer[12..16].copy_from_slice(&packet[16..20]);
                answer[16..20].copy_from_slice(&packet[12..16]);
                answer[20] = 0;
                let sum = u16::from_be_bytes([packet[22], packet[23]]);
                let (sum, carry) = sum.overflowing_add(0x0800);
                answer[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            }
            _ => return,
        }
        self.send_ppp(tunnel, session, protocol, &answer);
    }

    fn send_ppp(&mut self, tunnel: TunnelId, session: SessionId, protocol: u16, information: &[u8]) {
        let frame = [&[0xff, 0x03], &protocol.to_be_bytes()[..], information].concat();
        self.send_frame(tunnel, session, &frame);
    }

    fn send_frame(&mut self, tunnel: TunnelId, session: SessionId, frame: &[u8]) {
        let Some(peer) = self.tunnels.get(&tunnel) else {
            return;
        };
        let Some(&Session { theirs, .. }) = peer.sessions.get(&session) else {
            return;
        };
        let header = DataHeader {
            tunnel: peer.tunnel,
            session: theirs,
            with_length: true,
            ns: None,
            offset: None,
            priority: false,
        };
        let mut octets = vec![0; header.len() + frame.len()];
        let start = header.write(frame.len(), &mut octets).expect("it fits");
        octets[start..].copy_from_slice(frame);
        self.outbox.push((peer.remote, octets));
    }

    /// Sends a message, or without one a ZLB.
    fn send(&mut self, local: TunnelId, session: Option<SessionId>, message: Option<&Message>) {
        let peer = self.tunnels.get_mut(&local).expect("known");
        let header = ControlHeader {
            tunnel: Some(peer.tunnel),
            session,
            ns: peer.ns,
            nr: peer.nr,
        };
        let octets = message.map_or_else(
            || header.encode(0).to_vec(),
            |message| message.encode(header, None),
        );
        peer.ns += u16::from(message.is_some());
        self.outbox.push((peer.remote, octets));
    }
}
