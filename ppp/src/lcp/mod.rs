//! LCP: its options ([`options`]) and the keepalive on an open link ([`keepalive`]).

pub(crate) mod keepalive;
pub(crate) mod options;
