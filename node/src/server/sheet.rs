//! The counters' checkpoint as text, and the sums that may be shown once it is written. Pure: the simulation keeps its counters by
//! it, too.
//!
//! The file of a node's own: a line with the version, then one line a session: its accounting id and four totals.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::actors::reports::Reports;

/// First line of the file.
const HEADER: &str = "holdfast counters 1";

/// Octets and packets of one session since it began, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the subscriber, packets.
    pub rx_packets: u64,
    /// From the subscriber, octets of IP packets.
    pub rx_octets: u64,
    /// To the subscriber, packets.
    pub tx_packets: u64,
    /// To the subscriber, octets of IP packets.
    pub tx_octets: u64,
    /// Either way; of this process alone.
    pub drops: u64,
}

impl Totals {
    /// The sum, field by field.
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The higher, field by field.
    pub fn highest(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            rx_packets: of(self.rx_packets, other.rx_packets),
            rx_octets: of(self.rx_octets, other.rx_octets),
            tx_packets: of(self.tx_packets, other.tx_packets),
            tx_octets: of(self.tx_octets, other.tx_octets),
            drops: of(self.drops, other.drops),
        }
    }
}

/// What is to be written, and what is so once it is.
#[derive(Debug)]
pub struct Sheet {
    /// The file of what this node has forwarded itself.
    pub text: String,
    /// The file of what others have reported.
    pub others: String,
    /// By accounting id: what this node has forwarded itself, in all its processes. To be reported.
    pub own: HashMap<String, Totals>,
    /// By accounting id: the sum over all nodes. To be shown.
    pub shown: HashMap<String, Totals>,
}

impl Sheet {
    /// For these sessions, by accounting id with what this process has counted. `inherited` is what the processes before it left,
    /// `others` what other nodes have reported.
    pub fn new<'a>(
        inherited: &HashMap<String, Totals>,
        others: &Reports,
        counted: impl Iterator<Item = (&'a str, Totals)>,
    ) -> Self {
        let mut sheet = Self {
            text: format!("{HEADER}\n"),
            others: others.to_text(),
            own: HashMap::new(),
            shown: HashMap::new(),
        };
        for (id, counted) in counted {
            let totals = inherited.get(id).copied().unwrap_or_default().plus(counted);
            write_line(&mut sheet.text, &[id], totals);
            sheet.shown.insert(id.to_owned(), totals.plus(others.of(id)));
            sheet.own.insert(id.to_owned(), totals);
        }
        sheet
    }
}

/// A line of a file: words, then the four totals.
pub fn write_line(text: &mut String, words: &[&str], totals: Totals) {
    let Totals {
        rx_packets,
        rx_octets,
        tx_packets,
        tx_octets,
        ..
    } = totals;
    let words = words.join(" ");
    writeln!(text, "{words} {rx_packets} {rx_octets} {tx_packets} {tx_octets}")
        .expect("a String takes what is written");
}

/// What [`write_line`] wrote behind the words.
pub fn read_totals<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Totals> {
    let mut number = || words.next()?.parse().ok();
    Some(Totals {
        rx_packets: number()?,
        rx_octets: number()?,
        tx_packets: number()?,
        tx_octets: number()?,
        drops: 0,
    })
}

/// Reads [`Sheet::text`]; `None`: it is damaged.
pub fn parse(text: &str) -> Option<HashMap<String, Totals>> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    lines
        .map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), read_totals(&mut words)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let totals = Totals {
            rx_packets: 1,
            rx_octets: u64::MAX,
            tx_packets: 3,
            tx_octets: 4,
            drops: 0,
        };
        let mut text = format!("{HEADER}\n");
        write_line(&mut text, &["00000001abcdef"], totals);
        let read = parse(&text).expect("our own format");
        assert_eq!(read.get("00000001abcdef"), Some(&totals));
    }

    #[test]
    fn damage_is_noticed() {
        assert!(parse("").is_none());
        assert!(parse("holdfast counters 2\n").is_none());
        assert!(parse(&format!("{HEADER}\nid 1 2 3\n")).is_none());
        assert!(parse(&format!("{HEADER}\nid 1 2 3 x\n")).is_none());
    }
}
