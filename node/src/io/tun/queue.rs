//! One queue of the TUN device: packets with the header of [`VnetHeader`] before each, where the kernel has it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::uio::{readv, writev};

use crate::dataplane::offload::VnetHeader;
use crate::dataplane::offload::coalesce::{Joined, MAX_RUN};
use crate::dataplane::offload::vnet::VNET_HEADER;

/// What the kernel does for the queues of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Each packet has a [`VnetHeader`].
    pub header: bool,
    /// Large packets of TCP are taken and given.
    pub tcp: bool,
    /// Large packets of UDP are taken and given (Linux 6.2).
    pub udp: bool,
}

/// An open queue.
#[derive(Debug)]
pub(crate) struct TunQueue {
    descriptor: OwnedFd,
    offload: Offload,
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl TunQueue {
    /// A queue of a device that was opened with `offload`.
    pub(crate) fn new(descriptor: OwnedFd, offload: Offload) -> Self {
        Self { descriptor, offload }
    }

    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// What the kernel does for the queue.
    pub(crate) fn offload(&self) -> Offload {
        self.offload
    }

    /// Reads one packet to the start of `packet`; what it is and how long.
    ///
    /// # Errors
    /// EAGAIN if none waits; EINVAL if it is of a kind that was not asked for. It is gone then.
    pub(crate) fn read(&self, packet: &mut [u8]) -> nix::Result<(VnetHeader, usize)> {
        if !self.offload.header {
            let length = nix::unistd::read(&self.descriptor, packet)?;
            return Ok((VnetHeader::default(), length));
        }
        let mut header = [0; VNET_HEADER];
        let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(packet)];
        let length = readv(&self.descriptor, &mut pieces)?;
        let length = length.checked_sub(VNET_HEADER).ok_or(Errno::EINVAL)?;
        let header = VnetHeader::decode(header).ok_or(Errno::EINVAL)?;
        Ok((header, length))
    }

    /// Writes one whole packet.
    ///
    /// # Errors
    /// The kernel's: there is no room, the link is down.
    pub(crate) fn write(&self, packet: &[u8]) -> nix::Result<()> {
        if self.offload.header {
            let header = [0; VNET_HEADER];
            writev(&self.descriptor, &[IoSlice::new(&header), IoSlice::new(packet)])?;
        } else {
            nix::unistd::write(&self.descriptor, packet)?;
        }
        Ok(())
    }

    /// Writes the packet that `large` is, whose parts are in `octets`. It is a single one where the kernel takes no other.
    ///
    /// # Errors
    /// As [`TunQueue::write`].
    pub(crate) fn write_joined(&self, large: &Joined<'_>, octets: &[u8]) -> nix::Result<()> {
        if let Some(packet) = large.single() {
            return self.write(&octets[packet]);
        }
        let header = large.header.encode();
        let mut slices = [IoSlice::new(&[]); 1 + MAX_RUN];
        slices[0] = IoSlice::new(&header);
        for (slice, piece) in slices[1..].iter_mut().zip(large.pieces()) {
            *slice = IoSlice::new(&octets[piece]);
        }
        writev(&self.descriptor, &slices[..=large.packets])?;
        Ok(())
    }
}
