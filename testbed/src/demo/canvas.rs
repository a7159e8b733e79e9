//! The picture of the cluster: answered pings as a line of bars, and who owns how many groups.
//!
//! On a terminal the picture stands below the news and is drawn anew with each sample; elsewhere every second is one plain line.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};

use super::screen::Screen;
use crate::chaos::View;
use crate::simulator::Report;

/// Bars in the picture; each stands for one sample.
const WIDTH: usize = 72;
/// Samples on a plain line.
const PLAIN_WIDTH: usize = 10;
/// Heights of a bar, none to full.
const BARS: [char; 9] = ['.', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Groups that one character of a node's bar stands for.
const GROUPS_PER_CHARACTER: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct Canvas {
    screen: Screen,
    /// There is a terminal to draw on.
    live: bool,
    /// Pings that are answered within a second if all are.
    full_rate: f64,
    samples: VecDeque<Sample>,
    /// What the next sample is to be marked with.
    mark: Option<char>,
    last: Option<Report>,
    /// Samples since the last plain line.
    unsaid: usize,
    /// Lines of the picture that stand on the terminal.
    drawn: usize,
}

/// One bar.
#[derive(Clone, Copy, Debug)]
struct Sample {
    bar: char,
    mark: char,
}

impl Canvas {
    pub fn new(screen: Screen, full_rate: f64) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self {
            screen,
            live: std::io::stdout().is_terminal() && !dumb,
            full_rate,
            samples: VecDeque::new(),
            mark: None,
            last: None,
            unsaid: 0,
            drawn: 0,
        }
    }

    /// One line of news, above the picture.
    pub fn say(&mut self, text: &str) {
        self.erase();
        self.screen.say(text);
    }

    /// News that shows in the picture too: `mark` stands below the next bar.
    pub fn event(&mut self, mark: char, text: &str) {
        self.mark = Some(mark);
        self.say(text);
    }

    /// Draws what the subscribers have seen since the last sample.
    pub fn sample(&mut self, report: Report, view: &View) {
        if let Some(last) = &self.last {
            let milliseconds = report.at_ms.saturating_sub(last.at_ms).max(1);
            let answered = report.pings_answered.saturating_sub(last.pings_answered);
            let rate = answered as f64 * 1000.0 / milliseconds as f64;
            let bar = bar(rate / self.full_rate);
            let mark = self.mark.take().unwrap_or(' ');
            self.samples.push_back(Sample { bar, mark });
            if self.samples.len() > WIDTH {
                self.samples.pop_front();
            }
            self.unsaid += 1;
        }
        if self.live {
            self.erase();
            self.draw(&report, view);
        } else if self.unsaid == PLAIN_WIDTH {
            self.unsaid = 0;
            self.screen.say(&self.plain_line(&report, view));
        }
        self.last = Some(report);
    }

    /// The bars so far and their marks.
    fn bars(&self, count: usize) -> (String, String) {
        let skipped = self.samples.len().saturating_sub(count);
        let samples = || self.samples.iter().skip(skipped);
        let bars = samples().map(|sample| sample.bar).collect();
        (bars, samples().map(|sample| sample.mark).collect())
    }

    fn plain_line(&self, report: &Report, view: &View) -> String {
        let (bars, _) = self.bars(PLAIN_WIDTH);
        let groups: Vec<_> = view
            .nodes
            .iter()
            .map(|member| member.groups.to_string())
            .collect();
        format!(
            "{bars}  {} up, {} lost, {} renegotiated; groups {}",
            report.sessions_open,
            report.sessions_lost,
            report.sessions_renegotiated,
            groups.join(" + ")
        )
    }

    fn draw(&mut self, report: &Report, view: &View) {
        let (bars, marks) = self.bars(WIDTH);
        let mut lines = vec![
            String::new(),
            "  pings answered, a bar for each 100 ms".into(),
            format!("  {bars}"),
            format!("  {marks}"),
            format!(
                "  {} sessions up, {} lost, {} renegotiated; {} of {} tunnels",
                report.sessions_open,
                report.sessions_lost,
                report.sessions_renegotiated,
                report.tunnels_open - report.tunnels_lost.min(report.tunnels_open),
                report.tunnels_open
            ),
        ];
        for member in &view.nodes {
            let leads = if member.id == view.leader { "leads" } else { "" };
            let groups = "■".repeat(member.groups.div_ceil(GROUPS_PER_CHARACTER) as usize);
            lines.push(format!(
                "  node {}  {:<6} {leads:<5}  {:>3} groups  {groups}",
                member.id, member.state, member.groups
            ));
        }
        self.drawn = lines.len();
        // Lines that are too long for the terminal must not wrap: the cursor would not find back.
        write(&format!("\x1b[?7l{}\n\x1b[?7h", lines.join("\n")));
    }

    /// Takes the picture away; the next news or picture stands in its place.
    fn erase(&mut self) {
        if self.drawn > 0 {
            write(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

/// In one piece, so that an interrupt finds the terminal whole. Who does not read it misses it.
fn write(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// The bar for a share of the full height.
fn bar(share: f64) -> char {
    let top = BARS.len() - 1;
    let height = (share * top as f64).ceil().clamp(0.0, top as f64) as usize;
    BARS[height]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_has_no_bar() {
        assert_eq!(bar(0.0), '.');
        assert_eq!(bar(0.001), '▁');
        assert_eq!(bar(0.5), '▄');
        assert_eq!(bar(1.2), '█');
    }

    #[test]
    fn the_oldest_bars_go_and_a_mark_stands_below_its_own() {
        let mut canvas = Canvas::new(Screen::new(), 1000.0);
        canvas.live = false;
        let report = |at: u64| Report {
            at_ms: at * 100,
            pings_answered: at * 100,
            ..Report::default()
        };
        for at in 0..100 {
            if at == 99 {
                canvas.mark = Some('K');
            }
            canvas.sample(report(at), &View::default());
        }
        let (bars, marks) = canvas.bars(WIDTH);
        assert_eq!(bars, "█".repeat(WIDTH));
        assert_eq!(marks.trim_start(), "K");
    }
}
