//! The data path beside l2tpns's: both servers in turn on the same cores, in namespaces of one machine.

mod bed;
mod calls;
mod cell;
mod coalesce;
mod cores;
mod counter;
pub(super) mod cpu;
mod first_packet;
mod l2tpns;
mod lanes;
mod latency;
mod load;
mod options;
mod packet;
mod pump;
mod rate;
pub mod results;
mod run;
mod search;
mod server;
mod sessions;
mod stand;
mod steering;
mod table;
mod tcp;
mod udp;

pub use cell::quick_cells;
pub use options::PathOptions;
pub use server::Kind;
