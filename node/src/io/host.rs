//! What the host's kernel is set to, as far as it matters to subscribers.

/// Whether the kernel forwards IPv4 packets between interfaces. True where that cannot be read: a warning would be a guess.
pub fn forwards_ipv4() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map_or(true, |value| value.trim() != "0")
}
