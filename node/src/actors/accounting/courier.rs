//! Who carries a request to a server and brings the answer.

use std::pin::Pin;

use crate::aaa::accounting::Request;
use crate::aaa::radius::TooLong;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server of the group has it.
    Confirmed,
    /// None has said so, as often as it was sent.
    Unanswered,
    /// It is not wanted any more.
    Cancelled,
    /// It fits no packet, and never will.
    Impossible(TooLong),
}

/// What becomes of a request.
pub type Delivery = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The RADIUS client as accounting sees it; what it knows follows the configuration in force.
pub trait Courier: Send + Sync + 'static {
    /// The groups that have accounting servers.
    fn groups(&self) -> Vec<String>;
    /// Whether sessions of this group are accounted.
    fn accounts(&self, group: &str) -> bool;
    /// Seconds between two interims of sessions whose server did not say; 0: none.
    fn interim_interval_s(&self) -> u32;
    /// Sends a request to the servers of a group, repeats it, and tries all of them.
    fn deliver(&self, group: &str, request: Request) -> Delivery;
}
