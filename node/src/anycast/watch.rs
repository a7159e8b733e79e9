//! When the parent process acts on its child's silence. Pure: the time comes in, an order comes out.
//!
//! ```text
//!                 beat                300 ms silent -> set the link down     60 s silent -> kill
//!   Unheard ----------------> Alive --------------------------------> Silent -------------------> Killed
//!                               ^                                       |
//!                               +---------------- beat -----------------+
//! ```
//!
//! A child that has not beaten yet is starting: it has no device, and a long log may take it any time. A parent that was
//! itself held up gives the child its time once more.

use std::time::Duration;

/// Silence after which the link is set down: three beats.
pub const SILENCE: Duration = Duration::from_millis(300);
/// Silence after which the child is killed.
pub const DEAD: Duration = Duration::from_secs(60);
/// Between two beats of a child that is well.
pub const BEAT: Duration = Duration::from_millis(100);
/// A look that comes this much after its time counts as late.
const LATE: Duration = Duration::from_millis(50);

/// What the parent is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Set the link down, and tell the child that it is.
    LinkDown,
    /// Kill the child.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unheard,
    Alive,
    Silent,
    Killed,
}

/// What the parent knows of its child.
#[derive(Debug)]
pub struct Watch {
    state: State,
    /// From when on the child is silent: the last beat, or our own late look.
    heard: Duration,
    /// Whether this silence has been extended already; a parent on an overloaded machine must act in the end.
    extended: bool,
    order: Option<Order>,
}

impl Watch {
    /// Of a child that is being started.
    pub fn new(now: Duration) -> Self {
        Self {
            state: State::Unheard,
            heard: now,
            extended: false,
            order: None,
        }
    }

    /// The child has beaten.
    pub fn handle_beat(&mut self, now: Duration) {
        self.heard = now;
        self.extended = false;
        self.state = match self.state {
            State::Unheard | State::Alive | State::Silent => State::Alive,
            State::Killed => State::Killed,
        };
    }

    /// The child has begun to end: it has no device any more, and may take its time.
    pub fn handle_farewell(&mut self) {
        self.state = match self.state {
            State::Unheard | State::Alive | State::Silent => State::Unheard,
            State::Killed => State::Killed,
        };
    }

    /// The time of [`Watch::poll_timeout`] has come. Beats that have arrived must be handled before.
    pub fn handle_timeout(&mut self, now: Duration) {
        let Some(due) = self.poll_timeout() else {
            return;
        };
        if now < due {
            return;
        }
        if now - due > LATE && !self.extended {
            // We were stopped, or the machine was: so may the child have been.
            self.heard = now;
            self.extended = true;
            return;
        }
        (self.state, self.order) = match self.state {
            State::Alive => (State::Silent, Some(Order::LinkDown)),
            State::Silent => (State::Killed, Some(Order::Kill)),
            state @ (State::Unheard | State::Killed) => (state, None),
        };
    }

    /// When the next look is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Alive => Some(self.heard + SILENCE),
            State::Silent => Some(self.heard + DEAD),
            State::Unheard | State::Killed => None,
        }
    }

    /// What is to be done.
    pub fn poll_output(&mut self) -> Option<Order> {
        self.order.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Looks whenever a look is due, until `end`; the orders with their times.
    fn run(watch: &mut Watch, end: Duration) -> Vec<(Duration, Order)> {
        let mut orders = Vec::new();
        while let Some(due) = watch.poll_timeout().filter(|due| *due <= end) {
            watch.handle_timeout(due);
            orders.extend(watch.poll_output().map(|order| (due, order)));
        }
        orders
    }

    #[test]
    fn silence_sets_the_link_down_then_kills() {
        let mut watch = Watch::new(ms(0));
        assert_eq!(run(&mut watch, ms(1_000_000)), [], "a start may take any time");
        watch.handle_beat(ms(1_000));
        let orders = run(&mut watch, ms(1_000_000));
        assert_eq!(orders, [(ms(1_300), Order::LinkDown), (ms(61_000), Order::Kill)]);
        watch.handle_beat(ms(61_001));
        assert_eq!(run(&mut watch, ms(1_000_000)), [], "it is killed already");
    }

    #[test]
    fn a_beat_ends_the_silence() {
        let mut watch = Watch::new(ms(0));
        watch.handle_beat(ms(100));
        assert_eq!(run(&mut watch, ms(399)), []);
        watch.handle_beat(ms(399));
        assert_eq!(run(&mut watch, ms(699)), [(ms(699), Order::LinkDown)]);
        watch.handle_beat(ms(30_000));
        assert_eq!(run(&mut watch, ms(30_299)), []);
        assert_eq!(run(&mut watch, ms(30_300)), [(ms(30_300), Order::LinkDown)]);
    }

    #[test]
    fn a_parent_that_was_held_up_gives_the_time_again() {
        let mut watch = Watch::new(ms(0));
        watch.handle_beat(ms(100));
        // Due at 400, looks at 5,000.
        watch.handle_timeout(ms(5_000));
        assert_eq!(watch.poll_output(), None);
        assert_eq!(watch.poll_timeout(), Some(ms(5_300)));
        // Late again, but once is enough.
        watch.handle_timeout(ms(6_000));
        assert_eq!(watch.poll_output(), Some(Order::LinkDown));
    }

    #[test]
    fn a_child_that_says_farewell_may_take_its_time() {
        let mut watch = Watch::new(ms(0));
        watch.handle_beat(ms(100));
        watch.handle_farewell();
        assert_eq!(run(&mut watch, ms(1_000_000)), []);
    }

    #[test]
    fn a_look_before_its_time_does_nothing() {
        let mut watch = Watch::new(ms(0));
        watch.handle_beat(ms(100));
        watch.handle_timeout(ms(399));
        assert_eq!(watch.poll_output(), None);
    }
}
