//! A message of a tunnel has one content, whoever sends it and however often.

use std::collections::HashMap;
use std::net::SocketAddr;

use holdfast_cluster::Effect;
use holdfast_protocol::TunnelId;
use holdfast_protocol::header::{self, Packet};

use super::Invariant;
use crate::sim::{Fact, World};

/// Offsets of Nr in a control message: the one part that may differ.
pub(super) const NR: std::ops::Range<usize> = 10..12;

#[derive(Debug, Default)]
pub(super) struct Payload {
    said: HashMap<(TunnelId, SocketAddr, u16), Vec<u8>>,
}

impl Invariant for Payload {
    const NAME: &'static str = "payload";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Control {
                node,
                tunnel,
                to,
                octets,
            } => {
                let Ok(Packet::Control(packet)) = header::decode(octets) else {
                    return Ok(());
                };
                if packet.is_zlb() {
                    return Ok(());
                }
                let mut content = octets.clone();
                content[NR].fill(0);
                let before = self
                    .said
                    .entry((*tunnel, *to, packet.header.ns))
                    .or_insert_with(|| content.clone());
                match *before == content {
                    true => Ok(()),
                    false => Err(format!(
                        "node {node} sends another message {} in tunnel {tunnel} than was sent before",
                        packet.header.ns
                    )),
                }
            }
            Fact::Effect {
                effect: Effect::TunnelRemoved { tunnel },
                ..
            } => {
                self.said.retain(|(known, _, _), _| known != tunnel);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
