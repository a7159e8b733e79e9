//! Takes values out of the file and the environment one by one and gathers every mistake on the way.
//!
//! The `config` crate merges the two sources; a value's origin tells them apart. The file is held to its types
//! (`mru = "1492"` is a mistake); the environment knows only strings, so these are converted, and its lists are
//! separated by commas. A key that nobody took is unknown, which is how it is found without a second list of keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::duration;
use super::lines::{Lines, join};
use super::mistake::{Mistake, Place};

/// The sources behind the values, and the mistakes found so far.
#[derive(Debug)]
pub struct Reader {
    file: PathBuf,
    lines: Lines,
    /// Environment variables by the key that they set.
    variables: BTreeMap<String, String>,
    mistakes: RefCell<Vec<Mistake>>,
}

/// One table and the keys that have been asked for.
#[derive(Debug)]
pub struct Section<'r> {
    reader: &'r Reader,
    path: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
}

/// What a single value may become. The error says what it must be, without the name of the key.
pub trait Scalar: Sized {
    /// Converts a value.
    fn from_raw(raw: &Raw) -> Result<Self, String>;
}

/// A value with its origin.
#[derive(Debug)]
pub struct Raw {
    kind: ValueKind,
    from_environment: bool,
}

impl Reader {
    /// `lines` of `file`; `variables` by the key that they set.
    pub fn new(file: PathBuf, lines: Lines, variables: BTreeMap<String, String>) -> Self {
        Self {
            file,
            lines,
            variables,
            mistakes: RefCell::new(Vec::new()),
        }
    }

    /// Notes a mistake at `key`.
    pub fn mistake(&self, key: &str, text: impl Into<String>) {
        let place = self.place(key);
        self.mistakes.borrow_mut().push(Mistake {
            place,
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// All mistakes, the file's first and in the order of its lines.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        mistakes
    }

    fn place(&self, key: &str) -> Place {
        let whole = key.split('[').next().unwrap_or(key);
        match self.variables.get(key).or_else(|| self.variables.get(whole)) {
            Some(variable) => Place::Environment(variable.clone()),
            None => Place::File {
                path: self.file.clone(),
                line: self.lines.line(key),
            },
        }
    }
}

impl<'r> Section<'r> {
    /// The top of the file.
    pub fn root(reader: &'r Reader, values: Map<String, Value>) -> Self {
        Self {
            reader,
            path: String::new(),
            values,
            known: Vec::new(),
        }
    }

    /// The path of `key` in this table.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Notes a mistake at a key of this table.
    pub fn mistake(&self, key: &str, text: impl Into<String>) {
        self.reader.mistake(&self.path_of(key), text);
    }

    /// Whether the key is there and has not been asked for yet.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// `[key]`; empty when it is not there.
    pub fn section(&mut self, key: &'static str) -> Section<'r> {
        let values = match self.take(key).map(|value| value.kind) {
            None => Map::new(),
            Some(ValueKind::Table(values)) => values,
            Some(other) => {
                self.mistake(
                    key,
                    format!("must be a section, [{key}], not {}", kind_name(&other)),
                );
                Map::new()
            }
        };
        Section {
            reader: self.reader,
            path: self.path_of(key),
            values,
            known: Vec::new(),
        }
    }

    /// `[[key]]`, in order.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'r>> {
        let values = match self.take(key).map(|value| value.kind) {
            None => Vec::new(),
            Some(ValueKind::Array(values)) => values,
            Some(other) => {
                self.mistake(
                    key,
                    format!("must be written as [[{key}]], not as {}", kind_name(&other)),
                );
                Vec::new()
            }
        };
        let mut sections = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match value.kind {
                ValueKind::Table(values) => {
                    sections.push(Section {
                        reader: self.reader,
                        path,
                        values,
                        known: Vec::new(),
                    });
                }
                other => self
                    .reader
                    .mistake(&path, format!("must be a table, not {}", kind_name(&other))),
            }
        }
        sections
    }

    /// A value that may be missing; `None` also after a mistake.
    pub fn optional<T: Scalar>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        self.convert(&self.path_of(key), value)
    }

