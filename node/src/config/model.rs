//! The configuration as the rest of the node sees it: every value already parsed, in range and consistent.
//!
//! Values come into being in `parts` (from a file and the environment) and in `dev` (embedded defaults). The
//! starter file `starter.toml` documents each of them for the operator.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::Secret;
use super::accounting::AccountingConfig;
use super::coa::CoaConfig;
use super::filter::FilterConfig;
use super::pattern::Pattern;
use super::policy::PolicyConfig;
use super::prefixes::{PrefixPoolConfig, UserPrefixes};
use super::radius::{AaaConfig, RadiusConfig, RealmConfig};
use crate::aaa::profile::Route;

/// All that an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This process: who it is and where it listens.
    pub node: NodeConfig,
    /// The interface towards the core.
    pub tun: TunConfig,
    /// What is logged and how.
    pub log: LogConfig,
    /// The operator's socket.
    pub api: ApiConfig,
    /// Who this node is among others; `None` is a cluster of one.
    pub cluster: Option<ClusterConfig>,
    /// All members, this node among them, in the file's order; ids and addresses are unique. Empty without `cluster`.
    pub members: Vec<MemberConfig>,
    /// Tunnels and calls.
    pub l2tp: L2tpConfig,
    /// Sessions.
    pub ppp: PppConfig,
    /// Who judges subscribers.
    pub aaa: AaaConfig,
    /// RADIUS servers, in the file's order.
    pub radius: Vec<RadiusConfig>,
    /// Who may order changes of sessions that run.
    pub coa: CoaConfig,
    /// Users by the end of their names; names are unique.
    pub realms: Vec<RealmConfig>,
    /// Address pools, in the file's order; names and prefixes are unique and do not overlap.
    pub pools: Vec<PoolConfig>,
    /// LAC profiles in the file's order; see [`Config::lac`] for which one applies.
    pub lacs: Vec<LacConfig>,
    /// What products are held to, in the file's order; names are unique.
    pub policies: Vec<PolicyConfig>,
    /// What sessions may send and receive, in the file's order; names are unique.
    pub filters: Vec<FilterConfig>,
    /// Local users in the file's order; names are unique.
    pub users: Vec<UserConfig>,
    /// The address that LACs dial, when several nodes share it; `None` without `[anycast]`.
    pub anycast: Option<AnycastConfig>,
    /// What accounting servers are told.
    pub accounting: AccountingConfig,
}

/// `[anycast]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnycastConfig {
    /// What LACs dial; not empty, no two alike. Put on the TUN interface.
    pub addresses: Vec<IpAddr>,
    /// Number of the kernel's routing table that says what BIRD is to announce.
    pub table: u32,
    /// BIRD's control socket, if the node is to see at its start whether BIRD runs.
    pub bird_socket: Option<PathBuf>,
    /// BGP identifier; BIRD picks an address of the host unless set.
    pub router_id: Option<Ipv4Addr>,
    /// Our autonomous system.
    pub local_as: u32,
    /// The routers' autonomous system.
    pub neighbour_as: u32,
    /// The routers; not empty for `holdfast anycast bird-config`.
    pub neighbours: Vec<IpAddr>,
    /// Between two BFD packets (RFC 5880 §6.8.7); zero runs no BFD.
    pub bfd_interval: Duration,
    /// Lost BFD packets after which a neighbour is dead (RFC 5880 §6.8.4).
    pub bfd_multiplier: u8,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// For people: logs and `holdfast status`.
    pub name: String,
    /// Raft id of this node; never zero, never changed once data exist.
    pub id: u64,
    /// Where the log, the table and the checkpoints live.
    pub data_dir: PathBuf,
    /// Addresses for L2TP over UDP; not empty, no two alike.
    pub listen: Vec<SocketAddr>,
    /// Packet threads; 0 means one for each core.
    pub shards: usize,
    /// Our Host Name AVP (RFC 2661 §4.4.3).
    pub host_name: String,
}

/// `[tun]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// Interface name, 1 to 15 octets.
    pub name: String,
    /// Octets of an inner IP packet.
    pub mtu: u16,
    /// Whether to open it at all.
    pub enabled: TunMode,
    /// Whether the kernel is asked for large packets that stand for many.
    pub offload: bool,
}

