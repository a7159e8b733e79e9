//! Nothing is acknowledged or said that the sender's table does not hold: an Nr is not above the row's, nor an Ns, and a message
//! is the one that the row holds.

use holdfast_protocol::header::{self, Packet};

use super::Invariant;
use super::payload::NR;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Acknowledged;

impl Invariant for Acknowledged {
    const NAME: &'static str = "acknowledged";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Control {
            node, tunnel, octets, ..
        } = fact
        else {
            return Ok(());
        };
        let Ok(Packet::Control(packet)) = header::decode(octets) else {
            return Err(format!("node {node} sent what is no control message"));
        };
        let table = world.process(*node).map(|process| process.replica().table());
        // Removed in the same step: what it said before was checked then.
        let Some(row) = table
            .and_then(|table| table.tunnel(*tunnel))
            .map(|found| found.row())
        else {
            return Ok(());
        };
        let reached = |number: u16, limit: u32| (limit as u16).wrapping_sub(number) < 0x8000;
        if !reached(packet.header.nr, row.nr) {
            return Err(format!(
                "node {node} acknowledges up to {} in tunnel {tunnel}, its row up to {}",
                packet.header.nr, row.nr
            ));
        }
        if !packet.is_zlb() && !reached(packet.header.ns.wrapping_add(1), row.ns) {
            return Err(format!(
                "node {node} sends message {} of tunnel {tunnel}, its row ends before {}",
                packet.header.ns, row.ns
            ));
        }
        let queued = row
            .unacknowledged
            .iter()
            .find(|message| message.ns == u32::from(packet.header.ns));
        match queued {
            Some(queued) if !packet.is_zlb() && !same_but_nr(&queued.octets, octets) => Err(format!(
                "node {node} sends another message {} of tunnel {tunnel} than its row holds",
                packet.header.ns
            )),
            _ => Ok(()),
        }
    }
}

fn same_but_nr(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one[..NR.start] == other[..NR.start] && one[NR.end..] == other[NR.end..]
}
