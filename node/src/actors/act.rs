//! What a RADIUS server orders of a session, on its way to the session's owner (design: any node may be asked).
//!
//! Nothing comes back: whoever sent it sees in his own copy of the table whether it is done, and sends it again meanwhile, to the next owner
//! if there is one. So it does no harm twice. A tag and JSON, beside the orders of operators; a node that does not know it passes it over.

use std::sync::{Arc, Mutex};

use holdfast_cluster::records::SessionRow;
use holdfast_protocol::{SessionId, TunnelId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::context::Shared;
use super::directory::SessionIds;
use super::session::Order;
use super::shard::ShardInput;
use crate::lns::change::Change;

/// Of other nodes, that wait to be carried out. More are dropped and counted; they come again.
const ACTS_MAX: usize = 256;

const ACT: u8 = 0xd2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    tunnel: u16,
    session: u16,
    /// Of the session that is meant: its ids may be another's by now.
    acct_session_id: String,
    /// What it is to be held to from now on.
    #[serde(default, skip_serializing_if = "Change::is_empty")]
    change: Change,
    /// Whether it is to be ended.
    #[serde(default)]
    end: bool,
}

impl Act {
    /// For a session with this row.
    pub fn new((tunnel, session): SessionIds, row: &SessionRow, change: Change, end: bool) -> Self {
        Self {
            tunnel: tunnel.get(),
            session: session.get(),
            acct_session_id: row.acct_session_id.clone(),
            change,
            end,
        }
    }

    /// Of which session; `None` if there can be none.
    pub fn ids(&self) -> Option<SessionIds> {
        TunnelId::new(self.tunnel).zip(SessionId::new(self.session))
    }

    /// Whether it is done, or cannot be any more, by what this node knows of the session; `None`: not yet. `was_open` says how the session
    /// was found.
    pub fn outcome(&self, shared: &Shared, was_open: bool) -> Option<Outcome> {
        self.outcome_of(self.row(shared).as_deref(), was_open)
    }

    /// Of the session that is meant.
    fn row(&self, shared: &Shared) -> Option<Arc<SessionRow>> {
        let (tunnel, session) = self.ids()?;
        let row = shared.directory.session(tunnel, session)?.row;
        Some(row).filter(|row| row.acct_session_id == self.acct_session_id)
    }

    fn outcome_of(&self, row: Option<&SessionRow>, was_open: bool) -> Option<Outcome> {
        let Some(row) = row else {
            return Some(if self.end { Outcome::Done } else { Outcome::Gone });
        };
        let is_open = row.is_open();
        match self.end {
            // An open session that is being ended leaves open first, for good.
            true => (was_open && !is_open).then_some(Outcome::Done),
            false if is_open && self.change.is_in(row) => Some(Outcome::Done),
            false => self.change.is_outdated(row).then_some(Outcome::Outdated),
        }
    }

    /// Has the session do it, if this node owns it.
    pub fn carry_out(&self, shared: &Shared) {
        let Some((tunnel, session)) = self.ids().filter(|_| self.row(shared).is_some()) else {
            return;
        };
        if !shared.table.published().owns(tunnel) {
            return;
        }
        let send = |order| {
            shared.shard_of(tunnel).send(ShardInput::Session {
                tunnel,
                session,
                order,
            });
        };
        if !self.change.is_empty() {
            send(Order::Change(Box::new(self.change.clone())));
        }
        if self.end {
            send(Order::administrative_end());
        }
    }

    /// As it goes to another node.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![ACT];
        octets.extend(serde_json::to_vec(self).expect("numbers and texts can be written as JSON"));
        octets
    }

    /// As it came; `None` for what is none, or of a newer version.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let (tag, text) = octets.split_first()?;
        serde_json::from_slice(text).ok().filter(|_| *tag == ACT)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The table has it.
    Done,
    /// The session has ended meanwhile.
    Gone,
    /// The session has followed so many newer orders that it cannot know whether it has followed this one.
    Outdated,
}

