//! Repeated SCCRQs: a duplicate, or a LAC that has restarted (S-10, S-11, S-13).
//!
//! An SCCRQ names no tunnel of ours, so it is known by where it comes from and by the tunnel id that the LAC assigned
//! ([`PeerKey`]). Under the same key the same octets are a duplicate, for the tunnel's control channel to acknowledge. A LAC
//! that restarts may use the key again: then other octets come, or the same ones again and again although the tunnel is up. Its
//! new tunnel is taken, and the old one goes when the new one is established, never before: an SCCRQ proves nothing.
//!
//! Pure. Who holds which key is indexed elsewhere.

use std::net::SocketAddr;

use holdfast_cluster::records::{TunnelRow, TunnelState};
use holdfast_protocol::TunnelId;

/// What an SCCRQ is recognised by: the peer's address and port and the tunnel id that it assigned.
pub type PeerKey = (SocketAddr, TunnelId);

/// Duplicates of an SCCRQ that may come after the SCCCN: one that was overtaken on its way.
const LATE_DUPLICATES: u32 = 1;

/// What an SCCRQ under a known key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The one that made this tunnel, once more: for its control channel.
    Duplicate(TunnelId),
    /// The LAC has restarted, but two half-open tunnels never share a key: the first one ends within its ten seconds.
    Busy,
    /// The LAC has restarted: a new tunnel is to be made.
    Restarted,
}

/// Who answers to a [`PeerKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Ours.
    pub tunnel: TunnelId,
    /// Over the octets of its SCCRQ.
    sccrq_hash: u64,
    /// Table time.
    created_ms: u64,
    /// Whether its SCCCN has come.
    established: bool,
    /// Repeats of its SCCRQ seen since then.
    late: u32,
    /// The established tunnel that held the key before.
    supersedes: Option<Superseded>,
}

/// An established tunnel that gave its key to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Superseded {
    tunnel: TunnelId,
    sccrq_hash: u64,
    created_ms: u64,
    late: u32,
}

impl Known {
    /// A tunnel that is about to be proposed.
    pub fn claimed(tunnel: TunnelId, sccrq_hash: u64, now_ms: u64) -> Self {
        Self {
            tunnel,
            sccrq_hash,
            created_ms: now_ms,
            established: false,
            late: 0,
            supersedes: None,
        }
    }

    /// A tunnel as the table has it.
    pub fn of_row(tunnel: TunnelId, row: &TunnelRow) -> Self {
        let sccrq_hash = row.sccrq_hash.as_slice().try_into().map_or(0, u64::from_be_bytes);
        Self {
            established: row.state() == TunnelState::Established,
            ..Self::claimed(tunnel, sccrq_hash, row.created_ms)
        }
    }

    /// Whether its SCCCN has come.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Judges an SCCRQ that came under this key, and counts it.
    pub fn judge(&mut self, sccrq_hash: u64) -> Repeat {
        let same = self.sccrq_hash == sccrq_hash;
        match (self.established, same) {
            (false, true) => Repeat::Duplicate(self.tunnel),
            (false, false) => Repeat::Busy,
            (true, false) => Repeat::Restarted,
            (true, true) => {
                self.late = self.late.saturating_add(1);
                if self.late <= LATE_DUPLICATES {
                    Repeat::Duplicate(self.tunnel)
                } else {
                    Repeat::Restarted
                }
            }
        }
    }

    /// Another tunnel wants the key. `false` if this one is half-open and keeps it.
    pub fn give_way(&mut self, to: Self) -> bool {
        if !self.established {
            return false;
        }
        *self = Self {
            supersedes: Some(Superseded {
                tunnel: self.tunnel,
                sccrq_hash: self.sccrq_hash,
                created_ms: self.created_ms,
                late: self.late,
            }),
            ..to
        };
        true
    }

    /// The claim came to nothing: who has the key again.
    pub fn withdrawn(self) -> Option<Self> {
        self.supersedes.map(|earlier| Self {
            tunnel: earlier.tunnel,
            sccrq_hash: earlier.sccrq_hash,
            created_ms: earlier.created_ms,
            established: true,
            late: earlier.late,
            supersedes: None,
        })
    }

