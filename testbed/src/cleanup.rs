//! What an interrupt must not leave behind: the processes that this program started, the folders that it made and the
//! kernel's settings that it changed, and nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a program ended by an interrupt.
const INTERRUPTED: i32 = 130;

static PROCESSES: Mutex<Vec<u32>> = Mutex::new(Vec::new());

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

static SETTINGS: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

/// A file below /proc/sys with another value until this is dropped, or an interrupt ends the program.
#[derive(Debug)]
pub struct ChangedSetting(PathBuf);

impl ChangedSetting {
    /// Writes the new value.
    pub fn new(path: PathBuf, value: &str) -> io::Result<Self> {
        let before = std::fs::read_to_string(&path)?;
        SETTINGS
            .lock()
            .expect("nobody panics with it")
            .push((path.clone(), before));
        let changed = Self(path);
        std::fs::write(&changed.0, value)?;
        Ok(changed)
    }
}

impl Drop for ChangedSetting {
    fn drop(&mut self) {
        let mut settings = SETTINGS.lock().expect("nobody panics with it");
        for (path, before) in settings.extract_if(.., |(path, _)| *path == self.0) {
            // There is nobody to tell.
            let _ = std::fs::write(path, before);
        }
    }
}

/// A temporary folder that an interrupt removes too.
pub fn temporary_folder(prefix: &str) -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
    FOLDERS
        .lock()
        .expect("nobody panics with it")
        .push(folder.path().to_owned());
    Ok(folder)
}

/// The folder is to outlive us.
pub fn keep_folder(folder: TempDir) -> PathBuf {
    let path = folder.keep();
    FOLDERS
        .lock()
        .expect("nobody panics with it")
        .retain(|known| *known != path);
    path
}

/// From here on an interrupt ends this process too.
pub fn register_process(pid: u32) {
    PROCESSES.lock().expect("nobody panics with it").push(pid);
}

/// The process has been waited for, or is to outlive us: its number is no longer ours.
pub fn forget_process(pid: u32) {
    PROCESSES
        .lock()
        .expect("nobody panics with it")
        .retain(|known| *known != pid);
}

/// Puts settings back, kills processes, removes folders: for the end of the program.
pub fn clean_up() {
    for (path, before) in SETTINGS.lock().expect("nobody panics with it").drain(..) {
        // There is nobody left to tell, here and below.
        let _ = std::fs::write(path, before);
    }
    for pid in PROCESSES.lock().expect("nobody panics with it").drain(..) {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
    for folder in FOLDERS.lock().expect("nobody panics with it").drain(..) {
        // Those of scenarios that are over are gone already.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Ends this program and what it started on SIGINT, SIGTERM and SIGHUP.
///
/// Handlers, not a blocked mask: processes that we start would inherit the mask and never hear a SIGTERM.
pub fn install() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            clean_up();
            eprintln!("interrupted");
            std::process::exit(INTERRUPTED);
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_setting_is_put_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before").unwrap();
        let changed = ChangedSetting::new(file.path().into(), "while it lasts").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "while it lasts");
        drop(changed);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "before");
    }
}
