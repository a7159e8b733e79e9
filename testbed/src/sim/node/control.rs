//! The way of a LAC's datagram to the owner of its tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast::lns::acceptor::{self, Candidate, First, Profile};
use holdfast::lns::repeats::{Known, Repeat};
use holdfast_cluster::commands::CreateTunnel;
use holdfast_protocol::TunnelId;
use holdfast_protocol::header::{self, Packet};

use super::process::{Out, Process};
use super::shells::Work;
use super::table::Reply;
use super::wire::{Relay, Wire};
use crate::sim::bugs::Bug;
use crate::sim::facts::Fact;

/// Draws of a tunnel id before an SCCRQ is dropped.
const DRAWS: u32 = 64;

impl Process {
    /// A datagram from a LAC.
    pub fn on_datagram(&mut self, from: SocketAddr, octets: Vec<u8>) {
        let tunnel = match header::decode(&octets) {
            Ok(Packet::Control(packet)) => packet.header.tunnel,
            Ok(Packet::Data(packet)) if packet.tunnel.is_some() => packet.tunnel,
            _ => return,
        };
        let relay = |tunnel, epoch| Relay {
            epoch,
            tunnel,
            from,
            octets: octets.clone(),
            passed: 0,
        };
        match tunnel.or_else(|| self.claimant(from, &octets)) {
            Some(tunnel) => {
                let epoch = self.groups[usize::from(tunnel.group())].epoch;
                self.bring(relay(tunnel, epoch));
            }
            None => self.pass_first(relay(TunnelId::new(1).expect("not zero"), 0)),
        }
        self.drain();
    }

    /// The tunnel that an SCCRQ, or the StopCCN of a LAC that knows no id of ours, belongs to; if there is none, any in a group of
    /// this node.
    fn claimant(&mut self, from: SocketAddr, octets: &[u8]) -> Option<TunnelId> {
        let any = TunnelId::new(1).expect("not zero");
        let peer_tunnel = match acceptor::read(octets, any, |_| Some(profile())) {
            Ok(First::Request(candidate)) => candidate.sccrq.assigned_tunnel_id,
            Ok(First::Stop(peer_tunnel)) => peer_tunnel,
            Err(_) => return None,
        };
        match self.peers.get(&(from, peer_tunnel)) {
            Some(known) => Some(known.tunnel),
            None => self.draw_tunnel_id(),
        }
    }

    /// A node without groups lets another one take a new tunnel.
    fn pass_first(&mut self, relay: Relay) {
        let start = self.dice.below(256);
        let taker = (0..256).map(|step| ((start + step) % 256) as u8).find(|group| {
            let owner = self.groups[usize::from(*group)].owner;
            owner != 0 && owner != self.id && self.liveness.is_alive(owner)
        });
        if let Some(group) = taker {
            let tunnel = TunnelId::new(u16::from(group) << 8 | 1).expect("not zero");
            let epoch = self.groups[usize::from(group)].epoch;
            self.pass_on(Relay {
                tunnel,
                epoch,
                ..relay
            });
        }
    }

    /// To the owner: this process, another node, or whoever will be.
    fn bring(&mut self, relay: Relay) {
        let group = self.groups[usize::from(relay.tunnel.group())];
        if self.owns(relay.tunnel.group()) {
            self.work.push_back(Work::Datagram(relay));
        } else if group.owner != 0 && group.owner != self.id && self.liveness.is_alive(group.owner) {
            self.pass_on(relay);
        } else {
            self.wait_for(relay, group.epoch.saturating_add(1));
        }
    }

    /// Until the group has reached an epoch, a second at most. What finds no room is sent again.
    ///
    /// A frame of unfinished PPP does not wait: the next owner begins that anew, and what was said before would come as a surprise
    /// to a link that has opened meanwhile.
    fn wait_for(&mut self, relay: Relay, epoch: u32) {
        if self.is_unfinished_ppp(&relay.octets) {
            return;
        }
        let _ = self.hold.hold(self.now, relay.tunnel, epoch, relay);
    }

