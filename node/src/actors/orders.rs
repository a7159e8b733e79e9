//! What nodes say to each other about orders: one asks the leader on its operator's behalf, the leader answers; and who is no
//! member any more is told so.
//!
//! A tag and JSON, beside the shorter orders that older versions know. A node that does not know a tag passes it over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::api::{ApiError, ClusterOrder};

/// Orders of other nodes that wait to be carried out. More are dropped and counted.
const ORDERS_MAX: usize = 16;

/// How long the asker of an order waits for the answer, where it does not say: an older version.
const PATIENCE_UNSAID: Duration = Duration::from_secs(26);

/// The longest that an asker can say that it waits.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// A word that a node is no member counts for so long: it is said again each second while it is so.
const WORD: Duration = Duration::from_secs(5);

const ASK: u8 = 2;
const ANSWER: u8 = 3;
const NO_MEMBER: u8 = 4;

/// What became of an order that the leader carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done; so many groups are about to move.
    Done {
        /// Of 256.
        groups_moved: u32,
    },
    /// The leader was to be removed. It has given its groups and the lead away; the new leader has to be asked.
    HandedOver {
        /// Of 256.
        groups_moved: u32,
    },
}

/// What became of an order, as its asker is told.
pub type Answer = Result<Outcome, ApiError>;

/// A message of this module.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Carry this out, you lead.
    Ask(Asked),
    /// What became of it.
    Answered(Answered),
    /// You are no member of the group.
    NoMember,
}

/// An order on its way to the leader.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Tells its answer from others.
    pub token: u64,
    /// What to do.
    pub order: ClusterOrder,
    /// How long the asker still waits, in milliseconds. Not said by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
}

/// An order that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    /// The node that asked.
    pub from: u64,
    /// For what.
    pub asked: Asked,
    /// Its asker waits no longer then, and has told its operator so.
    pub until: Instant,
}

/// The answer on its way back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Of the order.
    pub token: u64,
    /// What became of it.
    pub answer: Answer,
}

impl Asked {
    fn remaining(&self) -> Duration {
        let said = self.remaining_ms.map(Duration::from_millis);
        said.unwrap_or(PATIENCE_UNSAID).min(PATIENCE_MAX)
    }
}

impl Message {
    /// As it goes to another node.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::Ask(asked) => (ASK, serde_json::to_vec(asked)),
            Self::Answered(answered) => (ANSWER, serde_json::to_vec(answered)),
            Self::NoMember => (NO_MEMBER, Ok(Vec::new())),
        };
        let mut octets = vec![tag];
        octets.extend(text.expect("numbers and texts can be written as JSON"));
        octets
    }

    /// As it came; `None` for what is none of these.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let (tag, text) = octets.split_first()?;
        match *tag {
            ASK => serde_json::from_slice(text).ok().map(Self::Ask),
            ANSWER => serde_json::from_slice(text).ok().map(Self::Answered),
            NO_MEMBER if text.is_empty() => Some(Self::NoMember),
            _ => None,
        }
    }
}

/// The orders that wait: ours for their answers, others' to be carried out.
#[derive(Debug)]
pub struct Desk {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
    asked: mpsc::Sender<Waiting>,
    inbox: Mutex<Option<mpsc::Receiver<Waiting>>>,
    /// Who said last that this node is no member, and when.
    no_member: Mutex<Option<(u64, Instant)>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (asked, inbox) = mpsc::channel(ORDERS_MAX);
        Self {
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            asked,
            inbox: Mutex::new(Some(inbox)),
            no_member: Mutex::default(),
        }
    }
}

impl Desk {
    /// What came from another node. `false`: dropped, too many wait.
    pub fn take(&self, from: u64, message: Message) -> bool {
        match message {
            Message::Ask(asked) => {
                let until = Instant::now() + asked.remaining();
                return self.asked.try_send(Waiting { from, asked, until }).is_ok();
            }
            Message::Answered(Answered { token, answer }) => {
                if let Some(waiter) = self.waiting().remove(&token) {
                    // Who gave up needs no answer.
                    let _ = waiter.send(answer);
                }
            }
            Message::NoMember => {
                *self.no_member.lock().expect("held for an assignment") = Some((from, Instant::now()));
            }
        }
        true
    }

    /// The orders of others, for the one who carries them out; `None` when taken already.
    pub fn inbox(&self) -> Option<mpsc::Receiver<Waiting>> {
        self.inbox.lock().expect("held for a take").take()
    }

    /// A number for an order, and where its answer comes in.
    pub fn expect(&self) -> (u64, oneshot::Receiver<Answer>) {
        let token = self.next.fetch_add(1, Relaxed);
        let (waiter, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        // Whoever gave up is here still.
        waiting.retain(|_, waiter| !waiter.is_closed());
        waiting.insert(token, waiter);
        (token, answer)
    }

    /// Who lately said that this node is no member.
    pub fn no_member_says(&self) -> Option<u64> {
        let said = *self.no_member.lock().expect("held for an assignment");
        said.filter(|(_, at)| at.elapsed() < WORD).map(|(node, _)| node)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().expect("nothing panics with the map locked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;

    #[test]
    fn messages_come_as_they_went_and_older_orders_are_none_of_them() {
        let refused = ApiError::new(ErrorCode::NotFound, "node 9 is no member");
        for message in [
            Message::Ask(Asked {
                token: 7,
                order: ClusterOrder::Add { node: 4 },
                remaining_ms: Some(900),
            }),
            Message::Answered(Answered {
                token: 7,
                answer: Ok(Outcome::Done { groups_moved: 3 }),
            }),
            Message::Answered(Answered {
                token: 8,
                answer: Err(refused),
            }),
            Message::NoMember,
        ] {
            let octets = message.encode();
            assert!(octets.len() != 4 && octets[0] != 1, "taken for an older order");
            assert_eq!(Message::decode(&octets), Some(message));
        }
        assert_eq!(Message::decode(&[2, 1, 0, 0]), None, "the end of a session");
        assert_eq!(Message::decode(&[]), None);
    }

    #[test]
    fn no_more_orders_wait_than_there_is_room_for() {
        let desk = Desk::default();
        let ask = |token| {
            let order = ClusterOrder::Remove { node: 2 };
            let asked = Asked {
                token,
                order,
                remaining_ms: None,
            };
            desk.take(3, Message::Ask(asked))
        };
        assert!((0..ORDERS_MAX as u64).all(ask));
        assert!(!ask(99));
    }

    #[test]
    fn an_order_waits_no_longer_than_its_asker() {
        let remaining = |more: &str| {
            let text = format!("{{\"token\":7,\"order\":{{\"add\":{{\"node\":4}}}}{more}}}");
            let octets = [&[ASK], text.as_bytes()].concat();
            match Message::decode(&octets) {
                Some(Message::Ask(asked)) => asked.remaining(),
                other => panic!("{text}: {other:?}"),
            }
        };
        assert_eq!(remaining(""), PATIENCE_UNSAID, "of an older version");
        assert_eq!(remaining(",\"remaining_ms\":900"), Duration::from_millis(900));
        assert_eq!(
            remaining(&format!(",\"remaining_ms\":{}", u64::MAX)),
            PATIENCE_MAX
        );
    }
}
