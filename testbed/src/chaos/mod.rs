//! Chaos in the lab: real nodes in namespaces behind real routers, and LACs that notice everything.

mod bed;
mod error;
mod mesh;
mod node;
mod speaker;

use std::path::PathBuf;
use std::process::ExitCode;

pub use bed::{Bed, Settings};
pub use error::{Error, Result};

use crate::lab::{apt, cleanup};
use crate::node_program;

/// Programs that the lab calls and the packages that bring them.
const NEEDED: &[(&str, &str)] = &[("ip", "iproute2"), ("bird", "bird2")];

/// Options of `chaos`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Milliseconds between two BFD packets.
    #[arg(long, default_value_t = 100)]
    bfd_ms: u32,
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long)]
    program: Option<PathBuf>,
}

impl Options {
    pub fn run(self) -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err("chaos makes network namespaces: run it as root".into());
        }
        cleanup::install()?;
        apt::install_missing(NEEDED)?;
        let bed = Bed::build(&Settings {
            program: node_program::find_or_build(self.program.as_deref())?,
            nodes: self.nodes,
            bfd_ms: self.bfd_ms,
            seed: self.seed.unwrap_or_else(rand::random),
        })?;
        println!("the lab stands in {}", bed.folder().display());
        Ok(ExitCode::SUCCESS)
    }
}
