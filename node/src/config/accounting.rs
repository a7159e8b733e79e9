//! `[accounting]`: what the servers of all groups are told alike.

use std::time::Duration;

use super::duration;
use super::read::Section;

/// `[accounting]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountingConfig {
    /// Between two Interim-Updates of sessions whose server did not say; zero sends none.
    pub interim_interval: Duration,
}

impl Default for AccountingConfig {
    fn default() -> Self {
        Self {
            interim_interval: Duration::from_secs(600),
        }
    }
}

/// The shortest (RFC 2869 §5.16), and the longest.
const INTERIM_MIN: Duration = Duration::from_secs(60);
const INTERIM_MAX: Duration = Duration::from_secs(24 * 3600);

/// Reads it.
pub(super) fn accounting(mut s: Section<'_>) -> AccountingConfig {
    let default = AccountingConfig::default();
    let interim_interval = s.duration(
        "interim_interval",
        default.interim_interval,
        Duration::ZERO..=INTERIM_MAX,
    );
    if !interim_interval.is_zero() && interim_interval < INTERIM_MIN {
        let [given, least] = [interim_interval, INTERIM_MIN].map(duration::format);
        s.mistake(
            "interim_interval",
            format!("{given} is too short: {least} at least, or \"0s\" for none"),
        );
    }
    s.finish();
    AccountingConfig { interim_interval }
}
