//! Logs: text or JSON on standard error, a level that can change while running, and restraint towards hostile input.
//!
//! What a peer sends may be logged only through [`throttled!`], which bounds lines a second at each place, and only
//! through [`Escaped`], so that it can neither forge lines nor drive the reader's terminal.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as lines, reload};

use crate::config::{LogConfig, LogFormat};
use crate::metrics::CounterRow;

pub use crate::throttled;

/// Lines a second that one [`throttled!`] lets through.
const LINES_PER_SECOND: u32 = 5;
/// Octets of a peer's text that [`Escaped`] shows.
const SHOWN_OCTETS: usize = 64;

/// Lines held back by all throttles since the process started.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Changes the level of a running subscriber.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<Targets, Registry>);

/// Sets up logging for the process; fails if that has been done before.
pub fn init(config: &LogConfig) -> Result<LogControl, TryInitError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level));
    let output = match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            lines::layer()
                .with_writer(std::io::stderr)
                .with_ansi(colours)
                .boxed()
        }
        LogFormat::Json => lines::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()?;
    Ok(LogControl(handle))
}

impl LogControl {
    /// `level` as in `[log] level`, where it has been checked. Fails only if logging itself is gone.
    pub fn set_level(&self, level: &str) -> Result<(), reload::Error> {
        self.0.reload(filter(level))
    }
}

fn filter(level: &str) -> Targets {
    level.parse().expect("the configuration checked it")
}

/// Bounds the lines of one place. Use [`throttled!`], which makes one for each.
#[derive(Debug)]
pub struct Throttle(Mutex<Window>);

#[derive(Debug)]
struct Window {
    /// Start of the running second, since an arbitrary origin.
    start: Duration,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Lets the first lines through.
    #[expect(
        clippy::new_without_default,
        reason = "made in statics, where Default cannot be called"
    )]
    pub const fn new() -> Self {
        Self(Mutex::new(Window {
            start: Duration::ZERO,
            lines: 0,
            suppressed: 0,
        }))
    }

    /// Whether a line may be written now, and if so how many were held back since the last one.
    pub fn admit(&self) -> Option<u64> {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.admit_at(ORIGIN.elapsed())
    }

    fn admit_at(&self, now: Duration) -> Option<u64> {
        // The figures stay right even if a thread has panicked while it held them.
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.start) >= Duration::from_secs(1) {
            window.start = now;
            window.lines = 0;
        }
        if window.lines < LINES_PER_SECOND {
            window.lines += 1;
            return Some(std::mem::take(&mut window.suppressed));
        }
        window.suppressed += 1;
        SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Like `tracing::warn!` and its kin, for what a peer can cause at will: a few lines a second for each place where
/// it is written, with the number held back since as the field `suppressed`.
///
/// ```
/// let peer = "192.0.2.1:1701";
/// holdfast::throttled!(warn, %peer, "SCCRQ refused: no profile allows this LAC");
/// ```
#[macro_export]
macro_rules! throttled {
    ($level:ident, $($line:tt)+) => {{
        static THROTTLE: $crate::logging::Throttle = $crate::logging::Throttle::new();
        match THROTTLE.admit() {
            Some(0) => ::tracing::$level!($($line)+),
            Some(suppressed) => ::tracing::$level!(suppressed, $($line)+),
            None => {}
        }
    }};
}

/// What logging counts about itself.
pub fn counters() -> Vec<CounterRow> {
    let help = "Log lines about hostile or broken input held back by the rate limit.";
    vec![CounterRow::new(
        "log_suppressed_total",
        &[],
        SUPPRESSED.load(Ordering::Relaxed),
        help,
    )]
}

/// A peer's octets, safe to print: plain ASCII as it is, all else as `\xNN`, cut after 64 octets.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_OCTETS)];
        fmt::Display::fmt(&shown.escape_ascii(), f)?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "... ({more} octets more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let throttle = Throttle::new();
        let at = |ms| throttle.admit_at(Duration::from_millis(ms));
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(at(10), Some(0));
        }
        assert_eq!(at(20), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1010), Some(2), "the next line says how many were held back");
        assert_eq!(at(1011), Some(0));
    }

    #[test]
    fn each_place_has_its_own_bound() {
        let before = SUPPRESSED.load(Ordering::Relaxed);
        for index in 0..50 {
            throttled!(debug, index, "one place");
        }
        for index in 0..LINES_PER_SECOND {
            throttled!(debug, index, "another place");
        }
        assert!(SUPPRESSED.load(Ordering::Relaxed) - before >= 40);
        assert!(counters()[0].value >= 40);
    }

    #[test]
    fn hostile_octets() {
        let shown = |octets: &[u8]| Escaped(octets).to_string();
        assert_eq!(shown(b"lac1.example"), "lac1.example");
        assert_eq!(
            shown(b"a\nINFO forged\x1b[2J\xff\\"),
            "a\\nINFO forged\\x1b[2J\\xff\\\\"
        );
        assert_eq!(
            shown(&[b'x'; 70]),
            format!("{}... (6 octets more)", "x".repeat(64))
        );
    }
}
