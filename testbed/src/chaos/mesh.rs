//! The network between the nodes: a TUN device in each node's namespace, and a switch of our own between them that loses,
//! repeats, delays or cuts what it is told to, each direction by itself and from a seed.
//!
//! The devices belong to this process, so a node may die as often as it likes without its address going away. (The test
//! machines' kernel has no netem.)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast::io::{Tun, TunConfig};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::error::{Error, Result};
use crate::lab::namespace::Namespace;
use crate::simulator::{Impairment, Link};

/// The device's name in a node's namespace.
const DEVICE: &str = "mesh";
const MTU: u16 = 1500;
/// Where members listen for each other, TCP and UDP.
pub const PORT: u16 = 1710;
/// Packets taken from one device before the others have their turn.
const BATCH: usize = 64;
/// How soon the switch notices that it was told something.
const TURN: Duration = Duration::from_millis(20);
/// Nothing passes.
const CUT: Impairment = Impairment {
    loss: 100.0,
    duplication: 0.0,
    reordering: 0.0,
    delay_ms: 0,
};

/// A node's address on this network.
pub fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node)
}

/// The switch; it ends when it is dropped, and the devices with it.
#[derive(Debug)]
pub struct Mesh {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct State {
    seed: u64,
    ports: BTreeMap<u8, Arc<File>>,
    /// By sender and receiver.
    links: BTreeMap<(u8, u8), Link<Vec<u8>>>,
}

impl Mesh {
    pub fn start(seed: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                seed,
                ports: BTreeMap::new(),
                links: BTreeMap::new(),
            }),
            stop: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("mesh".into())
            .spawn(move || of_thread.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Gives a node its device.
    pub fn connect(&self, node: u8, namespace: &Namespace) -> Result<()> {
        let config = TunConfig {
            name: DEVICE.into(),
            address: address(node),
            mtu: MTU,
            routes: vec!["10.77.0.0/24".parse().expect("a prefix")],
            routes6: Vec::new(),
            anycast: Vec::new(),
            offload: false,
        };
        let tun = namespace
            .enter(|| Tun::open(&config, 1))?
            .map_err(|error| Error::Unmet(error.to_string()))?;
        let queue = tun
            .into_descriptors()
            .into_iter()
            .next()
            .expect("one was asked for");
        let mut state = self.shared.lock();
        let others: Vec<u8> = state.ports.keys().copied().collect();
        state.ports.insert(node, Arc::new(File::from(queue)));
        for other in others {
            for pair in [(node, other), (other, node)] {
                let seed = state.seed ^ u64::from(pair.0) << 8 ^ u64::from(pair.1);
                state.links.insert(pair, Link::new(Impairment::default(), seed));
            }
        }
        Ok(())
    }

    /// Takes a node's device away. As long as it is open the node's namespace lives.
    pub fn disconnect(&self, node: u8) {
        let mut state = self.shared.lock();
        state.ports.remove(&node);
        state.links.retain(|(from, to), _| *from != node && *to != node);
    }

    /// What `from` sends to `to` is treated so.
    pub fn impair(&self, from: u8, to: u8, impairment: Impairment) {
        if let Some(link) = self.shared.lock().links.get_mut(&(from, to)) {
            link.set(impairment);
        }
    }

    /// Everything is treated so.
    pub fn impair_all(&self, impairment: Impairment) {
        let mut state = self.shared.lock();
        state.links.values_mut().for_each(|link| link.set(impairment));
    }

    /// Nothing of what this node sends arrives.
    pub fn mute(&self, node: u8) {
        self.set_where(CUT, |from, _| from == node);
    }

    /// Nothing of what the others send reaches this node.
    pub fn deafen(&self, node: u8) {
        self.set_where(CUT, |_, to| to == node);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.impair_all(Impairment::default());
    }

    fn set_where(&self, impairment: Impairment, chosen: impl Fn(u8, u8) -> bool) {
        for ((from, to), link) in &mut self.shared.lock().links {
            if chosen(*from, *to) {
                link.set(impairment);
            }
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn run(&self) {
        let origin = Instant::now();
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while !self.stop.load(Ordering::Relaxed) {
            let (ports, next) = {
                let mut state = self.lock();
                state.deliver_due(origin.elapsed());
                (state.ports.clone(), state.poll_timeout())
            };
            let wait = next.map_or(TURN, |next| next.saturating_sub(origin.elapsed()).min(TURN));
            let mut descriptors: Vec<_> = ports
                .values()
                .map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN))
                .collect();
            // An interrupted wait is a short one.
            let _ = ppoll(&mut descriptors, Some(TimeSpec::from_duration(wait)), None);
            for ((from, port), descriptor) in ports.iter().zip(&descriptors) {
                if descriptor.any() == Some(true) {
                    self.lock().forward(origin.elapsed(), *from, port, &mut buffer);
                }
            }
        }
    }
}

impl State {
    /// Takes packets of one node and puts them on their way.
    fn forward(&mut self, now: Duration, from: u8, mut port: &File, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            // Nothing left, or the namespace is going away.
            let Ok(length) = port.read(buffer) else { return };
            let Some(to) = receiver(&buffer[..length]) else {
                continue;
            };
            let ports = &self.ports;
            if let Some(link) = self.links.get_mut(&(from, to)) {
                link.offer(now, buffer[..length].to_vec(), |packet| {
                    deliver(ports, to, &packet)
                });
            }
        }
    }

    fn deliver_due(&mut self, now: Duration) {
        for ((_, to), link) in &mut self.links {
            while let Some(packet) = link.take_due(now) {
                deliver(&self.ports, *to, &packet);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.links.values().filter_map(Link::poll_timeout).min()
    }
}

/// Hands a packet over; what the kernel has no room for is lost, as on any network.
fn deliver(ports: &BTreeMap<u8, Arc<File>>, to: u8, packet: &[u8]) {
    if let Some(port) = ports.get(&to) {
        let _ = port.as_ref().write(packet);
    }
}

/// The node that an IPv4 packet is for.
fn receiver(packet: &[u8]) -> Option<u8> {
    let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let [.., node] = destination;
    (packet[0] >> 4 == 4 && Ipv4Addr::from(destination) == address(node)).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_whom_it_is_for() {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 77, 0, 3]);
        assert_eq!(receiver(&packet), Some(3));
        packet[17] = 78;
        assert_eq!(receiver(&packet), None);
        assert_eq!(receiver(&[0x60; 8]), None);
    }
}
