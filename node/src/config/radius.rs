//! `[aaa]`, `[[radius]]` and `[[realm]]`: who judges subscribers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::Config;
use super::read::{Raw, Reader, Scalar, Section};
use super::values::Name;
use super::{Secret, duration};
use crate::aaa::radius::client::{EndpointSettings, Purpose, Requirement, Settings, TlsSettings, Transport};
use crate::aaa::radius::request::NasIdentity;

const SECOND: Duration = Duration::from_secs(1);
/// The name of a group that is given none.
const GROUP: &str = "default";
/// RFC 2865 §3, RFC 2866 §3, RFC 6614 §2.1.
const AUTH_PORT: u16 = 1812;
const ACCT_PORT: u16 = 1813;
const TLS_PORT: u16 = 2083;
/// What the packets in a TLS stream are signed with (RFC 6614 §2.3): the stream protects them.
const TLS_SECRET: &str = "radsec";
/// The shortest interval of Status-Server packets (RFC 3539 §3.4.1).
const SHORTEST_STATUS: Duration = Duration::from_secs(6);

/// `[aaa]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AaaConfig {
    /// Groups of RADIUS servers, the first one first, for whom no realm or LAC profile names others.
    pub radius: Vec<String>,
    /// What the users of the configuration are for.
    pub local: LocalUse,
    /// NAS-Identifier; `None` is the cluster's id, or the name of a node alone.
    pub nas_identifier: Option<String>,
    /// NAS-IP-Address.
    pub nas_ip_address: Option<Ipv4Addr>,
    /// NAS-IPv6-Address.
    pub nas_ipv6_address: Option<Ipv6Addr>,
    /// How long a subscriber waits for an answer of all servers together.
    pub patience: Duration,
}

/// What the users of the configuration are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalUse {
    /// They are all there is.
    Only,
    /// They come first; RADIUS judges whom they do not know.
    First,
    /// They count while no server answers.
    Fallback,
    /// They do not count.
    Never,
}

/// `[[radius]]`: one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RadiusConfig {
    /// Group, address and ports, by which it is told from others.
    pub label: String,
    /// Its group.
    pub group: String,
    /// Where it is.
    pub address: IpAddr,
    /// For authentication; 0: it is not asked.
    pub auth_port: u16,
    /// For accounting; 0: it is not told.
    pub acct_port: u16,
    /// Shared with it.
    pub secret: Secret,
    /// Lower ones first.
    pub priority: u32,
    /// Whether its replies need a Message-Authenticator.
    pub require_message_authenticator: Requirement,
    /// Between two Status-Server packets while it does not answer; zero sends none.
    pub status_server: Duration,
    /// Before the first retransmission.
    pub timeout: Duration,
    /// Transmissions before the next server's turn.
    pub tries: u32,
    /// How long a dead server is left alone.
    pub dead_time: Duration,
    /// UDP, or TLS with its files.
    pub transport: Transport,
}

/// `[[realm]]`: users whose names end in `@NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmConfig {
    /// What follows the last `@`, compared without regard to case; unique.
    pub name: String,
    /// Their groups of servers; none leaves them to the users of the configuration.
    pub radius: Vec<String>,
}

/// `[aaa]`
pub fn aaa(mut s: Section<'_>, servers: &[RadiusConfig]) -> AaaConfig {
    let mut all: Vec<String> = Vec::new();
    for server in servers {
        if !all.contains(&server.group) {
            all.push(server.group.clone());
        }
    }
    let default_use = if servers.is_empty() {
        LocalUse::Only
    } else {
        LocalUse::Never
    };
    let config = AaaConfig {
        radius: s.list("radius").unwrap_or(all),
        local: s.value("local", default_use),
        nas_identifier: s.optional::<Name<253>>("nas_identifier").map(|name| name.0),
        nas_ip_address: s.optional("nas_ip_address"),
        nas_ipv6_address: s.optional("nas_ipv6_address"),
        patience: s.duration("patience", 20 * SECOND, 2 * SECOND..=50 * SECOND),
    };
    s.finish();
    config
}

