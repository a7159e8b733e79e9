//! Who may dial in, and with which address.
//!
//! `profile` is what a subscriber gets, `policy` what products are held to, `pool` picks addresses and `prefixes` IPv6 prefixes, both
//! from `bins`, `local` judges the users of the configuration file, `networks` says what nobody may have; `radius` speaks with servers, `accounting` says
//! what they are told, `coa` hears their orders. All are pure: time, the sessions of a user and the rows of the session table are handed
//! in.

pub mod accounting;
mod bins;
pub mod coa;
pub mod filters;
pub mod local;
pub mod networks;
pub mod policy;
pub mod pool;
pub mod prefixes;
pub mod profile;
pub mod radius;

pub use filters::Filters;
pub use local::{LocalUsers, Rejection};
pub use policy::Policies;
pub use pool::{Claim, PickError, Pools, Seat, SessionKey};
pub use prefixes::Prefixes;
pub use profile::{Assignment, Profile};
