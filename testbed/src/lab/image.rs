//! What a guest boots: Debian's user-mode-linux kernel and a root tree with pppd and xl2tpd.
//!
//! Nothing is installed on the machine: packages are fetched, unpacked into a cache folder and used from there. The
//! finished image is named by a hash of its recipe, so a changed recipe makes a new one.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use md5::{Digest, Md5};

use super::apt;
use super::error::{LabError, Result};
use super::process::run;

/// The packages of the root tree: the programs, then the libraries they load. A missing one is found by
/// [`check_libraries`].
const ROOT_PACKAGES: &[&str] = &[
    "busybox-static",
    "dash",
    "iputils-ping",
    "ppp",
    "wide-dhcpv6-client",
    "xl2tpd",
    "libaudit1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libdbus-1-3",
    "libfl2",
    "libgcrypt20",
    "libgpg-error0",
    "libidn2-0",
    "liblz4-1",
    "liblzma5",
    "libpam0g",
    "libpcap0.8",
    "libssl3",
    "libsystemd0",
    "libunistring2",
    "libzstd1",
];
const KERNEL_PACKAGE: &str = "user-mode-linux";
/// The programs the tests call; all must find their libraries in the tree.
const PROGRAMS: &[&str] = &[
    "/usr/sbin/pppd",
    "/usr/sbin/xl2tpd",
    "/usr/sbin/dhcp6c",
    "/usr/bin/ping",
    "/usr/bin/dash",
];
/// Unpacked, these would only take room.
const LEFT_OUT: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/lib/systemd",
];

/// Files of our own that go into the tree, with their places.
const OWN_FILES: &[(&str, &str)] = &[
    ("init", include_str!("../../realclient/init")),
    ("etc/ppp/ip-up", include_str!("../../realclient/ip-up")),
    ("etc/ppp/ip-down", include_str!("../../realclient/ip-down")),
    ("etc/ppp/ipv6-up", include_str!("../../realclient/ipv6-up")),
];
const XSTATE_SOURCE: &str = include_str!("../../realclient/xstate.c");

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// Returns the image of this recipe, making it first if the cache lacks it (seconds, and a 45 MB download).
    pub fn prepare() -> Result<Self> {
        let cache = cache_folder();
        fs::create_dir_all(&cache).map_err(|source| LabError::io(&cache, source))?;
        let folder = cache.join(format!("image-{}", recipe_hash()));
        let lock_path = cache.join("lock");
        let lock = File::create(&lock_path).map_err(|source| LabError::io(&lock_path, source))?;
        lock.lock().map_err(|source| LabError::io(&lock_path, source))?;
        if !folder.is_dir() {
            let unfinished = cache.join("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            build(&cache.join("packages"), &unfinished)?;
            fs::rename(&unfinished, &folder).map_err(|source| LabError::io(&folder, source))?;
        }
        Ok(Self { folder })
    }

    /// The kernel, an ordinary program.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("linux")
    }

    /// The library to preload into the kernel.
    pub fn xstate(&self) -> PathBuf {
        self.folder.join("xstate.so")
    }

    /// The root tree, shared by all guests.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }
}

/// `HOLDFAST_LAB_CACHE`, or a folder of the user's cache.
pub fn cache_folder() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user_cache =
        || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    variable("HOLDFAST_LAB_CACHE").unwrap_or_else(|| {
        user_cache()
            .unwrap_or_else(std::env::temp_dir)
            .join("holdfast-lab")
    })
}