/// `[[radius]]`; `place` in the file is the priority unless it is given.
pub fn radius(mut s: Section<'_>, place: usize) -> RadiusConfig {
    if !s.has("address") {
        s.mistake("address", "is missing");
    }
    let group = s
        .optional::<Name<64>>("group")
        .map_or_else(|| GROUP.to_owned(), |name| name.0);
    let address: Option<IpAddr> = s.optional("address");
    let is_tls = s.optional::<TransportName>("transport") == Some(TransportName::Tls);
    if !is_tls && !s.has("secret") {
        s.mistake("secret", "is missing");
    }
    let (auth, acct) = if is_tls {
        (TLS_PORT, TLS_PORT)
    } else {
        (AUTH_PORT, ACCT_PORT)
    };
    let auth_port = s.number("auth_port", 0..=u16::MAX).unwrap_or(auth);
    let acct_port = s.number("acct_port", 0..=u16::MAX).unwrap_or(acct);
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let config = RadiusConfig {
        label: format!("{group} {address} {auth_port} {acct_port}"),
        group,
        address,
        auth_port,
        acct_port,
        secret: s.optional("secret").unwrap_or_else(|| Secret::new(TLS_SECRET)),
        priority: s
            .number("priority", 0..=1_000_000)
            .unwrap_or(u32::try_from(place).unwrap_or(u32::MAX)),
        require_message_authenticator: s.value("require_message_authenticator", Requirement::Yes),
        status_server: status(&mut s),
        timeout: s.duration("timeout", 2 * SECOND, SECOND / 10..=16 * SECOND),
        tries: s.number("tries", 1..=10).unwrap_or(3),
        dead_time: s.duration("dead_time", 30 * SECOND, SECOND..=3600 * SECOND),
        transport: transport(&mut s, is_tls),
    };
    if auth_port == 0 && acct_port == 0 {
        s.mistake("auth_port", "is 0, and so is acct_port: what is the server for?");
    }
    s.finish();
    config
}

fn status(s: &mut Section<'_>) -> Duration {
    let interval = s.duration("status_server", Duration::ZERO, Duration::ZERO..=3600 * SECOND);
    if !interval.is_zero() && interval < SHORTEST_STATUS {
        let shortest = duration::format(SHORTEST_STATUS);
        s.mistake(
            "status_server",
            format!("must be \"0s\" (none) or {shortest} at least"),
        );
    }
    interval
}

/// A key, and why it has no effect or cannot be left out.
fn transport(s: &mut Section<'_>, is_tls: bool) -> Transport {
    let keys = ["ca", "certificate", "key"];
    if !is_tls {
        for key in keys.into_iter().chain(["server_name"]).filter(|key| s.has(key)) {
            s.mistake(key, "has no effect: transport is not \"tls\"");
        }
        let _: [Option<PathBuf>; 3] = keys.map(|key| s.optional(key));
        let _: Option<String> = s.optional("server_name");
        return Transport::Udp;
    }
    let [ca, certificate, key] = keys.map(|key| s.required(key));
    Transport::Tls(TlsSettings {
        ca,
        certificate,
        key,
        server_name: s.optional::<Name<253>>("server_name").map(|name| name.0),
    })
}

/// `[[realm]]`
pub fn realm(mut s: Section<'_>) -> RealmConfig {
    let name: Name<253> = s.required("name");
    if name.0.contains('@') {
        s.mistake("name", "is what follows the @, without it");
    }
    let config = RealmConfig {
        name: name.0.to_ascii_lowercase(),
        radius: s.list("radius").unwrap_or_default(),
    };
    s.finish();
    config
}

/// Notes what single values cannot show.
pub fn check(config: &Config, reader: &Reader) {
    let known = |group: &String| config.radius.iter().any(|server| server.group == *group);
    let mut groups = vec![("aaa.radius".to_owned(), &config.aaa.radius)];
    for (index, lac) in config.lacs.iter().enumerate() {
        groups.extend(
            lac.radius
                .as_ref()
                .map(|radius| (format!("lac[{index}].radius"), radius)),
        );
    }
    for (index, realm) in config.realms.iter().enumerate() {
        groups.push((format!("realm[{index}].radius"), &realm.radius));
    }
    for (key, named) in groups {
        for (position, group) in named.iter().enumerate().filter(|(_, group)| !known(group)) {
            let text = format!("there is no [[radius]] with group = \"{group}\"");
            reader.mistake(&format!("{key}[{position}]"), text);
        }
    }
    for (index, server) in config.radius.iter().enumerate() {
        if config.radius[..index]
            .iter()
            .any(|earlier| earlier.label == server.label)
        {
            reader.mistake(
                &format!("radius[{index}].address"),
                "this server stands in its group already, with the same ports",
            );
        }
    }
    if config.radius.is_empty() && config.aaa.local != LocalUse::Only {
        reader.mistake("aaa.local", "there is no [[radius]] that could judge instead");
    }
}

