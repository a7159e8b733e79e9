//! What the kernel says of the way to an address, asked as a node does, in a network namespace of its own. Needs root.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast::io::netlink::{Found, Netlink};
use nix::sched::{CloneFlags, unshare};

/// The address that LACs dial, and one of ours that they do not.
const OWN: &str = "192.0.2.1";
const OTHER: &str = "10.1.1.2";
const LAC: &str = "10.10.1.1";

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn index(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).expect("it is there")
}

struct Asker(Netlink);

impl Asker {
    /// The prefix of the route from an address of ours to the LAC, and its interface.
    fn ask(&mut self, from: &str) -> Option<(u8, Option<u32>)> {
        self.ask_for(from, LAC)
    }

    /// As [`Self::ask`], again and again for a few seconds.
    fn expect_soon(&mut self, expected: Option<(u8, Option<u32>)>, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.ask(OWN) != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.ask(OWN), expected, "{what}");
    }

    fn ask_for(&mut self, from: &str, to: &str) -> Option<(u8, Option<u32>)> {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let found = self.0.find_route(Some(address(from)), address(to));
        let found = found.expect("the kernel answers");
        found.map(|Found { prefix, interface }| (prefix, interface))
    }
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_kernel_tells_routes_by_prefix_rule_kind_and_carrier() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    for side in [1, 2] {
        ip(&format!("link add r{side} type veth peer name far{side}"));
        ip(&format!("addr add 10.{side}.1.2/24 dev r{side}"));
        ip(&format!("link set r{side} up"));
        ip(&format!("link set far{side} up"));
    }
    ip("link set lo up");
    ip("addr add 192.0.2.1/32 dev lo");
    let mut asker = Asker(Netlink::open().expect("a socket"));
    let (r1, r2) = (Some(index("r1")), Some(index("r2")));
    assert_eq!(asker.ask(OWN), None, "no route");

    ip("route add default via 10.2.1.1");
    assert_eq!(asker.ask(OWN), Some((0, r2)));
    ip("route add 10.10.0.0/16 nexthop via 10.1.1.1 nexthop via 10.2.1.1");
    assert_eq!(asker.ask(OWN), Some((16, None)), "two next hops");
    ip("route replace 10.10.0.0/16 via 10.1.1.1");
    assert_eq!(asker.ask(OWN), Some((16, r1)));

    // The kernel tells of a carrier a moment after it has changed.
    ip("link set far1 down");
    asker.expect_soon(None, "no carrier");
    ip("link set far1 up");
    asker.expect_soon(Some((16, r1)), "the carrier is back");

    for kind in ["blackhole", "unreachable", "prohibit"] {
        ip(&format!("route replace {kind} 10.10.0.0/16"));
        assert_eq!(asker.ask(OWN), None, "{kind}");
    }
    ip("route del 10.10.0.0/16");
    assert_eq!(asker.ask(OWN), Some((0, r2)), "the default one is left");

    // What counts is the way of our answers, which come from the address that LACs dial.
    ip("rule add from 192.0.2.1 lookup 100");
    ip("route add unreachable default table 100");
    assert_eq!(asker.ask(OWN), None, "by the rule");
    assert_eq!(asker.ask(OTHER), Some((0, r2)));
    ip("route replace 10.10.1.0/24 via 10.1.1.1 table 100");
    assert_eq!(asker.ask(OWN), Some((24, r1)), "by the rule");

    ip("addr add 2001:db8::1/128 dev lo");
    let (own, lac) = ("2001:db8::1", "2001:db8:10::1");
    assert_eq!(asker.ask_for(own, lac), None, "IPv6: no route");
    ip("-6 route add default dev r2");
    assert_eq!(asker.ask_for(own, lac), Some((0, r2)), "IPv6");
    ip("-6 route add unreachable 2001:db8:10::/48");
    assert_eq!(asker.ask_for(own, lac), None, "IPv6: unreachable");
    ip("-6 route del unreachable 2001:db8:10::/48");
    ip("-6 route add 2001:db8:10::/48 dev r1");
    assert_eq!(asker.ask_for(own, lac), Some((48, r1)), "IPv6");
}
