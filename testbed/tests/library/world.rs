//! A fleet, a server of the library's parts and the network between them, on virtual time.

use std::time::Duration;

use holdfast_testbed::simulator::{Checked, Event, Fleet, Link, Plan, Report, Transmit};

use crate::lns::{Lns, Reply};

const STEP: Duration = Duration::from_millis(5);
/// Between being sent and arriving.
const LATENCY: Duration = Duration::from_millis(1);

pub struct World {
    pub fleet: Fleet,
    pub lns: Lns,
    pub now: Duration,
    up: Link<Transmit>,
    down: Link<Reply>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        Self {
            up: Link::new(plan.impairment, plan.seed),
            down: Link::new(plan.impairment, plan.seed + 1000),
            lns: Lns::new(plan.seed),
            fleet: Fleet::new(plan),
            now: Duration::from_secs(1000),
        }
    }

    pub fn dial(&mut self) {
        let sessions = self.fleet.plan().sessions;
        self.fleet.dial(self.now, sessions, None, Some(100));
    }

    pub fn report(&self) -> Report {
        self.fleet.report(self.now)
    }

    pub fn check(&mut self) -> Checked {
        while self.fleet.poll_event().is_some() {}
        self.fleet.start_check(self.now, Duration::from_secs(35));
        self.run(Duration::from_secs(36));
        while let Some(event) = self.fleet.poll_event() {
            if let Event::Checked(checked) = event {
                return checked;
            }
        }
        panic!("a check ends in time");
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            self.fleet.handle_timeout(self.now);
            self.lns.handle_timeout(self.now);
            while let Some(transmit) = self.up.take_due(self.now) {
                self.lns.handle_datagram(self.now, transmit.lac, &transmit.octets);
            }
            while let Some(reply) = self.down.take_due(self.now) {
                self.deliver(reply);
            }
            while self.exchange() {
                self.now += LATENCY;
            }
        }
    }

    /// Carries what both sides have to send once; whether there was anything.
    fn exchange(&mut self) -> bool {
        let mut busy = false;
        let mut arrived = Vec::new();
        while let Some(transmit) = self.fleet.poll_transmit() {
            self.up
                .offer(self.now, transmit, |transmit| arrived.push(transmit));
            busy = true;
        }
        for transmit in arrived {
            self.lns.handle_datagram(self.now, transmit.lac, &transmit.octets);
        }
        let mut arrived = Vec::new();
        for reply in self.lns.take_replies() {
            self.down.offer(self.now, reply, |reply| arrived.push(reply));
            busy = true;
        }
        for reply in arrived {
            self.deliver(reply);
        }
        busy
    }

    fn deliver(&mut self, reply: Reply) {
        let target = self.fleet.plan().target;
        self.fleet
            .handle_datagram(self.now, reply.lac, target, &reply.octets);
    }
}
