//! Wakes a packet thread out of poll(2): an eventfd that is written once however many messages wait.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Shared by a packet thread and those who send to it.
#[derive(Debug)]
pub(crate) struct Wake {
    pending: AtomicBool,
    event: EventFd,
}

impl Wake {
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self {
            pending: AtomicBool::new(false),
            event,
        })
    }

    /// Call after the message is in its channel.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // An error could only mean that the counter is full, and then the thread is awake.
            let _ = self.event.write(1);
        }
    }

    /// Call before the channels are emptied. The event goes first: the other way round a notification between the two
    /// would be swallowed and none follow it.
    pub(crate) fn clear(&self) {
        let _ = self.event.read();
        self.pending.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
