//! Counts what arrives at an interface, from outside its namespace and without taking part in it.
//!
//! The interface counts a super-packet once, with its octets: the headers before the UDP payload once, the payload of all
//! its datagrams. So the payload that has arrived follows from both counts exactly.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Mutex;

use crate::lab::error::{LabError, Result};
use crate::lab::namespace::Namespace;

/// Ethernet, IPv4 and UDP.
pub const OUTER_HEADERS: u64 = 14 + 20 + 8;

/// An interface's counts, read by way of a file that belongs to its namespace.
#[derive(Debug)]
pub struct Counter {
    file: Mutex<File>,
    interface: String,
}

/// What an interface has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    pub octets: u64,
    /// Packets, or super-packets.
    pub packets: u64,
    /// What the interface itself had to drop.
    pub dropped: u64,
}

impl Arrived {
    pub fn since(self, before: Self) -> Self {
        Self {
            octets: self.octets - before.octets,
            packets: self.packets - before.packets,
            dropped: self.dropped - before.dropped,
        }
    }

    /// Octets of UDP payload.
    pub fn payload(self) -> u64 {
        self.octets.saturating_sub(self.packets * OUTER_HEADERS)
    }
}

impl Counter {
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let path = "/proc/thread-self/net/dev";
        let file = namespace.enter(|| File::open(path))?;
        Ok(Self {
            file: Mutex::new(file.map_err(|source| LabError::io(path, source))?),
            interface: interface.to_owned(),
        })
    }

    pub fn read(&self) -> Result<Arrived> {
        let mut text = String::new();
        let mut file = self.file.lock().expect("nobody panics with it");
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .map_err(|source| LabError::io("/proc/net/dev", source))?;
        parse(&text, &self.interface)
            .ok_or_else(|| LabError::unmet(format!("no interface {} in /proc/net/dev", self.interface)))
    }
}

/// The receive side of a line of `/proc/net/dev`.
fn parse(text: &str, interface: &str) -> Option<Arrived> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, counts) = lines.into_iter().find(|(name, _)| name.trim() == interface)?;
    let mut counts = counts.split_whitespace().map(|count| count.parse().ok());
    let (octets, packets) = (counts.next()??, counts.next()??);
    let dropped = counts.nth(1)??;
    Some(Arrived {
        octets,
        packets,
        dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
        lo:       0       0    0    0    0     0          0         0        0       0    0    0\n  \
        eth0: 10084     2    0    5    0     0          0         0     9999      88    0    7\n";

    #[test]
    fn the_receive_side_of_the_interface_is_read() {
        let arrived = parse(TEXT, "eth0").unwrap();
        assert_eq!(
            arrived,
            Arrived {
                octets: 10084,
                packets: 2,
                dropped: 5
            }
        );
        assert_eq!(parse(TEXT, "eth1"), None);
    }

    #[test]
    fn a_super_packet_counts_its_headers_once() {
        // One of 99 datagrams of 100 octets, one alone.
        assert_eq!(parse(TEXT, "eth0").unwrap().payload(), 100 * 100);
    }
}
