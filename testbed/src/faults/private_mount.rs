//! Mounts that nobody else sees: in a mount namespace of one thread, gone with it and the processes that it starts.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::error::{Error, Outcome};

/// Why a scenario that needs this is skipped.
const NOT_ROOT: &str = "mounts need root";

/// Runs `work` on a thread with a mount namespace of its own; skips it without root.
pub fn privately(work: impl FnOnce() -> Result<Outcome, Error> + Send) -> Result<Outcome, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped(NOT_ROOT));
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).map_err(std::io::Error::from)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(std::io::Error::from)?;
            work()
        });
        thread.join().expect("a scenario does not panic")
    })
}

/// A small file system in memory, until it is dropped.
#[derive(Debug)]
pub struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Mounts `mebibytes` at the folder.
    pub fn mount(at: &'a Path, mebibytes: u32) -> Result<Self, Error> {
        let size = format!("size={mebibytes}m");
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .map_err(std::io::Error::from)?;
        Ok(Self(at))
    }

    /// From here on nothing can be written, or all again.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        let mut flags = MsFlags::MS_REMOUNT;
        flags.set(MsFlags::MS_RDONLY, read_only);
        Ok(mount(None::<&str>, self.0, None::<&str>, flags, None::<&str>).map_err(std::io::Error::from)?)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // The namespace takes it along in any case.
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}
