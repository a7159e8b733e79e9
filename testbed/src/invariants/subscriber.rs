//! Nobody gets another's packets: a frame arrives at the call whose row it was made from.

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Subscriber;

impl Invariant for Subscriber {
    const NAME: &'static str = "subscriber";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::FrameAtLac {
                lac,
                serial,
                meant_for,
            } if serial != meant_for => Err(format!(
                "LAC {lac} got a frame for call {meant_for} and takes it for call {serial}"
            )),
            _ => Ok(()),
        }
    }
}
