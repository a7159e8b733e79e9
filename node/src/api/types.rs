//! What the operator's socket speaks: requests, replies and the reports in them.
//!
//! Field names are stable and carry their unit. New fields may be added within a version; a field that changes its
//! meaning, or goes, makes a new version.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use holdfast_protocol::{SessionId, TunnelId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::cluster::{ClusterOrder, ClusterStatus};
use crate::metrics::{CounterRow, LimitRow};

/// Version of everything in this file.
pub const VERSION: u32 = 1;

/// One line from the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub request: Request,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Reply::Status`].
    Status {
        /// Whether every counter is wanted.
        #[serde(default)]
        counters: bool,
    },
    /// Answered by a [`Reply::Tunnel`] each.
    Tunnels,
    /// Answered by a [`Reply::Session`] each.
    Sessions {
        /// Only those of this user.
        #[serde(default)]
        user: Option<String>,
    },
    /// Answered by [`Reply::Disconnected`].
    Disconnect {
        /// A tunnel with all its sessions, or one session.
        id: Target,
    },
    /// Answered by [`Reply::ShuttingDown`], after which the process ends.
    Shutdown {
        /// Whether sessions are ended properly, rather than kept for the next start.
        disconnect: bool,
    },
    /// Answered by [`Reply::Reloaded`].
    Reload,
    /// Answered by [`Reply::Cluster`].
    Cluster {
        /// What to do first.
        order: ClusterOrder,
    },
    /// Answered by [`Reply::Injected`]; for tests. Refused by a process that was not started for fault injection.
    Inject {
        /// What goes wrong.
        fault: Fault,
    },
}

/// What [`Request::Inject`] makes go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The root actor of a shard panics, by its index.
    ShardPanic(u32),
    /// The actor of a tunnel or of a session panics.
    ActorPanic(Target),
    /// The pools take an address for free that the table knows to be in use, and hand it out again.
    ForgetAddress(Ipv4Addr),
}

/// One line from the server. Each answer ends with `End` or `Error`, so one connection may carry several requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<StatusReport>),
    /// One of [`Request::Tunnels`].
    Tunnel(TunnelInfo),
    /// One of [`Request::Sessions`].
    Session(SessionInfo),
    /// To [`Request::Disconnect`].
    Disconnected {
        /// Sessions that are being ended.
        sessions: u64,
    },
    /// To [`Request::Shutdown`].
    ShuttingDown {
        /// Sessions that are being ended, or kept.
        sessions: u64,
    },
    /// To [`Request::Reload`].
    Reloaded(ReloadReport),
    /// To [`Request::Cluster`].
    Cluster(Box<ClusterStatus>),
    /// To [`Request::Inject`].
    Injected,
    /// Nothing more comes.
    End {
        /// Replies before this one.
        count: u64,
    },
    /// Nothing more comes, for this reason.
    Error(ApiError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what, and where possible what to do.
    pub message: String,
}

/// Kinds of [`ApiError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not understood.
    BadRequest,
    /// The tunnel or session does not exist.
    NotFound,
    /// The process was not started for this.
    NotAllowed,
    /// The configuration has mistakes; nothing changed.
    Configuration,
    /// Not now: starting, shutting down, too many connections.
    Unavailable,
    /// Our own fault.
    Internal,
}

/// What `disconnect` names: `TUNNEL` or `TUNNEL/SESSION`, by our own ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// With all its sessions.
    Tunnel(TunnelId),
    /// One session.
    Session(TunnelId, SessionId),
}

/// A part of a long list, so that no list is ever held or written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of their ids; may be empty.
    pub items: Vec<T>,
    /// Where the next page begins: just after this one. `None` when nothing is left.
    pub after: Option<Target>,
}

/// `holdfast status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReport {
    /// Of the program.
    pub version: String,
    /// Name of the node.
    pub node: String,
    /// Raft id of the node.
    pub node_id: u64,
    /// Process id.
    pub pid: u32,
    /// Since the process started.
    pub uptime_seconds: u64,
    /// Where the session table lives.
    pub data_dir: String,
    /// Addresses for L2TP.
    pub listen: Vec<String>,
    /// Packet threads.
    pub shards: Vec<ShardStatus>,
    /// The session table.
    pub table: TableStatus,
    /// The interface towards the core.
    pub tun: TunStatus,
    /// Tunnels by state.
    pub tunnels: Vec<StateCount>,
    /// Sessions by state.
    pub sessions: Vec<StateCount>,
    /// Address pools.
    pub pools: Vec<PoolStatus>,
    /// Addresses in use that lie in no pool.
    pub outside_pools: u64,
    /// RADIUS servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub radius: Vec<RadiusStatus>,
    /// IPv6 of each pool.
    pub prefix_pools: Vec<PrefixPoolStatus>,
    /// Every bound.
    pub limits: Vec<LimitRow>,
    /// Every counter, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<CounterRow>,
    /// What an operator should look at, one sentence each.
    pub warnings: Vec<String>,
}

