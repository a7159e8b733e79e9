//! A configuration for nodes under test: loopback, one user, a wide pool, limits out of the way.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cleanup;
use crate::daemon::{Daemon, unused_port};

/// Name and password of the one user.
pub const USER: &str = "bench";

/// A node on its own port, data and socket below one folder.
#[derive(Debug)]
pub struct NodeUnderTest {
    pub daemon: Daemon,
    /// Its data, log and configuration; removed in the end.
    folder: tempfile::TempDir,
}

impl NodeUnderTest {
    /// Writes the configuration; starts nothing yet.
    pub fn new(program: &Path) -> io::Result<Self> {
        let folder = cleanup::temporary_folder("holdfast-testbed-")?;
        let address = SocketAddr::from(([127, 0, 0, 1], unused_port()?));
        let file = folder.path().join("holdfast.toml");
        fs::write(&file, config(folder.path(), address))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let arguments = vec!["run".into(), "--config".into(), file.display().to_string()];
        let daemon = Daemon::new(program, arguments, address, folder.path().join("log"));
        Ok(Self { daemon, folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's durable state.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Keeps data, log and configuration for whoever looks into a failure.
    pub fn keep(mut self) -> io::Result<PathBuf> {
        self.daemon.kill().map_err(io::Error::other)?;
        Ok(cleanup::keep_folder(self.folder))
    }
}

fn config(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"[node]
name = "testbed"
id = 1
data_dir = "{folder}/data"
listen = ["{address}"]

[tun]
enabled = "never"

[log]
level = "info"

[api]
socket = "{folder}/holdfast.sock"
mode = "0600"

[l2tp]
half_open = 65535
half_open_per_source = 65535
sccrq_rate = 1000000
max_tunnels = 60000
max_sessions = 1000000

[[pool]]
name = "default"
prefixes = ["100.64.0.0/10"]

[[lac]]
name = "any"
host_name = "*"

[[user]]
name = "{USER}"
password = "{USER}"
"#
    )
}
