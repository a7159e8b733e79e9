//! The demonstration: subscribers dial in, a node is killed with -9 before your eyes, nobody notices.
//!
//! As root three nodes behind an anycast address ([`cluster`]); else, or if asked for, one node ([`one`]).

mod canvas;
mod cluster;
mod one;
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::{cleanup, lab, node_program};
use screen::Screen;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Shows one node, for which no privilege is needed, instead of three behind an anycast address, for which root is.
    #[arg(long)]
    one: bool,
    /// Subscribers; absent: 200 of the cluster, 20 of one node.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: Option<u32>,
    /// Seconds of pinging before the kill, and again after the restart.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Seconds that the node stays dead.
    #[arg(long, default_value_t = 2)]
    dead: u64,
    /// Shows one node and leaves it running, to be dialled into.
    #[arg(long)]
    keep: bool,
    /// The `holdfast` program; absent: built from this workspace.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// How to play, one node or three.
#[derive(Clone, Copy, Debug)]
struct Setting {
    sessions: Option<u32>,
    /// Time of watching before the kill, and again after the restart.
    watched: Duration,
    dead: Duration,
}

impl Options {
    /// Plays the demonstration. Exit code 1 if a subscriber noticed more than silence.
    pub fn run(self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let screen = Screen::new();
        let setting = Setting {
            sessions: self.sessions,
            watched: Duration::from_secs(self.seconds),
            dead: Duration::from_secs(self.dead),
        };
        let privileged = nix::unistd::Uid::effective().is_root();
        let alone = self.one || self.keep || !privileged;
        // Each leaves behind what the other knows nothing of.
        if alone {
            cleanup::install()?;
        } else {
            lab::cleanup::install()?;
            lab::apt::install_missing(crate::chaos::NEEDED)?;
        }
        if !privileged {
            screen.say("one node; run as root to see a cluster of three behind an anycast address");
        }
        if self.program.is_none() {
            screen.say("building the node (cargo build --release -p holdfast)");
        }
        let program = node_program::find_or_build(self.program.as_deref())?;
        let unnoticed = if alone {
            one::play(&setting, &program, self.keep, screen)?
        } else {
            cluster::play(&setting, &program, screen)
                .map_err(|error| format!("{error}\n(`demo --one` shows one node and needs no namespaces)"))?
        };
        Ok(if unnoticed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
