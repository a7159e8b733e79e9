//! One address, many nodes: what this node announces to the routers, and that it is silent when it should be.
//!
//! ```text
//!   parent process <--beats-- heart <--pulses-- table's thread, packet threads, control threads
//!        | link down              | link up again
//!        v                        v
//!     the TUN device: anycast addresses, pool, and the table by which BIRD is told what to announce
//!        ^
//!        | routes                                                       BGP, BFD
//!   announcer <--standing, slices-- whoever knows the session table     BIRD ----------> routers
//! ```
//!
//! `cut`, `slices`, `outside` and `watch` decide and are pure; `announcer`, `heart` and `parent` act; `bird` prints BIRD's configuration.
//! [`Presence`] is all of it for a running node. BGP itself is BIRD's: no packet of it is seen here.

pub mod announcer;
pub mod bird;
pub mod cut;
pub mod heart;
pub mod outside;
pub mod parent;
mod presence;
pub mod slices;
pub mod watch;

pub use announcer::{Announcement, Announcer, Standing};
pub use outside::Outside;
pub use parent::Leash;
pub use presence::{Networks, Presence};
pub use slices::{Origin, Slices};