    fn is_unfinished_ppp(&self, octets: &[u8]) -> bool {
        let Ok(Packet::Data(packet)) = header::decode(octets) else {
            return false;
        };
        let (Some(tunnel), Some(session)) = (packet.tunnel, packet.session) else {
            return true;
        };
        let row = self.replica.table().session(tunnel, session);
        !row.is_some_and(|row| row.is_open())
    }

    fn pass_on(&mut self, relay: Relay) {
        let to = self.groups[usize::from(relay.tunnel.group())].owner;
        self.fact(Fact::Relayed {
            node: self.id,
            before: relay.passed,
        });
        let passed = relay.passed + 1;
        self.out.push(Out::Wire {
            to,
            after: Duration::ZERO,
            wire: Wire::Relay(Relay { passed, ..relay }),
        });
    }

    /// What another node has relayed goes no further.
    pub(super) fn on_relay(&mut self, relay: Relay) {
        let group = relay.tunnel.group();
        let epoch = self.groups[usize::from(group)].epoch;
        if self.owns(group) {
            self.work.push_back(Work::Datagram(relay));
        } else if relay.epoch > epoch {
            let awaited = relay.epoch;
            self.wait_for(relay, awaited);
        } else if self.has(Bug::RelayedTwice) {
            self.bring(relay);
        }
    }

    /// The group that a datagram waited for has an owner.
    pub(super) fn on_released(&mut self, relay: Relay) {
        match relay.passed {
            0 => self.bring(relay),
            _ => self.on_relay(relay),
        }
    }

    /// A message with tunnel id 0, at the owner of the group that it was brought to.
    pub(super) fn on_first(&mut self, from: SocketAddr, octets: &[u8]) {
        let Some(local) = self.draw_tunnel_id() else {
            return;
        };
        match acceptor::read(octets, local, |_| Some(profile())) {
            Ok(First::Request(candidate)) => self.on_request(from, local, &candidate, octets),
            Ok(First::Stop(peer_tunnel)) => {
                let known = self.peers.get(&(from, peer_tunnel)).copied();
                if let Some(known) = known.filter(|known| !known.is_established()) {
                    self.at_tunnel(known.tunnel, |core, now| core.handle_input(now, octets));
                }
            }
            Err(_) => {}
        }
    }

    fn on_request(&mut self, from: SocketAddr, local: TunnelId, candidate: &Candidate, octets: &[u8]) {
        let key = (from, candidate.sccrq.assigned_tunnel_id);
        match self.peers.get_mut(&key).map(|known| known.judge(candidate.hash)) {
            Some(Repeat::Duplicate(tunnel)) => {
                return self.at_tunnel(tunnel, |core, now| core.handle_input(now, octets));
            }
            Some(Repeat::Busy) => return,
            Some(Repeat::Restarted) | None => {}
        }
        let to = "192.0.2.1:1701".parse().expect("an address");
        let Ok(row) = acceptor::first_row(self.clocks(), self.settings.clone(), local, candidate, from, to)
        else {
            return;
        };
        let claim = Known::claimed(local, candidate.hash, row.created_ms);
        let mut claimed = true;
        self.peers
            .entry(key)
            .and_modify(|known| claimed = known.give_way(claim))
            .or_insert(claim);
        if claimed {
            let epoch = self.groups[usize::from(local.group())].epoch;
            let create = CreateTunnel {
                life: holdfast_cluster::first_life(epoch),
                row: Some(row),
            };
            let reply = Reply::Birth {
                tunnel: local,
                key: Some(key),
            };
            self.propose(reply, create);
        }
    }

    fn draw_tunnel_id(&mut self) -> Option<TunnelId> {
        let own: Vec<u8> = (0..=255).filter(|group| self.owns(*group)).collect();
        (0..DRAWS).find_map(|_| {
            let group = self.dice.pick(&own)?;
            let id = TunnelId::new(u16::from(group) << 8 | self.dice.below(256) as u16)?;
            self.replica.table().tunnel(id).is_none().then_some(id)
        })
    }
}

fn profile() -> Profile {
    Profile {
        name: "lac".into(),
        allowed: true,
        secret: None,
        permissive: false,
    }
}
