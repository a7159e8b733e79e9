//! What the host's kernel is set to, as far as it matters to us.

use nix::sys::stat::{Mode, umask};

/// Files that are made from now on are for this user alone: the session table names subscribers.
pub fn keep_files_private() {
    umask(Mode::from_bits_truncate(0o077));
}

/// As [`forwards_ipv4`].
pub fn forwards_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")
        .map_or(true, |value| value.trim() != "0")
}

/// Whether the kernel forwards IPv4 packets between interfaces. True where that cannot be read: a warning would be a guess.
pub fn forwards_ipv4() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map_or(true, |value| value.trim() != "0")
}
