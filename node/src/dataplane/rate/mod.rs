//! Holds sessions to their rates: to the core by dropping what is too much, to the subscriber by letting it wait.
//!
//! A rate counts the octets of IP packets. [`Bucket`]s stand in [`super::SessionShared`], one for each direction, so that all
//! shards which carry a session share its rate without a lock. To the core nothing waits: a LAC's line is seldom faster than what it
//! is sold as, and a packet that was received has cost what it costs. To the subscriber the [`Shaper`] of each shard queues what the
//! bucket does not let pass: the lines are slower than the core, and whoever drops there instead slows TCP down by half.
//!
//! The queue of a session is FQ-CoDel (RFC 8290) with [`queue::FLOWS`] flows: a flow that sends little goes before one that fills the
//! line, so the small packets of calls, games and name servers do not wait behind a download and are the last to be dropped; and
//! CoDel (RFC 8289) keeps a standing queue short whatever the rate. FIFO with a fixed length would be too long for one rate and too
//! short for another.

mod arena;
mod codel;
mod limit;
#[cfg(test)]
mod properties;
mod queue;
mod shaper;

pub use limit::{Bucket, Buckets, Limit, Limits, RATE_MAX};
pub use shaper::{Offered, SessionIds, Shaper};
