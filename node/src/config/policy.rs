//! `[[policy]]`: what the sessions of a product are held to.

use std::time::Duration;

use super::filter::FILTERS_MAX;
use super::model::Config;
use super::read::{Raw, Reader, Scalar, Section};
use super::values::Name;
use crate::dataplane::rate::RATE_MAX;

/// The longest timeout.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Octets of the smallest burst: a packet of full size and what stands around it.
const BURST_MIN: u32 = 1_600;
/// Octets of the largest.
const BURST_MAX: u32 = 1 << 30;
/// The lowest rate, bit/s: less is a forgotten unit.
const RATE_MIN: u64 = 1_000;
const UNITS: [(char, u64); 3] = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];

/// `[[policy]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Unique: users name it, and RADIUS by Filter-Id.
    pub name: String,
    /// bit/s from the subscriber; 0: unlimited.
    pub rate_up: u64,
    /// bit/s to the subscriber; 0: unlimited.
    pub rate_down: u64,
    /// Octets; 0: 125 ms of the rate.
    pub burst_up: u32,
    /// Octets; 0: 125 ms of the rate.
    pub burst_down: u32,
    /// Names of filters, in the order in which they are asked.
    pub filters: Vec<String>,
    /// How long a session may last; zero: any time.
    pub session_timeout: Duration,
    /// How long it may have no user data; zero: any time.
    pub idle_timeout: Duration,
}

/// bit/s, as `512k`, `10M`, `1G` or a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rate(u64);

impl Scalar for Rate {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
        let (digits, factor) = unit.map_or((text, 1), |(unit, factor)| {
            (text.trim_end_matches(*unit), *factor)
        });
        let number: Option<u64> = digits.trim_end().parse().ok();
        let rate = number.and_then(|number| number.checked_mul(factor));
        match rate {
            Some(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(Self(rate)),
            Some(rate) if (1..RATE_MIN).contains(&rate) => Err(format!(
                "is {rate} bit/s: is a unit missing (\"512k\", \"10M\")? 1k is the least"
            )),
            Some(0) => Err("is 0: leave it out for no limit".to_owned()),
            Some(_) => Err(format!(
                "is above {} Gbit/s: leave it out for no limit",
                RATE_MAX / 1_000_000_000
            )),
            None => Err(format!(
                "must be a rate in bit/s such as \"512k\", \"10M\" or \"1G\", not \"{text}\""
            )),
        }
    }
}

pub(super) fn policy(mut s: Section<'_>) -> PolicyConfig {
    let name: Name<253> = s.required("name");
    let mut rate = |key| s.optional::<Rate>(key).unwrap_or_default().0;
    let (rate_up, rate_down) = (rate("rate_up"), rate("rate_down"));
    let mut burst = |key| s.number(key, BURST_MIN..=BURST_MAX).unwrap_or(0);
    let (burst_up, burst_down) = (burst("burst_up"), burst("burst_down"));
    let mut timeout = |key| s.duration(key, Duration::ZERO, Duration::ZERO..=YEAR);
    let (session_timeout, idle_timeout) = (timeout("session_timeout"), timeout("idle_timeout"));
    for (burst, key, rate) in [
        (burst_up, "burst_up", rate_up),
        (burst_down, "burst_down", rate_down),
    ] {
        if burst > 0 && rate == 0 {
            s.mistake(key, "is of no use without a rate");
        }
    }
    for (timeout, key) in [
        (session_timeout, "session_timeout"),
        (idle_timeout, "idle_timeout"),
    ] {
        if timeout.subsec_nanos() > 0 {
            s.mistake(key, "must be whole seconds");
        }
    }
    let filters: Vec<String> = s.list("filters").unwrap_or_default();
    if filters.len() > FILTERS_MAX {
        s.mistake(
            "filters",
            format!("has {} names; {FILTERS_MAX} are the most", filters.len()),
        );
    }
    s.finish();
    PolicyConfig {
        name: name.0,
        rate_up,
        rate_down,
        burst_up,
        burst_down,
        filters,
        session_timeout,
        idle_timeout,
    }
}

/// A user's policy has to be there.
pub(super) fn check(config: &Config, reader: &Reader) {
    for (index, user) in config.users.iter().enumerate() {
        if let Some(name) = &user.policy
            && !config.policies.iter().any(|policy| policy.name == *name)
        {
            reader.mistake(
                &format!("user[{index}].policy"),
                format!("there is no [[policy]] \"{name}\""),
            );
        }
    }
}
