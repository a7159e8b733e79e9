//! A LAC: the protocol's connection in its opening role, and a subscriber behind each call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::message::{Cdn, Iccn, Icrq};
use holdfast_protocol::{CallEnd, CloseReason, Connection, Dial, Event, SessionId, Settings, TunnelId};

use crate::client::Client;

/// A call and its subscriber.
#[derive(Debug)]
pub struct Call {
    pub client: Client,
    /// The LNS's id, once it has answered.
    pub peer: Option<SessionId>,
    pub over: bool,
    pub end: Option<CallEnd>,
}

/// See the module.
pub struct Lac {
    pub address: SocketAddr,
    pub connection: Connection,
    pub calls: BTreeMap<SessionId, Call>,
    pub established: bool,
    pub closed: Option<CloseReason>,
    pub sequencing: bool,
    tunnel: u16,
    to_place: u16,
}

impl Lac {
    pub fn new(now: Duration, address: SocketAddr, tunnel: u16, calls: u16, settings: Settings) -> Self {
        let local = TunnelId::new(tunnel).expect("not zero");
        Self {
            address,
            connection: Connection::initiate(settings, now, local),
            calls: BTreeMap::new(),
            established: false,
            closed: None,
            sequencing: false,
            tunnel,
            to_place: calls,
        }
    }

    pub fn call(&mut self, session: SessionId) -> &mut Call {
        self.calls.get_mut(&session).expect("a call of this LAC")
    }

    /// The first call.
    pub fn first(&self) -> &Call {
        self.calls.values().next().expect("a call")
    }

    /// The subscriber's line is gone: CDN.
    pub fn hang_up(&mut self, now: Duration, session: SessionId) {
        let cdn = Cdn::new(ResultCode::new(1));
        if self.connection.close_call(now, session, cdn).is_ok() {
            let call = self.call(session);
            call.over = true;
        }
    }

    pub fn handle_input(&mut self, now: Duration, datagram: &[u8]) {
        // What is not in order is dropped, as it should be.
        let _ = self.connection.handle_input(now, datagram);
    }

    /// Offers a call. Its subscriber's name is the number of tunnel and call.
    pub fn place_call(&mut self, now: Duration, session: u16) {
        let local = SessionId::new(session).expect("not zero");
        let icrq = Icrq {
            assigned_session_id: local,
            call_serial: u32::from(session),
            bearer_type: None,
            physical_channel: None,
            calling_number: Some(format!("030{session}").into_bytes()),
            called_number: None,
            sub_address: None,
            vendor_avps: Vec::new(),
        };
        let iccn = Iccn {
            tx_speed: 100_000_000,
            framing_type: 1,
            sequencing_required: self.sequencing,
            ..Iccn::default()
        };
        let number = u32::from(self.tunnel) << 8 | u32::from(session);
        let call = Call {
            client: Client::new(&number.to_string(), number),
            peer: None,
            over: false,
            end: None,
        };
        if self
            .connection
            .place_call(now, local, Dial { icrq, iccn })
            .is_ok()
        {
            self.calls.insert(local, call);
        }
    }

    /// Handles events; gives the calls whose subscriber has something to say. A LAC commits nothing: all it has may leave.
    pub fn settle(&mut self, now: Duration) -> Vec<SessionId> {
        let mut started = Vec::new();
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Established => {
                    self.established = true;
                    for session in 1..=self.to_place {
                        self.place_call(now, session);
                    }
                }
                Event::CallAnswered { local, peer } => {
                    let call = self.call(local);
                    call.peer = Some(peer);
                    call.client.dial(now);
                    started.push(local);
                }
                Event::CallClosed {
                    local: Some(local),
                    reason,
                    ..
                } => {
                    if let Some(call) = self.calls.get_mut(&local) {
                        (call.over, call.end) = (true, Some(reason));
                        started.push(local);
                    }
                }
                Event::Closed(reason) => {
                    self.closed = Some(reason);
                    for (session, call) in &mut self.calls {
                        call.over = true;
                        started.push(*session);
                    }
                }
                _ => {}
            }
        }
        self.connection.accept(now, self.connection.progress());
        started
    }
}
