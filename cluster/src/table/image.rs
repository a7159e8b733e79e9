//! The table at one moment, for a snapshot that is written while the table moves on.
//!
//! Taking an image copies references to rows, not rows. It is encoded in parts of bounded size, by whatever
//! thread has the time; the parts one after the other are one encoded `TableSnapshot`.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};
use prost::Message;

use super::outbox::Owed;
use super::spans::Release;
use super::{Group, Session, Table, Tunnel};
use crate::limits::SNAPSHOT_VERSION;
use crate::records::{SessionRow, TunnelRow};
use crate::snapshot;

/// A part is closed once it holds this many octets of rows.
const PART_OCTETS: usize = 256 * 1024;

/// The table at one moment.
#[derive(Clone, Debug)]
pub struct TableImage {
    head: snapshot::TableSnapshot,
    tunnels: BTreeMap<TunnelId, Arc<Tunnel>>,
    releases: Vec<Release>,
    outbox: BTreeMap<u64, Arc<Owed>>,
}

impl Table {
    /// The table as it is now.
    pub fn image(&self) -> TableImage {
        let head = snapshot::TableSnapshot {
            version: SNAPSHOT_VERSION,
            applied: self.applied,
            now_ms: self.now_ms,
            unix_s: self.unix_s,
            next_accounting: self.outbox.next,
            accounting_dropped: self.outbox.dropped,
            groups: (0..)
                .zip(&self.groups)
                .map(|(number, group)| group_record(number, group))
                .collect(),
            incarnations: self
                .incarnations
                .iter()
                .map(|(&node, &incarnation)| snapshot::Incarnation { node, incarnation })
                .collect(),
            resting_tunnels: self
                .resting
                .iter()
                .map(|(id, since)| resting(id.get(), *since))
                .collect(),
            ..snapshot::TableSnapshot::default()
        };
        TableImage {
            head,
            tunnels: self.tunnels.clone(),
            releases: self.spans.releases().collect(),
            outbox: self.outbox.records.clone(),
        }
    }
}

impl TableImage {
    /// The log index that the image contains.
    pub fn applied(&self) -> u64 {
        self.head.applied
    }

    /// Encodes the image and hands out its parts in order, until `emit` fails.
    pub fn encode<E>(&self, mut emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        emit(&self.head.encode_to_vec())?;
        let mut part = Part::new(&mut emit);
        for tunnel in self.tunnels.values() {
            part.tunnel(tunnel)?;
        }
        for release in &self.releases {
            let user = release.user.to_vec();
            let prefix = Some(release.span.to_prefix());
            let release = snapshot::Release {
                prefix,
                since_ms: release.since_ms,
                user,
            };
            part.add(release.encoded_len(), |snapshot| snapshot.releases.push(release))?;
        }
        for owed in self.outbox.values() {
            let record = owed.to_record();
            part.add(record.encoded_len(), |snapshot| snapshot.outbox.push(record))?;
        }
        part.close()
    }
}

/// Collects rows until they are enough for a part.
struct Part<'a, F> {
    snapshot: snapshot::TableSnapshot,
    octets: usize,
    emit: &'a mut F,
}

impl<'a, E, F: FnMut(&[u8]) -> Result<(), E>> Part<'a, F> {
    fn new(emit: &'a mut F) -> Self {
        Self {
            snapshot: snapshot::TableSnapshot::default(),
            octets: 0,
            emit,
        }
    }

    /// The row goes first; sessions that no longer fit in the part go on in the next one, without the row.
    fn tunnel(&mut self, tunnel: &Tunnel) -> Result<(), E> {
        let row = TunnelRow::clone(&tunnel.row);
        let octets = row.encoded_len();
        let resting = tunnel
            .resting
            .iter()
            .map(|(id, since)| resting(id.get(), *since))
            .collect();
        let record = snapshot::Tunnel {
            row: Some(row),
            sessions: Vec::new(),
            resting,
        };
        self.add(octets, |snapshot| snapshot.tunnels.push(record))?;
        for (id, session) in &tunnel.sessions {
            let record = session_record(*id, session);
            self.add(record.encoded_len(), |snapshot| {
                match snapshot.tunnels.last_mut() {
                    Some(tunnel) => tunnel.sessions.push(record),
                    None => snapshot.tunnels.push(snapshot::Tunnel {
                        sessions: vec![record],
                        ..snapshot::Tunnel::default()
                    }),
                }
            })?;
        }
        Ok(())
    }

    fn add(&mut self, octets: usize, put: impl FnOnce(&mut snapshot::TableSnapshot)) -> Result<(), E> {
        put(&mut self.snapshot);
        self.octets += octets;
        if self.octets < PART_OCTETS {
            return Ok(());
        }
        self.close()
    }

    fn close(&mut self) -> Result<(), E> {
        self.octets = 0;
        (self.emit)(&std::mem::take(&mut self.snapshot).encode_to_vec())
    }
}

fn session_record(id: SessionId, session: &Session) -> snapshot::Session {
    debug_assert_eq!(session.row.id(), Some(id), "a session is kept under its id");
    let accounted_row = session
        .accounted
        .as_ref()
        .filter(|row| !Arc::ptr_eq(row, &session.row));
    snapshot::Session {
        row: Some(SessionRow::clone(&session.row)),
        accounted: session.accounted.is_some(),
        accounted_row: accounted_row
            .filter(|row| **row != session.row)
            .map(|row| SessionRow::clone(row)),
        replaced: session.replaced,
    }
}

fn group_record(number: u32, group: &Group) -> snapshot::Group {
    let Group {
        owner,
        epoch,
        incarnation,
    } = *group;
    snapshot::Group {
        group: number,
        owner,
        epoch,
        incarnation,
    }
}

fn resting(id: u16, since_ms: u64) -> snapshot::RestingId {
    snapshot::RestingId {
        id: u32::from(id),
        since_ms,
    }
}
