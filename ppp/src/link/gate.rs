//! The commit gate: the peer sees nothing of a change into or out of open before the session table holds it.
//!
//! The row that the table *should* hold follows from the state of the machine; the row that it *does* hold is known
//! from what was accepted. Where they differ a commit is on its way, one at a time, be it that several protocols open or
//! close. Only where they agree may what waits for them happen:
//!
//! | waits | until the row |
//! |---|---|
//! | the peer's NCP Configure-Request that we acknowledge | has the protocol, with this very request; the others do not matter |
//! | whatever takes an NCP out of Opened | lacks the protocol |
//! | whatever takes LCP out of Opened | is void |

use std::time::Duration;

use super::machine::{Machine, Phase};
use super::network::NcpLayer;
use super::{OpenLink, Output, Shared, Transition};
use crate::automaton::State;

/// A commit that is not yet accepted.
#[derive(Debug)]
pub(super) struct InFlight {
    serial: u32,
    row: Option<Box<OpenLink>>,
}

impl Machine {
    /// The table holds what was proposed; [`Self::settle`] sees what may happen now.
    pub(super) fn handle_accepted(&mut self, serial: u32, shared: &mut Shared) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.serial == serial) else {
            return;
        };
        shared.row = in_flight.row;
    }

    /// Brings the row and the machine together. Each turn of the loop consumes something that waited.
    pub(super) fn settle(&mut self, now: Duration, shared: &mut Shared) {
        while !shared.finished && self.in_flight.is_none() {
            let desired = self.desired_row(shared);
            if desired.as_ref() != shared.row.as_deref() {
                // What the table holds of one protocol does not wait for what it is to hold of another.
                if desired.is_some() && self.release_ncp(now, shared) {
                    continue;
                }
                return self.commit(desired.map(Box::new), shared);
            }
            if !self.release(now, shared) {
                return;
            }
        }
    }

    fn commit(&mut self, row: Option<Box<OpenLink>>, shared: &mut Shared) {
        let serial = shared.next_serial();
        let transition = row.clone().map_or(Transition::Leave, Transition::Open);
        shared.outputs.push(Output::Commit { serial, transition });
        self.in_flight = Some(InFlight { serial, row });
    }

    /// What the table should hold.
    fn desired_row(&self, shared: &Shared) -> Option<OpenLink> {
        if self.leaving.is_some() || self.phase != Phase::Network || self.lcp.state() != State::Opened {
            return None;
        }
        let ncps: Vec<_> = self
            .ncps
            .iter()
            .filter_map(|layer| layer.desired(shared.open_ncp(NcpLayer::ncp(layer))))
            .collect();
        if ncps.is_empty() {
            return None;
        }
        let is_open = |layer: &&NcpLayer| ncps.iter().any(|open| open.ncp() == layer.ncp());
        let granted = self.ncps.iter().filter(|layer| !is_open(layer));
        let granted = granted.map(NcpLayer::granted).collect();
        let (ours, peer) = (self.options.ours(), self.options.peer());
        Some(OpenLink {
            local_magic: ours.magic,
            peer_magic: peer.magic,
            local_mru: ours.mru,
            peer_mru: peer.mru,
            peer_pfc: peer.pfc,
            peer_acfc: peer.acfc,
            auth: self.options.auth(),
            user: self.user.clone(),
            ncps,
            granted,
        })
    }

    /// Lets one thing happen that waited for the row as it is; whether there was one.
    fn release(&mut self, now: Duration, shared: &mut Shared) -> bool {
        if let Some(leaving) = self.leaving.take() {
            self.follow(now, &leaving, shared);
            return true;
        }
        self.release_ncp(now, shared)
    }
}
