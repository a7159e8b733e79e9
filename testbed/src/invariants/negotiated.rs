//! While a row is open nothing is said that ends or restarts the link, and what lets the subscriber's interface come up is said of
//! an open row alone.
//!
//! Whoever has not heard yet that the row is open may go on: nobody was told that it is. But what he goes by must have been in the
//! table. IPCP may go on even after that, where the row was accepted late: until the Configure-Ack the subscriber is not up.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_cluster::Effect;
use holdfast_cluster::records::SessionRow;
use holdfast_ppp::frame::Frame;
use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{Fact, World};

const LCP: u16 = 0xc021;
const IPCP: u16 = 0x8021;
const CONFIGURE_ACK: u8 = 2;
const TERMINATE_ACK: u8 = 6;

#[derive(Debug, Default)]
pub(super) struct Negotiated {
    /// What each row has been.
    past: BTreeMap<(TunnelId, SessionId), Vec<Arc<SessionRow>>>,
}

impl Invariant for Negotiated {
    const NAME: &'static str = "negotiated";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Effect { effect, .. } => {
                self.note(effect);
                Ok(())
            }
            Fact::Frame {
                node,
                tunnel,
                session,
                row,
                known,
                octets,
            } => {
                let Ok(frame) = Frame::parse(octets) else {
                    return Err(format!("node {node} sent what is no PPP frame"));
                };
                let code = frame.information.first().copied().unwrap_or_default();
                let right = match frame.protocol {
                    IPCP if code == CONFIGURE_ACK => row.is_open(),
                    LCP if code <= TERMINATE_ACK => self.may_negotiate((*tunnel, *session), row, known),
                    _ => true,
                };
                match right {
                    true => Ok(()),
                    false => Err(format!(
                        "node {node} says {:#06x} code {code} in {tunnel}/{session}, whose row is {}open",
                        frame.protocol,
                        if row.is_open() { "" } else { "not " }
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

impl Negotiated {
    fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::SessionChanged {
                tunnel, session, row, ..
            } => {
                let past = self.past.entry((*tunnel, *session)).or_default();
                if past.last() != Some(row) {
                    past.push(row.clone());
                }
            }
            Effect::SessionRemoved { tunnel, session, .. } => {
                self.past.remove(&(*tunnel, *session));
            }
            _ => {}
        }
    }

    fn may_negotiate(&self, key: (TunnelId, SessionId), row: &SessionRow, known: &Arc<SessionRow>) -> bool {
        let was_so = || self.past.get(&key).is_some_and(|past| past.contains(known));
        !row.is_open() || !known.is_open() && was_so()
    }
}
