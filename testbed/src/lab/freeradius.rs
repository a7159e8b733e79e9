//! Debian's FreeRADIUS: fetched and unpacked into the cache, not installed, and run with a configuration of its own on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::error::{LabError, Result};
use super::namespace::Namespace;
use super::process::{ProcessGroup, run};
use super::{apt, image};
use crate::{cleanup, daemon};

/// What it shares with its clients.
pub const SECRET: &str = "lab-s3cret";

/// The server, its programs for tests, and what of their libraries a machine may lack.
const PACKAGES: &[&str] = &[
    "freeradius",
    "freeradius-common",
    "freeradius-utils",
    "libfreeradius3",
    "libtalloc2",
    "libwbclient0",
    "libpcre3",
    "libpcap0.8",
];
const READY: &str = "Ready to process requests";
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// By attribute, what a record says; the last instance of each.
pub type Record = BTreeMap<String, String>;

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct FreeRadius {
    process: ProcessGroup,
    folder: tempfile::TempDir,
    pub auth_port: u16,
    pub acct_port: u16,
}

impl FreeRadius {
    /// Starts one that knows the users of a `users` file.
    pub fn start(users: &str) -> Result<Self> {
        let io = |source| LabError::io("FreeRADIUS", source);
        let ports = (
            daemon::unused_port().map_err(io)?,
            daemon::unused_port().map_err(io)?,
        );
        Self::start_at(None, (Ipv4Addr::LOCALHOST, ports), users)
    }

    /// Starts one on a namespace's loopback, at the usual ports.
    pub fn start_in(namespace: &Namespace, users: &str) -> Result<Self> {
        Self::start_on(namespace, Ipv4Addr::LOCALHOST, users)
    }

    /// Starts one at an address of a namespace, at the usual ports, for whoever knows the secret.
    pub fn start_on(namespace: &Namespace, address: Ipv4Addr, users: &str) -> Result<Self> {
        Self::start_at(Some(namespace), (address, (1812, 1813)), users)
    }

