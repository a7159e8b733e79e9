//! How single values are written: addresses, prefixes, choices, secrets.
//!
//! Each conversion answers with what the value must be; none repeats a secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tracing_subscriber::filter::Targets;

use super::model::{AuthMethod, LogFormat, TunMode};
use super::read::{Raw, Scalar};
use super::{Pattern, Secret};

impl Scalar for SocketAddr {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(address),
            Ok(_) => Err(format!(
                "\"{text}\" has port 0, which no LAC could be told; L2TP uses 1701"
            )),
            Err(_) if text.parse::<IpAddr>().is_ok() => {
                let hint = text
                    .parse()
                    .map(|ip: IpAddr| SocketAddr::new(ip, 1701).to_string());
                Err(format!("needs a port: \"{}\"", hint.unwrap_or_default()))
            }
            Err(_) => Err(format!(
                "must be \"ADDRESS:PORT\", such as \"0.0.0.0:1701\" or \"[::]:1701\", not \"{text}\""
            )),
        }
    }
}

impl Scalar for Ipv4Addr {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse()
            .map_err(|_| format!("must be an IPv4 address, not \"{text}\""))
    }
}

impl Scalar for Ipv6Net {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let net: Self = text
            .parse()
            .map_err(|_| format!("must be an IPv6 prefix such as \"2001:db8::/48\", not \"{text}\""))?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(host_bits(text, net.trunc()))
        }
    }
}

impl Scalar for IpAddr {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse()
            .map_err(|_| format!("must be an IPv4 or IPv6 address, not \"{text}\""))
    }
}

impl Scalar for Ipv4Net {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let net: Self = text
            .parse()
            .map_err(|_| format!("must be an IPv4 prefix such as \"100.64.0.0/16\", not \"{text}\""))?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(host_bits(text, net.trunc()))
        }
    }
}

impl Scalar for IpNet {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let net: Self = text.parse().map_err(|_| {
            format!("must be an address or a prefix such as \"192.0.2.0/24\", not \"{text}\"")
        })?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(host_bits(text, net.trunc()))
        }
    }
}

fn host_bits(text: &str, meant: impl std::fmt::Display) -> String {
    format!("\"{text}\" has bits beyond its length; the prefix is \"{meant}\"")
}

impl Scalar for PathBuf {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let path = PathBuf::from(text);
        // A relative path would mean another place, and so no sessions, once started from another folder.
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("must be an absolute path, not \"{text}\""))
        }
    }
}

impl Scalar for Secret {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "" => Err("must not be empty".to_owned()),
            text => Ok(Secret::new(text)),
        }
    }
}

impl Scalar for Pattern {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "" => Err("must not be empty; \"*\" fits any name".to_owned()),
            text => Ok(Pattern::new(text)),
        }
    }
}

impl Scalar for AuthMethod {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        Self::from_name(text)
            .ok_or_else(|| format!("must be \"chap-md5\", \"ms-chap-v2\" or \"pap\", not \"{text}\""))
    }
}

impl Scalar for TunMode {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            other => Err(format!(
                "must be \"auto\", \"always\" or \"never\", not \"{other}\""
            )),
        }
    }
}

impl Scalar for LogFormat {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("must be \"text\" or \"json\", not \"{other}\"")),
        }
    }
}

/// A non-empty name without control characters, at most `N` octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name<const N: usize>(pub String);

impl<const N: usize> Scalar for Name<N> {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        if text.is_empty() || text.len() > N || text.chars().any(char::is_control) {
            return Err(format!("must have 1 to {N} octets and no control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Name of a network interface: 1 to 15 octets, as the kernel allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(pub String);

impl Scalar for InterfaceName {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
        match (1..=15).contains(&text.len()) && text.chars().all(fits) && text != "." && text != ".." {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "must be an interface name of 1 to 15 characters, not \"{text}\""
            )),
        }
    }
}

/// File mode in octal; nobody but owner and group may have any right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl Scalar for SocketMode {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode & !0o660 == 0 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err(format!(
                "must be \"0600\" (the owner alone) or \"0660\" (the group too), not \"{text}\""
            )),
        }
    }
}

/// Directives for `tracing`'s filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub String);

impl Scalar for LogLevel {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let mistake = || {
            format!(
                "must be error, warn, info, debug, trace, off or directives such as \"info,holdfast::lns=debug\", \
                 not \"{text}\""
            )
        };
        // The filter would take a single unknown word for a target's name and log everything of it.
        let known = ["error", "warn", "info", "debug", "trace", "off"];
        let plain = !text.contains(['=', ',', '[', ':']);
        if plain && !known.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(mistake());
        }
        // Not the richer EnvFilter: what it takes for regular expressions can cost minutes.
        text.parse::<Targets>()
            .map(|_| Self(text.to_owned()))
            .map_err(|_| mistake())
    }
}
