//! Large packets that stand for many (segmentation and receive offload): what the kernel gives and takes instead of
//! each packet by itself.
//!
//! A large packet is one IP and TCP or UDP header with the payload of several packets of one flow behind it, all of the
//! same size but the last. Pure: descriptors are [`crate::io`]'s.

pub mod coalesce;
pub mod split;
pub mod vnet;

pub use coalesce::Coalescer;
pub use split::Split;
pub use vnet::VnetHeader;
