//! The subscriber's side of PPP, written apart from the server's crate so that a mistake is not made twice.
//!
//! No automaton of RFC 1661 §4.1 here: a client that asks, answers, repeats and notices what a real one would
//! notice (above all a negotiation that starts anew on an open link). Framing as L2TP carries it (RFC 2661 §5.1).

mod client;
mod ip;
mod mschap;
mod packet;

pub use client::{Authentication, Client, Context, Event, Login, Phase};
pub use ip::{EchoReply, echo_request, parse_echo_reply};
pub use packet::{PROTOCOL_IPV4, frame, split};
