//! What the operator sets: a TOML file, overridden by the environment, checked whole before anything starts.
//!
//! `model` holds the values, `read` takes them out of the source one by one and gathers every mistake, `parts`
//! says which keys there are with their defaults and ranges, `check` compares values with each other, `lines` finds
//! the line of a key, `diff` compares two configurations for a reload, `dev` and `starter` are the embedded ones.

pub mod accounting;
mod addresses;
mod check;
mod cluster;
pub mod coa;
pub mod dev;
mod diff;
pub(crate) mod duration;
mod filter;
mod lines;
mod load;
pub mod mistake;
pub mod model;
mod parts;
pub mod pattern;
mod policy;
mod prefixes;
mod radius;
mod read;
pub mod secret;
mod starter;
#[cfg(test)]
mod tests;
mod values;

pub use accounting::AccountingConfig;
pub use check::{host_count, is_host};
pub use cluster::{PORT as STANDARD_PEER_PORT, is_cluster_id};
pub use coa::CoaConfig;
pub use dev::{Dev, DevOptions, DialIn};
pub use diff::Reload;
pub use filter::FilterConfig;
pub use load::environment;
pub use mistake::{LoadError, Mistake, Place};
pub use model::{
    AddressConflict, AnycastConfig, ApiConfig, AuthMethod, ClusterConfig, Config, L2tpConfig, LacConfig,
    LogConfig, LogFormat, MemberConfig, NodeConfig, PoolConfig, PppConfig, TunConfig, TunMode, UserConfig,
};
pub use parts::SOCKET as STANDARD_SOCKET;
pub use pattern::Pattern;
pub use policy::PolicyConfig;
pub use prefixes::{LINK_LENGTH, PrefixPoolConfig, UserPrefixes, unfit as unfit_prefix};
pub use radius::{AaaConfig, LocalUse, RadiusConfig, RealmConfig};
pub use secret::Secret;
pub use starter::starter;
