//! Standard output that may be closed at any time: `holdfast sessions | head` ends quietly.

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use super::CliError;

/// Buffered lines to standard output.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Locks standard output.
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, io::stdout().lock()))
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl Display) -> Result<(), CliError> {
        writeln!(self.0, "{line}").map_err(mapped)
    }

    /// Writes without ending the line.
    pub fn text(&mut self, text: impl Display) -> Result<(), CliError> {
        write!(self.0, "{text}").map_err(mapped)
    }

    /// Writes what is buffered; what is not flushed may be lost without a word.
    pub fn finish(mut self) -> Result<(), CliError> {
        self.0.flush().map_err(mapped)
    }
}

/// Prints one text.
pub fn print(text: impl Display) -> Result<(), CliError> {
    let mut output = Output::new();
    output.line(text)?;
    output.finish()
}

/// Prints one value as JSON, for programs and for people.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print(serde_json::to_string_pretty(value).map_err(|error| CliError::Failure(error.to_string()))?)
}

fn mapped(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Output(error),
    }
}
