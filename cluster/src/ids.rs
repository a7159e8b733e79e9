//! Rows carry bare numbers; these helpers give them their types.

use std::net::{IpAddr, SocketAddr};

use holdfast_protocol::{SessionId, TunnelId};

use crate::commands::{
    Acknowledge, Assign, ChangeTunnel, CreateTunnel, Finalize, Move, PutSession, Raise, Reclaim,
    RemoveSession, RemoveTunnel, SessionChange, SessionKey, Take, Tick, session_change,
};
use crate::commands::{Command, command::Kind};
use crate::records::{PppRow, Prefix, SessionRow, SocketAddress, TunnelRow};

/// `None` for zero and for what does not fit in 16 bits.
pub(crate) fn tunnel_id(value: u32) -> Option<TunnelId> {
    TunnelId::new(u16::try_from(value).ok()?)
}

/// `None` for zero and for what does not fit in 16 bits.
pub(crate) fn session_id(value: u32) -> Option<SessionId> {
    SessionId::new(u16::try_from(value).ok()?)
}

/// The life that a tunnel of a group begins an epoch with.
pub fn first_life(epoch: u32) -> u64 {
    u64::from(epoch) << 32
}

impl TunnelRow {
    /// Our id; rows in the table have one.
    pub fn id(&self) -> Option<TunnelId> {
        tunnel_id(self.tunnel_id)
    }
}

impl SessionRow {
    /// Our id; rows in the table have one.
    pub fn id(&self) -> Option<SessionId> {
        session_id(self.session_id)
    }

    /// Whether a network protocol is open, so that user data may flow.
    pub fn is_open(&self) -> bool {
        self.ppp.as_ref().is_some_and(PppRow::is_open)
    }

    /// Gives back the room that decoding left: a table holds many rows for long.
    pub(crate) fn shrink(&mut self) {
        let Some(ppp) = &mut self.ppp else {
            return;
        };
        ppp.addresses.shrink_to_fit();
        ppp.routes.shrink_to_fit();
        ppp.classes.shrink_to_fit();
        ppp.ncps.iter_mut().for_each(|ncp| ncp.dns.shrink_to_fit());
        ppp.ncps.shrink_to_fit();
    }

    /// The authenticated user; `None` where nobody authenticated.
    pub fn user(&self) -> Option<&[u8]> {
        self.ppp
            .as_ref()
            .map(|ppp| ppp.user.as_slice())
            .filter(|user| !user.is_empty())
    }
}

impl PppRow {
    /// Whether any network protocol is open.
    pub fn is_open(&self) -> bool {
        self.ncps.iter().any(|ncp| ncp.open)
    }
}

impl Prefix {
    /// A single address.
    pub fn host(address: IpAddr) -> Self {
        let (address, length) = match address {
            IpAddr::V4(v4) => (v4.octets().to_vec(), 32),
            IpAddr::V6(v6) => (v6.octets().to_vec(), 128),
        };
        Self { address, length }
    }

    /// The address part; `None` unless it has 4 or 16 octets.
    pub fn ip(&self) -> Option<IpAddr> {
        ip(&self.address)
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: Prefix::host(address.ip()).address,
            port: u32::from(address.port()),
        }
    }
}

impl SocketAddress {
    /// `None` unless it has 4 or 16 octets and a port of 16 bits.
    pub fn to_std(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip(&self.ip)?, u16::try_from(self.port).ok()?))
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

impl SessionKey {
    /// Names a session of a tunnel.
    pub fn new(tunnel: TunnelId, session: SessionId) -> Self {
        Self {
            tunnel_id: u32::from(tunnel.get()),
            session_id: u32::from(session.get()),
            any_user: false,
        }
    }
}

impl From<PutSession> for SessionChange {
    fn from(put: PutSession) -> Self {
        Self {
            change: Some(session_change::Change::Put(put)),
        }
    }
}

impl From<RemoveSession> for SessionChange {
    fn from(remove: RemoveSession) -> Self {
        Self {
            change: Some(session_change::Change::Remove(remove)),
        }
    }
}

macro_rules! command_from {
    ($($name:ident),*) => {$(
        impl From<$name> for Command {
            fn from(command: $name) -> Self {
                Self { kind: Some(Kind::$name(command)) }
            }
        }
    )*};
}

command_from!(
    Take,
    CreateTunnel,
    ChangeTunnel,
    Reclaim,
    RemoveTunnel,
    Tick,
    Acknowledge,
    Assign,
    Move,
    Raise,
    Finalize
);