    fn start_at(
        namespace: Option<&Namespace>,
        (address, (auth_port, acct_port)): (Ipv4Addr, (u16, u16)),
        users: &str,
    ) -> Result<Self> {
        let tree = unpacked()?;
        let io = |source| LabError::io("FreeRADIUS", source);
        let folder = cleanup::temporary_folder("holdfast-freeradius-").map_err(io)?;
        let path = folder.path();
        fs::write(path.join("users"), users).map_err(io)?;
        let configuration = configuration(&tree, path, address, auth_port, acct_port);
        fs::write(path.join("radiusd.conf"), configuration).map_err(io)?;
        let log = fs::File::create(path.join("log")).map_err(io)?;
        let mut command = program(&tree, "usr/sbin/freeradius", namespace);
        command.args(["-f", "-l", "stdout", "-d"]).arg(path);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io)?)
            .stderr(log);
        let mut server = Self {
            process: ProcessGroup::spawn(&mut command)?,
            folder,
            auth_port,
            acct_port,
        };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let printed = self.log();
            if printed.contains(READY) {
                return Ok(());
            }
            if let Some(status) = self.process.status() {
                return Err(LabError::unmet(format!("FreeRADIUS: {status}\n{printed}")));
            }
            if Instant::now() > deadline {
                return Err(LabError::unmet(format!(
                    "FreeRADIUS does not become ready:\n{printed}"
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Every request that it took, as its own dictionary names the attributes.
    pub fn requests(&self) -> String {
        fs::read_to_string(self.folder.path().join("requests")).unwrap_or_default()
    }

    /// Every accounting record that it took, repetitions included.
    pub fn accounting(&self) -> Vec<Record> {
        let text = self.records();
        let blocks = text.split("\n\n").map(|block| {
            let pairs = block.lines().filter_map(|line| line.trim().split_once(" = "));
            pairs
                .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
                .collect::<Record>()
        });
        blocks
            .filter(|record| record.contains_key("Acct-Status-Type"))
            .collect()
    }

    /// The same as it wrote them.
    pub fn records(&self) -> String {
        fs::read_to_string(self.folder.path().join("records")).unwrap_or_default()
    }
}

/// `radclient`, with its libraries and dictionaries; what it sends is read from its standard input.
pub fn radclient(namespace: Option<&Namespace>) -> Result<Command> {
    Ok(program(&unpacked()?, "usr/bin/radclient", namespace))
}

fn program(tree: &Path, path: &str, namespace: Option<&Namespace>) -> Command {
    let libraries = [
        "usr/lib/freeradius",
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
    ];
    let libraries = libraries
        .map(|folder| tree.join(folder).display().to_string())
        .join(":");
    let program = tree.join(path);
    let mut command = match namespace {
        Some(namespace) => namespace.command(program),
        None => Command::new(program),
    };
    command
        .env("LD_LIBRARY_PATH", libraries)
        .arg("-D")
        .arg(tree.join("usr/share/freeradius"));
    command
}

/// The packages' tree, made if the cache lacks it.
fn unpacked() -> Result<PathBuf> {
    let tree = image::cache_folder().join("freeradius");
    if tree.join("usr/sbin/freeradius").is_file() {
        return Ok(tree);
    }
    let packages = apt::download(&image::cache_folder().join("packages"), PACKAGES).map_err(|error| {
        LabError::unmet(format!(
            "the tests need Debian's FreeRADIUS, which could not be fetched (is there no network?): {error}"
        ))
    })?;
    let unfinished = image::cache_folder().join(format!("freeradius-unfinished-{}", std::process::id()));
    for package in packages {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(&unfinished))?;
    }
    match fs::rename(&unfinished, &tree) {
        Ok(()) => Ok(tree),
        // Somebody else was faster.
        Err(_) if tree.join("usr/sbin/freeradius").is_file() => {
            let _ = fs::remove_dir_all(&unfinished);
            Ok(tree)
        }
        Err(source) => Err(LabError::io(&tree, source)),
    }
}

/// No proxying, no database: users of a file, PAP, CHAP and MS-CHAPv2. Its version signs replies with Message-Authenticator only when it is
/// told to.
fn configuration(tree: &Path, folder: &Path, address: Ipv4Addr, auth_port: u16, acct_port: u16) -> String {
    let (tree, folder) = (tree.display(), folder.display());
    format!(
        r#"
prefix = {folder}
libdir = {tree}/usr/lib/freeradius
raddbdir = {folder}
logdir = {folder}
run_dir = {folder}
name = freeradius
max_request_time = 30
cleanup_delay = 5
max_requests = 16384
hostname_lookups = no
security {{
  reject_delay = 0
  status_server = yes
}}
thread pool {{
  start_servers = 1
  max_servers = 4
  min_spare_servers = 1
  max_spare_servers = 4
}}
client lab {{
  ipaddr = 0.0.0.0/0
  secret = {SECRET}
  require_message_authenticator = yes
}}
modules {{
  pap {{
  }}
  chap {{
  }}
  mschap {{
    use_mppe = no
  }}
  files {{
    usersfile = {folder}/users
  }}
  detail requests {{
    filename = {folder}/requests
    header = "%t"
    permissions = 0600
    suppress {{
      User-Password
    }}
  }}
  detail records {{
    filename = {folder}/records
    header = "%t"
    permissions = 0600
  }}
}}
server default {{
  listen {{
    type = auth
    ipaddr = {address}
    port = {auth_port}
  }}
  listen {{
    type = acct
    ipaddr = {address}
    port = {acct_port}
  }}
  authorize {{
    requests
    chap
    mschap
    files
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type CHAP {{
      chap
    }}
    Auth-Type MS-CHAP {{
      mschap
    }}
  }}
  accounting {{
    records
  }}
  post-auth {{
    update reply {{
      Message-Authenticator := 0x00
    }}
    Post-Auth-Type REJECT {{
      update reply {{
        Message-Authenticator := 0x00
      }}
    }}
    Post-Auth-Type Challenge {{
      update reply {{
        Message-Authenticator := 0x00
      }}
    }}
  }}
}}
"#
    )
}
