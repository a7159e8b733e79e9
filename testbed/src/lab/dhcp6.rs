//! A real DHCPv6 client in a guest, and what addresses the guest has.

use std::net::Ipv6Addr;

use super::error::{LabError, Result};
use super::guest::Guest;

/// A delegated prefix is put on eth0, in a /64 of it.
const DHCP6C: &str = "interface ppp0 { send ia-pd 0; request domain-name-servers; script \"/share/dhcp6c.sh\"; };\n\
                      id-assoc pd 0 { prefix-interface eth0 { sla-id 1; sla-len 8; }; };\n";

/// The global address that an interface of the guest has by now, or soon.
pub fn global_address(guest: &Guest, interface: &str) -> Result<Ipv6Addr> {
    let text = guest.check(&format!(
        "for i in $(seq 150); do\n\
         found=$(ip -6 addr show dev {interface} scope global | grep -v tentative | sed -n 's/.*inet6 \\([^/]*\\).*/\\1/p')\n\
         [ \"$found\" ] && {{ echo $found; exit 0; }}; sleep 0.1; done\n\
         ip -6 addr >&2; ip -6 route >&2; cat /share/dhcp6c.log >&2; exit 1"
    ))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .map_err(|_| LabError::unmet(format!("{text:?} is no IPv6 address")))
}

/// Starts the client, which puts an address of a delegated prefix on eth0.
pub fn start_dhcp6c(guest: &Guest) -> Result<()> {
    guest.write("dhcp6c.conf", DHCP6C)?;
    guest.write("dhcp6c.sh", "#!/bin/sh\nenv >>/share/dhcp6c.env\n")?;
    guest
        .check(
            "chmod 755 /share/dhcp6c.sh; mkdir -p /var/lib/dhcpv6\n\
             dhcp6c -f -D -c /share/dhcp6c.conf -p /run/dhcp6c.pid ppp0 >>/share/dhcp6c.log 2>&1 &",
        )
        .map(drop)
}
