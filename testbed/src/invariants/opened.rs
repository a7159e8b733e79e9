//! A subscriber whose interface is up has a row that says so, with the same address, and no row opens for somebody who was not let
//! in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use holdfast_cluster::Effect;
use holdfast_cluster::records::SessionRow;
use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{Fact, World};

type Key = (TunnelId, SessionId);

#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Rows that were open at some time, with their address. Ids rest before they are given to another.
    opened: BTreeMap<Key, Ipv4Addr>,
    granted: BTreeSet<(Key, Ipv4Addr)>,
}

impl Invariant for Opened {
    const NAME: &'static str = "opened";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Granted {
                tunnel,
                session,
                address,
            } => {
                self.granted.insert(((*tunnel, *session), *address));
                Ok(())
            }
            Fact::Effect {
                effect:
                    Effect::SessionChanged {
                        tunnel,
                        session,
                        row,
                        after_open: true,
                        ..
                    },
                ..
            } => self.row_opens((*tunnel, *session), row),
            Fact::ClientUp {
                tunnel,
                session,
                address,
                serial,
                ..
            } => match self.opened.get(&(*tunnel, *session)) {
                Some(known) if known == address => Ok(()),
                known => Err(format!(
                    "call {serial} is up with {address}, its row {tunnel}/{session} was open with {known:?}"
                )),
            },
            _ => Ok(()),
        }
    }
}

impl Opened {
    fn row_opens(&mut self, key: Key, row: &SessionRow) -> Result<(), String> {
        let address = row
            .ppp
            .as_ref()
            .and_then(|ppp| ppp.addresses.first())
            .and_then(|prefix| {
                let octets: [u8; 4] = prefix.address.as_slice().try_into().ok()?;
                Some(Ipv4Addr::from(octets))
            });
        let Some(address) = address else {
            return Err(format!("row {}/{} is open without an address", key.0, key.1));
        };
        self.opened.insert(key, address);
        match self.granted.contains(&(key, address)) {
            true => Ok(()),
            false => Err(format!(
                "row {}/{} opens with {address}, which nobody granted",
                key.0, key.1
            )),
        }
    }
}
