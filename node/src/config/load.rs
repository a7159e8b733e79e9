//! From a file and the environment to a [`Config`], or to all mistakes at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use config::{ConfigError, Environment, File, FileFormat, Map, Source, Value};

use super::check;
use super::lines::Lines;
use super::mistake::{LoadError, Mistake, Place};
use super::model::Config;
use super::parts::{self, LISTS, SECTIONS};
use super::read::{Reader, Section};

/// Variables that set a key begin with this; what follows is `SECTION__KEY`.
const PREFIX: &str = "HOLDFAST_";

impl Config {
    /// Reads the file, those that it names, and the environment of this process.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        let text = fs::read_to_string(file).map_err(|source| LoadError::Read {
            path: file.to_owned(),
            source,
        })?;
        Self::read(file, &text, environment(), check::files)
    }

    /// Parses the text of `file` and the given environment; reads neither.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, LoadError> {
        Self::read(file, text, environment, |_, _| {})
    }

    /// `files` looks at the files that the configuration names.
    fn read(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        files: fn(&Self, &Reader),
    ) -> Result<Self, LoadError> {
        let lines = Lines::of(text).map_err(|error| {
            let place = Place::File {
                path: file.to_owned(),
                line: error.line,
            };
            LoadError::Mistakes(vec![Mistake {
                place,
                key: String::new(),
                text: error.text,
            }])
        })?;
        let (variables, mut mistakes) = overrides(environment);
        let names = variables
            .keys()
            .map(|variable| (key_of(variable), variable.clone()))
            .collect();
        let reader = Reader::new(file.to_owned(), lines, names);
        match merge(text, variables, &reader) {
            Ok(values) => {
                let config = parts::read(Section::root(&reader, values));
                check::check(&config, &reader);
                files(&config, &reader);
                mistakes.splice(0..0, reader.into_mistakes());
                if mistakes.is_empty() {
                    Ok(config)
                } else {
                    Err(LoadError::Mistakes(mistakes))
                }
            }
            Err(error) => {
                let place = Place::File {
                    path: file.to_owned(),
                    line: None,
                };
                mistakes.push(Mistake {
                    place,
                    key: String::new(),
                    text: error.to_string(),
                });
                Err(LoadError::Mistakes(mistakes))
            }
        }
    }
}

/// The environment of this process; octets that are no text are replaced, and so found to be mistakes.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(variable, value)| {
        (
            variable.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

fn merge(
    text: &str,
    variables: BTreeMap<String, String>,
    reader: &Reader,
) -> Result<Map<String, Value>, ConfigError> {
    let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .separator("__")
        .source(Some(variables.into_iter().collect()));
    let mut file = File::from_str(text, FileFormat::Toml).collect()?;
    file.retain(|key, _| {
        let is_name = is_name(key);
        if !is_name {
            reader.mistake(key, "unknown key; none has such characters");
        }
        is_name
    });
    config::Config::builder()
        .add_source(Named(file))
        .add_source(environment)
        .build()?
        .cache
        .into_table()
}

/// What the file holds at its top under plain names. The `config` crate reads a key there as a path, and would make room for
/// four hundred million entries of `"list[400000000]"`.
#[derive(Clone, Debug)]
struct Named(Map<String, Value>);

impl Source for Named {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn is_name(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The variables that set a key, and a mistake for each that looks like one and cannot.
///
/// A variable of our prefix without `__` names no key and is none of our business.
fn overrides(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (BTreeMap<String, String>, Vec<Mistake>) {
    let (mut variables, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (variable, value) in environment {
        let Some((section, key)) = variable
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let section = section.to_lowercase();
        let text = if LISTS.contains(&section.as_str()) {
            format!("[[{section}]] is a list of tables and can only be set in the file")
        } else if !SECTIONS.contains(&section.as_str()) {
            format!(
                "there is no section [{section}]; there are {}",
                SECTIONS.join(", ")
            )
        } else if key.is_empty()
            || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            || key.contains("__")
        {
            "must have the form HOLDFAST_SECTION__KEY".to_owned()
        } else {
            variables.insert(variable, value);
            continue;
        };
        mistakes.push(Mistake {
            key: key_of(&variable),
            place: Place::Environment(variable),
            text,
        });
    }
    (variables, mistakes)
}

fn key_of(variable: &str) -> String {
    variable
        .trim_start_matches(PREFIX)
        .to_lowercase()
        .replace("__", ".")
}