/// Those of other nodes that wait.
#[derive(Debug)]
pub struct Acts {
    sender: mpsc::Sender<Act>,
    inbox: Mutex<Option<mpsc::Receiver<Act>>>,
}

impl Default for Acts {
    fn default() -> Self {
        let (sender, inbox) = mpsc::channel(ACTS_MAX);
        Self {
            sender,
            inbox: Mutex::new(Some(inbox)),
        }
    }
}

impl Acts {
    /// `false`: dropped, too many wait.
    pub fn take(&self, act: Act) -> bool {
        self.sender.try_send(act).is_ok()
    }

    /// For the one who carries them out; `None` when taken already.
    pub fn inbox(&self) -> Option<mpsc::Receiver<Act>> {
        self.inbox.lock().expect("held for a take").take()
    }
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{NcpRow, PppRow};

    use super::*;

    fn ids() -> SessionIds {
        let tunnel = TunnelId::new(0x0102).expect("not zero");
        (tunnel, SessionId::new(5).expect("not zero"))
    }

    fn open(session_timeout: u32) -> SessionRow {
        let ncp = NcpRow {
            open: true,
            ..NcpRow::default()
        };
        let ppp = PppRow {
            ncps: vec![ncp],
            session_timeout,
            ..PppRow::default()
        };
        SessionRow {
            acct_session_id: "0001-0002".to_owned(),
            ppp: Some(ppp),
            ..SessionRow::default()
        }
    }

    fn change(session_timeout_s: u32) -> Change {
        Change {
            session_timeout_s: Some(session_timeout_s),
            ..Change::default()
        }
    }

    #[test]
    fn an_act_comes_as_it_went_and_is_no_other_order() {
        for act in [
            Act::new(ids(), &open(0), change(60), false),
            Act::new(ids(), &open(0), Change::default(), true),
        ] {
            let octets = act.encode();
            assert!(octets.len() > 4);
            assert_eq!(crate::actors::orders::Message::decode(&octets), None);
            assert_eq!(crate::actors::handover::Order::decode(&octets), None);
            assert_eq!(Act::decode(&octets), Some(act));
        }
        assert_eq!(Act::decode(&[]), None);
        assert_eq!(Act::decode(&[1, 2, 0, 0]), None, "the end of a session");
        // Half of what a newer version wants is not what it wants.
        let newer =
            b"\xd2{\"tunnel\":258,\"session\":5,\"acct_session_id\":\"a\",\"end\":true,\"quietly\":true}";
        assert_eq!(Act::decode(newer), None);
    }

    #[test]
    fn a_change_is_done_when_the_open_row_has_it() {
        let act = Act::new(ids(), &open(0), change(60), false);
        assert_eq!(act.outcome_of(Some(&open(0)), true), None);
        assert_eq!(act.outcome_of(Some(&open(60)), true), Some(Outcome::Done));
        assert_eq!(act.outcome_of(None, true), Some(Outcome::Gone));
        let mut closed = open(60);
        closed.ppp.as_mut().expect("set").ncps.clear();
        assert_eq!(
            act.outcome_of(Some(&closed), true),
            None,
            "PPP begins anew, and may grant otherwise"
        );
    }

    #[test]
    fn an_end_is_done_when_the_session_leaves_open_or_is_gone() {
        let act = Act::new(ids(), &open(0), Change::default(), true);
        assert_eq!(act.outcome_of(Some(&open(0)), true), None);
        assert_eq!(act.outcome_of(None, true), Some(Outcome::Done));
        let closed = SessionRow {
            acct_session_id: "0001-0002".to_owned(),
            ..SessionRow::default()
        };
        assert_eq!(act.outcome_of(Some(&closed), true), Some(Outcome::Done));
        assert_eq!(
            act.outcome_of(Some(&closed), false),
            None,
            "it was not open before either"
        );
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let acts = Acts::default();
        let act = Act::new(ids(), &open(0), Change::default(), true);
        assert!((0..ACTS_MAX).all(|_| acts.take(act.clone())));
        assert!(!acts.take(act));
    }
}
