//! Somebody who has nodes added, removed, replaced and drained, and gives an order again until it is carried out.

use std::time::Duration;

use holdfast_cluster::replica::Members;

use super::{Happening, World};
use crate::sim::node::{Death, Machine, Process};

/// Between two looks at how far an order is.
const LOOK: Duration = Duration::from_millis(100);

/// An order that takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new machine becomes a member, with the next id.
    Add(u64),
    /// A member leaves, and is taken out of service a while after.
    Remove(u64),
}

/// An order that is given once, to any node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Drain(u64),
    Undrain(u64),
    Rebalance,
    PassLead,
}

impl World {
    /// The members as far as anybody knows.
    pub fn members(&self) -> Members {
        let processes = self.machines.values().filter_map(Machine::process);
        let furthest = processes.max_by_key(|process| process.replica().table().applied());
        furthest.map_or_else(Members::default, |process| process.replica().members())
    }

    /// Those of them that may be removed: all who vote but the witness.
    pub fn removable(&self) -> Vec<u64> {
        let voters = self.members().voters.into_iter();
        voters.filter(|id| self.setup.witness != Some(*id)).collect()
    }

    pub fn is_hasty(&self) -> bool {
        self.setup.hasty
    }

    pub fn is_reconfigured(&self) -> bool {
        self.setup.reconfigured
    }

    /// Whether the orders that were given are carried out, and nobody waits to be taken out of service.
    pub fn is_idle(&self) -> bool {
        self.orders.is_empty()
            && self
                .members()
                .voters
                .iter()
                .all(|id| self.machines.get(id).is_some_and(|machine| !machine.is_retired()))
    }

    /// The id that a new machine gets.
    pub fn next_node(&self) -> u64 {
        self.machines.keys().max().map_or(1, |id| id + 1)
    }

    /// Gives orders, one to be carried out after the other. New machines start at once.
    pub(super) fn give_orders(&mut self, orders: &[Order]) {
        for order in orders {
            if let Order::Add(node) = order {
                self.machines.insert(*node, Machine::new(*node, &self.setup));
                self.start(*node);
            }
        }
        if self.orders.is_empty() {
            self.agenda.at(self.now + LOOK, Happening::Operator);
        }
        self.orders.extend(orders);
    }

    /// Takes the order that is due a step further.
    pub(super) fn look_after_orders(&mut self) {
        let Some(order) = self.orders.front().copied() else {
            return;
        };
        let done = self.leader().and_then(|leader| {
            self.at_process(leader, |process| match order {
                Order::Add(node) => process.add_member(node),
                Order::Remove(node) => process.remove_member(node),
            })
        });
        if done == Some(true) {
            self.orders.pop_front();
            self.orders_done += 1;
            self.note(&format!("{order:?} is carried out"));
            if let Order::Remove(node) = order {
                let notice = self.dice.millis(0, 5_000);
                self.agenda.at(self.now + notice, Happening::Retire(node));
            }
        }
        if !self.orders.is_empty() {
            self.agenda.at(self.now + LOOK, Happening::Operator);
        }
    }

    /// Asks a node for something.
    pub(super) fn request(&mut self, node: u64, request: Request) {
        self.at_process(node, |process| match request {
            Request::Drain(node) => process.move_groups(Some(node), None),
            Request::Undrain(node) => process.move_groups(None, Some(node)),
            Request::Rebalance => process.move_groups(None, None),
            Request::PassLead => process.pass_lead(),
        });
    }

    /// A machine is switched off for good.
    pub(super) fn retire(&mut self, node: u64) {
        self.machines
            .get_mut(&node)
            .expect("a node that there is")
            .retire();
        self.die(node, Death::Killed, Duration::ZERO);
        self.note(&format!("node {node} is switched off for good"));
    }

    fn at_process<R>(&mut self, node: u64, act: impl FnOnce(&mut Process) -> R) -> Option<R> {
        let now = self.now;
        let machine = self.machines.get_mut(&node).expect("a node that there is");
        let (result, out) = machine.order(now, act)?;
        self.send_all(node, out);
        Some(result)
    }
}
