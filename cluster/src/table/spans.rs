//! Who holds which address, and who held it last.
//!
//! Addresses and prefixes of both families are spans of 128-bit numbers (IPv4 as IPv4-mapped IPv6). Spans in use
//! and spans released never overlap, so one ordered map holds both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};

use super::verdict::AddressRefusal;
use crate::limits::{ADDRESS_REST_MS, RELEASES_MAX, TABLE_TIME_STEP_MS};
use crate::records::Prefix;

/// IPv4 addresses as ::ffff:0:0/96.
const MAPPED_FIRST: u128 = 0xffff_0000_0000;
const MAPPED_LAST: u128 = 0xffff_ffff_ffff;

/// A range of addresses, both ends within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    /// `None` for what is no address or prefix, and for IPv6 prefixes that would reach into IPv4. Bits beyond
    /// the length are ignored.
    pub(crate) fn of(prefix: &Prefix) -> Option<Self> {
        let (address, width) = match prefix.ip()? {
            IpAddr::V4(v4) => (MAPPED_FIRST | u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let host_bits = u32::checked_sub(width, prefix.length)?;
        let host_mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        let span = Self {
            first: address & !host_mask,
            last: address | host_mask,
        };
        let reaches_mapped = span.first <= MAPPED_LAST && span.last >= MAPPED_FIRST;
        (width == 32 || !reaches_mapped).then_some(span)
    }

    pub(crate) fn of_address(address: IpAddr) -> Self {
        let first = match address {
            IpAddr::V4(v4) => MAPPED_FIRST | u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        Self { first, last: first }
    }

    pub(crate) fn to_prefix(self) -> Prefix {
        let host_bits = (self.last - self.first).count_ones();
        if (MAPPED_FIRST..=MAPPED_LAST).contains(&self.first) {
            let v4 = Ipv4Addr::from((self.first & 0xffff_ffff) as u32);
            return Prefix {
                address: v4.octets().to_vec(),
                length: 32 - host_bits,
            };
        }
        Prefix {
            address: Ipv6Addr::from(self.first).octets().to_vec(),
            length: 128 - host_bits,
        }
    }
}

/// A session, cluster-wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) tunnel: TunnelId,
    pub(crate) session: SessionId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    last: u128,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Held(Holder),
    /// When, and by whom (empty: by nobody known).
    Released(u64, Arc<[u8]>),
}

/// All spans. Changes can be rolled back to the last `commit`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    uses: BTreeMap<u128, Use>,
    /// Released spans by time, the longest released first.
    released: BTreeSet<(u64, u128)>,
    /// What the uses were before the changes since the last `commit`, in order.
    journal: Vec<(u128, Option<Use>)>,
    /// A mistake, for the simulation to find: whoever asks for a span gets it.
    pub(crate) unchecked: bool,
}

/// A released span as the snapshot keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) span: Span,
    pub(crate) since_ms: u64,
    pub(crate) user: Arc<[u8]>,
}

impl Spans {
    /// Gives `span` to `holder`, unless it is held or rests for another user.
    pub(crate) fn take(
        &mut self,
        span: Span,
        holder: Holder,
        user: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), AddressRefusal> {
        let mut freed = Vec::new();
        for (&first, found) in self.overlapping(span) {
            match &found.state {
                State::Held(_) if self.unchecked => freed.push(first),
                State::Held(by) => {
                    return Err(AddressRefusal::Taken {
                        tunnel: by.tunnel,
                        session: by.session,
                    });
                }
                State::Released(since, by) => {
                    let same_user = (first, found.last) == (span.first, span.last) && user == Some(by);
                    if !same_user && !rested(*since, now_ms) && !self.unchecked {
                        return Err(AddressRefusal::Resting);
                    }
                    freed.push(first);
                }
            }
        }
        for first in freed {
            self.set(first, None);
        }
        self.forget_one(now_ms)?;
        self.set(
            span.first,
            Some(Use {
                last: span.last,
                state: State::Held(holder),
            }),
        );
        Ok(())
    }

    /// Takes `span` from `holder`; it rests from now on. Nothing happens where it is not the holder's.
    pub(crate) fn release(&mut self, span: Span, holder: Holder, user: Option<&[u8]>, now_ms: u64) {
        if self
            .uses
            .get(&span.first)
            .is_some_and(|found| found.state == State::Held(holder))
        {
            let state = State::Released(now_ms, user.unwrap_or_default().into());
            self.set(
                span.first,
                Some(Use {
                    last: span.last,
                    state,
                }),
            );
        }
    }

