//! Every key there is, with its default and its range, section by section.

use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    AddressConflict, AnycastConfig, ApiConfig, AuthMethod, Config, L2tpConfig, LacConfig, LogConfig,
    LogFormat, NodeConfig, PoolConfig, PppConfig, TunConfig, TunMode, UserConfig,
};
use super::prefixes;
use super::read::Section;
use super::values::{InterfaceName, LogLevel, Name, SocketMode};
use super::{Pattern, Secret};
use super::{accounting, cluster, coa, filter, policy, radius};

/// The sections that are lists of tables; the environment cannot reach into them.
pub const LISTS: [&str; 9] = [
    "member",
    "radius",
    "realm",
    "coa_client",
    "pool",
    "lac",
    "policy",
    "filter",
    "user",
];
/// The sections that exist once.
pub const SECTIONS: [&str; 11] = [
    "node",
    "tun",
    "log",
    "api",
    "cluster",
    "l2tp",
    "ppp",
    "aaa",
    "coa",
    "anycast",
    "accounting",
];

/// Where the session table lives unless the file says otherwise.
pub const DATA_DIR: &str = "/var/lib/holdfast";
/// Where the operator's socket lives unless the file says otherwise.
pub const SOCKET: &str = "/run/holdfast/holdfast.sock";

/// L2TP's port, for a number that nobody else uses.
const ANYCAST_TABLE: u32 = 1701;
/// Private numbers (RFC 6996 §5).
const LOCAL_AS: u32 = 65_001;
const NEIGHBOUR_AS: u32 = 65_000;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads everything; mistakes are with the reader.
pub fn read(mut root: Section<'_>) -> Config {
    let servers = root.sections("radius").into_iter().enumerate();
    let servers: Vec<_> = servers
        .map(|(place, server)| radius::radius(server, place))
        .collect();
    let coa_clients = root.sections("coa_client");
    let config = Config {
        coa: coa::coa(root.section("coa"), coa_clients),
        aaa: radius::aaa(root.section("aaa"), &servers),
        radius: servers,
        realms: root.sections("realm").into_iter().map(radius::realm).collect(),
        node: node(root.section("node")),
        tun: tun(root.section("tun")),
        log: log(root.section("log")),
        api: api(root.section("api")),
        cluster: {
            let present = root.has("cluster");
            let section = root.section("cluster");
            present.then(|| cluster::cluster(section))
        },
        members: root.sections("member").into_iter().map(cluster::member).collect(),
        l2tp: l2tp(root.section("l2tp")),
        ppp: ppp(root.section("ppp")),
        pools: root.sections("pool").into_iter().map(pool).collect(),
        lacs: root.sections("lac").into_iter().map(lac).collect(),
        policies: root.sections("policy").into_iter().map(policy::policy).collect(),
        filters: root.sections("filter").into_iter().map(filter::filter).collect(),
        users: root.sections("user").into_iter().map(user).collect(),
        anycast: anycast(&mut root),
        accounting: accounting::accounting(root.section("accounting")),
    };
    root.finish();
    config
}

fn node(mut s: Section<'_>) -> NodeConfig {
    let defaults = NodeConfig::default();
    let name = s
        .optional::<Name<64>>("name")
        .map_or(defaults.name, |name| name.0);
    let config = NodeConfig {
        id: s.number("id", 1..=u64::from(u32::MAX)).unwrap_or(defaults.id),
        data_dir: s.value("data_dir", defaults.data_dir),
        listen: s.list("listen").unwrap_or(defaults.listen),
        shards: s.number("shards", 0..=256).unwrap_or(defaults.shards),
        host_name: s
            .optional::<Name<64>>("host_name")
            .map_or_else(|| name.clone(), |name| name.0),
        name,
    };
    s.finish();
    config
}

fn tun(mut s: Section<'_>) -> TunConfig {
    let defaults = TunConfig::default();
    let config = TunConfig {
        name: s
            .optional::<InterfaceName>("name")
            .map_or(defaults.name, |name| name.0),
        mtu: s.number("mtu", 1280..=9000).unwrap_or(defaults.mtu),
        enabled: s.value("enabled", defaults.enabled),
        offload: s.value("offload", defaults.offload),
    };
    s.finish();
    config
}

fn log(mut s: Section<'_>) -> LogConfig {
    let defaults = LogConfig::default();
    let config = LogConfig {
        level: s
            .optional::<LogLevel>("level")
            .map_or(defaults.level, |level| level.0),
        format: s.value("format", defaults.format),
    };
    s.finish();
    config
}

fn api(mut s: Section<'_>) -> ApiConfig {
    let defaults = ApiConfig::default();
    let config = ApiConfig {
        socket: s.value("socket", defaults.socket),
        mode: s
            .optional::<SocketMode>("mode")
            .map_or(defaults.mode, |mode| mode.0),
    };
    s.finish();
    config
}

