//! The server's detail files: a block a request, an attribute a line.

use std::collections::BTreeMap;

/// What differs between two copies of the same report.
const OF_THE_COPY: &[&str] = &["Acct-Delay-Time", "Timestamp"];

/// An accounting record: by attribute, all its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    attributes: BTreeMap<String, Vec<String>>,
}

/// The records of a detail file, in their order.
pub fn parse(text: &str) -> Vec<Record> {
    let blocks = text.split("\n\n").map(|block| {
        let mut attributes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let pairs = block.lines().filter_map(|line| line.trim().split_once(" = "));
        for (name, value) in pairs {
            let values = attributes.entry(name.to_owned()).or_default();
            values.push(value.trim_matches('"').to_owned());
        }
        Record { attributes }
    });
    blocks
        .filter(|record| !record.of("Acct-Status-Type").is_empty())
        .collect()
}

impl Record {
    /// The first value of an attribute; empty if there is none.
    pub fn of(&self, name: &str) -> &str {
        let values = self.attributes.get(name);
        values
            .and_then(|values| values.first())
            .map_or("", String::as_str)
    }

    pub fn status(&self) -> &str {
        self.of("Acct-Status-Type")
    }

    /// Acct-Session-Id.
    pub fn session(&self) -> &str {
        self.of("Acct-Session-Id")
    }

    /// A counter; one that is not there is zero.
    pub fn number(&self, name: &str) -> u64 {
        self.of(name).parse().unwrap_or(0)
    }

    /// All values of an attribute.
    pub fn all(&self, name: &str) -> &[String] {
        self.attributes.get(name).map_or(&[], Vec::as_slice)
    }

    /// Attributes in which this record and another one differ, apart from what tells copies of one apart.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.attributes.keys().chain(other.attributes.keys());
        let mut differ: Vec<String> = names
            .filter(|name| !OF_THE_COPY.contains(&name.as_str()))
            .filter(|name| self.all(name) != other.all(name))
            .map(|name| format!("{name}: {:?} and {:?}", self.all(name), other.all(name)))
            .collect();
        differ.sort();
        differ.dedup();
        differ
    }
}
