//! RADIUS (RFC 2865, 2866, 5176): packets, what they say of a subscriber, and the client's decisions. Pure: sockets, clocks and random
//! numbers are the caller's.
//!
//! `packet` and `attributes` read and write octets, `authenticator` signs and checks them, `dictionary` names the numbers; `request` says
//! who asks to come in, `reply` reads what he gets, `client` finds a server that answers.

pub mod access_line;
pub mod attributes;
pub mod authenticator;
pub mod client;
pub mod dictionary;
pub mod error;
pub mod filter_rules;
pub mod packet;
pub mod rate;
pub mod reply;
pub mod request;
pub(crate) mod vendors;

pub use attributes::{Attribute, Builder};
pub use authenticator::{verify_reply, verify_request};
pub use dictionary::Code;
pub use error::{Malformed, TooLong, Unverified, WrongValue};
pub use packet::Packet;
