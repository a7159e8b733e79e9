//! What goes wrong, done to the world.

use std::time::Duration;

use super::{Happening, TICK, World};
use crate::sim::faults::Fault;
use crate::sim::network::Place;
use crate::sim::node::Death;

/// What a fault may leave behind for a while: elections, takeovers, retransmissions.
const AFTERMATH: Duration = Duration::from_secs(3);

impl World {
    pub(super) fn start(&mut self, node: u64) {
        let machine = self.machines.get_mut(&node).expect("a node that there is");
        if machine.is_dead() && !machine.is_retired() {
            let boot = machine.start(self.now, &self.setup);
            self.gone.remove(&node);
            let phase = self.dice.between(Duration::ZERO, TICK);
            self.agenda.at(self.now + phase, Happening::Tick { node, boot });
            self.note(&format!("node {node} starts"));
            self.network.shuffle();
        }
    }

    pub(super) fn resume(&mut self, node: u64) {
        let machine = self.machines.get_mut(&node).expect("a node that there is");
        if machine.is_stopped() {
            let out = machine.resume(self.now);
            self.gone.remove(&node);
            self.send_all(node, out);
            self.note(&format!("node {node} goes on"));
            self.network.shuffle();
        }
    }

    pub(super) fn disturb(&mut self, lasts: Duration) {
        let end = self.now + lasts + AFTERMATH;
        match self.disturbances.last_mut() {
            Some((_, last)) if *last >= self.now => *last = end.max(*last),
            _ => self.disturbances.push((self.now, end)),
        }
    }

    fn stop(&mut self, node: u64, lasts: Duration) {
        self.machines
            .get_mut(&node)
            .expect("a node that there is")
            .stop(self.now);
        self.gone.insert(node, self.now);
        self.agenda.at(self.now + lasts, Happening::Resume(node));
    }

    pub(super) fn die(&mut self, node: u64, death: Death, back_after: Duration) {
        let machine = self.machines.get_mut(&node).expect("a node that there is");
        if !machine.is_dead() {
            machine.die(self.now, death);
            self.gone.insert(node, self.now);
            self.agenda.at(self.now + back_after, Happening::Start(node));
        }
    }

    /// Makes something go wrong.
    pub(super) fn inflict(&mut self, fault: Fault) {
        let now = self.now;
        self.note(&format!("{fault:?}"));
        self.disturb(fault.lasts());
        match fault {
            Fault::Die { node, death, lasts } => self.die(node, death, lasts),
            Fault::AllDie { death, lasts } => {
                let ids: Vec<u64> = self.machines.keys().copied().collect();
                for node in ids {
                    let back = self.dice.between(lasts / 2, lasts);
                    self.die(node, death, back);
                }
            }
            Fault::Stop { node, lasts } => self.stop(node, lasts),
            Fault::StopLeader {
                leader,
                other,
                dies_after,
                lasts,
            } => {
                self.stop(leader, lasts);
                if other != leader {
                    self.agenda.at(now + dies_after, Happening::Kill(other));
                }
            }
            Fault::Overtaken {
                leader,
                other,
                dies_after,
                lasts,
            } => {
                self.network
                    .cut(Place::Node(other), Place::Node(leader), now + lasts);
                self.agenda.at(now + dies_after / 2, Happening::Bustle);
                self.agenda.at(now + dies_after, Happening::Kill(other));
            }
            Fault::Cut { ways, lasts } => {
                for (from, to) in ways {
                    self.network.cut(from, to, now + lasts);
                }
            }
            Fault::SlowDisk { node, sync, lasts } => {
                self.machines[&node].disk().set_sync_time(sync);
                self.agenda.at(now + lasts, Happening::DiskRecovers(node));
            }
            Fault::Shuffle => self.network.shuffle(),
            Fault::ClockJump { node, ahead } => {
                self.machines
                    .get_mut(&node)
                    .expect("a node that there is")
                    .jump(now, ahead);
            }
            Fault::SetWallClock { node, epoch } => {
                let machine = self.machines.get_mut(&node);
                machine.expect("a node that there is").set_wall_clock(epoch);
            }
            Fault::Ordered { node, request } => {
                self.request(node, request);
                // In the middle of it everybody has something to say.
                for _ in 0..3 {
                    let soon = self.dice.between(Duration::ZERO, Duration::from_millis(5));
                    self.agenda.at(now + soon, Happening::Bustle);
                }
            }
            Fault::Members { orders } => self.give_orders(&orders),
            Fault::DiskLost { node, orders } => {
                self.retire(node);
                self.give_orders(&orders);
            }
            Fault::LacRestart { lac } => {
                self.lacs[lac].restart(now);
                self.settle_lac(lac);
            }
        }
    }
}
