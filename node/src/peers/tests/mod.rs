//! Real sockets on loopback: members that talk, and all who are kept out.

mod members;
mod strangers;
mod world;
