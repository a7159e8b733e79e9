//! `[coa]` and `[[coa_client]]`: who may order changes of sessions that run.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Secret;
use super::model::Config;
use super::read::{Reader, Section};
use crate::aaa::coa::{Client, Policy};

const SECOND: Duration = Duration::from_secs(1);
/// RFC 5176 §6.3.
const WINDOW: Duration = Duration::from_secs(300);

/// `[coa]` and `[[coa_client]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoaConfig {
    /// Addresses for requests; none: they are not heard.
    pub listen: Vec<SocketAddr>,
    /// Whose requests count, and how they are proven.
    pub policy: Policy,
}

impl Default for CoaConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            policy: Policy {
                clients: Vec::new(),
                window: WINDOW,
                require_event_timestamp: true,
                require_message_authenticator: false,
            },
        }
    }
}

/// `[coa]` with its clients.
pub fn coa(mut s: Section<'_>, clients: Vec<Section<'_>>) -> CoaConfig {
    let config = CoaConfig {
        listen: s.list("listen").unwrap_or_default(),
        policy: Policy {
            clients: clients.into_iter().map(client).collect(),
            window: s.duration("window", WINDOW, SECOND..=3600 * SECOND),
            require_event_timestamp: s.value("require_event_timestamp", true),
            require_message_authenticator: s.value("require_message_authenticator", false),
        },
    };
    s.finish();
    config
}

fn client(mut s: Section<'_>) -> Client {
    for key in ["address", "secret"] {
        if !s.has(key) {
            s.mistake(key, "is missing");
        }
    }
    let net: IpNet = s.optional("address").unwrap_or_default();
    let client = Client {
        label: net.to_string(),
        net,
        secret: s.optional("secret").unwrap_or_else(|| Secret::new("")),
    };
    s.finish();
    client
}

/// Notes what single values cannot show.
pub fn check(config: &Config, reader: &Reader) {
    let CoaConfig { listen, policy } = &config.coa;
    for (index, address) in listen.iter().enumerate() {
        let key = format!("coa.listen[{index}]");
        if listen[..index].contains(address) {
            reader.mistake(&key, format!("{address} is listed twice"));
        }
        if config.node.listen.contains(address) {
            reader.mistake(&key, format!("{address} is where L2TP listens"));
        }
    }
    let clients = &policy.clients;
    for (index, client) in clients.iter().enumerate() {
        if clients[..index].iter().any(|earlier| earlier.net == client.net) {
            let text = format!("{} is listed twice", client.net);
            reader.mistake(&format!("coa_client[{index}].address"), text);
        }
    }
    if !listen.is_empty() && clients.is_empty() {
        reader.mistake("coa.listen", "there is no [[coa_client]] that could be heard");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{LoadError, Reload};

    const BASE: &str = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n\
                        [[lac]]\nname = \"a\"\nhost_name = \"a*\"\n";

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        let text = format!("{BASE}{text}");
        Config::parse(Path::new("h.toml"), &text, []).map_err(|error| match error {
            LoadError::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
            LoadError::Read { .. } => unreachable!("parse reads nothing"),
        })
    }

    #[test]
    fn off_unless_somebody_listens() {
        assert_eq!(parse("").expect("no mistake").coa, CoaConfig::default());
        let text = "[coa]\nlisten = [\"0.0.0.0:3799\"]\nwindow = \"60s\"\nrequire_event_timestamp = false\n\
                    [[coa_client]]\naddress = \"10.0.0.5\"\nsecret = \"s\"\n\
                    [[coa_client]]\naddress = \"10.1.0.0/16\"\nsecret = \"t\"\n";
        let coa = parse(text).expect("no mistake").coa;
        assert_eq!(coa.listen, ["0.0.0.0:3799".parse().expect("an address")]);
        assert_eq!(coa.policy.window, Duration::from_secs(60));
        assert!(!coa.policy.require_event_timestamp);
        let nets: Vec<_> = coa
            .policy
            .clients
            .iter()
            .map(|client| client.net.to_string())
            .collect();
        assert_eq!(nets, ["10.0.0.5/32", "10.1.0.0/16"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("[coa]\nlisten = [\"0.0.0.0:3799\"]\n", "no [[coa_client]]"),
            ("[[coa_client]]\nsecret = \"s\"\n", "coa_client[0].address"),
            ("[[coa_client]]\naddress = \"10.0.0.5\"\n", "coa_client[0].secret"),
            ("[coa]\nwindow = \"0s\"\n", "coa.window"),
            (
                "[[coa_client]]\naddress = \"10.0.0.5\"\nsecret = \"s\"\n\
                 [[coa_client]]\naddress = \"10.0.0.5/32\"\nsecret = \"t\"\n",
                "listed twice",
            ),
        ] {
            let mistakes = parse(text).expect_err(text).join("\n");
            assert!(mistakes.contains(expected), "{text}: {mistakes}");
        }
    }

    #[test]
    fn clients_change_at_once_and_sockets_at_the_next_start() {
        let of = |port: u16, secret: &str| {
            let text = format!(
                "[coa]\nlisten = [\"0.0.0.0:{port}\"]\n[[coa_client]]\naddress = \"10.0.0.5\"\nsecret = \"{secret}\"\n"
            );
            parse(&text).expect("no mistake")
        };
        let reload = Reload::between(&of(3799, "old-secret"), &of(3800, "new-secret"));
        assert_eq!(reload.config.coa.listen[0].port(), 3799);
        assert_eq!(
            reload.config.coa.policy.clients[0].secret,
            Secret::new("new-secret")
        );
        let told = [reload.applied, reload.needs_restart].concat().join("\n");
        assert!(told.contains("coa_client 10.0.0.5/32: secret changed"), "{told}");
        assert!(told.contains("coa.listen"), "{told}");
        assert!(!told.contains("secret\""), "{told}");
        assert!(
            !told.contains("new-secret") && !told.contains("old-secret"),
            "{told}"
        );
    }
}