impl Config {
    /// Which groups of servers judge a user who calls himself `name`, of a LAC with this profile; none: the users of the configuration do.
    pub fn radius_groups(&self, profile: &str, name: &[u8]) -> &[String] {
        if self.aaa.local == LocalUse::Only {
            return &[];
        }
        let realm = name
            .iter()
            .rposition(|octet| *octet == b'@')
            .map(|at| &name[at + 1..]);
        let of_realm = self
            .realms
            .iter()
            .find(|known| realm.is_some_and(|realm| realm.eq_ignore_ascii_case(known.name.as_bytes())));
        let lac = || self.lacs.iter().find(|lac| lac.name == profile);
        match of_realm {
            Some(realm) => &realm.radius,
            None => lac()
                .and_then(|lac| lac.radius.as_deref())
                .unwrap_or(&self.aaa.radius),
        }
    }

    /// Who we are to servers: the same on all nodes of a cluster.
    pub fn nas_identity(&self) -> NasIdentity {
        let cluster = self.cluster.as_ref().map(|cluster| &cluster.id);
        let identifier = self.aaa.nas_identifier.as_ref().or(cluster);
        NasIdentity {
            identifier: identifier.unwrap_or(&self.node.name).clone(),
            ipv4: self.aaa.nas_ip_address,
            ipv6: self.aaa.nas_ipv6_address,
        }
    }

    /// All servers, as the client wants them.
    pub fn radius_settings(&self) -> Settings {
        let endpoints = self.radius.iter().flat_map(|server| {
            let ports = [
                (Purpose::Access, server.auth_port),
                (Purpose::Accounting, server.acct_port),
            ];
            let used = ports.into_iter().filter(|(_, port)| *port != 0);
            used.map(|(purpose, port)| server.endpoint(purpose, port))
        });
        Settings {
            nas: self.nas_identity(),
            endpoints: endpoints.collect(),
        }
    }
}

impl RadiusConfig {
    fn endpoint(&self, purpose: Purpose, port: u16) -> EndpointSettings {
        EndpointSettings {
            group: self.group.clone(),
            purpose,
            address: SocketAddr::new(self.address, port),
            secret: self.secret.clone(),
            priority: self.priority,
            message_authenticator: self.require_message_authenticator,
            status_interval: Some(self.status_server).filter(|interval| !interval.is_zero()),
            timeout: self.timeout,
            tries: self.tries,
            dead_time: self.dead_time,
            transport: self.transport.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TransportName {
    Udp,
    Tls,
}

impl Scalar for TransportName {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "udp" => Ok(Self::Udp),
            "tls" => Ok(Self::Tls),
            other => Err(format!("must be \"udp\" or \"tls\", not \"{other}\"")),
        }
    }
}

impl Scalar for Requirement {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "yes" => Ok(Self::Yes),
            "auto" => Ok(Self::Auto),
            "no" => Ok(Self::No),
            other => Err(format!("must be \"yes\", \"auto\" or \"no\", not \"{other}\"")),
        }
    }
}

impl Scalar for LocalUse {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "only" => Ok(Self::Only),
            "first" => Ok(Self::First),
            "fallback" => Ok(Self::Fallback),
            "never" => Ok(Self::Never),
            other => Err(format!(
                "must be \"only\", \"first\", \"fallback\" or \"never\", not \"{other}\""
            )),
        }
    }
}

impl Scalar for Ipv6Addr {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse()
            .map_err(|_| format!("must be an IPv6 address, not \"{text}\""))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::LoadError;

