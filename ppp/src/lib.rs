//! PPP for a network server: framing, the RFC 1661 automaton, LCP, PAP, CHAP, IPCP, IPV6CP.
//!
//! ```text
//!             frames                    ppp::Link
//!   peer <-----------------> frame ---> [gate] ---> Machine
//!                                         |           |-- lcp   (Negotiator + LcpOptions)
//!                     Commit / accepted   |           |-- auth  (PAP, CHAP-MD5, MS-CHAPv2)
//!   session table <-----------------------+           `-- ncps  (Negotiator + IpcpOptions, ...)
//! ```
//!
//! The crate is pure: no sockets, no clock, no tasks, no entropy. Time comes in as a [`std::time::Duration`] since an
//! arbitrary fixed origin, randomness as a seed. Feed [`Link`] with `handle_input` and `handle_timeout`, then drain
//! `poll_output` and ask `poll_timeout` for the next instant of interest.
//!
//! Invariant: the peer sees a network protocol open, or leave open, only after the owner of the link has said that the
//! change is accepted ([`Link::commit_accepted`]).

pub mod auth;
mod automaton;
mod cause;
pub mod frame;
pub mod iana;
mod ipcp;
mod ipv6cp;
mod lcp;
mod link;
mod ncp;
mod negotiator;
pub mod packet;
mod proxy;
mod random;
mod secret;

pub use auth::{AuthMethod, AuthRequest, Credential, Verdict};
pub use cause::{Cause, Direction};
pub use ipcp::IpcpConfig;
pub use ipv6cp::{InterfaceId, Ipv6cpConfig};
pub use link::{Counter, Link, LinkConfig, OpenLink, OpenNcp, Output, Transition};
pub use ncp::{Ncp, NcpConfig};
pub use proxy::Proxy;
pub use secret::Secret;
