//! Everything that touches the world: sockets, the TUN device, the clock, and the packet threads.
//!
//! ```text
//!    LACs                                                     control side
//!     |  UDP, one SO_REUSEPORT group a listening address            ^  | updates, control and PPP messages
//!     v                                                    Inbound  |  v  (bounded channels, one wake-up each)
//!   steering (BPF in the kernel) --> shard 0 .. n-1: socket <-> dataplane <-> TUN queue
//!                                       ^------- datagrams of other shards' tunnels
//!                                       ^------> packets of sequenced sessions, from and to other nodes ([`passage`])
//! ```
//!
//! Sockets and TUN queues are opened here ([`socket`], [`tun`]) and handed to the shards ([`handle::Dataplane::start`]),
//! which open nothing themselves.

#![allow(unsafe_code)]

mod batch;
pub mod clock;
pub mod coa;
pub mod handle;
pub mod host;
pub mod inbound;
pub mod kernel_routes;
pub mod mailbox;
pub mod netlink;
pub mod passage;
mod poller;
mod pulse;
pub mod radius;
mod shard;
pub mod socket;
mod stall;
mod steering;
pub mod tun;
mod wake;

pub use handle::{Dataplane, PppRoute, SendError};
pub use inbound::Inbound;
pub use kernel_routes::KernelRoutes;
pub use passage::{Entrance, NotPassed, Passage};
pub use pulse::{Pulse, Pulses};
pub use socket::{SocketError, SocketGroup};
pub use tun::{Tun, TunConfig, TunError, TunLink};

/// The largest datagram, octets of UDP payload, that is received or sent. Jumbo frames fit.
pub const MAX_DATAGRAM: usize = 9216;
