//! Three or four processes as a cluster on loopback, steered by the program's own subcommands.
//!
//! Without TUN interfaces, so that it needs no privileges. Nothing here depends on how long something takes.

mod accounting;
mod addresses;
mod caller;
mod certificates;
#[allow(dead_code, reason = "the LNS's own tests use all of it")]
#[path = "../lns/client.rs"]
mod client;
mod coa;
mod data;
mod drain;
#[allow(dead_code, reason = "the LNS's own tests use all of it")]
#[path = "../lns/lac.rs"]
mod lac;
mod line;
mod mistakes;
mod orders;
#[path = "../process_common/mod.rs"]
mod process;
mod radius;
mod recover;
mod site;
mod whole;
