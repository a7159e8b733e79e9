//! What the subscribers of a scenario say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// The outcome of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    pub scenario: String,
    pub seed: u64,
    pub kills: u32,
    /// Kills that the moment waited for did not bring about, because it did not come.
    pub moments_missed: u32,
    pub sessions_established: u64,
    pub sessions_open: u64,
    /// Established sessions that ended without the subscriber's asking.
    pub sessions_lost: u64,
    pub losses: BTreeMap<String, u64>,
    /// Established sessions on which the node negotiated anew.
    pub sessions_renegotiated: u64,
    /// Open sessions whose LCP echo or whose ping is not answered in the end.
    pub sessions_silent: u64,
    /// Tunnels on which a message is or was not acknowledged within a full cycle of retransmissions.
    pub control_channels_stuck: u64,
    /// Open sessions that share an address.
    pub addresses_duplicated: u64,
    /// Calls that neither came up nor failed.
    pub calls_pending: u64,
    /// Calls on their way when the node was killed that did not survive it: no violation, but worth a look.
    pub calls_failed: u64,
    pub failures: BTreeMap<String, u64>,
    /// The longest time that a session's pings, one a second, went without an answer.
    pub longest_gap_ms: u64,
    /// From starting the process to its listening, milliseconds.
    pub start_p50_ms: f64,
    pub start_p99_ms: f64,
    /// Data and log of the node, kept because something is wrong.
    pub evidence: Option<PathBuf>,
}

impl Verdict {
    /// Whether nobody noticed anything.
    pub fn passed(&self) -> bool {
        self.violations().is_empty()
    }

    /// What must not have happened but did.
    pub fn violations(&self) -> Vec<String> {
        [
            (self.sessions_lost, "established sessions lost"),
            (self.sessions_renegotiated, "sessions renegotiated"),
            (self.sessions_silent, "sessions silent"),
            (self.control_channels_stuck, "control channels stuck"),
            (self.addresses_duplicated, "addresses given twice"),
            (self.calls_pending, "calls neither up nor failed"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "ok  " } else { "FAIL" };
        write!(
            f,
            "{word} {}: {} kills, {} sessions established, {} up at the end, {} calls failed, longest gap {:.1} s, \
             seed {}",
            self.scenario,
            self.kills,
            self.sessions_established,
            self.sessions_open,
            self.calls_failed,
            self.longest_gap_ms as f64 / 1000.0,
            self.seed
        )?;
        if self.moments_missed > 0 {
            write!(f, ", {} moments missed", self.moments_missed)?;
        }
        for violation in self.violations() {
            write!(f, "\n     {violation}")?;
        }
        for (reason, count) in self.losses.iter().chain(&self.failures) {
            write!(f, "\n     {count} x {reason}")?;
        }
        if let Some(evidence) = &self.evidence {
            write!(f, "\n     data and log are kept in {}", evidence.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_session_is_a_violation_and_failed_calls_are_not() {
        let mut verdict = Verdict {
            calls_failed: 3,
            ..Verdict::default()
        };
        assert!(verdict.passed());
        verdict.sessions_lost = 1;
        verdict.losses.insert("StopCCN 1".into(), 1);
        assert!(!verdict.passed());
        let text = verdict.to_string();
        assert!(
            text.contains("1 established sessions lost") && text.contains("1 x StopCCN 1"),
            "{text}"
        );
    }
}
