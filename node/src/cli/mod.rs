//! The command line: what each subcommand takes, and which code the process ends with.
//!
//! Code 0 is success, 1 a failure, 2 a mistake in the command line or in the configuration.

mod anycast;
mod certificate;
mod check;
mod cluster;
mod cluster_orders;
mod connect;
mod human;
mod init;
mod output;
mod query;
mod recover;
mod run;
mod status;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};

use crate::api::{ClientError, Target};
use crate::config::LoadError;

/// What an error is worth, see [`CliError::exit_code`].
const FAILURE: u8 = 1;
const MISTAKE: u8 = 2;

const NO_COMMAND: &str = "\
To see it at work without any set-up:   holdfast run --dev
To run it for real:                     holdfast init, holdfast check, holdfast run --config FILE";

/// An L2TP Network Server whose sessions outlive its processes.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, after_help = NO_COMMAND)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve LACs until a signal or `holdfast shutdown`
    Run(RunArgs),
    /// Write a commented configuration file with random secrets
    Init {
        /// File to write; it must not exist
        #[arg(default_value = "holdfast.toml")]
        file: PathBuf,
    },
    /// Name every mistake in a configuration file, with its line
    Check {
        /// The file to check
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Prepare a cluster, show it, or move groups of tunnels between its nodes
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Serve behind an address that several nodes share
    #[command(subcommand)]
    Anycast(AnycastCommand),
    /// Show how the node is
    Status {
        /// Show every counter and limit too
        #[arg(long)]
        counters: bool,
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tunnels
    Tunnels {
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List sessions
    Sessions {
        /// Only those of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a session, or a tunnel with all its sessions
    Disconnect {
        /// TUNNEL/SESSION or TUNNEL, as listed by `sessions` and `tunnels`
        id: Target,
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration file again, as SIGHUP does
    Reload {
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop the node and wait for its end; sessions are kept for the next start
    Shutdown {
        /// End all sessions and tunnels properly first
        #[arg(long)]
        disconnect: bool,
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to run.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["config", "dev"]))]
struct RunArgs {
    /// The configuration file; `holdfast init` writes one to start from
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Embedded defaults, for trying out: 127.0.0.1:1701, user demo, password demo
    #[arg(long)]
    dev: bool,
    /// Listen there, with a random password instead of demo's
    #[arg(long, value_name = "ADDRESS[:PORT]", conflicts_with = "config", value_parser = run::parse_listen)]
    listen: Option<std::net::SocketAddr>,
    /// Another port on 127.0.0.1
    #[arg(long, value_name = "PORT", conflicts_with_all = ["config", "listen"],
          value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Keep data there instead of in ~/.local/share/holdfast-dev
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,
    /// The operator's socket, instead of holdfast.sock in the data folder
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Given by the parent process to the one that serves
    #[arg(long, hide = true, value_name = "PID")]
    child_of: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum AnycastCommand {
    /// Print the configuration for BIRD 2 beside the node
    BirdConfig {
        /// The node's configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Which node to talk to: by default the one that `HOLDFAST_API__SOCKET` names, or at the standard path, or the
/// `--dev` one.
#[derive(Debug, Args)]
struct NodeArgs {
    /// The node's socket [default: /run/holdfast/holdfast.sock, else that of --dev]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "dev", "data"])]
    socket: Option<PathBuf>,
    /// The node that runs with this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dev", "data"])]
    config: Option<PathBuf>,
    /// The node that runs with --dev
    #[arg(long)]
    dev: bool,
    /// The node that runs with --dev and --data DIR
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Why a subcommand ended early.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Whoever read our output has seen enough.
    #[error("the output was closed")]
    OutputClosed,
    /// It could not be written.
    #[error("cannot write: {0}")]
    Output(std::io::Error),
    /// By the operator, in a file or in the environment.
    #[error("{0}")]
    Configuration(#[from] LoadError),
    /// By the operator, on the command line.
    #[error("{0}")]
    Usage(String),
    /// Of the conversation with the node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Of anything else.
    #[error("{0}")]
    Failure(String),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Configuration(_) | Self::Usage(_) => MISTAKE.into(),
            Self::Output(_) | Self::Client(_) | Self::Failure(_) => FAILURE.into(),
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        None => output::print(Cli::command().render_help()),
        Some(Command::Run(args)) => return run::run(args),
        Some(Command::Init { file }) => init::init(&file),
        Some(Command::Check { config, json }) => check::check(&config, json),
        Some(Command::Anycast(AnycastCommand::BirdConfig { config })) => anycast::bird_config(&config),
        Some(Command::Status { counters, node, json }) => status::status(&node, counters, json),
        Some(Command::Tunnels { node, json }) => query::tunnels(&node, json),
        Some(Command::Sessions { user, node, json }) => query::sessions(&node, user, json),
        Some(Command::Disconnect { id, node, json }) => query::disconnect(&node, id, json),
        Some(Command::Cluster(command)) => cluster::run(command),
        Some(Command::Reload { node, json }) => query::reload(&node, json),
        Some(Command::Shutdown {
            disconnect,
            node,
            json,
        }) => query::shutdown(&node, disconnect, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Says on standard error what went wrong; the code to end with.
fn report(error: &CliError) -> ExitCode {
    match error {
        CliError::OutputClosed => {}
        CliError::Configuration(LoadError::Mistakes(mistakes)) => {
            eprintln!("{error}");
            eprintln!(
                "holdfast: {} in the configuration",
                human::count(mistakes.len() as u64, "mistake")
            );
        }
        error => eprintln!("holdfast: {error}"),
    }
    error.exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
