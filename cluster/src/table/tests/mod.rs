//! A test for each rule of `apply`.

mod accounting;
mod ownership;
mod sessions;
mod snapshots;
mod tunnels;
mod version;

use holdfast_protocol::{SessionId, TunnelId};

use crate::commands::TunnelUpdate;
use crate::records::{TunnelRow, TunnelState};
use crate::table::{AddressRefusal, Refusal, Verdict};
use crate::testing::Bench;

pub(super) fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

pub(super) fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

pub(super) fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Accepted { index } => panic!("accepted at {index}"),
    }
}

pub(super) fn close(state: TunnelState, deadline_ms: u64) -> Option<TunnelUpdate> {
    Some(TunnelUpdate {
        state: Some(state as i32),
        deadline_ms: Some(deadline_ms),
        ..TunnelUpdate::default()
    })
}

pub(super) fn row(bench: &Bench, id: u16) -> TunnelRow {
    TunnelRow::clone(bench.table.tunnel(tunnel(id)).expect("a tunnel").row())
}
