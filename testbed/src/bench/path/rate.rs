//! How exactly sessions are held to their rate, and what that costs: more is offered than may pass, for a while.

use std::time::{Duration, Instant};

use super::cpu::Used;
use super::udp::Path;
use crate::lab::error::{LabError, Result};

/// Load begins before anything is measured: a burst of 125 ms goes first.
const BEFORE: Duration = Duration::from_secs(1);
/// So long is measured.
const TIME: Duration = Duration::from_secs(10);
/// More than may pass, and no flood.
const OFFERED: f64 = 1.3;
const OCTET: f64 = 8.0;

/// What came through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// bit/s of IP packets, of all sessions.
    pub bits_per_second: f64,
    /// Percent of a core that the server's process took.
    pub server_busy: f64,
}

/// Offers packets of `octets` to sessions that may have `allowed` bit/s together.
pub fn measure(path: &Path<'_>, octets: usize, allowed: f64, server: u32) -> Result<Rate> {
    let offered = allowed * OFFERED / (octets as f64 * OCTET);
    path.step(1000.0, Duration::from_millis(100))?;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| path.load.run(path.places, offered, BEFORE + TIME + BEFORE));
        std::thread::sleep(BEFORE);
        let (before, used, start) = (path.arrivals.read()?, Used::now(server)?, Instant::now());
        std::thread::sleep(TIME);
        let arrived = path.arrivals.read()?.since(before);
        let seconds = start.elapsed().as_secs_f64();
        let used = Used::now(server)?.since(used);
        let sent = load.join().expect("a generator does not panic")?;
        if (sent.datagrams as f64 / sent.seconds) < offered * 0.97 {
            return Err(LabError::unmet(format!(
                "the generator reaches less than {offered:.0} packets/s"
            )));
        }
        let payload = sent.payload as f64 / sent.datagrams as f64 + path.growth as f64;
        let packets = arrived.payload() as f64 / payload;
        Ok(Rate {
            bits_per_second: packets * octets as f64 * OCTET / seconds,
            server_busy: (used.user + used.system) / seconds * 100.0,
        })
    })
}
