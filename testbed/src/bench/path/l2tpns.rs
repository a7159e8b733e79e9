//! l2tpns as the peer to measure against: Debian's package, fetched and unpacked, never installed.
//!
//! It reads its configuration from /etc/l2tpns, which a mount namespace of its own puts in place; on its end it sends SIGTERM
//! to its whole process group, which is therefore one of its own; alone in its cluster it is mute until it has declared
//! itself the master.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::{Bed, FIRST_SUBSCRIBER, SERVER};
use crate::bench::radius::{self, Radius};
use crate::cleanup;
use crate::lab::error::{LabError, Result};
use crate::lab::process::{POLL, ProcessGroup, run};
use crate::lab::{apt, image};

const PACKAGES: [&str; 2] = ["l2tpns", "libcli1.10"];
/// The shortest timers give 1.5 s.
const START_LIMIT: Duration = Duration::from_secs(20);
const MASTER: &str = "I am declaring myself the master!";

/// A running l2tpns with its RADIUS server; it is killed when dropped.
#[derive(Debug)]
pub struct L2tpns {
    process: ProcessGroup,
    _radius: Radius,
    _folder: tempfile::TempDir,
}

impl L2tpns {
    /// Starts it on these cores and waits until it answers LACs.
    pub fn start(bed: &Bed, cores: &str) -> Result<Self> {
        let tree = unpacked()?;
        let folder = cleanup::temporary_folder("holdfast-l2tpns-")
            .map_err(|source| LabError::io("a temporary folder", source))?;
        configure(folder.path()).map_err(|source| LabError::io(folder.path(), source))?;
        let log = folder.path().join("log");
        let radius = Radius::start_in(&bed.server, FIRST_SUBSCRIBER)?;
        let mut command = command(bed, &tree, folder.path(), cores);
        let file = File::create(&log).map_err(|source| LabError::io(&log, source))?;
        let error = file.try_clone().map_err(|source| LabError::io(&log, source))?;
        let process = ProcessGroup::spawn(command.stdin(Stdio::null()).stdout(file).stderr(error))?;
        let mut server = Self {
            process,
            _radius: radius,
            _folder: folder,
        };
        server.wait_master(&log)?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw().cast_unsigned()
    }

    fn wait_master(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let printed = fs::read_to_string(log).unwrap_or_default();
            if printed.contains(MASTER) {
                return Ok(());
            }
            if let Some(status) = self.process.status() {
                return Err(LabError::unmet(format!("l2tpns: {status}\n{printed}")));
            }
            if Instant::now() > deadline {
                return Err(LabError::unmet(format!("l2tpns is still mute:\n{printed}")));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The version of the package.
pub fn version() -> Result<String> {
    let package = packages()?.swap_remove(0);
    run(Command::new("dpkg-deb")
        .arg("--field")
        .arg(package)
        .arg("Version"))
    .map(|text| text.trim().to_owned())
}

fn packages() -> Result<Vec<PathBuf>> {
    apt::download(&image::cache_folder().join("packages"), &PACKAGES).map_err(|error| {
        LabError::unmet(format!(
            "the bench compares with Debian's l2tpns, which could not be fetched (is there no network?): {error}"
        ))
    })
}

/// The packages' tree, made if the cache lacks it.
fn unpacked() -> Result<PathBuf> {
    let tree = image::cache_folder().join("l2tpns");
    if tree.join("usr/sbin/l2tpns").is_file() {
        return Ok(tree);
    }
    let unfinished = image::cache_folder().join("l2tpns-unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    for package in packages()? {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(&unfinished))?;
    }
    fs::rename(&unfinished, &tree).map_err(|source| LabError::io(&tree, source))?;
    Ok(tree)
}

/// Writes what is to be its /etc.
fn configure(folder: &Path) -> std::io::Result<()> {
    let etc = folder.join("etc/l2tpns");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("users"), "")?;
    // Not used, but it wants one.
    fs::write(etc.join("ip_pool"), "10.10.10.0/24\n")?;
    let config = format!(
        "set debug 1\n\
         set hostname \"l2tpns\"\n\
         set bind_address {server}\n\
         set peer_address {server}\n\
         set primary_radius 127.0.0.1\n\
         set radius_secret \"{secret}\"\n\
         set radius_authtypes \"pap\"\n\
         set allow_duplicate_users yes\n\
         set send_garp no\n\
         set cluster_interface core\n\
         set cluster_hb_interval 1\n\
         set cluster_hb_timeout 15\n\
         set cli_bind_address 127.0.0.1\n\
         set ppp_restart_time 1\n",
        server = SERVER.ip(),
        secret = radius::SECRET,
    );
    fs::write(etc.join("startup-config"), config)
}

/// `ip netns exec` gives it a mount namespace of its own, so that /etc is ours for it alone.
fn command(bed: &Bed, tree: &Path, folder: &Path, cores: &str) -> Command {
    let mut command = bed.server.command("sh");
    let script = r#"mount --bind "$1" /etc && exec env LD_LIBRARY_PATH="$2" taskset -c "$3" "$4""#;
    command
        .args(["-c", script, "sh"])
        .arg(folder.join("etc"))
        .arg(tree.join("usr/lib/x86_64-linux-gnu"))
        .arg(cores)
        .arg(tree.join("usr/sbin/l2tpns"));
    command
}