fn l2tp(mut s: Section<'_>) -> L2tpConfig {
    let d = L2tpConfig::default();
    let config = L2tpConfig {
        hello_interval: s.duration("hello_interval", d.hello_interval, Duration::ZERO..=HOUR),
        window: s.number("window", 1..=128).unwrap_or(d.window),
        first_retransmit: s.duration("first_retransmit", d.first_retransmit, SECOND / 10..=10 * SECOND),
        retransmit_cap: s.duration("retransmit_cap", d.retransmit_cap, SECOND..=MINUTE),
        max_retransmits: s.number("max_retransmits", 1..=20).unwrap_or(d.max_retransmits),
        setup_timeout: s.duration("setup_timeout", d.setup_timeout, SECOND..=5 * MINUTE),
        connect_timeout: s.duration("connect_timeout", d.connect_timeout, SECOND..=10 * MINUTE),
        half_open: s.number("half_open", 1..=65_535).unwrap_or(d.half_open),
        half_open_per_source: s
            .number("half_open_per_source", 1..=65_535)
            .unwrap_or(d.half_open_per_source),
        sccrq_rate: s.number("sccrq_rate", 1..=1_000_000).unwrap_or(d.sccrq_rate),
        max_tunnels: s.number("max_tunnels", 1..=65_535).unwrap_or(d.max_tunnels),
        max_sessions: s.number("max_sessions", 1..=10_000_000).unwrap_or(d.max_sessions),
        max_sessions_per_tunnel: s
            .number("max_sessions_per_tunnel", 1..=65_535)
            .unwrap_or(d.max_sessions_per_tunnel),
    };
    s.finish();
    config
}

fn ppp(mut s: Section<'_>) -> PppConfig {
    let d = PppConfig::default();
    let config = PppConfig {
        mru: s.number("mru", 576..=9000).unwrap_or(d.mru),
        mtu: s.number("mtu", 576..=9000).unwrap_or(d.mtu),
        auth: auth(&mut s).unwrap_or(d.auth),
        echo_interval: s.duration("echo_interval", d.echo_interval, Duration::ZERO..=HOUR),
        echo_failures: s.number("echo_failures", 1..=100).unwrap_or(d.echo_failures),
        setup_timeout: s.duration("setup_timeout", d.setup_timeout, 5 * SECOND..=10 * MINUTE),
        dns: s.list("dns").unwrap_or(d.dns),
        dns6: s.list("dns6").unwrap_or(d.dns6),
        mss_clamp: s.value("mss_clamp", d.mss_clamp),
        accept_proxy: s.value("accept_proxy", d.accept_proxy),
        address_conflict: s.value("address_conflict", d.address_conflict),
    };
    if config.dns.len() > 2 {
        s.mistake("dns", "IPCP carries two name servers at most");
    }
    if config.dns6.len() > prefixes::NAME_SERVERS_MAX {
        s.mistake(
            "dns6",
            format!("more than {} are not told", prefixes::NAME_SERVERS_MAX),
        );
    }
    s.finish();
    config
}

fn auth(s: &mut Section<'_>) -> Option<Vec<AuthMethod>> {
    let methods: Vec<AuthMethod> = s.list("auth")?;
    if methods.is_empty() {
        s.mistake("auth", "needs one method at least: anyone could be anybody");
    }
    for (index, method) in methods.iter().enumerate() {
        if methods[..index].contains(method) {
            s.mistake("auth", format!("names \"{}\" twice", method.name()));
        }
    }
    Some(methods)
}

fn pool(mut s: Section<'_>) -> PoolConfig {
    let name: Name<64> = s.required("name");
    let listed: Option<Vec<ipnet::Ipv4Net>> = s.list("prefixes");
    let ipv6 = prefixes::pool(&mut s);
    if listed.is_none() && ipv6.is_empty() {
        s.mistake(
            "prefixes",
            "is missing, and so are link_prefixes and delegated_prefixes",
        );
    }
    let prefixes = listed.unwrap_or_default();
    let first_host = prefixes.first().and_then(|prefix| prefix.hosts().next());
    let gateway = s.optional("gateway").or(first_host);
    let config = PoolConfig {
        name: name.0,
        prefixes,
        gateway: gateway.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
        drain: s.value("drain", false),
        ipv6,
    };
    s.finish();
    config
}

