//! Accounting records owed: they outlive their session and are delivered at least once.
//!
//! A session's traffic is counted off the log. Only its last figure comes here, once for each session: nobody else would have it
//! should the server be dead for a day and the nodes restarted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::TunnelId;

use crate::commands::FinalTraffic;
use crate::limits::OUTBOX_MAX;
use crate::records::{AccountingKind, AccountingOwed, SessionRow, SocketAddress, Traffic, TunnelRow};

/// A Start or Stop owed to the accounting server.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Ascending; names the record for `Acknowledge`.
    pub sequence: u64,
    /// Start or Stop.
    pub kind: AccountingKind,
    /// Table time of the event, in milliseconds.
    pub event_ms: u64,
    /// Wall clock of the event in seconds since 1970, for Event-Timestamp.
    pub event_unix_s: u64,
    /// The session's tunnel.
    pub tunnel: TunnelId,
    /// The LAC, for Tunnel-Client-Endpoint.
    pub peer: Option<SocketAddress>,
    /// The LAC's Host Name, for Tunnel-Client-Auth-ID.
    pub host_name: Vec<u8>,
    /// Name of the LAC profile.
    pub profile: String,
    /// The session as it was.
    pub session: Arc<SessionRow>,
    /// Acct-Terminate-Cause (RFC 2866 §5.10) of a Stop.
    pub terminate_cause: u32,
    /// Ours in the tunnel, for Tunnel-Server-Endpoint.
    pub local: Option<SocketAddress>,
    /// Of a Stop, once it is final.
    pub traffic: Option<Traffic>,
}

/// An event that is owed once its change is accepted.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: AccountingKind,
    pub(crate) session: Arc<SessionRow>,
    pub(crate) terminate_cause: u32,
}

/// The records owed, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) records: BTreeMap<u64, Arc<Owed>>,
    pub(crate) next: u64,
    pub(crate) dropped: u64,
}

impl Outbox {
    /// Adds a record and returns its number. At the bound the oldest one is dropped and counted. `local` is None where a member may
    /// not know the field.
    pub(crate) fn push(
        &mut self,
        event: Event,
        tunnel: TunnelId,
        row: &TunnelRow,
        local: Option<SocketAddress>,
        now: (u64, u64),
    ) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let owed = Owed {
            sequence,
            kind: event.kind,
            event_ms: now.0,
            event_unix_s: now.1,
            tunnel,
            peer: row.peer.clone(),
            host_name: row.host_name.clone(),
            profile: row.profile.clone(),
            session: event.session,
            terminate_cause: event.terminate_cause,
            local,
            traffic: None,
        };
        self.records.insert(sequence, Arc::new(owed));
        while self.records.len() > OUTBOX_MAX {
            self.records.pop_first();
            self.dropped += 1;
        }
        sequence
    }

    /// A record that is gone was delivered, and one that has its traffic was told before.
    pub(crate) fn finalize(&mut self, last: FinalTraffic) {
        let Some(owed) = self.records.get_mut(&last.sequence) else {
            return;
        };
        if owed.kind == AccountingKind::Stop && owed.traffic.is_none() {
            Arc::make_mut(owed).traffic = last.traffic;
        }
    }
}

impl Owed {
    pub(crate) fn to_record(&self) -> AccountingOwed {
        AccountingOwed {
            sequence: self.sequence,
            kind: self.kind as i32,
            event_ms: self.event_ms,
            event_unix_s: self.event_unix_s,
            tunnel_id: u32::from(self.tunnel.get()),
            peer: self.peer.clone(),
            host_name: self.host_name.clone(),
            profile: self.profile.clone(),
            session: Some(SessionRow::clone(&self.session)),
            terminate_cause: self.terminate_cause,
            local: self.local.clone(),
            traffic: self.traffic,
        }
    }

    /// `None` where the record has no session or no tunnel.
    pub(crate) fn from_record(record: AccountingOwed) -> Option<Self> {
        Some(Self {
            kind: record.kind(),
            sequence: record.sequence,
            event_ms: record.event_ms,
            event_unix_s: record.event_unix_s,
            tunnel: crate::ids::tunnel_id(record.tunnel_id)?,
            peer: record.peer,
            host_name: record.host_name,
            profile: record.profile,
            session: Arc::new(record.session?),
            terminate_cause: record.terminate_cause,
            local: record.local,
            traffic: record.traffic,
        })
    }
}
