//! Which orders of RADIUS servers a session has followed: each is followed once, whichever node hears it and however often it is recorded
//! and sent again (RFC 5176 §6.3).
//!
//! The row keeps the last ones, each by its Event-Timestamp and the signature of the packet, and of those that it had to forget the newest
//! Event-Timestamp. One that is not among them and is no newer than what was forgotten could be a forgotten one, and is not followed. No
//! clock is asked: an order that comes late, behind newer ones, is followed as long as the session remembers back to its second.

use holdfast_cluster::records::{FollowedOrder, Orders, SessionRow};
use serde::{Deserialize, Serialize};

/// Orders that a session remembers.
pub const ORDERS_REMEMBERED: usize = 8;

/// An order, told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its Event-Timestamp: seconds since 1970.
    pub made_at: u32,
    /// The first octets of its Request Authenticator, which nobody without the secret can choose.
    pub signature: u64,
}

impl Mark {
    /// By what the packet says.
    pub fn new(made_at: u32, authenticator: [u8; 16]) -> Self {
        let first = authenticator.first_chunk().copied().expect("it has 16 octets");
        Self {
            made_at,
            signature: u64::from_be_bytes(first),
        }
    }
}

/// How an order stands to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is yet to be followed.
    New,
    /// It was followed.
    Followed,
    /// It may have been followed and forgotten, or would be forgotten at once: so many newer ones were followed.
    Forgotten,
}

/// How the order stands to the session with this row.
pub fn standing(row: &SessionRow, mark: Mark) -> Standing {
    let Some(orders) = &row.orders else {
        return Standing::New;
    };
    let is_it = |order: &FollowedOrder| order.signature == mark.signature && order.made_at == mark.made_at;
    let is_newer = |order: &FollowedOrder| order.made_at > mark.made_at;
    // There would be no room to remember it.
    let has_no_room = orders.followed.len() >= ORDERS_REMEMBERED && orders.followed.iter().all(is_newer);
    match orders.followed.iter().any(is_it) {
        true => Standing::Followed,
        false if mark.made_at <= orders.forgotten || has_no_room => Standing::Forgotten,
        false => Standing::New,
    }
}

/// Writes it into the row of a session that follows it; of too many the one that was made first is forgotten.
pub fn note(row: &mut SessionRow, mark: Mark) {
    let orders = row.orders.get_or_insert_with(Orders::default);
    orders.followed.push(FollowedOrder {
        made_at: mark.made_at,
        signature: mark.signature,
    });
    while orders.followed.len() > ORDERS_REMEMBERED {
        let first = (0..orders.followed.len()).min_by_key(|at| orders.followed[*at].made_at);
        let forgotten = orders.followed.remove(first.unwrap_or_default());
        orders.forgotten = orders.forgotten.max(forgotten.made_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(made_at: u32, signature: u64) -> Mark {
        Mark { made_at, signature }
    }

    #[test]
    fn a_mark_is_the_time_and_the_signature() {
        let authenticator = std::array::from_fn(|at| at as u8);
        assert_eq!(Mark::new(7, authenticator), mark(7, 0x0001_0203_0405_0607));
    }

    #[test]
    fn an_order_is_followed_once() {
        let mut row = SessionRow::default();
        assert_eq!(standing(&row, mark(100, 1)), Standing::New);
        note(&mut row, mark(100, 1));
        assert_eq!(standing(&row, mark(100, 1)), Standing::Followed);
        // Another one of the same second, and one that was made earlier and comes later.
        assert_eq!(standing(&row, mark(100, 2)), Standing::New);
        assert_eq!(standing(&row, mark(90, 3)), Standing::New);
        assert_eq!(standing(&row, mark(101, 1)), Standing::New);
    }

    #[test]
    fn what_may_have_been_forgotten_is_not_followed_again() {
        let mut row = SessionRow::default();
        for number in 0..ORDERS_REMEMBERED as u64 + 2 {
            note(&mut row, mark(100 + number as u32, number));
        }
        assert_eq!(row.orders.as_ref().map(|orders| orders.followed.len()), Some(8));
        // 100 and 101 are forgotten.
        assert_eq!(standing(&row, mark(100, 0)), Standing::Forgotten);
        assert_eq!(standing(&row, mark(101, 1)), Standing::Forgotten);
        assert_eq!(standing(&row, mark(101, 77)), Standing::Forgotten, "who knows");
        assert_eq!(standing(&row, mark(102, 2)), Standing::Followed);
        assert_eq!(standing(&row, mark(102, 77)), Standing::New);
        assert_eq!(standing(&row, mark(110, 77)), Standing::New);
    }

    /// An order that nobody would remember is not followed; whatever was followed is remembered at first.
    #[test]
    fn a_late_order_among_many() {
        let mut row = SessionRow::default();
        for number in 0..ORDERS_REMEMBERED as u64 {
            assert_eq!(standing(&row, mark(99, 50)), Standing::New);
            note(&mut row, mark(100, number));
        }
        assert_eq!(standing(&row, mark(99, 50)), Standing::Forgotten);
        assert_eq!(standing(&row, mark(100, 3)), Standing::Followed);
        assert_eq!(standing(&row, mark(100, 50)), Standing::New);
        note(&mut row, mark(100, 50));
        assert_eq!(standing(&row, mark(100, 50)), Standing::Followed);
        assert_eq!(standing(&row, mark(100, 51)), Standing::Forgotten);
    }
}
