//! Moves IP packets between a TUN device and data messages of one session, as fast as offload allows.
//!
//! In the LACs' namespace it makes a real TCP endpoint out of the kernel: its packets leave the device as super-packets, are
//! cut into segments and sent by UDP_SEGMENT; what comes back by UDP_GRO is put together again and written to the device. In
//! the server's place it is the bare forwarder, which shows what offload alone allows: no table, no check, no counter.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg};
use nix::sys::uio::writev;
use tun_rs::{DeviceBuilder, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

use super::coalesce::{self, Run, first_run};
use super::cores;
use super::packet::{ENCAPSULATION, inner_packet};
use crate::lab::error::{LabError, Result};
use crate::lab::namespace::Namespace;

/// Octets of a super-packet, and of a burst.
const SUPER_PACKET: usize = 65_535;
/// Octets of an inner packet; so that no outer packet is ever cut in two.
pub const MTU: u16 = 1400;
/// Segments of a burst at most; the kernel's older limit.
const SEGMENTS: usize = 64;
/// Octets of a burst at most: what fits in a UDP datagram.
const BURST: usize = 65_000;
/// How soon the end is noticed, milliseconds.
const TICK: u16 = 100;

/// Where a pump takes packets from and puts them.
#[derive(Debug)]
pub struct Ends {
    /// In the namespace of its device.
    pub socket: UdpSocket,
    pub peer: SocketAddrV4,
    /// What goes before a packet for the peer.
    pub header: [u8; ENCAPSULATION],
}

/// A running pump; it ends when dropped, and its device with it.
#[derive(Debug)]
pub struct Pump {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Pump {
    /// Makes the device `name` and starts a thread for each direction on these cores.
    pub fn start(namespace: &Namespace, name: &str, ends: Ends, places: [usize; 2]) -> Result<Self> {
        let io = |source| LabError::io("the pump", source);
        let device = namespace.enter(|| {
            DeviceBuilder::new()
                .name(name)
                .mtu(MTU)
                .with(|builder| {
                    builder.offload(true).tx_queue_len(1000);
                })
                .build_sync()
        })?;
        let device = Arc::new(device.map_err(io)?);
        device.set_nonblocking(true).map_err(io)?;
        let stop = Arc::new(AtomicBool::new(false));
        let socket = ends.socket.try_clone().map_err(io)?;
        socket.set_nonblocking(true).map_err(io)?;
        let outward = {
            let (device, stop) = (device.clone(), stop.clone());
            move || outward(&device, &ends, &stop)
        };
        let inward = {
            let stop = stop.clone();
            move || inward(&device, &socket, &stop)
        };
        Ok(Self {
            stop,
            threads: vec![spawn(places[0], outward), spawn(places[1], inward)],
        })
    }

    /// An error if a thread has given up.
    pub fn check(&mut self) -> Result<()> {
        let Some(position) = self.threads.iter().position(JoinHandle::is_finished) else {
            return Ok(());
        };
        let outcome = self
            .threads
            .swap_remove(position)
            .join()
            .expect("a pump does not panic");
        outcome.map_err(|source| LabError::io("the pump", source))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Who cares for the outcome has asked for it.
            let _ = thread.join();
        }
    }
}

fn spawn(core: usize, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> JoinHandle<io::Result<()>> {
    std::thread::spawn(move || {
        cores::pin(&[core]).map_err(io::Error::other)?;
        work()
    })
}

/// From the device to the peer.
fn outward(device: &SyncDevice, ends: &Ends, stop: &AtomicBool) -> io::Result<()> {
    let mut super_packet = vec![0; VIRTIO_NET_HDR_LEN + SUPER_PACKET];
    let mut segments = vec![vec![0; ENCAPSULATION + usize::from(MTU)]; IDEAL_BATCH_SIZE];
    for segment in &mut segments {
        segment[..ENCAPSULATION].copy_from_slice(&ends.header);
    }
    let mut sizes = vec![0; IDEAL_BATCH_SIZE];
    let peer = SockaddrIn::from(ends.peer);
    while !stop.load(Ordering::Relaxed) {
        match device.recv_multiple(&mut super_packet, &mut segments, &mut sizes, ENCAPSULATION) {
            Ok(count) => {
                let mut sent = 0;
                while sent < count {
                    let train = train(&sizes[sent..count]);
                    send(&ends.socket, &peer, &segments[sent..sent + train], &sizes[sent..])?;
                    sent += train;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(device.as_fd())?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many packets of these sizes can leave in one burst: all of one size, the last one may be shorter.
fn train(sizes: &[usize]) -> usize {
    let first = sizes[0];
    let room = (BURST / (first + ENCAPSULATION)).clamp(1, SEGMENTS);
    let same = sizes.iter().take(room).take_while(|size| **size == first).count();
    let shorter = sizes.get(same).is_some_and(|size| *size < first);
    (same + usize::from(shorter)).min(room)
}

fn send(socket: &UdpSocket, peer: &SockaddrIn, segments: &[Vec<u8>], sizes: &[usize]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); SEGMENTS];
    for ((slice, segment), size) in slices.iter_mut().zip(segments).zip(sizes) {
        *slice = IoSlice::new(&segment[..ENCAPSULATION + size]);
    }
    let segment = (ENCAPSULATION + sizes[0]) as u16;
    let control = [ControlMessage::UdpGsoSegments(&segment)];
    let sent = sendmsg(
        socket.as_raw_fd(),
        &slices[..segments.len()],
        if segments.len() > 1 { &control } else { &[] },
        MsgFlags::empty(),
        Some(peer),
    );
    match sent {
        Ok(_) => Ok(()),
        // Full queues lose, as on any network; a server that is just gone says so.
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOBUFS | nix::errno::Errno::ECONNREFUSED) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// From the peer to the device.
fn inward(device: &SyncDevice, socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut burst = vec![0; SUPER_PACKET];
    while !stop.load(Ordering::Relaxed) {
        let Some((length, segment)) = receive(socket, &mut burst)? else {
            wait(socket.as_fd())?;
            continue;
        };
        let messages = burst[..length].chunks(segment.max(1));
        let packets: Vec<&[u8]> = messages.filter_map(inner_packet).collect();
        let mut written = 0;
        while written < packets.len() {
            let run = first_run(&packets[written..]).map_err(io::Error::other)?;
            let of_run = &packets[written..written + run.packets];
            write(device, &run, of_run)?;
            written += run.packets;
        }
    }
    Ok(())
}

/// Hands one run to the device in one call.
fn write(device: &SyncDevice, run: &Run, packets: &[&[u8]]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); 1 + coalesce::SEGMENTS];
    slices[0] = IoSlice::new(&run.header);
    for (slice, packet) in slices[1..].iter_mut().zip(packets) {
        *slice = IoSlice::new(&packet[run.skip..]);
    }
    match writev(device.as_fd(), &slices[..=packets.len()]) {
        // A full queue loses, as on any network; what the kernel takes for no packet too.
        Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A burst and the octets of each of its datagrams but the last; `None` if there is none.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
    let mut control = cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    );
    let message = match received {
        Ok(message) => message,
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECONNREFUSED) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let segment = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(octets) => usize::try_from(octets).ok(),
        _ => None,
    });
    Ok(Some((message.bytes, segment.unwrap_or(message.bytes))))
}

/// Until it is readable, or the tick is over.
fn wait(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    match poll(&mut descriptors, PollTimeout::from(TICK)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_of_one_size_but_for_its_last() {
        let cases: [(&[usize], usize); 6] = [
            (&[1400, 1400, 900, 1400], 3),
            (&[1400, 1400, 1401], 2),
            (&[52], 1),
            (&[52, 60], 1),
            (&[1400; 100], 46),
            (&[52; 100], 64),
        ];
        for (sizes, expected) in cases {
            assert_eq!(train(sizes), expected, "{sizes:?}");
        }
    }
}
