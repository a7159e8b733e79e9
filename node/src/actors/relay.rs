//! Control messages and PPP control frames that came to a node which does not own their tunnel (design invariant 5).
//!
//! Each goes to the owner once, with its original addresses and the epoch that the sender knows; the owner answers the LAC
//! itself. What cannot go now, because the owner is dead or not known yet, waits here for the next one, a second at most.
//! Nobody relays what was relayed to him, but for an owner who is just handing the group over.

use std::cell::RefCell;
use std::net::SocketAddr;

use holdfast_cluster::hold::HoldQueue;
use holdfast_cluster::records::{SessionRow, SessionState};
use holdfast_protocol::{SessionId, TunnelId};

use super::context::ShardContext;
use crate::io::Inbound;
use crate::metrics::{Counter, Limit};
use crate::peers::{Frame, PeersHandle, Relay};

/// What waits for an owner.
#[derive(Debug)]
pub struct Waiting {
    packet: Inbound,
    /// It came from another node, so only its owner may take it.
    relayed: bool,
}

/// What waits on one shard.
pub type Held = RefCell<HoldQueue<Waiting>>;

/// A packet of a tunnel that another node owns, or nobody.
pub fn away(shard: &ShardContext, tunnel: TunnelId, packet: Inbound) {
    let published = shard.shared.table.published();
    let group = tunnel.group();
    let (owner, epoch) = (published.owner(group), published.epoch(group));
    let Some(members) = shard
        .shared
        .members
        .as_ref()
        .filter(|members| members.is_alive(owner))
    else {
        return hold(
            shard,
            tunnel,
            epoch.saturating_add(1),
            Waiting {
                packet,
                relayed: false,
            },
        );
    };
    send(shard, members.peers(), owner, epoch, packet);
}

/// An SCCRQ for a node that has no groups: somebody who has takes it.
pub fn sccrq(shard: &ShardContext, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
    let published = shard.shared.table.published();
    let Some(members) = &shard.shared.members else {
        return;
    };
    let owner = (0..=u8::MAX)
        .map(|group| published.owner(group.wrapping_add(from.port() as u8)))
        .find(|owner| *owner != published.me() && members.is_alive(*owner));
    match owner {
        Some(owner) => {
            let packet = Inbound::Control {
                from,
                to,
                tunnel: 0,
                datagram: datagram.to_vec(),
            };
            send(shard, members.peers(), owner, 0, packet);
        }
        None => shard.shared.metrics.count(Counter::RelaysDropped),
    }
}

fn send(shard: &ShardContext, peers: &PeersHandle, owner: u64, epoch: u32, packet: Inbound) {
    let metrics = &shard.shared.metrics;
    let Some(relay) = to_relay(shard, epoch, packet) else {
        return;
    };
    if peers.send(owner, Frame::Relay(relay)) {
        metrics.count(Counter::RelaysSent);
    } else {
        metrics.count(Counter::RelaysDropped);
    }
}

/// A packet that another node relayed here under `epoch`: what of it is to be handled now.
pub fn taken_in(shard: &ShardContext, epoch: u32, packet: Inbound) -> Option<Inbound> {
    let metrics = &shard.shared.metrics;
    metrics.count(Counter::RelaysReceived);
    let published = shard.shared.table.published();
    let Some(tunnel) = tunnel_of(&packet) else {
        return Some(packet);
    };
    if is_for_next_owner(shard, tunnel, &packet) {
        keep_for_next_owner(shard, tunnel, packet);
        return None;
    }
    if published.owns(tunnel) {
        return Some(packet);
    }
    if epoch > published.epoch(tunnel.group()) {
        hold(
            shard,
            tunnel,
            epoch,
            Waiting {
                packet,
                relayed: true,
            },
        );
    } else {
        // The sender will hear of the new owner as we did.
        metrics.count(Counter::RelaysDropped);
    }
    None
}

/// Whether a packet of a tunnel that this node owns would come too late here: its group is being given to another node, and
/// nothing proposed for it now is accepted any more.
pub fn is_for_next_owner(shard: &ShardContext, tunnel: TunnelId, packet: &Inbound) -> bool {
    let is_said_by_lac = matches!(packet, Inbound::Control { .. } | Inbound::Ppp { .. });
    is_said_by_lac
        && shard.shared.departures.is_leaving(tunnel.group())
        && shard.shared.table.published().owns(tunnel)
}

/// Holds it until the group has another owner, and passes it on even if it was relayed here: to an owner of a later epoch than
/// that under which it came, so it goes in no circle.
pub fn keep_for_next_owner(shard: &ShardContext, tunnel: TunnelId, packet: Inbound) {
    let epoch = shard
        .shared
        .table
        .published()
        .epoch(tunnel.group())
        .saturating_add(1);
    let relayed = false;
    hold(shard, tunnel, epoch, Waiting { packet, relayed });
}

/// A group has a new owner: what has waited for one is handled here, given in order, or goes to the other node.
pub fn on_group_taken(shard: &ShardContext, group: u8) -> Vec<Inbound> {
    let published = shard.shared.table.published();
    let released = shard.held.borrow_mut().release(group, published.epoch(group));
    let mut here = Vec::new();
    for (tunnel, Waiting { packet, relayed }) in released {
        if published.owns(tunnel) {
            shard.shared.metrics.count(Counter::RelaysReplayed);
            here.push(packet);
        } else if relayed {
            shard.shared.metrics.count(Counter::RelaysDropped);
        } else {
            away(shard, tunnel, packet);
        }
    }
    here
}

