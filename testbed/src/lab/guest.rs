//! One guest: a user-mode-linux kernel on a tap, told what to do over its serial line (see `realclient/init`).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::ACCESS_MTU;
use super::error::{LabError, Result};
use super::image::Image;
use super::namespace::Namespace;
use super::process::ProcessGroup;

/// A guest takes two seconds; a loaded machine may take its time.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long a command may take that is not expected to take any time.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const MEMORY: &str = "mem=96M";

/// What a command in the guest left.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A command that runs in the guest.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    number: u32,
}

/// A running guest; dropping it is a power cut.
#[derive(Debug)]
pub struct Guest {
    pub address: Ipv4Addr,
    share: PathBuf,
    machine: ProcessGroup,
    serial: UnixStream,
    journal: Arc<Journal>,
    jobs: AtomicU32,
}

impl Guest {
    /// Boots a guest; `folder` becomes its own and holds `console.log` and `share`, which the guest sees as `/share`.
    pub fn boot(
        image: &Image,
        place: &Namespace,
        tap: &str,
        folder: &Path,
        address: Ipv4Addr,
    ) -> Result<Self> {
        let share = folder.join("share");
        fs::create_dir_all(share.join("run")).map_err(|source| LabError::io(&share, source))?;
        let console_path = folder.join("console.log");
        let console = File::create(&console_path).map_err(|source| LabError::io(&console_path, source))?;
        let (serial, far_end) = UnixStream::pair().map_err(|source| LabError::io("serial line", source))?;

        let [.., host] = address.octets();
        let mut command = place.command("env");
        command.arg(format!("LD_PRELOAD={}", image.xstate().display()));
        command
            .arg(format!("TMPDIR={}", memory_folder(folder).display()))
            .arg(image.kernel());
        command.args([
            MEMORY,
            "umid=guest",
            "rootfstype=hostfs",
            "ro",
            "init=/init",
            "noreboot",
            "panic=1",
        ]);
        command.arg(format!("uml_dir={}/", folder.display()));
        command.arg(format!("rootflags={}", image.root().display()));
        command.arg(format!(
            "vec0:transport=tap,ifname={tap},depth=128,gro=1,mtu={ACCESS_MTU},mac=02:00:0a:47:00:{host:02x}"
        ));
        // The console is standard output, the serial line standard input: a socket, so it goes both ways.
        command.args(["con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:0"]);
        command.arg(format!("share={}", share.display()));
        command
            .stdin(OwnedFd::from(far_end))
            .stdout(console.try_clone().map_err(|e| LabError::io("console", e))?);
        command.stderr(console).env_remove("LD_LIBRARY_PATH");
        let machine = ProcessGroup::spawn(&mut command)?;
        drop(command); // it holds the guest's end of the serial line

        let journal = Arc::new(Journal::default());
        let lines = BufReader::new(
            serial
                .try_clone()
                .map_err(|source| LabError::io("serial line", source))?,
        );
        let reader = Arc::clone(&journal);
        thread::spawn(move || reader.fill_from(lines));
        let guest = Self {
            address,
            share,
            machine,
            serial,
            journal,
            jobs: AtomicU32::new(0),
        };
        guest
            .wait_for("a guest that takes commands", BOOT_LIMIT, 0, |line| {
                (line == "ready").then_some(())
            })
            .map_err(|error| {
                let console = fs::read_to_string(&console_path).unwrap_or_default();
                LabError::unmet(format!("{error}; its console:\n{console}"))
            })?;
        Ok(guest)
    }

