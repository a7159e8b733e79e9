//! What the operator sets: a TOML file, overridden by the environment, checked whole before anything starts.
//!
//! `model` holds the values, `read` takes them out of the source one by one and gathers every mistake, `parts`
//! says which keys there are with their defaults and ranges, `check` compares values with each other, `lines` finds
//! the line of a key, `diff` compares two configurations for a reload, `dev` and `starter` are the embedded ones.

pub mod model;
pub mod pattern;
pub mod secret;

pub use model::{
    ApiConfig, AuthMethod, Config, L2tpConfig, LacConfig, LogConfig, LogFormat, NodeConfig, PoolConfig,
    PppConfig, TunConfig, TunMode, UserConfig,
};
pub use pattern::Pattern;
pub use secret::Secret;