    /// Puts a release back from a snapshot. `false` where it overlaps anything.
    pub(crate) fn restore(&mut self, release: Release) -> bool {
        let free = self.overlapping(release.span).next().is_none();
        if free {
            let state = State::Released(release.since_ms, release.user);
            self.set(
                release.span.first,
                Some(Use {
                    last: release.span.last,
                    state,
                }),
            );
        }
        free
    }

    /// Makes the changes since the last `commit` final.
    pub(crate) fn commit(&mut self) {
        self.journal.clear();
    }

    /// Undoes the changes since the last `commit`.
    pub(crate) fn rollback(&mut self) {
        while let Some((first, before)) = self.journal.pop() {
            self.put(first, before);
        }
    }

    /// The session that holds an address.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<Holder> {
        match self.overlapping(Span::of_address(address)).next()?.1.state {
            State::Held(holder) => Some(holder),
            State::Released(..) => None,
        }
    }

    /// All released spans, the longest released first.
    pub(crate) fn releases(&self) -> impl Iterator<Item = Release> + '_ {
        self.released.iter().filter_map(|(_, first)| {
            let found = self.uses.get(first)?;
            match &found.state {
                State::Held(_) => None,
                State::Released(since_ms, user) => Some(Release {
                    span: Span {
                        first: *first,
                        last: found.last,
                    },
                    since_ms: *since_ms,
                    user: Arc::clone(user),
                }),
            }
        })
    }

    /// Keeps room for one more release, so that releasing never fails.
    fn forget_one(&mut self, now_ms: u64) -> Result<(), AddressRefusal> {
        if self.released.len() < RELEASES_MAX {
            return Ok(());
        }
        match self.released.first() {
            Some(&(since, first)) if rested(since, now_ms) => {
                self.set(first, None);
                Ok(())
            }
            _ => Err(AddressRefusal::Full),
        }
    }

    /// Uses do not overlap each other, so the one before the span reaches furthest into it.
    fn overlapping(&self, span: Span) -> impl Iterator<Item = (&u128, &Use)> {
        let before = self
            .uses
            .range(..span.first)
            .next_back()
            .filter(move |(_, found)| found.last >= span.first);
        before.into_iter().chain(self.uses.range(span.first..=span.last))
    }

    fn set(&mut self, first: u128, now: Option<Use>) {
        let before = self.put(first, now);
        self.journal.push((first, before));
    }

    fn put(&mut self, first: u128, now: Option<Use>) -> Option<Use> {
        if let Some(Use {
            state: State::Released(since, _),
            ..
        }) = &now
        {
            self.released.insert((*since, first));
        }
        let before = match now.clone() {
            Some(now) => self.uses.insert(first, now),
            None => self.uses.remove(&first),
        };
        if let Some(Use {
            state: State::Released(since, _),
            ..
        }) = &before
        {
            let again = matches!(&now, Some(Use { state: State::Released(now, _), .. }) if now == since);
            if !again {
                self.released.remove(&(*since, first));
            }
        }
        before
    }
}

fn rested(since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= ADDRESS_REST_MS + TABLE_TIME_STEP_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, length: u32) -> Prefix {
        Prefix {
            length,
            ..Prefix::host(text.parse().expect("an address"))
        }
    }

    #[test]
    fn prefixes_and_spans_convert_both_ways() {
        for (address, length) in [
            ("192.0.2.0", 24),
            ("192.0.2.7", 32),
            ("2001:db8::", 56),
            ("::1", 128),
        ] {
            let prefix = prefix(address, length);
            assert_eq!(Span::of(&prefix).expect("a span").to_prefix(), prefix);
        }
    }

    #[test]
    fn what_is_no_prefix_has_no_span() {
        assert_eq!(Span::of(&prefix("192.0.2.1", 33)), None);
        assert_eq!(Span::of(&prefix("::", 0)), None, "reaches into IPv4");
        assert_eq!(
            Span::of(&Prefix {
                address: vec![1, 2, 3],
                length: 24
            }),
            None
        );
    }

    #[test]
    fn a_prefix_and_an_address_within_it_collide() {
        let holder = |n| Holder {
            tunnel: TunnelId::new(n).expect("not zero"),
            session: SessionId::new(1).expect("not zero"),
        };
        let mut spans = Spans::default();
        let wide = Span::of(&prefix("2001:db8::", 56)).expect("a span");
        let narrow = Span::of(&prefix("2001:db8:0:1::", 64)).expect("a span");
        spans.take(wide, holder(1), None, 0).expect("free");
        assert!(matches!(
            spans.take(narrow, holder(2), None, 0),
            Err(AddressRefusal::Taken { .. })
        ));
        spans.rollback();
        spans.take(narrow, holder(2), None, 0).expect("rolled back");
        assert!(matches!(
            spans.take(wide, holder(1), None, 0),
            Err(AddressRefusal::Taken { .. })
        ));
    }
}