    /// A text file of the shared folder, empty if there is none yet.
    pub fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.share.join(file)).unwrap_or_default()).into_owned()
    }

    /// Writes a text file into the shared folder.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.share.join(file);
        fs::write(&path, text).map_err(|source| LabError::io(&path, source))
    }

    /// Starts a shell script.
    pub fn start(&self, script: &str) -> Result<Job> {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        self.write(&format!("run/{number}.sh"), script)?;
        writeln!(&self.serial, "{number}").map_err(|source| LabError::io("serial line", source))?;
        Ok(Job { number })
    }

    /// Waits for a script's end.
    pub fn finish(&self, job: Job, limit: Duration) -> Result<Output> {
        let prefix = format!("done {} ", job.number);
        let what = || {
            format!(
                "end of `{}`",
                self.read(&format!("run/{}.sh", job.number)).trim_end()
            )
        };
        let status = self.wait_for(&what(), limit, 0, |line| line.strip_prefix(&prefix)?.parse().ok())?;
        let text = |kind| self.read(&format!("run/{}.{kind}", job.number));
        Ok(Output {
            status,
            stdout: text("out"),
            stderr: text("err"),
        })
    }

    /// Runs a shell script to its end.
    pub fn run(&self, script: &str) -> Result<Output> {
        self.finish(self.start(script)?, COMMAND_LIMIT)
    }

    /// Runs a shell script that must succeed; returns its standard output.
    pub fn check(&self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        match output.status {
            0 => Ok(output.stdout),
            status => {
                let Output { stdout, stderr, .. } = output;
                Err(LabError::unmet(format!(
                    "`{script}` ended with {status} in the guest\n{stdout}{stderr}"
                )))
            }
        }
    }

    /// How many lines the guest has sent so far.
    pub fn journal_length(&self) -> usize {
        self.journal
            .lines
            .lock()
            .expect("no panic while the journal is locked")
            .0
            .len()
    }

    /// The lines the guest has sent since the journal had length `from`.
    pub fn journal_since(&self, from: usize) -> Vec<String> {
        self.journal
            .lines
            .lock()
            .expect("no panic while the journal is locked")
            .0[from..]
            .to_vec()
    }

    /// Waits until a line after the first `from` gives a value.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        from: usize,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        self.journal.wait_for(what, limit, from, pick)
    }

    /// Takes another's address, who must be gone.
    pub fn take_address(&mut self, address: Ipv4Addr) -> Result<()> {
        self.check(&format!(
            "ip addr flush dev eth0; ip addr add {address}/24 dev eth0"
        ))?;
        self.address = address;
        Ok(())
    }

    /// Cuts the power: the machine is gone without a word to anybody.
    pub fn cut_power(&mut self) {
        self.machine.kill();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.cut_power();
        let _ = self.serial.shutdown(Shutdown::Both); // ends the reading thread
    }
}

/// Where the guest's memory lives: a file system in memory that allows executable mappings, or the guest's folder.
fn memory_folder(folder: &Path) -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let usable = mounts.lines().map(fields).any(|field| {
        field.get(1).is_some_and(|place| place == "/dev/shm")
            && field
                .get(3)
                .is_some_and(|options| !options.split(',').any(|option| option == "noexec"))
    });
    if usable {
        PathBuf::from("/dev/shm")
    } else {
        folder.to_path_buf()
    }
}

/// All lines from the guest's serial line, and whether it has ended.
#[derive(Debug, Default)]
struct Journal {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Journal {
    fn fill_from(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(std::io::Result::ok) {
            let mut journal = self.lines.lock().expect("no panic while the journal is locked");
            journal.0.push(line.trim_end().to_owned());
            self.changed.notify_all();
        }
        self.lines.lock().expect("no panic while the journal is locked").1 = true;
        self.changed.notify_all();
    }

    fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        from: usize,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut seen = from;
        let mut journal = self.lines.lock().expect("no panic while the journal is locked");
        loop {
            if let Some(value) = journal.0[seen..].iter().find_map(|line| pick(line)) {
                return Ok(value);
            }
            seen = journal.0.len();
            if journal.1 {
                return Err(LabError::unmet(format!("{what}: the guest ended before")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LabError::Timeout {
                    what: what.to_owned(),
                    after: limit,
                });
            }
            journal = self
                .changed
                .wait_timeout(journal, left)
                .expect("no panic while the journal is locked")
                .0;
        }
    }
}
