//! What the subscribers and LACs of a scenario say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::simulator::SinceMark;

/// The outcome of one scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    pub scenario: String,
    pub seed: u64,
    pub nodes: usize,
    /// Sessions established before the (last) event.
    pub sessions: u64,
    /// Established sessions that ended without the subscriber's asking.
    pub sessions_lost: u64,
    /// Established sessions on which a node negotiated anew.
    pub sessions_renegotiated: u64,
    /// Tunnels on which a message is or was not acknowledged within a full cycle of retransmissions.
    pub control_channels_stuck: u64,
    /// Sessions that were given an address that another open session had.
    pub addresses_duplicated: u64,
    /// Data messages with the number of an earlier one, or with none, where the LAC demands numbers.
    pub data_numbers_wrong: u64,
    /// Open sessions whose LCP echo or whose ping is not answered in the end.
    pub sessions_silent: u64,
    /// What the real client noticed; absent if there was none.
    pub real_client: Option<RealClientSaw>,
    /// Of the sessions that ping every millisecond: the longest time without an answer.
    pub data_gap_ms: Spread,
    /// The same in the quiet seconds before: what the machine does by itself.
    pub quiet_gap_ms: Spread,
    /// Of the sessions that ping every second.
    pub slow_gap_ms: Spread,
    /// Each tunnel's time from the event to the next answer to a HELLO.
    pub control_gap_ms: Spread,
    /// Tunnels that did not answer within the time of observation.
    pub tunnels_unanswered: u64,
    /// Each tunnel's time from the event until a call placed after it was open.
    pub new_calls_ms: Spread,
    /// Tunnels on which no such call came up.
    pub tunnels_without_new_calls: u64,
    pub events: u64,
    pub calls_failed: u64,
    pub losses: BTreeMap<String, u64>,
    pub failures: BTreeMap<String, u64>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Violations that have no count of their own.
    pub broken: Vec<String>,
    /// Data and logs of the nodes, kept because something is wrong.
    pub evidence: Option<PathBuf>,
    pub seconds: f64,
}

/// What the xl2tpd and pppd in the guest noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RealClientSaw {
    Nothing,
    Something,
}

/// Median and longest of a number of times, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub longest: f64,
}

impl Spread {
    pub fn of(times: &[f64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let tenths = |time: f64| (time * 10.0).round() / 10.0;
        match sorted.last() {
            None => Self::default(),
            Some(longest) => Self {
                median: tenths(sorted[(sorted.len() - 1) / 2]),
                longest: tenths(*longest),
            },
        }
    }
}

/// The times of all events of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Times {
    pub data: Vec<f64>,
    pub quiet: Vec<f64>,
    pub slow: Vec<f64>,
    pub control: Vec<f64>,
    pub unanswered: u64,
    pub calls: Vec<f64>,
    pub without_calls: u64,
    pub events: u64,
}

impl Times {
    /// Adds what was measured of one event.
    pub fn add(&mut self, event: &SinceMark) {
        self.events += 1;
        self.data.extend(&event.fast_gaps_ms);
        self.slow.extend(&event.slow_gaps_ms);
        self.control.extend(event.control_gaps_ms.iter().flatten());
        self.calls.extend(event.new_calls_ms.iter().flatten());
        self.unanswered += missing(&event.control_gaps_ms);
        self.without_calls += missing(&event.new_calls_ms);
    }
}

fn missing(times: &[Option<f64>]) -> u64 {
    times.iter().filter(|time| time.is_none()).count() as u64
}

impl Verdict {
    pub fn set_times(&mut self, times: &Times) {
        self.data_gap_ms = Spread::of(&times.data);
        self.quiet_gap_ms = Spread::of(&times.quiet);
        self.slow_gap_ms = Spread::of(&times.slow);
        self.control_gap_ms = Spread::of(&times.control);
        self.tunnels_unanswered = times.unanswered;
        self.new_calls_ms = Spread::of(&times.calls);
        self.tunnels_without_new_calls = times.without_calls;
        self.events = times.events;
    }

    /// Whether nobody noticed anything.
    pub fn passed(&self) -> bool {
        self.violations().is_empty()
    }

