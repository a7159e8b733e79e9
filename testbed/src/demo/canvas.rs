//! The picture of the cluster: answered pings as a line of bars, and who owns how many groups.
//!
//! On a terminal the picture stands below the news and is drawn anew with each sample; elsewhere every second is one plain line.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};

use super::screen::Screen;
use crate::chaos::View;
use crate::simulator::Report;

/// Bars in the picture; each stands for some samples.
const WIDTH: usize = 72;
const SAMPLES_PER_BAR: u32 = 5;
/// Bars on a plain line.
const PLAIN_WIDTH: usize = 10;
/// Samples in slow motion, where each is a bar, and how many of them come before the event.
const SLOW_WIDTH: usize = 60;
const SLOW_LEAD: usize = 5;
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
    bars: VecDeque<Bar>,
    /// What the next bar is to be marked with.
    mark: Option<char>,
    /// Time of the last bar, milliseconds, and the answers by then; the same of the last sample.
    bar_end: Count,
    sample_end: Count,
    /// Samples since the last bar, bars since the last plain line.
    undrawn: u32,
    unsaid: usize,
    /// The last samples, and those around the last event.
    recent: VecDeque<char>,
    slow: Vec<char>,
    /// Lines of the picture that stand on the terminal.
    drawn: usize,
}

/// One bar and what stands below it.
#[derive(Clone, Copy, Debug)]
struct Bar {
    height: char,
    mark: char,
}

/// How many pings had been answered at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    at_ms: u64,
    answered: u64,
}

impl Count {
    /// Answers a second since an earlier count.
    fn rate_since(self, earlier: Self) -> f64 {
        let milliseconds = self.at_ms.saturating_sub(earlier.at_ms).max(1);
        self.answered.saturating_sub(earlier.answered) as f64 * 1000.0 / milliseconds as f64
    }
}

impl Canvas {
    pub fn new(screen: Screen, full_rate: f64) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self {
            screen,
            live: std::io::stdout().is_terminal() && !dumb,
            full_rate,
            bars: VecDeque::new(),
            mark: None,
            bar_end: Count::default(),
            sample_end: Count::default(),
            undrawn: 0,
            unsaid: 0,
            recent: VecDeque::new(),
            slow: Vec::new(),
            drawn: 0,
        }
    }

    /// One line of news, above the picture.
    pub fn say(&mut self, text: &str) {
        self.erase();
        self.screen.say(text);
    }

    /// News that shows in the picture too: `mark` stands below the next bar, and slow motion begins.
    pub fn event(&mut self, mark: char, text: &str) {
        self.mark = Some(mark);
        self.slow = self.recent.iter().copied().collect();
        self.say(text);
    }

    /// The last event, a bar a sample.
    pub fn slow_motion(&self) -> String {
        self.slow.iter().collect()
    }

    /// The time before is not drawn.
    pub fn begin(&mut self, report: &Report) {
        self.sample_end = count(report);
        self.bar_end = self.sample_end;
    }

    /// Draws what the subscribers have seen since the last sample.
    pub fn sample(&mut self, report: &Report, view: &View) {
        let now = count(report);
        let height = bar(now.rate_since(self.sample_end) / self.full_rate);
        self.sample_end = now;
        if self.slow.len() < SLOW_WIDTH {
            self.slow.push(height);
        }
        push(&mut self.recent, height, SLOW_LEAD);
        self.undrawn += 1;
        if self.undrawn < SAMPLES_PER_BAR {
            return;
        }
        self.undrawn = 0;
        let height = bar(now.rate_since(self.bar_end) / self.full_rate);
        let mark = self.mark.take().unwrap_or(' ');
        push(&mut self.bars, Bar { height, mark }, WIDTH);
        self.bar_end = now;
        self.unsaid += 1;
        if self.live {
            self.erase();
            self.draw(report, view);
        } else if self.unsaid == PLAIN_WIDTH {
            self.unsaid = 0;
            self.screen.say(&self.plain_line(report, view));
        }
    }

    /// The last bars and their marks.
    fn bars(&self, count: usize) -> (String, String) {
        let skipped = self.bars.len().saturating_sub(count);
        let bars = || self.bars.iter().skip(skipped);
        let heights = bars().map(|bar| bar.height).collect();
        (heights, bars().map(|bar| bar.mark).collect())
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

fn count(report: &Report) -> Count {
    Count {
        at_ms: report.at_ms,
        answered: report.pings_answered,
    }
}

/// Keeps the last `limit`.
fn push<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The bar for a share of the full height, rounded; only silence has none.
fn bar(share: f64) -> char {
    let top = (BARS.len() - 1) as f64;
    let least = if share > 0.0 { 1.0 } else { 0.0 };
    BARS[(share * top).round().clamp(least, top) as usize]
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

    fn canvas() -> Canvas {
        let mut canvas = Canvas::new(Screen::new(), 1000.0);
        canvas.live = false;
        canvas
    }

    /// A sample every 20 ms, a ping every millisecond, unanswered within `silence`.
    fn play(canvas: &mut Canvas, samples: std::ops::Range<u64>, silence: std::ops::Range<u64>) {
        for sample in samples {
            let at_ms = (sample + 1) * 20;
            let answered = (1..=at_ms).filter(|at| !silence.contains(at)).count() as u64;
            let report = Report {
                at_ms,
                pings_answered: answered,
                ..Report::default()
            };
            canvas.sample(&report, &View::default());
        }
    }

    #[test]
    fn the_oldest_bars_go_and_a_mark_stands_below_its_own() {
        let mut canvas = canvas();
        play(&mut canvas, 0..495, 0..0);
        canvas.event('K', "killed");
        play(&mut canvas, 495..500, 0..0);
        let (bars, marks) = canvas.bars(WIDTH);
        assert_eq!(bars, "█".repeat(WIDTH));
        assert_eq!(marks.trim_start(), "K");
    }

    #[test]
    fn slow_motion_shows_a_short_silence_and_what_was_before() {
        let mut canvas = canvas();
        play(&mut canvas, 0..10, 0..0);
        canvas.event('K', "killed");
        play(&mut canvas, 10..15, 221..261);
        assert_eq!(canvas.slow_motion(), "██████..██");
    }
}