/// Whether the TUN interface is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunMode {
    /// If the process may; otherwise say so and serve control alone.
    Auto,
    /// Always; refuse to start without it.
    Always,
    /// Never.
    Never,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A `tracing` filter: a level, or directives such as `info,holdfast::lns=debug`.
    pub level: String,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// File mode of the socket; the rights to it are the rights to the API. Others never have access.
    pub mode: u32,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The same in all members and in their certificates; fit to stand in a URI.
    pub id: String,
    /// TCP and UDP, for the other members alone.
    pub listen: SocketAddr,
    /// Certificates (PEM) of who may say who is a member.
    pub ca: PathBuf,
    /// This node's certificate (PEM), followed by those between it and the CA.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Whether a node without data waits to be added to a cluster that exists, instead of founding one.
    pub join: bool,
    /// How long this node goes on forwarding when it cannot follow the group; the same in all members.
    pub isolation_limit: Duration,
}

/// `[[member]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its `[node] id`; also its Raft id.
    pub id: u64,
    /// Where the others reach it.
    pub address: SocketAddr,
    /// Whether it only votes: it has the whole table and owns no group.
    pub witness: bool,
}

/// `[l2tp]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2tpConfig {
    /// Silence after which a HELLO is sent; zero sends none (RFC 2661 §6.5).
    pub hello_interval: Duration,
    /// Receive Window Size that we offer, in control messages.
    pub window: u16,
    /// Wait before the first retransmission; doubles with each one (RFC 2661 §5.8).
    pub first_retransmit: Duration,
    /// Longest wait between two retransmissions.
    pub retransmit_cap: Duration,
    /// Retransmissions before the peer counts as gone.
    pub max_retransmits: u32,
    /// Life of a half-open tunnel.
    pub setup_timeout: Duration,
    /// Wait from ICRP to ICCN.
    pub connect_timeout: Duration,
    /// Half-open tunnels at once, of all peers.
    pub half_open: usize,
    /// Half-open tunnels at once, of one source address.
    pub half_open_per_source: usize,
    /// New SCCRQs a second from one source address.
    pub sccrq_rate: u32,
    /// Tunnels at once, of all peers.
    pub max_tunnels: usize,
    /// Sessions at once, of all tunnels.
    pub max_sessions: usize,
    /// Sessions at once in one tunnel.
    pub max_sessions_per_tunnel: usize,
}

/// An authentication protocol, as the LCP option 3 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// RFC 1994 with MD5.
    ChapMd5,
    /// RFC 2759.
    MsChapV2,
    /// RFC 1334.
    Pap,
}

/// `[ppp]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PppConfig {
    /// MRU that we ask for, octets (RFC 1661 §6.1).
    pub mru: u16,
    /// Largest inner packet sent to a subscriber, octets; the peer's MRU lowers it further.
    pub mtu: u16,
    /// In the order offered; never empty.
    pub auth: Vec<AuthMethod>,
    /// Between two Echo-Requests; zero sends none.
    pub echo_interval: Duration,
    /// Echo-Requests without an answer before the session counts as dead.
    pub echo_failures: u32,
    /// From the ICCN until IPCP is open.
    pub setup_timeout: Duration,
    /// Name servers handed out by IPCP (RFC 1877): none, one or two.
    pub dns: Vec<Ipv4Addr>,
    /// Name servers told by Router Advertisements and DHCPv6.
    pub dns6: Vec<Ipv6Addr>,
    /// Whether the MSS of TCP SYNs is lowered to fit the link.
    pub mss_clamp: bool,
    /// Whether LCP and authentication done by the LAC are accepted when they satisfy policy (RFC 2661 §4.4.5).
    pub accept_proxy: bool,
    /// Who gets an address that is fixed for a user and in use already.
    pub address_conflict: AddressConflict,
}

/// What becomes of two sessions that are to have one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressConflict {
    /// The new one of the same user replaces the old one; another user is refused.
    #[default]
    ReplaceSameUser,
    /// The new one replaces the old one, whoever's that is.
    Replace,
    /// The new one is refused.
    Refuse,
}

/// `[[pool]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Unique.
    pub name: String,
    /// What is handed out, without network, broadcast and gateway address; empty in a pool of IPv6 alone.
    pub prefixes: Vec<Ipv4Net>,
    /// Our own address inside these sessions; unspecified in a pool of IPv6 alone.
    pub gateway: Ipv4Addr,
    /// Whether nobody gets a new address from it.
    pub drain: bool,
    /// What is handed out of IPv6.
    pub ipv6: PrefixPoolConfig,
}

