//! The Unix socket itself: bound with the right mode from its first moment, and never on top of a living one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A bound socket. Its file goes when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

/// Why there is no socket. Each text names the path and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon lives there.
    #[error("another holdfast answers at {}; stop it, or give this one another api.socket", .0.display())]
    InUse(PathBuf),
    /// Something else lies there, and it is not ours to delete.
    #[error("{} exists and is not a socket; remove it, or set another api.socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {source}; check that the folder exists and is writable, or set another api.socket", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// Of the socket or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Listener {
    /// Binds `path` with the file mode `mode`; creates its folder, and removes a socket that nobody listens on.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let failed = |action| {
            move |source| BindError::System {
                action,
                path: path.to_owned(),
                source,
            }
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            fs::create_dir_all(folder).map_err(failed("create the folder of"))?;
        }
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("open"))?;
        // The file takes over the descriptor's mode, so there is no moment at which strangers may connect.
        fchmod(socket.as_fd(), Mode::from_bits_truncate(mode))
            .map_err(|errno| failed("set the mode of")(errno.into()))?;
        let address = SockAddr::unix(path).map_err(failed("bind"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        // The umask may have taken the group's rights away.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
        socket.listen(BACKLOG).map_err(failed("listen on"))?;
        socket.set_nonblocking(true).map_err(failed("open"))?;
        let file = fs::symlink_metadata(path).map_err(failed("open"))?;
        Ok(Self {
            socket: socket.into(),
            path: path.to_owned(),
            identity: (file.dev(), file.ino()),
        })
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle on the same socket, non-blocking.
    pub(super) fn handle(&self) -> io::Result<UnixListener> {
        self.socket.try_clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = |file: &fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|file| ours(&file)) {
            // Nothing is lost if it stays: the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |action| {
        move |source| BindError::System {
            action,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the stale"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog or no right to connect: somebody is there.
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn has_the_mode_and_goes_when_dropped() {
        let folder = folder();
        let path = folder.path().join("run/h.sock");
        for mode in [0o600, 0o660] {
            let listener = Listener::bind(&path, mode).expect("bound");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = folder();
        let path = folder.path().join("h.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "a killed daemon leaves its socket");
        let living = Listener::bind(&path, 0o600).expect("the stale one is removed");
        assert!(matches!(Listener::bind(&path, 0o600), Err(BindError::InUse(_))));
        assert!(path.exists());
        drop(living);
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("h.sock");
        fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&path, 0o600).expect_err("not a socket");
        assert!(error.to_string().contains("h.sock"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successor_s_socket_survives_us() {
        let folder = folder();
        let path = folder.path().join("h.sock");
        let old = Listener::bind(&path, 0o600).expect("bound");
        fs::remove_file(&path).unwrap();
        let new = Listener::bind(&path, 0o600).expect("bound");
        drop(old);
        assert!(path.exists());
        drop(new);
    }
}
