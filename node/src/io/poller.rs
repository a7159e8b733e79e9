//! poll(2) over descriptors that stay the same, without an allocation per call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, c_int, pollfd};

/// A fixed list of descriptors to wait for. Whoever makes it keeps them open as long.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    descriptors: Vec<pollfd>,
}

impl Poller {
    /// Adds a descriptor to be read from and returns its index.
    pub(crate) fn add(&mut self, descriptor: &impl AsFd) -> usize {
        let fd = descriptor.as_fd().as_raw_fd();
        self.descriptors.push(pollfd {
            fd,
            events: POLLIN,
            revents: 0,
        });
        self.descriptors.len() - 1
    }

    /// Waits until one is ready or `timeout`, counted in whole milliseconds, is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the pointer and the count describe the vector.
        let result = unsafe {
            libc::poll(
                self.descriptors.as_mut_ptr(),
                self.descriptors.len() as libc::nfds_t,
                timeout,
            )
        };
        if result >= 0 {
            return Ok(());
        }
        self.descriptors
            .iter_mut()
            .for_each(|descriptor| descriptor.revents = 0);
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Whether the descriptor can be read without waiting (an error counts: reading fetches it).
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        self.descriptors[index].revents != 0
    }

    /// Whether the descriptor is of no use any more.
    pub(crate) fn is_broken(&self, index: usize) -> bool {
        self.descriptors[index].revents & (POLLERR | POLLHUP | POLLNVAL) != 0
    }

    /// Waits for it no more: poll(2) passes over negative descriptors.
    pub(crate) fn forget(&mut self, index: usize) {
        self.descriptors[index].fd = -1;
        self.descriptors[index].revents = 0;
    }
}
