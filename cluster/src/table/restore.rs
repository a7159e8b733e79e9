//! Building a table from the parts of a snapshot.

use std::sync::Arc;

use holdfast_protocol::TunnelId;
use prost::Message;

use super::apply::peer_key;
use super::outbox::Owed;
use super::spans::{Holder, Release, Span};
use super::{Group, Session, Table, Tunnel};
use crate::ids::{session_id, tunnel_id};
use crate::limits::{COMMAND_VERSION, SNAPSHOT_VERSION};
use crate::records::TunnelState;
use crate::snapshot;

/// Why a snapshot is no table.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Not the octets that a table is encoded in.
    #[error("the snapshot cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Written by a newer program.
    #[error("the snapshot has version {found}, this program knows versions up to {SNAPSHOT_VERSION}")]
    Version {
        /// The snapshot's.
        found: u32,
    },
    /// Uses rows that a newer program wrote.
    #[error("the table has version {found}, this program knows versions up to {COMMAND_VERSION}")]
    TableVersion {
        /// The table's.
        found: u32,
    },
    /// Decodes, but contradicts itself.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

/// A table being built. Parts are given in the order in which they were encoded.
#[derive(Debug, Default)]
pub struct Restore {
    table: Table,
    version: u32,
    /// The tunnel that a part without a tunnel row goes on with.
    last_tunnel: Option<TunnelId>,
}

impl Restore {
    /// Adds one part, or several in one piece.
    pub fn part(&mut self, octets: &[u8]) -> Result<(), RestoreError> {
        let part = snapshot::TableSnapshot::decode(octets)?;
        if part.version > SNAPSHOT_VERSION {
            return Err(RestoreError::Version { found: part.version });
        }
        if part.version != 0 {
            self.head(&part)?;
        }
        for tunnel in part.tunnels {
            self.tunnel(tunnel)?;
        }
        for release in part.releases {
            self.release(release)?;
        }
        for record in part.outbox {
            let owed = Owed::from_record(record).ok_or(RestoreError::Inconsistent("accounting record"))?;
            self.table.outbox.records.insert(owed.sequence, Arc::new(owed));
        }
        self.table.spans.commit();
        Ok(())
    }

    /// The table, complete.
    pub fn finish(self) -> Result<Table, RestoreError> {
        match self.version {
            0 => Err(RestoreError::Inconsistent("no version")),
            _ => Ok(self.table),
        }
    }

    fn head(&mut self, part: &snapshot::TableSnapshot) -> Result<(), RestoreError> {
        if part.table_version > COMMAND_VERSION {
            return Err(RestoreError::TableVersion {
                found: part.table_version,
            });
        }
        self.version = part.version;
        let table = &mut self.table;
        table.applied = part.applied;
        table.now_ms = part.now_ms;
        table.unix_s = part.unix_s;
        table.version = part.table_version.max(1);
        table.generation = part.generation;
        table.outbox.next = part.next_accounting;
        table.outbox.dropped = part.accounting_dropped;
        for &snapshot::Group {
            group,
            owner,
            epoch,
            incarnation,
        } in &part.groups
        {
            let slot = table
                .groups
                .get_mut(group as usize)
                .ok_or(RestoreError::Inconsistent("group"))?;
            *slot = Group {
                owner,
                epoch,
                incarnation,
            };
        }
        for &snapshot::Incarnation { node, incarnation } in &part.incarnations {
            table.incarnations.insert(node, incarnation);
        }
        for &snapshot::RestingId { id, since_ms } in &part.resting_tunnels {
            let id = tunnel_id(id).ok_or(RestoreError::Inconsistent("resting tunnel id"))?;
            table.resting.insert(id, since_ms);
        }
        Ok(())
    }

    fn tunnel(&mut self, record: snapshot::Tunnel) -> Result<(), RestoreError> {
        if let Some(row) = record.row {
            let id = row.id().ok_or(RestoreError::Inconsistent("tunnel id"))?;
            self.last_tunnel = Some(id);
            if row.state() == TunnelState::HalfOpen {
                let key = peer_key(&row).ok_or(RestoreError::Inconsistent("peer of a tunnel"))?;
                self.table.half_open.insert(key, id);
            }
            let tunnel = Tunnel {
                row: Arc::new(row),
                sessions: Default::default(),
                resting: Default::default(),
            };
            self.table.tunnels.insert(id, Arc::new(tunnel));
        }
        let id = self
            .last_tunnel
            .ok_or(RestoreError::Inconsistent("sessions of no tunnel"))?;
        for session in record.sessions {
            self.session(id, session)?;
        }
        let tunnel = self.table.tunnel_mut(id);
        for snapshot::RestingId { id, since_ms } in record.resting {
            let id = session_id(id).ok_or(RestoreError::Inconsistent("resting session id"))?;
            tunnel.resting.insert(id, since_ms);
        }
        Ok(())
    }

    fn session(&mut self, tunnel: TunnelId, record: snapshot::Session) -> Result<(), RestoreError> {
        let row = Arc::new(
            record
                .row
                .ok_or(RestoreError::Inconsistent("session without a row"))?,
        );
        let session = row.id().ok_or(RestoreError::Inconsistent("session id"))?;
        let holder = Holder { tunnel, session };
        for prefix in row.ppp.iter().flat_map(|ppp| &ppp.addresses) {
            let span = Span::of(prefix).ok_or(RestoreError::Inconsistent("address"))?;
            let taken = self.table.spans.take(span, holder, None, 0);
            taken.map_err(|_| RestoreError::Inconsistent("an address is assigned twice"))?;
        }
        let accounted = match record.accounted {
            true => Some(record.accounted_row.map_or_else(|| Arc::clone(&row), Arc::new)),
            false => None,
        };
        let value = Session {
            row,
            accounted,
            replaced: record.replaced,
        };
        if self
            .table
            .tunnel_mut(tunnel)
            .sessions
            .insert(session, value)
            .is_some()
        {
            return Err(RestoreError::Inconsistent("a session twice"));
        }
        self.table.session_count += 1;
        Ok(())
    }

    fn release(&mut self, record: snapshot::Release) -> Result<(), RestoreError> {
        let span = record.prefix.as_ref().and_then(Span::of);
        let span = span.ok_or(RestoreError::Inconsistent("released address"))?;
        let release = Release {
            span,
            since_ms: record.since_ms,
            user: record.user.into(),
        };
        match self.table.spans.restore(release) {
            true => Ok(()),
            false => Err(RestoreError::Inconsistent("a released address is in use")),
        }
    }
}