    /// A value that has a default.
    pub fn value<T: Scalar>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A value that must be there; the default stands in for it only until the mistakes are shown.
    pub fn required<T: Scalar + Default>(&mut self, key: &'static str) -> T {
        if !self.has(key) {
            self.mistake(key, "is missing");
        }
        self.optional(key).unwrap_or_default()
    }

    /// A number within a range, inclusive; `None` also after a mistake.
    pub fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number: i64 = self.optional(key)?;
        match T::try_from(number) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                let (low, high) = range.into_inner();
                self.mistake(key, format!("{number} is out of range: {low} to {high}"));
                None
            }
        }
    }

    /// A duration within a range, inclusive, or its default.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.optional::<Duration>(key) else {
            return default;
        };
        if range.contains(&value) {
            return value;
        }
        let [value, low, high] = [value, *range.start(), *range.end()].map(duration::format);
        self.mistake(key, format!("{value} is out of range: {low} to {high}"));
        default
    }

    /// A list of values; `None` when missing. Elements that are mistakes are left out.
    pub fn list<T: Scalar>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let elements = match value.kind {
            ValueKind::Array(elements) => elements,
            ValueKind::String(ref text) if value.origin().is_some() => {
                let origin = value.origin().map(str::to_owned);
                let element = |text: &str| Value::new(origin.as_ref(), text.trim().to_owned());
                text.split(',')
                    .filter(|text| !text.trim().is_empty())
                    .map(element)
                    .collect()
            }
            other => {
                self.mistake(key, format!("must be a list, [...], not {}", kind_name(&other)));
                return None;
            }
        };
        let path = self.path_of(key);
        let convert = |(index, value)| self.convert(&format!("{path}[{index}]"), value);
        Some(elements.into_iter().enumerate().filter_map(convert).collect())
    }

    /// To be called when all keys have been asked for: what is left is unknown.
    pub fn finish(self) {
        for key in self.values.keys() {
            let likely = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(key, known), known))
                .min()
                .filter(|(distance, known)| *distance <= 1 + known.len() / 3);
            let hint = match likely {
                Some((_, known)) => format!("unknown key; did you mean \"{known}\"?"),
                None if self.known.is_empty() => "unknown key".to_owned(),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.mistake(key, hint);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.remove(key)
    }

    fn convert<T: Scalar>(&self, path: &str, value: Value) -> Option<T> {
        let from_environment = value.origin().is_some();
        let result = T::from_raw(&Raw {
            kind: value.kind,
            from_environment,
        });
        result.map_err(|text| self.reader.mistake(path, text)).ok()
    }
}

impl Raw {
    /// A string.
    pub fn text(&self) -> Result<&str, String> {
        match &self.kind {
            ValueKind::String(text) => Ok(text),
            other => Err(format!("must be a string, \"...\", not {}", kind_name(other))),
        }
    }
}

impl Scalar for String {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text().map(str::to_owned)
    }
}

impl Scalar for bool {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match &raw.kind {
            ValueKind::Boolean(value) => Ok(*value),
            ValueKind::String(text) if raw.from_environment => text
                .parse()
                .map_err(|_| format!("must be true or false, not \"{text}\"")),
            other => Err(format!("must be true or false, not {}", kind_name(other))),
        }
    }
}

impl Scalar for i64 {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match &raw.kind {
            ValueKind::I64(value) => Ok(*value),
            ValueKind::String(text) if raw.from_environment => text
                .trim()
                .parse()
                .map_err(|_| format!("must be a whole number, not \"{text}\"")),
            other => Err(format!("must be a whole number, not {}", kind_name(other))),
        }
    }
}

impl Scalar for Duration {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match &raw.kind {
            ValueKind::String(text) => duration::parse(text),
            ValueKind::I64(value) => Err(format!("needs a unit: \"{value}s\" or \"{value}ms\"")),
            other => Err(format!(
                "must be a duration such as \"60s\", not {}",
                kind_name(other)
            )),
        }
    }
}

fn kind_name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a decimal number",
        ValueKind::String(_) => "a string",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
