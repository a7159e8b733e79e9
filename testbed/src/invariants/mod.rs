//! What always holds in a cluster, whatever goes wrong: one property a file, checked after every step of a simulation.

mod accounting;
mod acknowledged;
mod addresses;
mod alive;
mod counters;
mod durable;
mod half_dead;
mod judged;
mod kept;
mod negotiated;
mod opened;
mod payload;
mod raft;
mod receive_state;
mod relayed;
pub mod service;
mod subscriber;
mod unique;

use crate::sim::{Fact, World};

/// A property that does not hold.
#[derive(Debug)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// A property. It is told every fact, in order, and may look at the world, which is as it is after the step.
trait Invariant {
    const NAME: &'static str;

    /// # Errors
    /// What contradicts it.
    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String>;
}

/// All of them.
#[derive(Debug, Default)]
pub struct Invariants {
    alive: alive::Alive,
    raft: raft::Raft,
    durable: durable::Durable,
    opened: opened::Opened,
    negotiated: negotiated::Negotiated,
    acknowledged: acknowledged::Acknowledged,
    payload: payload::Payload,
    receive_state: receive_state::ReceiveState,
    unique: unique::Unique,
    relayed: relayed::Relayed,
    subscriber: subscriber::Subscriber,
    addresses: addresses::Addresses,
    accounting: accounting::Accounting,
    counters: counters::Counters,
    kept: kept::Kept,
    judged: judged::Judged,
    half_dead: half_dead::HalfDead,
}

impl Invariants {
    /// Checks all of them against the facts of a step.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&mut self, world: &World, facts: &[Fact]) -> Result<(), Violation> {
        for fact in facts {
            one(&mut self.alive, world, fact)?;
            one(&mut self.raft, world, fact)?;
            one(&mut self.durable, world, fact)?;
            one(&mut self.opened, world, fact)?;
            one(&mut self.negotiated, world, fact)?;
            one(&mut self.acknowledged, world, fact)?;
            one(&mut self.payload, world, fact)?;
            one(&mut self.receive_state, world, fact)?;
            one(&mut self.unique, world, fact)?;
            one(&mut self.relayed, world, fact)?;
            one(&mut self.subscriber, world, fact)?;
            one(&mut self.addresses, world, fact)?;
            one(&mut self.accounting, world, fact)?;
            one(&mut self.counters, world, fact)?;
            one(&mut self.kept, world, fact)?;
            one(&mut self.judged, world, fact)?;
            one(&mut self.half_dead, world, fact)?;
        }
        Ok(())
    }

    /// Checks what has to hold in the end, when all is quiet.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn finish(&self, world: &World) -> Result<(), Violation> {
        self.accounting.finish(world)
    }
}

fn one<I: Invariant>(invariant: &mut I, world: &World, fact: &Fact) -> Result<(), Violation> {
    invariant.check(world, fact).map_err(|what| Violation {
        invariant: I::NAME,
        what,
    })
}
