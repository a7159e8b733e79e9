//! The line of each key of a TOML text: a pass with spans beside the `config` crate, which forgets them.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{Document, Item, TomlError, Value};

/// Key paths such as `ppp.mru`, `user[2]` and `node.listen[1]` with their lines.
#[derive(Debug, Default)]
pub struct Lines(BTreeMap<String, usize>);

/// Where and why a text is no TOML.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: Option<usize>,
    /// One sentence without the line's content, which may be a secret.
    pub text: String,
}

impl Lines {
    /// Fails where the text is no TOML; there is then nothing more to check.
    pub fn of(text: &str) -> Result<Self, SyntaxError> {
        let starts = LineStarts::of(text);
        let document = Document::parse(text).map_err(|error| syntax_error(&starts, &error))?;
        let mut lines = Walk {
            starts,
            found: BTreeMap::new(),
        };
        lines.item("", document.as_item());
        Ok(Self(lines.found))
    }

    /// The line of `key`, or of the nearest thing around it that is in the text.
    pub fn line(&self, key: &str) -> Option<usize> {
        let mut path = key;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

fn syntax_error(starts: &LineStarts, error: &TomlError) -> SyntaxError {
    let line = error.span().map(|span| starts.line(span.start));
    SyntaxError {
        line,
        text: format!("not valid TOML: {}", error.message().trim().replace('\n', ", ")),
    }
}

/// Offsets at which the lines after the first begin: a file may hold a hundred thousand users.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset + 1).collect())
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= offset)
    }
}

struct Walk {
    starts: LineStarts,
    found: BTreeMap<String, usize>,
}

impl Walk {
    fn note(&mut self, path: String, span: Option<Range<usize>>) {
        if let Some(span) = span {
            let line = self.starts.line(span.start);
            self.found.insert(path, line);
        }
    }

    fn item(&mut self, path: &str, item: &Item) {
        match item {
            Item::None => {}
            Item::Value(value) => self.value(path, value),
            Item::Table(table) => self.keys(path, table),
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.note(path.clone(), table.span());
                    self.keys(&path, table);
                }
            }
        }
    }

    fn keys(&mut self, path: &str, table: &toml_edit::Table) {
        for (name, _) in table.iter() {
            let Some((key, item)) = table.get_key_value(name) else {
                continue;
            };
            let path = join(path, name);
            self.note(path.clone(), key.span());
            self.item(&path, item);
        }
    }

    fn value(&mut self, path: &str, value: &Value) {
        match value {
            Value::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.note(path.clone(), value.span());
                    self.value(&path, value);
                }
            }
            Value::InlineTable(table) => {
                for (name, _) in table.iter() {
                    let Some((key, item)) = table.get_key_value(name) else {
                        continue;
                    };
                    let path = join(path, name);
                    self.note(path.clone(), key.span());
                    self.item(&path, item);
                }
            }
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => {}
        }
    }
}

/// `section.key`, or the key alone at the top.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[node]
name = \"a\"
listen = [
  \"x\",
  \"y\",
]

[[user]]
name = \"a\"

[[user]]
name = \"b\"
[ppp]
";

    #[test]
    fn finds_keys_list_elements_and_tables() {
        let lines = Lines::of(TEXT).expect("valid TOML");
        assert_eq!(lines.line("node.name"), Some(2));
        assert_eq!(lines.line("node.listen"), Some(3));
        assert_eq!(lines.line("node.listen[1]"), Some(5));
        assert_eq!(lines.line("user[0].name"), Some(9));
        assert_eq!(lines.line("user[1]"), Some(11));
        assert_eq!(lines.line("user[1].name"), Some(12));
    }

    #[test]
    fn a_missing_key_is_at_the_head_of_its_table() {
        let lines = Lines::of(TEXT).expect("valid TOML");
        assert_eq!(lines.line("user[1].password"), Some(11));
        assert_eq!(lines.line("ppp.mru"), Some(13));
        assert_eq!(lines.line("pool"), None);
    }

    #[test]
    fn no_toml_at_all() {
        let error = Lines::of("[node]\nname = \"hunter2\nid = 1\n").expect_err("an open string");
        assert_eq!(error.line, Some(2));
        assert!(!error.text.contains("hunter2"), "{}", error.text);
    }
}
