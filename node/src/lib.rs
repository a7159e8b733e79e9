//! The Holdfast server: pure composition in `lns`, actors as its shells, `io` that alone touches the world.

pub mod aaa;
pub mod actors;
pub mod anycast;
pub mod api;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod io;
pub mod lns;
pub mod logging;
pub mod metrics;
pub mod peers;
pub mod server;
