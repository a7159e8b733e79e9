//! Processor time: of the server's process, and of the whole machine, since soft interrupts of a pinned server run elsewhere.

use std::fs;

use crate::lab::error::{LabError, Result};

/// USER_HZ, which is 100 on every machine that Linux supports here.
const TICKS_A_SECOND: f64 = 100.0;

/// Seconds used up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// The process in user space, and in the kernel.
    pub user: f64,
    pub system: f64,
    /// The whole machine, whatever for.
    pub machine: f64,
}

impl Used {
    /// Up to now.
    pub fn now(pid: u32) -> Result<Self> {
        let read = |path: String| fs::read_to_string(&path).map_err(|source| LabError::io(&path, source));
        let (user, system) = process(&read(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| LabError::unmet("no times in /proc/PID/stat"))?;
        let machine =
            machine(&read("/proc/stat".into())?).ok_or_else(|| LabError::unmet("no times in /proc/stat"))?;
        Ok(Self {
            user,
            system,
            machine,
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
            machine: self.machine - before.machine,
        }
    }
}

/// Ticks of some cores up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cores {
    busy: f64,
    all: f64,
}

impl Cores {
    /// Up to now.
    pub fn now(cores: &[usize]) -> Result<Self> {
        let path = "/proc/stat";
        let stat = fs::read_to_string(path).map_err(|source| LabError::io(path, source))?;
        Ok(of_cores(&stat, cores))
    }

    /// Percent of the time since then that they were busy.
    pub fn busy_since(self, before: Self) -> f64 {
        100.0 * (self.busy - before.busy) / (self.all - before.all).max(1.0)
    }
}

fn of_cores(stat: &str, cores: &[usize]) -> Cores {
    let mut sum = Cores::default();
    for line in stat.lines() {
        let Some((name, rest)) = line.split_once(' ') else {
            continue;
        };
        let number = name.strip_prefix("cpu").and_then(|number| number.parse().ok());
        if !number.is_some_and(|number| cores.contains(&number)) {
            continue;
        }
        let ticks: Vec<f64> = rest
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        if let Some([user, nice, system, idle, iowait, irq, softirq, steal]) = ticks.first_chunk() {
            let busy = user + nice + system + irq + softirq + steal;
            sum.busy += busy;
            sum.all += busy + idle + iowait;
        }
    }
    sum
}

/// utime and stime of a `/proc/PID/stat`, whose second field may hold anything.
fn process(stat: &str) -> Option<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / TICKS_A_SECOND, system / TICKS_A_SECOND))
}

/// The busy time of a `/proc/stat`: all but idle, iowait and what the guest columns count twice.
fn machine(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *ticks.first_chunk()?;
    Some((user + nice + system + irq + softirq + steal) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 500 0 0 0 150 250 0 0 20 0 3 0 100 1 1";
        assert_eq!(process(stat), Some((1.5, 2.5)));
        assert_eq!(process("42 (a"), None);
    }

    #[test]
    fn the_cores_asked_for_are_summed_up() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 10 60 0 0 20 0 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 7\n";
        let busy = |cores: &[usize]| of_cores(stat, cores).busy_since(Cores::default());
        assert_eq!([busy(&[0]), busy(&[1]), busy(&[0, 1])], [40.0, 0.0, 20.0]);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  100 10 200 9999 8888 20 30 40 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine(stat), Some(4.0));
    }
}