    const BASE: &str = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n\
                        [[lac]]\nname = \"a\"\nhost_name = \"a*\"\nradius = [\"of-lac\"]\n\
                        [[lac]]\nname = \"b\"\nhost_name = \"*\"\n";
    const SERVERS: &str = "[[radius]]\naddress = \"10.0.0.1\"\nsecret = \"s\"\n\
                           [[radius]]\ngroup = \"of-lac\"\naddress = \"10.0.0.2\"\nsecret = \"s\"\nacct_port = 0\n\
                           [[radius]]\ngroup = \"of-realm\"\naddress = \"2001:db8::1\"\n\
                           transport = \"tls\"\nca = \"/ca\"\ncertificate = \"/c\"\nkey = \"/k\"\n\
                           [[realm]]\nname = \"Gold.Example\"\nradius = [\"of-realm\"]\n\
                           [[realm]]\nname = \"local\"\n";

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(Path::new("h.toml"), text, []).map_err(|error| match error {
            LoadError::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
            LoadError::Read { .. } => unreachable!("parse reads nothing"),
        })
    }

    #[test]
    fn who_judges_whom() {
        let config = parse(&format!("{BASE}{SERVERS}[aaa]\nradius = [\"default\"]\n")).expect("no mistake");
        let groups = |profile: &str, name: &str| config.radius_groups(profile, name.as_bytes()).to_vec();
        assert_eq!(groups("b", "bob"), ["default"]);
        assert_eq!(groups("a", "bob"), ["of-lac"]);
        assert_eq!(groups("a", "bob@x@GOLD.example"), ["of-realm"]);
        assert_eq!(groups("a", "bob@silver.example"), ["of-lac"]);
        assert!(groups("a", "bob@local").is_empty());
        assert_eq!(config.aaa.local, LocalUse::Never);
        let settings = config.radius_settings();
        let endpoints: Vec<_> = settings
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.purpose, endpoint.address.to_string(), endpoint.priority))
            .collect();
        let expected = [
            (Purpose::Access, "10.0.0.1:1812".to_owned(), 0),
            (Purpose::Accounting, "10.0.0.1:1813".to_owned(), 0),
            (Purpose::Access, "10.0.0.2:1812".to_owned(), 1),
            (Purpose::Access, "[2001:db8::1]:2083".to_owned(), 2),
            (Purpose::Accounting, "[2001:db8::1]:2083".to_owned(), 2),
        ];
        assert_eq!(endpoints, expected);
    }

    #[test]
    fn without_servers_the_users_of_the_file_are_all_there_is() {
        let text = BASE.replace("radius = [\"of-lac\"]\n", "");
        let config = parse(&text).expect("no mistake");
        assert_eq!(config.aaa.local, LocalUse::Only);
        assert!(config.radius_groups("b", b"bob").is_empty());
        assert_eq!(config.nas_identity().identifier, "holdfast-1");
    }

    #[test]
    fn all_groups_in_the_order_of_the_file() {
        let config = parse(&format!("{BASE}{SERVERS}")).expect("no mistake");
        assert_eq!(config.aaa.radius, ["default", "of-lac", "of-realm"]);
    }

    #[test]
    fn mistakes_are_named() {
        let text = format!(
            "{BASE}[aaa]\nlocal = \"sometimes\"\nradius = [\"nobody\"]\npatience = \"1s\"\n\
             [[radius]]\naddress = \"radius.example\"\nsecret = \"\"\nstatus_server = \"2s\"\nca = \"/ca\"\ntries = 0\n\
             [[radius]]\naddress = \"10.0.0.1\"\nsecret = \"s\"\ntransport = \"tls\"\nrequire_message_authenticator = \"maybe\"\n\
             [[radius]]\naddress = \"10.0.0.1\"\nsecret = \"s\"\nauth_port = 2083\nacct_port = 2083\n\
             [[radius]]\naddress = \"10.0.0.3\"\nsecret = \"s\"\nauth_port = 0\nacct_port = 0\n\
             [[realm]]\nname = \"@x\"\n"
        );
        let found = parse(&text).expect_err("mistakes").join("\n");
        for expected in [
            "lac[0].radius[0]: there is no [[radius]] with group = \"of-lac\"",
            "aaa.local: must be \"only\"",
            "aaa.radius[0]: there is no [[radius]] with group = \"nobody\"",
            "aaa.patience: 1s is out of range",
            "radius[0].address: must be an IPv4 or IPv6 address",
            "radius[0].secret: must not be empty",
            "radius[0].status_server: must be \"0s\" (none) or 6s at least",
            "radius[0].ca: has no effect",
            "radius[0].tries: 0 is out of range",
            "radius[1].ca: is missing",
            "radius[1].key: is missing",
            "radius[1].require_message_authenticator: must be \"yes\"",
            "radius[2].address: this server stands in its group already",
            "radius[3].auth_port: is 0, and so is acct_port",
            "realm[0].name: is what follows the @",
        ] {
            assert!(found.contains(expected), "{expected} in\n{found}");
        }
    }

    #[test]
    fn no_secret_in_debug() {
        let config = parse(&format!("{BASE}{}", SERVERS.replace("\"s\"", "\"hush\""))).expect("no mistake");
        assert!(!format!("{config:?} {:?}", config.radius_settings()).contains("hush"));
    }
}
