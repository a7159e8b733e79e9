//! A configuration for nodes under test: loopback, one user, a wide pool, limits out of the way.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holdfast::config::L2tpConfig;

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
    data_dir: PathBuf,
}

/// What a node under test may have otherwise than the others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Packet threads; 0 for one a core.
    pub shards: usize,
    /// `[tun] enabled`.
    pub tun: &'static str,
    /// Address and port to listen on; absent: an unused port on loopback.
    pub listen: Option<SocketAddr>,
    /// Where its data lie; absent: below its own folder.
    pub data_dir: Option<PathBuf>,
    /// Half-open tunnels at once, of all and of one source.
    pub half_open: (u32, u32),
    /// SCCRQs a second from one source.
    pub sccrq_rate: u32,
    /// Prefix of the pool.
    pub pool: &'static str,
    /// Further lines of the pool.
    pub pool_lines: String,
    /// The one LAC profile, without its name.
    pub lac: &'static str,
    /// Its number in the cluster.
    pub id: u64,
    /// Further lines of the section `[tun]`.
    pub tun_lines: String,
    /// Further sections.
    pub sections: String,
    /// Program and arguments to be put in front of the node's own.
    pub launcher: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: 0,
            tun: "never",
            listen: None,
            data_dir: None,
            half_open: (65_535, 65_535),
            sccrq_rate: 1_000_000,
            pool: "100.64.0.0/10",
            pool_lines: String::new(),
            lac: r#"host_name = "*""#,
            id: 1,
            tun_lines: String::new(),
            sections: String::new(),
            launcher: Vec::new(),
        }
    }
}

impl Settings {
    /// With the node's own limits for SCCRQs.
    pub fn with_default_admission() -> Self {
        let L2tpConfig {
            half_open,
            half_open_per_source,
            sccrq_rate,
            ..
        } = L2tpConfig::default();
        let count = |limit: usize| u32::try_from(limit).expect("limits are small");
        Self {
            half_open: (count(half_open), count(half_open_per_source)),
            sccrq_rate,
            ..Self::default()
        }
    }
}

impl NodeUnderTest {
    /// Writes the configuration; starts nothing yet.
    pub fn new(program: &Path) -> io::Result<Self> {
        Self::with(program, &Settings::default())
    }

    /// As [`Self::new`], for a node with settings of its own.
    pub fn with(program: &Path, settings: &Settings) -> io::Result<Self> {
        let folder = cleanup::temporary_folder("holdfast-testbed-")?;
        let address = match settings.listen {
            Some(address) => address,
            None => SocketAddr::from(([127, 0, 0, 1], unused_port()?)),
        };
        let file = folder.path().join("holdfast.toml");
        let data_dir = settings
            .data_dir
            .clone()
            .unwrap_or_else(|| folder.path().join("data"));
        fs::write(&file, config(folder.path(), &data_dir, address, settings))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let mut command = settings.launcher.clone();
        command.push(program.display().to_string());
        command.extend(["run".into(), "--config".into(), file.display().to_string()]);
        let first = PathBuf::from(command.remove(0));
        let daemon = Daemon::new(&first, command, address, folder.path().join("log"));
        Ok(Self {
            daemon,
            folder,
            data_dir,
        })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's durable state.
    pub fn data_folder(&self) -> &Path {
        &self.data_dir
    }

    /// The operator's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("holdfast.sock")
    }

    /// Keeps data, log and configuration for whoever looks into a failure.
    pub fn keep(mut self) -> io::Result<PathBuf> {
        self.daemon.kill().map_err(io::Error::other)?;
        Ok(cleanup::keep_folder(self.folder))
    }
}

/// The configuration of a node whose socket lies in `folder`.
pub fn config(folder: &Path, data_dir: &Path, address: SocketAddr, settings: &Settings) -> String {
    let (folder, data_dir) = (folder.display(), data_dir.display());
    let (half_open, half_open_per_source) = settings.half_open;
    let Settings {
        shards,
        tun,
        sccrq_rate,
        pool,
        pool_lines,
        lac,
        id,
        tun_lines,
        sections,
        ..
    } = settings;
    format!(
        r#"[node]
name = "testbed"
id = {id}
data_dir = "{data_dir}"
listen = ["{address}"]
shards = {shards}

[tun]
enabled = "{tun}"
{tun_lines}
[log]
level = "info"

[api]
socket = "{folder}/holdfast.sock"
mode = "0600"

[l2tp]
half_open = {half_open}
half_open_per_source = {half_open_per_source}
sccrq_rate = {sccrq_rate}
max_tunnels = 60000
max_sessions = 1000000

[[pool]]
name = "default"
prefixes = ["{pool}"]
{pool_lines}
[[lac]]
name = "any"
{lac}

[[user]]
name = "{USER}"
password = "{USER}"

{sections}"#
    )
}
