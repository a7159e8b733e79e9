//! What RADIUS servers order of sessions that run: Disconnect and Change of Authorization (RFC 5176). Pure: sockets, clocks, the
//! session table and other nodes are the caller's.
//!
//! `server` decides which packets are heard, `identify` whom they mean, `change` what they want; `answer` says how it went.
//!
//! What is deliberately not done: a request that means several sessions changes none (Error-Cause 508), for rows of several tunnels are
//! not accepted by the table as one; a Disconnect ends all of them, for ending is repeated without harm. Authorize-Only is refused (405).

pub mod answer;
pub mod change;
pub mod identify;
pub mod server;

pub use answer::{ErrorCause, Refusal};
pub use identify::Wanted;
pub use server::{Arrival, Client, Dropped, Policy, Request, Server};
