//! `holdfast run`: finds the configuration, sets up logging, hands over to the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use super::{CliError, RunArgs, check, connect, init, output};
use crate::anycast::Leash;
use crate::anycast::parent::{self, ParentError};
use crate::config::{self, Config, Dev, DevOptions, Secret};
use crate::logging;
use crate::server::{self, ConfigSource};

/// Port of L2TP (RFC 2661 §8.1).
const PORT: u16 = 1701;

/// Runs until the server ends; its code, or why it could not start.
pub fn run(args: RunArgs) -> ExitCode {
    start(args).unwrap_or_else(|error| super::report(&error))
}

fn start(args: RunArgs) -> Result<ExitCode, CliError> {
    let failure = |error: ParentError| CliError::Failure(error.to_string());
    // Before anything that takes time: a parent that ends meanwhile must not leave us behind.
    let leash = args.child_of.map(Leash::take).transpose().map_err(failure)?;
    let (config, source): (Config, ConfigSource) = match args.config {
        Some(file) => {
            let config = Config::load(&file)?;
            check::warn(&file, &config);
            (
                config,
                Arc::new(move || Config::load(&file).map_err(|error| error.to_string())),
            )
        }
        None => {
            let Dev { config, dial_in } = dev(args)?;
            output::print(dial_in)?;
            (
                config,
                Arc::new(
                    || Err("--dev runs on embedded defaults; there is no file to read again".to_owned()),
                ),
            )
        }
    };
    if config.anycast.is_some() && leash.is_none() {
        return parent::run().map_err(failure);
    }
    let log = logging::init(&config.log).map_err(|error| CliError::Failure(error.to_string()))?;
    server::run(config, source, log, leash).map_err(|error| CliError::Failure(error.to_string()))
}

fn dev(args: RunArgs) -> Result<Dev, CliError> {
    let elsewhere = args
        .listen
        .map(|address| (address, Secret::new(init::random_secret())));
    let here = args
        .port
        .map(|port| ((Ipv4Addr::LOCALHOST, port).into(), Secret::new(config::dev::DEMO)));
    // Relative to where we are now; the server may be anywhere.
    let absolute = |path: std::path::PathBuf| {
        std::path::absolute(&path).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
    };
    let options = DevOptions {
        listen: elsewhere.or(here),
        data_dir: args.data.map(absolute).transpose()?,
        socket: args.socket.map(absolute).transpose()?,
    };
    let home = if options.data_dir.is_some() {
        Default::default()
    } else {
        connect::home()?
    };
    Ok(Config::dev(&home, options, config::environment())?)
}

/// `ADDRESS:PORT`, or an address alone for L2TP's own port.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, PORT),
        Err(_) => text
            .parse::<SocketAddr>()
            .map_err(|_| "not an address, such as 192.0.2.1:1701".to_owned())?,
    };
    if address.port() == 0 {
        Err("port 0 cannot be dialled".to_owned())
    } else {
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let parse = |text| parse_listen(text).map(|address| address.to_string());
        assert_eq!(parse("192.0.2.1").as_deref(), Ok("192.0.2.1:1701"));
        assert_eq!(parse("192.0.2.1:1702").as_deref(), Ok("192.0.2.1:1702"));
        assert_eq!(parse("::").as_deref(), Ok("[::]:1701"));
        assert_eq!(parse("[::1]:1702").as_deref(), Ok("[::1]:1702"));
        assert!(parse("here").is_err() && parse("127.0.0.1:0").is_err());
    }
}