/// Lets go what has waited too long; its sender says it again.
pub fn expire(shard: &ShardContext) {
    let expired = shard.held.borrow_mut().expire(shard.now().monotonic);
    for _ in expired {
        shard.shared.metrics.count(Counter::RelaysExpired);
    }
}

fn hold(shard: &ShardContext, tunnel: TunnelId, epoch: u32, waiting: Waiting) {
    if is_of_unfinished_ppp(shard, &waiting.packet) {
        return shard.shared.metrics.count(Counter::RelaysDropped);
    }
    let now = shard.now().monotonic;
    let held = shard.held.borrow_mut().hold(now, tunnel, epoch, waiting);
    if held.is_err() {
        shard.shared.metrics.hit(Limit::Held);
        shard.shared.metrics.count(Counter::RelaysDropped);
    } else {
        shard.shared.metrics.count(Counter::RelaysHeld);
    }
}

/// A Configure-Request that came back a second later would be taken for a renegotiation of the link that has opened since. Its
/// sender's restart timer says it again.
fn is_of_unfinished_ppp(shard: &ShardContext, packet: &Inbound) -> bool {
    let Inbound::Ppp { tunnel, session, .. } = packet else {
        return false;
    };
    let known = shard.shared.directory.session(*tunnel, *session);
    known.is_none_or(|facts| is_unfinished(&facts.row))
}

/// Whether PPP has begun and is not open. It has not begun while the ICCN waits, as a rule in front of the client's first frame.
fn is_unfinished(row: &SessionRow) -> bool {
    match row.state() {
        SessionState::WaitConnect => false,
        SessionState::Connected => !row.is_open(),
    }
}

/// The tunnel that a packet is for; `None` for an SCCRQ.
pub fn tunnel_of(packet: &Inbound) -> Option<TunnelId> {
    match packet {
        Inbound::Control { tunnel, .. } => TunnelId::new(*tunnel),
        Inbound::Ppp { tunnel, .. }
        | Inbound::SequenceLow { tunnel, .. }
        | Inbound::Disconnect { tunnel, .. } => Some(*tunnel),
        Inbound::Relayed { message, .. } => tunnel_of(message),
    }
}

/// As it goes to the owner; `None` for what concerns this node alone.
fn to_relay(shard: &ShardContext, epoch: u32, packet: Inbound) -> Option<Relay> {
    let epoch = u64::from(epoch);
    match packet {
        Inbound::Control {
            from,
            to,
            tunnel,
            datagram,
        } => Some(Relay {
            epoch,
            from,
            to,
            tunnel: u32::from(tunnel),
            session: None,
            octets: datagram,
        }),
        Inbound::Ppp {
            tunnel,
            session,
            frame,
        } => {
            let facts = shard.shared.directory.tunnel(tunnel)?;
            Some(Relay {
                epoch,
                from: facts.peer,
                to: facts.local?,
                tunnel: u32::from(tunnel.get()),
                session: Some(u32::from(session.get())),
                octets: frame,
            })
        }
        Inbound::SequenceLow { .. } | Inbound::Disconnect { .. } | Inbound::Relayed { .. } => None,
    }
}

/// An operator's order to end a session, or a tunnel with all of its sessions, as it goes to the owner: both ids, two octets each,
/// 0 for all sessions.
pub fn disconnect_order(tunnel: TunnelId, session: Option<SessionId>) -> Vec<u8> {
    let session = session.map_or(0, SessionId::get);
    [tunnel.get().to_be_bytes(), session.to_be_bytes()].concat()
}

/// The order as it came; `None` if it makes no sense.
pub fn disconnect_from(order: &[u8]) -> Option<Inbound> {
    let [a, b, c, d] = *order else { return None };
    Some(Inbound::Disconnect {
        tunnel: TunnelId::new(u16::from_be_bytes([a, b]))?,
        session: SessionId::new(u16::from_be_bytes([c, d])),
    })
}

/// As it came from another node; `None` if it makes no sense.
pub fn from_relay(relay: Relay) -> Option<Inbound> {
    let tunnel = u16::try_from(relay.tunnel).ok()?;
    let message = match relay.session {
        Some(session) => Inbound::Ppp {
            tunnel: TunnelId::new(tunnel)?,
            session: SessionId::new(u16::try_from(session).ok()?)?,
            frame: relay.octets,
        },
        None => Inbound::Control {
            from: relay.from,
            to: relay.to,
            tunnel,
            datagram: relay.octets,
        },
    };
    Some(Inbound::Relayed {
        epoch: u32::try_from(relay.epoch).ok()?,
        message: Box::new(message),
    })
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{NcpRow, PppRow};

    use super::*;

    #[test]
    fn a_first_frame_waits_with_its_call_and_one_of_an_open_link_too() {
        let mut row = SessionRow::default();
        row.set_state(SessionState::WaitConnect);
        assert!(!is_unfinished(&row));
        row.set_state(SessionState::Connected);
        assert!(is_unfinished(&row));
        let ncps = vec![NcpRow {
            open: true,
            ..NcpRow::default()
        }];
        row.ppp = Some(PppRow {
            ncps,
            ..PppRow::default()
        });
        assert!(!is_unfinished(&row));
    }
}