fn recipe_hash() -> String {
    let mut hash = Md5::new();
    for text in [include_str!("image.rs"), XSTATE_SOURCE] {
        hash.update(text);
    }
    for (_, text) in OWN_FILES {
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// Makes an image in `folder`.
fn build(packages: &Path, folder: &Path) -> Result<()> {
    println!(
        "making the image of the real clients in {}",
        folder.parent().unwrap_or(folder).display()
    );
    let root = folder.join("root");
    let attempt = |result: io::Result<()>| result.map_err(|source| LabError::io(&root, source));
    for name in ["bin", "sbin", "lib", "lib64"] {
        attempt(fs::create_dir_all(root.join("usr").join(name)))?;
        attempt(symlink(format!("usr/{name}"), root.join(name)))?;
    }
    for package in apt::download(packages, ROOT_PACKAGES)? {
        unpack(&package, &root)?;
    }
    for name in [
        "proc", "sys", "dev", "tmp", "run", "var", "share", "root", "etc/ppp",
    ] {
        attempt(fs::create_dir_all(root.join(name)))?;
    }
    attempt(fs::remove_dir_all(root.join("var")).and_then(|()| fs::create_dir(root.join("var"))))?;
    fill_in_busybox(&root)?;
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("ppp/options", ""),
    ] {
        attempt(fs::write(root.join("etc").join(name), text))?;
    }
    for (place, text) in OWN_FILES {
        let path = root.join(place);
        attempt(fs::write(&path, text))?;
        attempt(fs::set_permissions(&path, Permissions::from_mode(0o755)))?;
    }
    check_libraries(&root)?;
    add_kernel(packages, folder, &root)?;
    compile_xstate(folder)
}

/// Unpacks a package into a tree whose /bin and /lib are links into /usr.
fn unpack(package: &Path, root: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb");
    archive.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut archive = archive
        .spawn()
        .map_err(|source| LabError::io("dpkg-deb", source))?;
    let octets = archive.stdout.take().expect("standard output is piped");
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "-C"]).arg(root);
    tar.args(LEFT_OUT.iter().map(|folder| format!("--exclude={folder}")));
    let unpacked = tar
        .stdin(octets)
        .status()
        .map_err(|source| LabError::io("tar", source))?;
    let fetched = archive
        .wait()
        .map_err(|source| LabError::io("dpkg-deb", source))?;
    match unpacked.success() && fetched.success() {
        true => Ok(()),
        false => Err(LabError::unmet(format!(
            "{} could not be unpacked",
            package.display()
        ))),
    }
}

/// Links busybox under each of its names that no real program has.
fn fill_in_busybox(root: &Path) -> Result<()> {
    let shell = root.join("usr/bin/sh");
    let _ = fs::remove_file(&shell);
    symlink("dash", &shell).map_err(|source| LabError::io(&shell, source))?; // busybox sh would prefer its own ping
    let names = run(Command::new(root.join("usr/bin/busybox")).arg("--list"))?;
    for name in names.lines() {
        let taken = |folder: &str| root.join(folder).join(name).symlink_metadata().is_ok();
        if !taken("usr/bin") && !taken("usr/sbin") {
            let link = root.join("usr/bin").join(name);
            symlink("busybox", &link).map_err(|source| LabError::io(&link, source))?;
        }
    }
    Ok(())
}

/// Lets the tree's own loader list what each program loads.
fn check_libraries(root: &Path) -> Result<()> {
    for program in PROGRAMS {
        run(Command::new("chroot")
            .arg(root)
            .args(["/lib64/ld-linux-x86-64.so.2", "--list", program]))?;
    }
    Ok(())
}

/// Puts the kernel beside the tree and its modules into it.
fn add_kernel(packages: &Path, folder: &Path, root: &Path) -> Result<()> {
    let unpacked = folder.join("kernel");
    fs::create_dir_all(&unpacked).map_err(|source| LabError::io(&unpacked, source))?;
    for package in apt::download(packages, &[KERNEL_PACKAGE])? {
        unpack(&package, &unpacked)?;
    }
    let moves = [
        ("usr/bin/linux.uml", folder.join("linux")),
        ("usr/lib/uml/modules", root.join("usr/lib/modules")),
    ];
    for (from, to) in &moves {
        fs::rename(unpacked.join(from), to).map_err(|source| LabError::io(to, source))?;
    }
    fs::remove_dir_all(&unpacked).map_err(|source| LabError::io(&unpacked, source))?;
    let modules = root.join("usr/lib/modules");
    for version in fs::read_dir(&modules)
        .map_err(|source| LabError::io(&modules, source))?
        .flatten()
    {
        let mut depmod = Command::new(root.join("usr/bin/busybox"));
        run(depmod.args(["depmod", "-b"]).arg(root).arg(version.file_name()))?;
    }
    Ok(())
}

fn compile_xstate(folder: &Path) -> Result<()> {
    let source = folder.join("xstate.c");
    fs::write(&source, XSTATE_SOURCE).map_err(|error| LabError::io(&source, error))?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
        .arg(folder.join("xstate.so"))
        .arg(&source);
    run(&mut compiler).map(drop)
}
