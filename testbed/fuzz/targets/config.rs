//! The configuration: text of a file, and after the first NUL the environment, one `NAME=VALUE` a line. Nothing panics,
//! and every refusal says what is wrong.

#![no_main]

use std::path::Path;

use holdfast::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let environment = variables.lines().filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::parse(Path::new("holdfast.toml"), file, environment) {
        Ok(config) => assert!(!config.node.listen.is_empty(), "a node listens somewhere"),
        Err(error) => assert!(!error.to_string().is_empty(), "an error has a text"),
    }
});
