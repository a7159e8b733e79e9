//! Identifiers of tunnels and sessions (RFC 2661 §3.1).
//!
//! Each side of a tunnel assigns its own ids; a header carries the *recipient's*. Zero means "not known yet",
//! so a value of these types is never zero.

use std::fmt;
use std::num::NonZeroU16;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU16);

        impl $name {
            /// `None` for zero, which no assigned id may be.
            pub const fn new(value: u16) -> Option<Self> {
                match NonZeroU16::new(value) {
                    Some(id) => Some(Self(id)),
                    None => None,
                }
            }

            /// The value as the wire carries it.
            pub const fn get(self) -> u16 {
                self.0.get()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Names a tunnel at the side that assigned it. Ours are `group << 8 | index`, unique in the cluster.
    TunnelId
}

id! {
    /// Names a session within its tunnel, at the side that assigned it.
    SessionId
}

impl TunnelId {
    /// The unit of ownership (0..=255) to which a tunnel id of ours belongs.
    pub const fn group(self) -> u8 {
        (self.get() >> 8) as u8
    }

    /// The shard, of `shards`, whose socket receives this tunnel of ours: `(group + index) % shards`.
    ///
    /// `get() % shards` would put the first tunnel of every group on shard 0.
    pub const fn shard(self, shards: usize) -> usize {
        ((self.get() >> 8) as usize + (self.get() & 0xff) as usize) % shards
    }
}
