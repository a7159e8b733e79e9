//! DHCPv6 messages of a subscriber: nothing panics, and what is answered fits the least MTU and is said by the server alone.

#![no_main]

use std::net::Ipv6Addr;

use holdfast::lns::ipv6::dhcp6::{ANSWER_MAX, Duid, Server, answer};
use libfuzzer_sys::fuzz_target;

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;

fuzz_target!(|received: &[u8]| {
    let dns = [Ipv6Addr::LOCALHOST; 8];
    let server = Server {
        duid: Duid::of_cluster("fuzz"),
        delegated: "2001:db8:ff00::/56".parse().ok(),
        link: "2001:db8:1::/64".parse().ok(),
        dns: &dns,
    };
    let Ok(reply) = answer(&server, received) else {
        return;
    };
    assert!(reply.len() <= ANSWER_MAX);
    assert!(matches!(reply[0], ADVERTISE | REPLY));
    assert_eq!(reply[1..4], received[1..4]);
    // No server answers another one's answer.
    assert!(answer(&server, &reply).is_err());
});
