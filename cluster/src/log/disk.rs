//! The few things that the log asks of a file system, so that tests can put a faulty one beneath it.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::posix_fallocate;

/// A file system.
pub trait Disk: Debug + Send + Sync {
    /// Makes a new file with `octets` zeros, their space on the disk assured.
    fn create(&self, path: &Path, octets: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read and write it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, over any other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes what was created, renamed and removed in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Fills `octets` from `offset` on.
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `octets`.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// The file's size in octets.
    fn size(&self) -> io::Result<u64>;

    /// Makes the file at least so long, the space assured.
    fn allocate(&self, octets: u64) -> io::Result<()>;
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path, octets: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        if octets > 0 {
            DiskFile::allocate(&file, octets)?;
        }
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let octets = i64::try_from(octets).map_err(|_| io::ErrorKind::InvalidInput)?;
        posix_fallocate(self, 0, octets).map_err(io::Error::from)
    }
}
