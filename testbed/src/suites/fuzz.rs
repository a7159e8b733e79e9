use super::{Context, Outcome};
use std::process::ExitCode;
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub fn run(_: &Context) -> Outcome {
    Outcome::default()
}
pub fn command(_: &Arguments) -> ExitCode {
    ExitCode::SUCCESS
}
