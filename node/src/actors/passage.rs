//! The way of a sequenced session's packets to the node that numbers them: the owner of its group, as the table has it here.

use std::sync::Arc;

use holdfast_protocol::TunnelId;

use super::members::Members;
use super::table::TableHandle;
use crate::io::{NotPassed, Passage};
use crate::peers::{Frame, Passed};

/// See the module.
#[derive(Debug)]
pub struct ToOwner {
    table: TableHandle,
    members: Arc<Members>,
}

impl ToOwner {
    /// By the connections of these members.
    pub fn new(table: TableHandle, members: Arc<Members>) -> Self {
        Self { table, members }
    }
}

impl Passage for ToOwner {
    fn pass(&self, tunnel: TunnelId, packet: &[u8]) -> Result<(), NotPassed> {
        let published = self.table.published();
        // This node itself while it has not begun to give numbers.
        if published.owns(tunnel) {
            return Err(NotPassed::NoOwner);
        }
        let owner = published.owner(tunnel.group());
        if !self.members.is_alive(owner) {
            return Err(NotPassed::NoOwner);
        }
        let passed = Passed {
            tunnel: u32::from(tunnel.get()),
            packet: packet.to_vec(),
        };
        let sent = self.members.peers().send(owner, Frame::Passed(passed));
        sent.then_some(()).ok_or(NotPassed::Full)
    }
}
