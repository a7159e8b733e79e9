//! What the operator decides about a tunnel, and what is learnt of the peer.

use std::time::Duration;

use crate::avp::Context;
use crate::channel::Timing;
use crate::iana::framing;
use crate::ids::TunnelId;
use crate::message::{DEFAULT_RECEIVE_WINDOW, Sccrp, Sccrq};
use crate::secret::Secret;

/// Settings of one tunnel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our Host Name; not empty.
    pub host_name: Vec<u8>,
    /// Our Vendor Name; empty: not sent.
    pub vendor_name: Vec<u8>,
    /// Our Firmware Revision; 0: not sent.
    pub firmware: u16,
    /// Messages that we accept unacknowledged; not 0.
    pub receive_window: u16,
    /// The secret shared with the peer.
    pub secret: Option<Secret>,
    /// Our challenge: 16 fresh random octets for each tunnel. Needs a secret; without one it is not sent.
    pub challenge: Option<[u8; 16]>,
    /// Our tie breaker, if we open tunnels to peers that may open one to us.
    pub tie_breaker: Option<u64>,
    /// Silence after which a HELLO is sent; 0: never.
    pub hello_interval: Duration,
    /// Until a message is first sent again; doubled from time to time.
    pub first_retransmit: Duration,
    /// The doubling stops here; not below 8 s by the RFC.
    pub retransmit_cap: Duration,
    /// Retransmissions of one message before the peer counts as gone. With 1, 2, 4, 8, 8, 8 s that is after 31 s.
    pub max_retransmits: u32,
    /// How long a tunnel may take to come up.
    pub setup_timeout: Duration,
    /// How long a call may wait for its ICCN (LNS) or ICRP (LAC).
    pub connect_timeout: Duration,
    /// Our Framing Capabilities.
    pub framing: u32,
    /// Our Bearer Capabilities; 0, as an LNS that cannot dial out has, is not sent.
    pub bearer: u32,
    /// Tolerate what the RFC calls for closing a tunnel or call over: unknown mandatory AVPs of vendors, and a
    /// missing framing or speed.
    pub permissive: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host_name: b"holdfast".to_vec(),
            vendor_name: b"Holdfast".to_vec(),
            firmware: 1,
            receive_window: 16,
            secret: None,
            challenge: None,
            tie_breaker: None,
            hello_interval: Duration::from_secs(60),
            first_retransmit: Duration::from_secs(1),
            retransmit_cap: Duration::from_secs(8),
            max_retransmits: 5,
            setup_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(60),
            framing: framing::SYNCHRONOUS | framing::ASYNCHRONOUS,
            bearer: 0,
            permissive: false,
        }
    }
}

impl Settings {
    pub(super) fn timing(&self) -> Timing {
        Timing {
            first: self.first_retransmit,
            cap: self.retransmit_cap,
            max_retransmits: self.max_retransmits,
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            secret: self.secret.as_ref(),
            permissive: self.permissive,
        }
    }

    pub(super) fn sccrq(&self, local: TunnelId) -> Sccrq {
        Sccrq {
            framing: self.framing,
            bearer: self.bearer(),
            tie_breaker: self.tie_breaker,
            firmware: (self.firmware != 0).then_some(self.firmware),
            host_name: self.host_name.clone(),
            vendor_name: self.vendor_name(),
            assigned_tunnel_id: local,
            receive_window: self.receive_window.max(1),
            challenge: self.challenge.map(|challenge| challenge.to_vec()),
        }
    }

    /// The SCCRP, but for the response.
    pub(super) fn sccrp(&self, local: TunnelId) -> Sccrp {
        Sccrp {
            framing: self.framing,
            bearer: self.bearer(),
            firmware: (self.firmware != 0).then_some(self.firmware),
            host_name: self.host_name.clone(),
            vendor_name: self.vendor_name(),
            assigned_tunnel_id: local,
            receive_window: self.receive_window.max(1),
            response: None,
            challenge: self.challenge.map(|challenge| challenge.to_vec()),
        }
    }

    fn bearer(&self) -> Option<u32> {
        (self.bearer != 0).then_some(self.bearer)
    }

    fn vendor_name(&self) -> Option<Vec<u8>> {
        (!self.vendor_name.is_empty()).then(|| self.vendor_name.clone())
    }
}

/// What the peer told of itself in its SCCRQ or SCCRP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its tunnel id; `None` until its SCCRP has come.
    pub tunnel: Option<TunnelId>,
    /// Its Host Name: any octets.
    pub host_name: Vec<u8>,
    /// Its Vendor Name.
    pub vendor_name: Option<Vec<u8>>,
    /// Its Firmware Revision.
    pub firmware: Option<u16>,
    /// Its Framing Capabilities.
    pub framing: u32,
    /// Its Bearer Capabilities.
    pub bearer: Option<u32>,
    /// Messages that it accepts unacknowledged.
    pub receive_window: u16,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            tunnel: None,
            host_name: Vec::new(),
            vendor_name: None,
            firmware: None,
            framing: 0,
            bearer: None,
            receive_window: DEFAULT_RECEIVE_WINDOW,
        }
    }
}

impl From<&Sccrq> for Peer {
    fn from(sccrq: &Sccrq) -> Self {
        Self {
            tunnel: Some(sccrq.assigned_tunnel_id),
            host_name: sccrq.host_name.clone(),
            vendor_name: sccrq.vendor_name.clone(),
            firmware: sccrq.firmware,
            framing: sccrq.framing,
            bearer: sccrq.bearer,
            receive_window: sccrq.receive_window,
        }
    }
}

impl From<&Sccrp> for Peer {
    fn from(sccrp: &Sccrp) -> Self {
        Self {
            tunnel: Some(sccrp.assigned_tunnel_id),
            host_name: sccrp.host_name.clone(),
            vendor_name: sccrp.vendor_name.clone(),
            firmware: sccrp.firmware,
            framing: sccrp.framing,
            bearer: sccrp.bearer,
            receive_window: sccrp.receive_window,
        }
    }
}