fn lac(mut s: Section<'_>) -> LacConfig {
    let name: Name<64> = s.required("name");
    let host_name = s.optional("host_name");
    let addresses: Vec<ipnet::IpNet> = s.list("addresses").unwrap_or_default();
    if host_name.is_none() && addresses.is_empty() {
        s.mistake(
            "host_name",
            "is missing, and so is addresses: which LACs are meant? \"*\" fits any name",
        );
    }
    let secret: Option<Secret> = s.optional("secret");
    let require_challenge = s.optional("require_challenge");
    if require_challenge == Some(true) && secret.is_none() {
        s.mistake(
            "require_challenge",
            "needs a secret to check the LAC's response with",
        );
    }
    let config = LacConfig {
        name: name.0,
        host_name: host_name.unwrap_or_else(|| Pattern::new("*")),
        addresses,
        allowed: s.value("allowed", true),
        require_challenge: require_challenge.unwrap_or(secret.is_some()),
        secret,
        permissive: s.value("permissive", false),
        auth: auth(&mut s),
        accept_proxy: s.optional("accept_proxy"),
        radius: s.list("radius"),
        max_tunnels: s.number("max_tunnels", 1..=65_535),
        max_sessions: s.number("max_sessions", 1..=10_000_000),
    };
    s.finish();
    config
}

fn user(mut s: Section<'_>) -> UserConfig {
    let name: Name<253> = s.required("name");
    if !s.has("password") {
        s.mistake("password", "is missing");
    }
    let config = UserConfig {
        name: name.0,
        password: s.optional("password").unwrap_or_else(|| Secret::new("")),
        address: s.optional("address"),
        pool: s.optional("pool"),
        max_sessions: s.number("max_sessions", 1..=1_000_000),
        policy: s.optional("policy"),
        routes: s.list("routes").unwrap_or_default(),
        ipv4: s.value("ipv4", true),
        ipv6: prefixes::user(&mut s),
    };
    if !config.ipv4 && !config.ipv6.enabled {
        s.mistake("ipv4", "is false, and so is ipv6: nothing is left for the user");
    }
    s.finish();
    config
}

/// A node without the section is dialled at an address of its own.
fn anycast(root: &mut Section<'_>) -> Option<AnycastConfig> {
    let present = root.has("anycast");
    let mut s = root.section("anycast");
    if !present {
        return None;
    }
    let config = AnycastConfig {
        addresses: s.list("addresses").unwrap_or_default(),
        // Numbers up to 255 hold the tables that the kernel forwards by.
        table: s.number("table", 256..=u32::MAX).unwrap_or(ANYCAST_TABLE),
        bird_socket: s.optional("bird_socket"),
        router_id: s.optional("router_id"),
        local_as: s.number("local_as", 1..=u32::MAX - 1).unwrap_or(LOCAL_AS),
        neighbour_as: s.number("neighbour_as", 1..=u32::MAX - 1).unwrap_or(NEIGHBOUR_AS),
        neighbours: s.list("neighbours").unwrap_or_default(),
        bfd_interval: s.duration("bfd_interval", 50 * MILLISECOND, Duration::ZERO..=10 * SECOND),
        bfd_multiplier: s.number("bfd_multiplier", 2..=50).unwrap_or(3),
    };
    s.finish();
    Some(config)
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "holdfast-1".to_owned(),
            id: 1,
            data_dir: PathBuf::from(DATA_DIR),
            listen: vec![
                (std::net::Ipv4Addr::UNSPECIFIED, 1701).into(),
                (std::net::Ipv6Addr::UNSPECIFIED, 1701).into(),
            ],
            shards: 0,
            host_name: "holdfast-1".to_owned(),
        }
    }
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: "holdfast0".to_owned(),
            mtu: 1500,
            enabled: TunMode::Auto,
            offload: true,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(SOCKET),
            mode: 0o660,
        }
    }
}

impl Default for L2tpConfig {
    fn default() -> Self {
        Self {
            hello_interval: MINUTE,
            window: 64,
            first_retransmit: SECOND,
            retransmit_cap: 8 * SECOND,
            max_retransmits: 5,
            setup_timeout: 10 * SECOND,
            connect_timeout: MINUTE,
            half_open: 1000,
            half_open_per_source: 50,
            // What a forged address can cost is bounded by its half-open tunnels; this bounds those that complete. All tunnels of a
            // LAC come back within a second or two.
            sccrq_rate: 1000,
            max_tunnels: 20_000,
            max_sessions: 200_000,
            max_sessions_per_tunnel: 65_535,
        }
    }
}

impl Default for PppConfig {
    fn default() -> Self {
        Self {
            mru: 1492,
            mtu: 1492,
            auth: vec![AuthMethod::ChapMd5, AuthMethod::MsChapV2, AuthMethod::Pap],
            echo_interval: 30 * SECOND,
            echo_failures: 5,
            setup_timeout: MINUTE,
            dns: Vec::new(),
            dns6: Vec::new(),
            mss_clamp: true,
            accept_proxy: true,
            address_conflict: AddressConflict::default(),
        }
    }
}