/// One packet thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    /// From 0.
    pub index: u32,
    /// Tunnels whose uplink it carries.
    pub tunnels: u64,
    /// Sessions in them.
    pub sessions: u64,
    /// From LACs.
    pub rx_packets: u64,
    /// To LACs.
    pub tx_packets: u64,
    /// Either way.
    pub drops: u64,
}

/// The replicated session table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableStatus {
    /// `leader`, `follower` or `candidate`.
    pub role: String,
    /// Raft id of the leader; 0 when there is none.
    pub leader_id: u64,
    /// Raft's term.
    pub term: u64,
    /// Last entry known to be committed.
    pub commit_index: u64,
    /// Last entry applied.
    pub applied_index: u64,
    /// Entries of the log behind the last snapshot.
    pub log_octets: u64,
    /// Size of the last snapshot.
    pub snapshot_octets: u64,
}

/// The TUN interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunStatus {
    /// Name of the interface.
    pub name: String,
    /// Whether it carries packets.
    pub up: bool,
    /// For people: its state, or why there is none.
    pub text: String,
}

/// How many there are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// As in [`TunnelInfo::state`] or [`SessionInfo::state`].
    pub state: String,
    /// How many.
    pub count: u64,
}

/// One address pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatus {
    /// As configured.
    pub name: String,
    /// As configured.
    pub prefixes: Vec<String>,
    /// Our own address in these sessions.
    pub gateway: String,
    /// Addresses that subscribers may have.
    pub size: u64,
    /// In sessions, proposals under way included.
    pub in_use: u64,
    /// Released less than 30 s ago.
    pub resting: u64,
    /// Kept for users with a fixed address.
    pub fixed: u64,
    /// Rejections because none was free.
    pub exhausted: u64,
    /// Nobody gets a new address from it.
    pub draining: bool,
    /// In use, of prefixes that a reload has taken from the pool since the process started.
    pub leaving: u64,
}

/// One RADIUS server for one purpose, as this node finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RadiusStatus {
    /// Of its group.
    pub group: String,
    /// Address and port.
    pub address: String,
    /// `access` or `accounting`.
    pub purpose: String,
    /// `alive`, `suspect`, `dead` or `on trial`.
    pub state: String,
    /// Requests and probes under way.
    pub outstanding: u64,
    /// Packets for the first time.
    pub sent: u64,
    /// Packets again.
    pub retransmitted: u64,
    /// Access-Accepts and Accounting-Responses.
    pub accepted: u64,
    /// Access-Rejects and Challenges.
    pub rejected: u64,
    /// Waits in vain.
    pub timeouts: u64,
    /// Replies dropped.
    pub dropped: u64,
    /// Status-Server packets sent.
    pub probes: u64,
    /// From the last transmission to the newest reply.
    pub last_wait_us: u64,
}

/// What a pool hands out of IPv6 for one use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixPoolStatus {
    /// Name of the pool.
    pub pool: String,
    /// Delegated by DHCPv6; otherwise for the link.
    pub delegated: bool,
    /// As configured.
    pub prefixes: Vec<String>,
    /// Length of a prefix that is handed out.
    pub length: u8,
    /// Prefixes that subscribers may have.
    pub size: u64,
    /// In sessions, proposals under way included.
    pub in_use: u64,
    /// Released less than 30 s ago.
    pub resting: u64,
    /// Sessions that got none because none was free.
    pub exhausted: u64,
}

/// `holdfast tunnels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelInfo {
    /// Our id.
    pub tunnel_id: u16,
    /// The peer's id; 0 when not known yet.
    pub peer_tunnel_id: u16,
    /// Address and port of the LAC.
    pub peer: String,
    /// Address and port that it dialled.
    pub local: String,
    /// The LAC profile that applies.
    pub profile: String,
    /// The LAC's Host Name AVP, odd octets escaped.
    pub host_name: String,
    /// The LAC's Vendor Name AVP, odd octets escaped.
    pub vendor_name: String,
    /// `half_open`, `established`, `closing` or `closed`.
    pub state: String,
    /// The node that owns it.
    pub owner: u64,
    /// Sessions in it.
    pub sessions: u32,
    /// Packet thread that carries its uplink.
    pub shard: u32,
    /// Next sequence number that we send.
    pub ns: u16,
    /// Next sequence number that we expect.
    pub nr: u16,
    /// Messages under way that the LAC allows.
    pub peer_window: u16,
    /// Our messages that it has not acknowledged yet.
    pub unacknowledged: u32,
    /// Since it was created.
    pub age_seconds: u64,
}

