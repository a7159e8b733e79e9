//! SCCRQs that wait for a place among the half-open tunnels (S-9).
//!
//! When every LAC comes back at once, honest SCCRQs alone exceed the caps of [`super::admission`]. Dropped, each would come again
//! after 1, 2, 4, 8 s, by luck into a free place or not, and its LAC would give up after 31 s while the places stand empty most of the
//! time. So they wait, without an answer and without a commit, and are taken one source after the other: a source that floods waits
//! behind itself.
//!
//! Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Messages that wait. Beyond it the source with the most loses its newest, or nobody has more than the newcomer, who is dropped.
pub const WAITING_MAX: usize = 32_768;

/// Messages that wait of one source address; beyond it they are dropped.
pub const WAITING_PER_SOURCE_MAX: usize = 1_024;

/// Octets of a message that may wait: an SCCRQ has some 100 to 300, and so many of the longest would fill the memory.
pub const WAITING_OCTETS_MAX: usize = 1_024;

/// A message that its LAC has not repeated for so long is forgotten. A LAC repeats after 1, 2, 4 and 8 s.
pub const WAITING_TIME: Duration = Duration::from_secs(10);

/// A message with tunnel id 0, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// Who sent it.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// Its octets.
    pub datagram: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Waiting {
    sources: HashMap<IpAddr, VecDeque<Waiter>>,
    /// When each was last heard.
    heard: HashMap<Waiter, Duration>,
    /// The keys of `sources`, in the order in which they are served.
    turns: VecDeque<IpAddr>,
    /// The same by how many wait.
    sizes: BTreeSet<(usize, IpAddr)>,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.heard.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }

    /// Whether anything of this source waits.
    pub fn has(&self, source: IpAddr) -> bool {
        self.sources.contains_key(&source)
    }

    /// Puts a message behind those of its source, or notes that it was repeated. `false` if there is no room, or it is too long.
    pub fn put(&mut self, now: Duration, waiter: &Waiter) -> bool {
        if waiter.datagram.len() > WAITING_OCTETS_MAX {
            return false;
        }
        let source = waiter.from.ip();
        if let Some(heard) = self.heard.get_mut(waiter) {
            *heard = now;
            return true;
        }
        let size = self.sources.get(&source).map_or(0, VecDeque::len);
        if size >= WAITING_PER_SOURCE_MAX || self.len() >= WAITING_MAX && !self.make_room(size + 1) {
            return false;
        }
        if size == 0 {
            self.turns.push_back(source);
        }
        self.sources.entry(source).or_default().push_back(waiter.clone());
        self.heard.insert(waiter.clone(), now);
        self.resized(source, size, size + 1);
        true
    }

    /// Takes up to `most` messages, one of each source in turn, that `admit` lets in. It says for a source whether it may have
    /// a place; `None`: nobody may now.
    pub fn take(
        &mut self,
        now: Duration,
        most: usize,
        mut admit: impl FnMut(IpAddr) -> Option<bool>,
    ) -> Vec<Waiter> {
        let mut taken = Vec::new();
        let mut in_vain = 0;
        while taken.len() < most && in_vain < self.turns.len() {
            let Some(source) = self.turns.pop_front() else {
                break;
            };
            self.forget_silent(now, source);
            if !self.has(source) {
                continue;
            }
            let admitted = admit(source);
            if admitted == Some(true) {
                in_vain = 0;
                taken.extend(self.pop(source, VecDeque::pop_front));
            } else {
                in_vain += 1;
            }
            if self.has(source) {
                self.turns.push_back(source);
            }
            if admitted.is_none() {
                break;
            }
        }
        taken
    }

    /// The source with the most loses its newest, if that is more than `than`.
    fn make_room(&mut self, than: usize) -> bool {
        match self.sizes.last() {
            Some(&(size, source)) if size > than => self.pop(source, VecDeque::pop_back).is_some(),
            _ => false,
        }
    }

    fn forget_silent(&mut self, now: Duration, source: IpAddr) {
        while let Some(oldest) = self.sources.get(&source).and_then(VecDeque::front)
            && now.saturating_sub(self.heard[oldest]) >= WAITING_TIME
        {
            self.pop(source, VecDeque::pop_front);
        }
    }

    fn pop(&mut self, source: IpAddr, pop: fn(&mut VecDeque<Waiter>) -> Option<Waiter>) -> Option<Waiter> {
        let own = self.sources.get_mut(&source)?;
        let size = own.len();
        let waiter = pop(own)?;
        if own.is_empty() {
            self.sources.remove(&source);
        }
        self.heard.remove(&waiter);
        self.resized(source, size, size - 1);
        Some(waiter)
    }

    fn resized(&mut self, source: IpAddr, before: usize, after: usize) {
        self.sizes.remove(&(before, source));
        if after > 0 {
            self.sizes.insert((after, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn source(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn waiter(number: u32, message: u32) -> Waiter {
        Waiter {
            from: SocketAddr::new(source(number), 1701),
            to: SocketAddr::from(([192, 0, 2, 1], 1701)),
            datagram: message.to_be_bytes().to_vec(),
        }
    }

    fn all(waiting: &mut Waiting, now: Duration) -> Vec<Waiter> {
        waiting.take(now, usize::MAX, |_| Some(true))
    }

    #[test]
    fn sources_are_served_in_turn_and_each_in_its_order() {
        let mut waiting = Waiting::default();
        for (number, message) in [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5), (1, 1)] {
            assert!(waiting.put(at(0), &waiter(number, message)));
        }
        assert_eq!(waiting.len(), 5, "a repetition waits but once");
        let order = [(1, 1), (2, 4), (3, 5), (1, 2), (1, 3)];
        assert_eq!(
            all(&mut waiting, at(1)),
            order.map(|(number, message)| waiter(number, message))
        );
        assert!(waiting.is_empty() && !waiting.has(source(1)));
    }

    #[test]
    fn who_may_not_is_passed_over_and_goes_on_waiting() {
        let mut waiting = Waiting::default();
        for number in 1..=3 {
            waiting.put(at(0), &waiter(number, number));
        }
        let taken = waiting.take(at(0), 9, |who| Some(who != source(1)));
        assert_eq!(taken, [waiter(2, 2), waiter(3, 3)]);
        assert!(waiting.take(at(0), 9, |_| None).is_empty());
        assert_eq!(all(&mut waiting, at(0)), [waiter(1, 1)]);
    }

    #[test]
    fn what_is_not_repeated_is_forgotten() {
        let mut waiting = Waiting::default();
        waiting.put(at(0), &waiter(1, 1));
        waiting.put(at(0), &waiter(1, 2));
        waiting.put(at(8), &waiter(1, 2));
        assert_eq!(all(&mut waiting, at(10)), [waiter(1, 2)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_long_message_does_not_wait() {
        let mut waiting = Waiting::default();
        let mut long = waiter(1, 1);
        long.datagram.resize(WAITING_OCTETS_MAX + 1, 0);
        assert!(!waiting.put(at(0), &long));
        long.datagram.pop();
        assert!(waiting.put(at(0), &long));
    }

    #[test]
    fn a_source_that_floods_makes_room_for_others_and_takes_none_of_theirs() {
        let mut waiting = Waiting::default();
        for message in 0..2_000 {
            let room = waiting.put(at(0), &waiter(0, message));
            assert_eq!(room, message < WAITING_PER_SOURCE_MAX as u32);
        }
        let others = (WAITING_MAX - WAITING_PER_SOURCE_MAX) as u32;
        for number in 1..=others + 10 {
            assert!(waiting.put(at(0), &waiter(number, 0)));
        }
        assert_eq!(waiting.len(), WAITING_MAX);
        assert!(!waiting.put(at(0), &waiter(0, 5_000)), "it has the most itself");
        for number in 1..=others + 10 {
            assert!(waiting.has(source(number)));
        }
    }
}
