//! No two subscribers who are online have the same address, nor the same tunnel and session.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{CallNumber, Fact, World};

#[derive(Debug, Default)]
pub(super) struct Unique {
    addresses: BTreeMap<Ipv4Addr, CallNumber>,
    sessions: BTreeMap<(TunnelId, SessionId), CallNumber>,
}

impl Invariant for Unique {
    const NAME: &'static str = "unique";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::ClientUp {
                serial,
                tunnel,
                session,
                address,
                ..
            } => {
                if let Some(other) = self.addresses.insert(*address, *serial) {
                    return Err(format!("calls {other} and {serial} both have {address}"));
                }
                if let Some(other) = self.sessions.insert((*tunnel, *session), *serial) {
                    return Err(format!(
                        "calls {other} and {serial} are both session {tunnel}/{session}"
                    ));
                }
                Ok(())
            }
            Fact::ClientDown { serial, .. } => {
                self.addresses.retain(|_, holder| holder != serial);
                self.sessions.retain(|_, holder| holder != serial);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