/// `holdfast sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionInfo {
    /// Our id of the tunnel.
    pub tunnel_id: u16,
    /// Our id.
    pub session_id: u16,
    /// The peer's id.
    pub peer_session_id: u16,
    /// As authenticated, odd octets escaped; empty before.
    pub user: String,
    /// The subscriber's; `None` before IPCP is open.
    pub address: Option<String>,
    /// The IPv6 prefix of the link; `None` before IPV6CP is open.
    pub link_prefix: Option<String>,
    /// The delegated one; `None` before IPV6CP is open.
    pub delegated_prefix: Option<String>,
    /// `wait_connect`, `negotiating` or `open`.
    pub state: String,
    /// Calling Number AVP.
    pub calling_number: String,
    /// Called Number AVP.
    pub called_number: String,
    /// Name of the accounting session; outlives takeovers.
    pub acct_session_id: String,
    /// `pap`, `chap-md5`, `ms-chap-v2`; empty before.
    pub auth_method: String,
    /// Largest inner packet towards the subscriber, octets.
    pub mru: u16,
    /// Policy to which the session is held; empty: none.
    pub policy: String,
    /// The rate from the subscriber; 0: unlimited.
    pub rate_up_bits_per_second: u64,
    /// The rate to the subscriber; 0: unlimited.
    pub rate_down_bits_per_second: u64,
    /// Names of the session's filters, in the order in which they are asked.
    pub filters: Vec<String>,
    /// Rules of its own, which RADIUS has brought along.
    pub filter_rules: Vec<String>,
    /// (Tx) Connect Speed AVP.
    pub tx_bits_per_second: u64,
    /// Rx Connect Speed AVP; 0 when as the other way.
    pub rx_bits_per_second: u64,
    /// Since PPP opened; `None` before.
    pub connected_seconds: Option<u64>,
    /// Since the call arrived.
    pub age_seconds: u64,
    /// From the subscriber.
    pub rx_packets: u64,
    /// From the subscriber, inner packets.
    pub rx_octets: u64,
    /// To the subscriber.
    pub tx_packets: u64,
    /// To the subscriber, inner packets.
    pub tx_octets: u64,
    /// Either way.
    pub drops: u64,
}

/// `holdfast reload`, or SIGHUP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What took effect, one sentence each.
    pub applied: Vec<String>,
    /// What waits for the next start, one sentence each.
    pub needs_restart: Vec<String>,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(tunnel) => write!(f, "{tunnel}"),
            Self::Session(tunnel, session) => write!(f, "{tunnel}/{session}"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mistake = || {
            format!(
                "\"{text}\" is neither TUNNEL nor TUNNEL/SESSION, such as 4711 or 4711/23 (ids from 1 to 65535)"
            )
        };
        let number = |text: &str| text.parse::<u16>().map_err(|_| mistake());
        let (tunnel, session) = match text.split_once('/') {
            Some((tunnel, session)) => (tunnel, Some(session)),
            None => (text, None),
        };
        let tunnel = TunnelId::new(number(tunnel)?).ok_or_else(mistake)?;
        match session {
            None => Ok(Self::Tunnel(tunnel)),
            Some(session) => {
                let session = SessionId::new(number(session)?).ok_or_else(mistake)?;
                Ok(Self::Session(tunnel, session))
            }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_both_ways() {
        let target: Target = "4711/23".parse().unwrap();
        let cases = [
            (
                Request::Status { counters: true },
                r#"{"version":1,"request":"status","counters":true}"#,
            ),
            (Request::Tunnels, r#"{"version":1,"request":"tunnels"}"#),
            (
                Request::Sessions { user: None },
                r#"{"version":1,"request":"sessions","user":null}"#,
            ),
            (
                Request::Disconnect { id: target },
                r#"{"version":1,"request":"disconnect","id":"4711/23"}"#,
            ),
            (
                Request::Shutdown { disconnect: true },
                r#"{"version":1,"request":"shutdown","disconnect":true}"#,
            ),
            (Request::Reload, r#"{"version":1,"request":"reload"}"#),
        ];
        for (request, text) in cases {
            let envelope = Envelope {
                version: VERSION,
                request,
            };
            assert_eq!(serde_json::to_string(&envelope).unwrap(), text);
            assert_eq!(serde_json::from_str::<Envelope>(text).unwrap(), envelope);
        }
    }

    #[test]
    fn an_older_client_may_leave_out_fields() {
        let envelope: Envelope = serde_json::from_str(r#"{"version":1,"request":"sessions"}"#).unwrap();
        assert_eq!(envelope.request, Request::Sessions { user: None });
    }

    #[test]
    fn replies_both_ways() {
        let replies = [
            Reply::Status(Box::default()),
            Reply::Tunnel(TunnelInfo::default()),
            Reply::Session(SessionInfo {
                address: Some("100.64.0.2".into()),
                ..SessionInfo::default()
            }),
            Reply::Disconnected { sessions: 3 },
            Reply::End { count: 7 },
            Reply::Error(ApiError::new(ErrorCode::NotFound, "no tunnel 7")),
        ];
        for reply in replies {
            let text = serde_json::to_string(&reply).unwrap();
            assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
        }
    }

    #[test]
    fn targets() {
        let text = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(text("4711").as_deref(), Ok("4711"));
        assert_eq!(text("4711/23").as_deref(), Ok("4711/23"));
        for wrong in ["", "0", "1/0", "65536", "1/2/3", "a", "1/", "/1", "-1"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
