//! What the demonstration shows: plain lines with the time since its start, readable without a terminal.

use std::time::Instant;

use crate::simulator::{Checked, Report};

/// Writes lines.
#[derive(Debug)]
pub struct Screen {
    start: Instant,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// One line of news.
    pub fn say(&self, text: &str) {
        println!("{:6.1} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// One line on how the subscribers fare.
    pub fn line(&self, report: &Report) {
        let missing = report.pings_sent - report.pings_answered;
        self.say(&format!(
            "{:>4} up, {:>6} pings answered, {missing:>4} not, longest gap {:>5} ms, {} lost, {} renegotiated",
            report.sessions_open,
            report.pings_answered,
            report.longest_gap_ms,
            report.sessions_lost,
            report.sessions_renegotiated
        ));
    }

    /// The end: what the subscribers saw.
    pub fn summary(&self, sessions: u32, report: &Report, checked: &Checked) {
        println!();
        println!("What the {sessions} subscribers saw");
        println!("  sessions up            {}", report.sessions_open);
        println!("  sessions lost          {}", report.sessions_lost);
        println!("  sessions renegotiated  {}", report.sessions_renegotiated);
        println!("  sessions silent        {}", checked.sessions_silent());
        println!(
            "  control channels stuck {}",
            checked.control_channels_stuck(report)
        );
        println!(
            "  pings answered         {} of {}",
            report.pings_answered, report.pings_sent
        );
        println!(
            "  longest gap            {:.1} s",
            report.longest_gap_ms as f64 / 1000.0
        );
        for (reason, count) in report.losses.iter().chain(&report.failures) {
            println!("  {count} x {reason}");
        }
        println!();
    }
}
