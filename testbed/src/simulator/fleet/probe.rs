//! Fresh HELLOs on one tunnel after the other: how soon does the control channel of each answer?

use std::time::Duration;

use super::Fleet;

/// A HELLO every `interval`.
#[derive(Debug)]
pub struct Prober {
    interval: Duration,
    next: Duration,
    /// Where the search for the next tunnel goes on.
    cursor: u32,
}

impl Prober {
    pub fn poll_timeout(&self) -> Duration {
        self.next
    }
}

impl Fleet {
    /// Sends a HELLO every `interval` from here on, and repeats whatever is sent every `repeat`.
    pub fn set_probe(&mut self, now: Duration, interval: Option<Duration>, repeat: Option<Duration>) {
        self.repeat = repeat;
        self.tunnels
            .iter_mut()
            .for_each(|tunnel| tunnel.set_repeat(repeat));
        self.prober = interval.map(|interval| Prober {
            interval,
            next: now,
            cursor: 0,
        });
    }

    pub(super) fn continue_probing(&mut self, now: Duration) {
        let Some(mut prober) = self.prober.take() else {
            return;
        };
        if now >= prober.next {
            prober.next = (prober.next + prober.interval).max(now);
            if let Some(index) = self.next_to_probe(prober.cursor) {
                prober.cursor = index + 1;
                self.tunnels[index as usize].hello();
                self.flush_tunnel(now, index);
            }
        }
        self.prober = Some(prober);
    }

    /// The next tunnel, from number `from` on and around, that is up and owed no answer to a HELLO: its last one is
    /// being repeated otherwise.
    fn next_to_probe(&self, from: u32) -> Option<u32> {
        let count = self.tunnels.len() as u32;
        (0..count)
            .map(|step| (from + step) % count)
            .find(|&index| self.is_tunnel_up(index) && !self.tunnels[index as usize].awaits_hello())
    }
}
