//! What is counted.

/// Things worth counting, a name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A Router Advertisement was sent.
    RouterAdvertisements,
    /// A Router Solicitation came.
    RouterSolicitations,
    /// A DHCPv6 message was answered.
    Dhcp6Answered,
    /// A DHCPv6 message does not parse.
    Dhcp6Malformed,
    /// A DHCPv6 message is for another server, of a server, or asks for nothing that is answered.
    Dhcp6Ignored,
    /// A packet that was meant for the LNS is neither a Router Solicitation nor DHCPv6 as they must be.
    Ipv6Malformed,
}