    /// The table has a live row of a tunnel under this key: of this one, or, when the process has just started, of the one
    /// before or after it.
    pub fn note(&mut self, row: Self) {
        if self.tunnel == row.tunnel {
            self.established = row.established;
        } else if self.supersedes.is_none_or(|earlier| earlier.tunnel != row.tunnel) {
            // Table time runs in steps: of two of the same age the one that is known already is the later one.
            let (mut older, newer) = if row.created_ms > self.created_ms {
                (*self, row)
            } else {
                (row, *self)
            };
            if older.give_way(newer) {
                *self = older;
            }
        }
    }

    /// Whether `tunnel` has to go: this one is up and took its key.
    pub fn has_replaced(&self, tunnel: TunnelId) -> bool {
        self.established && self.supersedes.is_some_and(|earlier| earlier.tunnel == tunnel)
    }

    /// The tunnel that has to go now that `tunnel` is up. Told once.
    pub fn take_superseded(&mut self, tunnel: TunnelId) -> Option<TunnelId> {
        if self.tunnel == tunnel && self.established {
            self.supersedes.take().map(|earlier| earlier.tunnel)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(id: u16) -> TunnelId {
        TunnelId::new(id).expect("not zero")
    }

    fn half_open(id: u16, hash: u64) -> Known {
        Known::claimed(tunnel(id), hash, 0)
    }

    fn established(id: u16, hash: u64) -> Known {
        Known {
            established: true,
            ..half_open(id, hash)
        }
    }

    #[test]
    fn s_10_the_same_octets_are_a_duplicate_however_often_they_come_while_half_open() {
        let mut known = half_open(1, 7);
        for _ in 0..10 {
            assert_eq!(known.judge(7), Repeat::Duplicate(tunnel(1)));
        }
        assert!(
            !known.give_way(half_open(2, 7)),
            "two half-open tunnels never share a key"
        );
    }

    #[test]
    fn s_10_other_octets_wait_for_the_end_of_the_half_open_tunnel() {
        assert_eq!(half_open(1, 7).judge(8), Repeat::Busy);
    }

    #[test]
    fn s_11_one_late_duplicate_is_a_duplicate_and_the_second_is_a_restarted_lac() {
        let mut known = half_open(1, 7);
        known.judge(7);
        known.judge(7);
        known.note(established(1, 7));
        assert_eq!(
            known.judge(7),
            Repeat::Duplicate(tunnel(1)),
            "repeats before the SCCCN do not count"
        );
        assert_eq!(known.judge(7), Repeat::Restarted);
    }

    #[test]
    fn s_11_other_octets_are_a_restarted_lac_at_once() {
        assert_eq!(established(1, 7).judge(8), Repeat::Restarted);
    }

    #[test]
    fn s_11_the_old_tunnel_goes_once_the_new_one_is_established_and_not_before() {
        let mut known = established(1, 7);
        assert!(known.give_way(half_open(2, 8)));
        assert_eq!(known.take_superseded(tunnel(2)), None, "not established yet");
        known.note(established(2, 8));
        assert_eq!(known.take_superseded(tunnel(1)), None);
        assert_eq!(known.take_superseded(tunnel(2)), Some(tunnel(1)));
        assert_eq!(known.take_superseded(tunnel(2)), None, "told once");
    }

    #[test]
    fn s_11_a_claim_that_came_to_nothing_leaves_the_old_tunnel_as_it_was() {
        let mut known = established(1, 7);
        known.judge(7);
        let before = known;
        assert!(known.give_way(half_open(2, 8)));
        assert_eq!(known.withdrawn(), Some(before));
        assert_eq!(half_open(3, 7).withdrawn(), None);
    }

    #[test]
    fn s_11_a_restart_of_ours_finds_both_tunnels_in_either_order() {
        let old = established(9, 7);
        let new = Known {
            created_ms: 5,
            ..established(2, 8)
        };
        for (first, second) in [(old, new), (new, old)] {
            let mut known = first;
            known.note(second);
            assert!(known.has_replaced(tunnel(9)) && !known.has_replaced(tunnel(2)));
            assert_eq!(known.take_superseded(tunnel(2)), Some(tunnel(9)));
        }
    }
}