    /// What must not have happened but did.
    pub fn violations(&self) -> Vec<String> {
        let disturbed = u64::from(self.real_client == Some(RealClientSaw::Something));
        let counts = [
            (self.sessions_lost, "established sessions lost"),
            (self.sessions_renegotiated, "sessions renegotiated"),
            (self.control_channels_stuck, "control channels stuck"),
            (self.addresses_duplicated, "addresses given twice"),
            (
                self.data_numbers_wrong,
                "data messages numbered twice or not at all",
            ),
            (self.sessions_silent, "sessions silent"),
            (disturbed, "real client disturbed"),
        ];
        let counted = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"));
        counted.chain(self.broken.iter().cloned()).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "ok  " } else { "FAIL" };
        write!(
            f,
            "{word} {}: {} sessions, lost {}, renegotiated {}, stuck {}, duplicated {}",
            self.scenario,
            self.sessions,
            self.sessions_lost,
            self.sessions_renegotiated,
            self.control_channels_stuck,
            self.addresses_duplicated
        )?;
        write!(
            f,
            "; data gap {} / {} ms, control gap {} / {} ms, new calls {} / {} ms (median / longest)",
            self.data_gap_ms.median,
            self.data_gap_ms.longest,
            self.control_gap_ms.median,
            self.control_gap_ms.longest,
            self.new_calls_ms.median,
            self.new_calls_ms.longest
        )?;
        if self.real_client == Some(RealClientSaw::Nothing) {
            write!(f, "; the real client noticed nothing")?;
        }
        write!(f, "; {:.0} s, seed {}", self.seconds, self.seed)?;
        if self.tunnels_unanswered + self.tunnels_without_new_calls > 0 {
            write!(
                f,
                "\n     {} tunnels did not answer a HELLO in time, on {} no new call came up",
                self.tunnels_unanswered, self.tunnels_without_new_calls
            )?;
        }
        for line in self.violations().iter().chain(&self.notes) {
            write!(f, "\n     {line}")?;
        }
        for (reason, count) in self.losses.iter().chain(&self.failures) {
            write!(f, "\n     {count} x {reason}")?;
        }
        if let Some(evidence) = &self.evidence {
            write!(f, "\n     data and logs are kept in {}", evidence.display())?;
        }
        Ok(())
    }
}

/// All verdicts of a run: their sum first, where a program looks for the counts.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    pub passed: bool,
    pub sessions_lost: u64,
    pub sessions_renegotiated: u64,
    pub control_channels_stuck: u64,
    pub addresses_duplicated: u64,
    /// The longest of all scenarios.
    pub longest_data_gap_ms: f64,
    pub longest_control_gap_ms: f64,
    pub scenarios: &'a [Verdict],
}

impl<'a> Summary<'a> {
    pub fn of(scenarios: &'a [Verdict]) -> Self {
        let sum = |count: fn(&Verdict) -> u64| scenarios.iter().map(count).sum();
        let longest = |gap: fn(&Verdict) -> Spread| {
            let gaps = scenarios.iter().map(gap).map(|gap| gap.longest);
            gaps.fold(0.0, f64::max)
        };
        Self {
            passed: scenarios.iter().all(Verdict::passed),
            sessions_lost: sum(|verdict| verdict.sessions_lost),
            sessions_renegotiated: sum(|verdict| verdict.sessions_renegotiated),
            control_channels_stuck: sum(|verdict| verdict.control_channels_stuck),
            addresses_duplicated: sum(|verdict| verdict.addresses_duplicated),
            longest_data_gap_ms: longest(|verdict| verdict.data_gap_ms),
            longest_control_gap_ms: longest(|verdict| verdict.control_gap_ms),
            scenarios,
        }
    }
}

/// A line a scenario, for people.
pub fn table(scenarios: &[Verdict]) -> String {
    let mut text = format!(
        "{:<18} {:>5} {:>6} {:>5} {:>5}  {:>15}  {:>15}  {:>15}\n",
        "", "lost", "reneg.", "stuck", "dupl.", "data gap ms", "control gap ms", "new calls ms"
    );
    let pair = |spread: Spread| format!("{:.0} / {:.0}", spread.median, spread.longest);
    for verdict in scenarios {
        text += &format!(
            "{:<18} {:>5} {:>6} {:>5} {:>5}  {:>15}  {:>15}  {:>15}\n",
            verdict.scenario,
            verdict.sessions_lost,
            verdict.sessions_renegotiated,
            verdict.control_channels_stuck,
            verdict.addresses_duplicated,
            pair(verdict.data_gap_ms),
            pair(verdict.control_gap_ms),
            pair(verdict.new_calls_ms),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_session_is_a_violation_and_a_failed_call_is_not() {
        let mut verdict = Verdict {
            calls_failed: 3,
            ..Verdict::default()
        };
        assert!(verdict.passed());
        verdict.sessions_lost = 1;
        verdict.data_gap_ms = Spread::of(&[7.0]);
        assert!(!verdict.passed());
        assert!(verdict.to_string().contains("1 established sessions lost"));
        let summary = serde_json::to_value(Summary::of(&[verdict.clone(), verdict])).unwrap();
        assert_eq!(summary["sessions_lost"], 2);
        assert_eq!(summary["longest_data_gap_ms"], 7.0);
        assert_eq!(summary["passed"], false);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_one() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.04]);
        assert_eq!((spread.median, spread.longest), (2.0, 4.0));
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