/// `[[lac]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LacConfig {
    /// Unique; tunnels remember their profile by it.
    pub name: String,
    /// Must match the peer's Host Name AVP.
    pub host_name: Pattern,
    /// The peer's address must lie in one of these; empty means anywhere.
    pub addresses: Vec<IpNet>,
    /// Whether such a LAC may open a tunnel at all.
    pub allowed: bool,
    /// Shared secret of the tunnel (RFC 2661 §5.1.1).
    pub secret: Option<Secret>,
    /// Whether we challenge the LAC; needs a secret.
    pub require_challenge: bool,
    /// Whether unknown mandatory AVPs of a vendor are tolerated.
    pub permissive: bool,
    /// Overrides `[ppp] auth` for sessions of this LAC.
    pub auth: Option<Vec<AuthMethod>>,
    /// Overrides `[ppp] accept_proxy` for sessions of this LAC.
    pub accept_proxy: Option<bool>,
    /// Overrides `[aaa] radius` for sessions of this LAC; none leaves them to the users of the configuration.
    pub radius: Option<Vec<String>>,
    /// Tunnels of this profile at once; `None` is bounded by `[l2tp]` alone.
    pub max_tunnels: Option<usize>,
    /// Sessions of this profile at once; `None` is bounded by `[l2tp]` alone.
    pub max_sessions: Option<usize>,
}

/// `[[user]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserConfig {
    /// As sent by PAP or CHAP, octet for octet; unique.
    pub name: String,
    /// In the clear, for CHAP needs it so.
    pub password: Secret,
    /// The same address at every dial-in. Such a user has one session; a redial replaces the stale one.
    pub address: Option<Ipv4Addr>,
    /// Where a free address is picked; `None` means the first pool.
    pub pool: Option<String>,
    /// Sessions at once; `None` means unlimited.
    pub max_sessions: Option<u32>,
    /// Name of the policy to which the user's sessions are held.
    pub policy: Option<String>,
    /// Networks behind the user.
    pub routes: Vec<Route>,
    /// Whether the user gets IPv4.
    pub ipv4: bool,
    /// What the user gets of IPv6.
    pub ipv6: UserPrefixes,
}

impl Config {
    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&PoolConfig> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// What the pools hand out: all of it is routed and announced as a whole.
    pub fn networks(&self) -> Vec<IpNet> {
        let prefixes = self.pools.iter().flat_map(|pool| &pool.prefixes);
        let units = self.prefix_units();
        prefixes
            .map(|prefix| IpNet::V4(*prefix))
            .chain(units.map(|(prefix, _)| IpNet::V6(prefix)))
            .collect()
    }

    /// The pools that hand out IPv4, in order.
    pub fn ipv4_pools(&self) -> impl Iterator<Item = &PoolConfig> {
        self.pools.iter().filter(|pool| !pool.prefixes.is_empty())
    }

    /// Our own IPv4 address inside the sessions, as far as nothing else says which: the first pool's.
    pub fn gateway(&self) -> Ipv4Addr {
        self.ipv4_pools()
            .next()
            .map_or(Ipv4Addr::UNSPECIFIED, |pool| pool.gateway)
    }

    /// Our own address inside a session whose subscriber has `address`: the gateway of the pool that holds it,
    /// else the first pool's.
    pub fn gateway_for(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let holds = |pool: &&PoolConfig| pool.prefixes.iter().any(|prefix| prefix.contains(&address));
        self.pools
            .iter()
            .find(holds)
            .or(self.ipv4_pools().next())
            .map(|pool| pool.gateway)
    }

    /// The profile for a LAC that calls itself `host_name` and sends from `address`; `None` refuses it.
    ///
    /// The file's order decides: the first match wins.
    pub fn lac(&self, host_name: &[u8], address: IpAddr) -> Option<&LacConfig> {
        self.lacs.iter().find(|lac| lac.matches(host_name, address))
    }
}

impl LacConfig {
    /// Whether the profile is meant for this LAC.
    pub fn matches(&self, host_name: &[u8], address: IpAddr) -> bool {
        let address = address.to_canonical();
        let near = self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&address));
        near && self.host_name.matches(host_name)
    }
}

impl AuthMethod {
    /// As written in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChapMd5 => "chap-md5",
            Self::MsChapV2 => "ms-chap-v2",
            Self::Pap => "pap",
        }
    }

    /// The inverse of [`AuthMethod::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ChapMd5, Self::MsChapV2, Self::Pap]
            .into_iter()
            .find(|method| method.name() == name)
    }
}
