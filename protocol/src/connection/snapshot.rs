//! A connection as its row keeps it, and its rebirth from there.
//!
//! A snapshot counts as accepted as a whole. Deadlines are by the clock of `now`: whoever stores them translates.
//! Not in it, since the peer sends it again: messages received out of order. Not in it, since it is only a hint:
//! the congestion window, which starts anew.

use std::time::Duration;

use super::settings::{Peer, Settings};
use super::state::State;
use super::{Connection, VecDeque};
use crate::call::{CallSnapshot, Calls};
use crate::channel::{Channel, Progress};
use crate::ids::TunnelId;

/// All that a connection needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Our tunnel id.
    pub local: TunnelId,
    /// What the peer told of itself, its tunnel id included.
    pub peer: Peer,
    /// Where the control connection stands.
    pub state: State,
    /// When setup is given up, or a closed tunnel forgotten.
    pub deadline: Option<Duration>,
    /// Our challenge, which the peer's next message must answer.
    pub challenge: Option<[u8; 16]>,
    /// The Ns that the next message to be queued will take.
    pub ns: u16,
    /// The Ns expected next from the peer.
    pub nr: u16,
    /// Messages that the peer has not acknowledged, with their Ns, ending at `ns`.
    pub unacknowledged: Vec<(u16, Vec<u8>)>,
    /// Calls, by rising session id.
    pub calls: Vec<CallSnapshot>,
}

impl Connection {
    /// The connection as a row keeps it.
    pub fn snapshot(&self) -> Snapshot {
        let progress = self.channel.progress();
        let unacknowledged = self.channel.messages_from(progress.acknowledged);
        Snapshot {
            local: self.local,
            peer: self.peer.clone(),
            state: self.state,
            deadline: self.deadline,
            challenge: self.settings.challenge,
            ns: progress.queued,
            nr: progress.received,
            unacknowledged: unacknowledged.map(|(ns, octets)| (ns, octets.to_vec())).collect(),
            calls: self.calls.snapshot().collect(),
        }
    }

    /// The connection that a row describes. Unacknowledged messages are due at once, as far as the window of a
    /// fresh slow start lets them, and the last acknowledgement is repeated.
    pub fn restore(settings: Settings, now: Duration, snapshot: &Snapshot) -> Self {
        let settings = Settings {
            challenge: snapshot.challenge,
            ..settings
        };
        let count = snapshot.unacknowledged.len() as u16;
        let progress = Progress {
            received: snapshot.nr,
            queued: snapshot.ns,
            acknowledged: snapshot.ns.wrapping_sub(count),
        };
        let channel = Channel::restore(
            settings.timing(),
            settings.receive_window,
            snapshot.peer.receive_window,
            progress,
            snapshot
                .unacknowledged
                .iter()
                .map(|(_, octets)| octets.as_slice().into()),
        );
        let mut calls = Calls::default();
        for call in &snapshot.calls {
            calls.restore(call);
        }
        let silent_since = now.saturating_sub(head_start(snapshot.local, settings.hello_interval));
        Self {
            settings,
            local: snapshot.local,
            peer: snapshot.peer.clone(),
            state: snapshot.state,
            channel,
            calls,
            peer_challenge: None,
            deadline: snapshot.deadline,
            silent_since,
            events: VecDeque::new(),
        }
    }
}

/// Tunnels that are reborn together would send their HELLOs together: each gets up to half an interval of silence
/// on account, by its id.
fn head_start(local: TunnelId, interval: Duration) -> Duration {
    let spread = u32::from(local.get().wrapping_mul(0x9e37) >> 8);
    interval / 2 * spread / 256
}
