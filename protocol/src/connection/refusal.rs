//! A tunnel that is refused at once: one StopCCN and no state (RFC 2661 §7.2.1, idle).
//!
//! It is sent once. A peer that misses it repeats its SCCRQ and is refused again.

use crate::avp::{Fault, Reaction, ResultCode};
use crate::header::ControlHeader;
use crate::ids::TunnelId;
use crate::message::{Message, StopCcn};

/// The answer to an SCCRQ that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub result: ResultCode,
    /// The StopCCN, to be sent as it is.
    pub octets: Vec<u8>,
}

impl Refusal {
    /// Refuses the tunnel that the peer calls `peer`. `local` is any id of ours: the peer has to be told one.
    pub fn new(local: TunnelId, peer: TunnelId, result: ResultCode) -> Self {
        let stop = StopCcn {
            assigned_tunnel_id: Some(local),
            result: result.clone(),
        };
        let header = ControlHeader {
            tunnel: Some(peer),
            session: None,
            ns: 0,
            nr: 1,
        };
        Self {
            result,
            octets: Message::StopCcn(stop).encode(header, None),
        }
    }

    /// The refusal of a faulty SCCRQ; `None` if it is to be dropped without an answer.
    pub fn of_fault(local: TunnelId, fault: &Fault) -> Option<Self> {
        match fault.reaction() {
            Reaction::StopTunnel(result) => Some(Self::new(local, fault.assigned_tunnel?, result)),
            Reaction::Drop
            | Reaction::ClearSession(_)
            | Reaction::TunnelCleared
            | Reaction::SessionCleared => None,
        }
    }
}
