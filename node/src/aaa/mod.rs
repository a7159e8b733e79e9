//! Who may dial in, and with which address.
//!
//! `pool` picks addresses, `local` judges the users of the configuration file. Both are pure: time, the sessions of
//! a user and the rows of the session table are handed in.

pub mod local;
pub mod pool;

pub use local::{Assignment, Grant, LocalUsers, Rejection};
pub use pool::{PickError, Pools, Seat, SessionKey};
