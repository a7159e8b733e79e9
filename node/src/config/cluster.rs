//! `[cluster]` and `[[member]]`: who the members are, and what of it cannot be right.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_cluster::limits::ISOLATION_LIMIT_S;

use super::model::{ClusterConfig, Config, MemberConfig};
use super::read::{Raw, Reader, Scalar, Section};
use super::values::Name;

/// The port of peers' connections, by custom only.
pub const PORT: u16 = 1710;
/// More members would make each commit wait for more disks and win nothing.
const MEMBERS_MAX: usize = 9;

/// A takeover has to be over long before, and an address that was released while a member is away rests as long: seconds.
const ISOLATION_LIMITS_S: RangeInclusive<u64> = 60..=86_400;

/// Stands for an address that could not be read.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Where a peer listens.
struct PeerAddress(SocketAddr);

/// `[cluster]`; mistakes are with the section. A mistaken value leaves nothing behind, which [`check`] passes over.
pub fn cluster(mut s: Section<'_>) -> ClusterConfig {
    let id: ClusterId = s.required("id");
    if !s.has("listen") {
        s.mistake("listen", "is missing");
    }
    let listen: Option<PeerAddress> = s.optional("listen");
    let (ca, certificate, key): (PathBuf, PathBuf, PathBuf) =
        (s.required("ca"), s.required("certificate"), s.required("key"));
    let join = s.value("join", false);
    let isolation_limit = s.number("isolation_limit", ISOLATION_LIMITS_S);
    s.finish();
    ClusterConfig {
        id: id.0,
        listen: listen.map_or(NOWHERE, |listen| listen.0),
        ca,
        certificate,
        key,
        join,
        isolation_limit: Duration::from_secs(isolation_limit.unwrap_or(ISOLATION_LIMIT_S)),
    }
}

/// `[[member]]`; mistakes are with the section. A mistaken value leaves zero behind, which [`check`] passes over.
pub fn member(mut s: Section<'_>) -> MemberConfig {
    for key in ["id", "address"] {
        if !s.has(key) {
            s.mistake(key, "is missing");
        }
    }
    let id = s.number("id", 1..=u64::from(u32::MAX));
    let address: Option<PeerAddress> = s.optional("address");
    let witness = s.value("witness", false);
    s.finish();
    MemberConfig {
        id: id.unwrap_or_default(),
        address: address.map_or(NOWHERE, |address| address.0),
        witness,
    }
}

/// Compares the members with each other and with this node.
pub fn check(config: &Config, reader: &Reader) {
    let members = &config.members;
    let (mut ids, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (index, member) in members.iter().enumerate() {
        if member.id != 0
            && let Some(first) = ids.insert(member.id, index)
        {
            let text = format!(
                "{} is taken by the [[member]] number {} above",
                member.id,
                first + 1
            );
            reader.mistake(&format!("member[{index}].id"), text);
        }
        if member.address == NOWHERE {
            continue;
        }
        let key = format!("member[{index}].address");
        if let Some(first) = addresses.insert(member.address, index) {
            let text = format!(
                "{} is taken by the [[member]] number {} above",
                member.address,
                first + 1
            );
            reader.mistake(&key, text);
        }
        if member.address.ip().is_unspecified() || member.address.ip().is_multicast() {
            let text = format!("{} is no address that others can reach", member.address.ip());
            reader.mistake(&key, text);
        }
    }
    let Some(cluster) = &config.cluster else {
        if !members.is_empty() {
            reader.mistake("member[0]", "there are members but no [cluster]");
        }
        return;
    };
    this_node(config, cluster, reader);
    if members.len() > MEMBERS_MAX {
        reader.mistake(
            &format!("member[{MEMBERS_MAX}]"),
            format!("there may be {MEMBERS_MAX} members at most"),
        );
    }
    if !members.is_empty() && members.iter().all(|member| member.witness) {
        reader.mistake(
            "member[0].witness",
            "all members are witnesses; one at least must serve",
        );
    }
}

fn this_node(config: &Config, cluster: &ClusterConfig, reader: &Reader) {
    let id = config.node.id;
    let listen = cluster.listen;
    if config.members.iter().any(|member| member.id == 0) {
        return;
    }
    let Some(own) = config.members.iter().find(|member| member.id == id) else {
        let text = format!("there is no [[member]] with id = {id}, which is this node's ([node] id)");
        reader.mistake("cluster", text);
        return;
    };
    if listen == NOWHERE || own.address == NOWHERE {
        return;
    }
    let elsewhere = !listen.ip().is_unspecified() && listen.ip() != own.address.ip();
    if elsewhere || listen.port() != own.address.port() {
        let text = format!(
            "{listen} is not where the others look for this node: its [[member]] says {}",
            own.address
        );
        reader.mistake("cluster.listen", text);
    }
    for (index, address) in config.node.listen.iter().enumerate() {
        if *address == listen {
            let text = format!("{address} is listened on for peers ([cluster] listen)");
            reader.mistake(&format!("node.listen[{index}]"), text);
        }
    }
}

impl Config {
    /// What is allowed and hardly meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let voters = self.members.len();
        let mut warnings = Vec::new();
        if self.cluster.is_some() && voters > 0 && voters.is_multiple_of(2) {
            let survives = (voters - 1) / 2;
            warnings.push(format!(
                "{voters} members survive the loss of {survives}, as {} would: an even number gains nothing; add a \
                 witness",
                voters - 1
            ));
        }
        warnings
    }
}

/// Any text that can stand in a URI as it is.
#[derive(Default)]
struct ClusterId(String);

impl Scalar for ClusterId {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = Name::<64>::from_raw(raw)?.0;
        if is_cluster_id(&text) {
            Ok(Self(text))
        } else {
            Err(format!(
                "must have letters, digits, \"-\", \".\" and \"_\" only, for it stands in the certificates; not \"{text}\""
            ))
        }
    }
}

/// Whether a text may be a cluster id: 1 to 64 characters that mean themselves in a URI.
pub fn is_cluster_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

impl Scalar for PeerAddress {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Self(address)),
            Ok(_) => Err(format!("\"{text}\" has port 0; use {PORT}")),
            Err(_) => Err(match text.parse::<IpAddr>() {
                Ok(ip) => format!("needs a port: \"{}\"", SocketAddr::new(ip, PORT)),
                Err(_) => {
                    format!("must be \"ADDRESS:PORT\", such as \"10.0.0.1:{PORT}\", not \"{text}\"")
                }
            }),
        }
    }
}
