//! The table at one moment, for a snapshot that is written while the table moves on.
//!
//! Taking an image copies references to rows, not rows. It is encoded in parts of bounded size, by whatever
//! thread has the time; the parts one after the other are one encoded `TableSnapshot`.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
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

/// Of a snapshot that programs know which know nothing of generations.
const SNAPSHOT_VERSION_PLAIN: u32 = 1;

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
            version: match self.generation {
                0 => SNAPSHOT_VERSION_PLAIN,
                _ => SNAPSHOT_VERSION,
            },
            applied: self.applied,
            now_ms: self.now_ms,
            unix_s: self.unix_s,
            table_version: self.version,
            generation: self.generation,
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
        ImageParts::new(self).try_for_each(|part| emit(&part))
    }

    /// Encodes the tunnels behind `after` until there is a part of them; the last one encoded.
    fn some_tunnels(&self, after: Option<TunnelId>, parts: &mut VecDeque<Vec<u8>>) -> Option<TunnelId> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut part = Part::new(parts);
        let mut last = None;
        for (id, tunnel) in self.tunnels.range(behind) {
            part.tunnel(tunnel);
            last = Some(*id);
            if !part.parts.is_empty() {
                break;
            }
        }
        part.close();
        last
    }

    fn the_rest(&self, parts: &mut VecDeque<Vec<u8>>) {
        let mut part = Part::new(parts);
        for release in &self.releases {
            let user = release.user.to_vec();
            let prefix = Some(release.span.to_prefix());
            let release = snapshot::Release {
                prefix,
                since_ms: release.since_ms,
                user,
            };
            part.add(release.encoded_len(), |snapshot| snapshot.releases.push(release));
        }
        for owed in self.outbox.values() {
            let record = owed.to_record();
            part.add(record.encoded_len(), |snapshot| snapshot.outbox.push(record));
        }
        part.close();
    }
}

/// The parts of an image, encoded as they are asked for.
#[derive(Debug)]
pub struct ImageParts<I> {
    image: I,
    stage: Stage,
    ready: VecDeque<Vec<u8>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    /// The tunnels behind this one.
    Tunnels(Option<TunnelId>),
    Rest,
    Done,
}

impl<I: Borrow<TableImage>> ImageParts<I> {
    /// From the first part on.
    pub fn new(image: I) -> Self {
        Self {
            image,
            stage: Stage::Head,
            ready: VecDeque::new(),
        }
    }
}

impl<I: Borrow<TableImage>> Iterator for ImageParts<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(part);
            }
            let image = self.image.borrow();
            self.stage = match self.stage {
                Stage::Head => {
                    self.ready.push_back(image.head.encode_to_vec());
                    Stage::Tunnels(None)
                }
                Stage::Tunnels(after) => match image.some_tunnels(after, &mut self.ready) {
                    Some(last) => Stage::Tunnels(Some(last)),
                    None => Stage::Rest,
                },
                Stage::Rest => {
                    image.the_rest(&mut self.ready);
                    Stage::Done
                }
                Stage::Done => return None,
            };
        }
    }
}

/// Collects rows until they are enough for a part.
struct Part<'a> {
    snapshot: snapshot::TableSnapshot,
    octets: usize,
    parts: &'a mut VecDeque<Vec<u8>>,
}

impl<'a> Part<'a> {
    fn new(parts: &'a mut VecDeque<Vec<u8>>) -> Self {
        Self {
            snapshot: snapshot::TableSnapshot::default(),
            octets: 0,
            parts,
        }
    }

    /// The row goes first; sessions that no longer fit in the part go on in the next one, without the row.
    fn tunnel(&mut self, tunnel: &Tunnel) {
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
        self.add(octets, |snapshot| snapshot.tunnels.push(record));
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
            });
        }
    }

    fn add(&mut self, octets: usize, put: impl FnOnce(&mut snapshot::TableSnapshot)) {
        put(&mut self.snapshot);
        self.octets += octets;
        if self.octets >= PART_OCTETS {
            self.close();
        }
    }

    fn close(&mut self) {
        self.octets = 0;
        let part = std::mem::take(&mut self.snapshot).encode_to_vec();
        if !part.is_empty() {
            self.parts.push_back(part);
        }
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
