//! Links driven from outside: single steps on a [`bench`], whole dial-ins in a [`world`] with a scripted client.
//!
//! Two links cannot be paired: both withhold the other's network request until their own is acknowledged and
//! committed. So the peer here is plain state of the tests and shares no code with the automaton.

mod bench;
mod client;
mod world;

mod auth;
mod both;
mod dial_in;
mod echo;
mod gate;
mod ipcp;
mod ipv6cp;
mod lcp;
mod properties;
mod proxy;
mod rejections;
