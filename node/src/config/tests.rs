//! Whole files in, mistakes or a configuration out.

use std::path::Path;

use super::*;

/// The least that is right, with lines 1 to 8; tests append to it.
const BASE: &str = "\
[[pool]]
name = \"p\"
prefixes = [\"100.64.0.0/24\"]
[[lac]]
name = \"any\"
host_name = \"*\"
secret = \"tunnel\"
[node]
";

fn parse(text: &str) -> Result<Config, Vec<String>> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("h.toml"), text, environment).map_err(|error| match error {
        LoadError::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        LoadError::Read { .. } => unreachable!("parse reads nothing"),
    })
}

/// Appends `more` to the base and expects these mistakes, each by its beginning, and no others.
#[track_caller]
fn expect(more: &str, expected: &[&str]) {
    let found = parse(&format!("{BASE}{more}")).err().unwrap_or_default();
    let same = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.starts_with(e));
    assert!(same, "found {found:#?}\nexpected {expected:#?}");
}

#[test]
fn the_base_is_right() {
    let config = parse(BASE).expect("no mistake");
    assert_eq!(config.pools[0].gateway, std::net::Ipv4Addr::new(100, 64, 0, 1));
    assert_eq!(config.node, NodeConfig::default());
}

#[test]
fn all_mistakes_are_named_with_line_and_key() {
    expect(
        "nmae = \"x\"\nid = \"7\"\nlisten = [\"0.0.0.0:1701\", \"1.2.3\", \"192.0.2.1\"]\n\
         [ppp]\nmru = 90\nauth = [\"chap\", \"pap\"]\necho_interval = 30\nbogus = 1\n[[user]]\nname = \"a\"\n\
         [tun]\noffload = \"yes\"\noffloads = true\n",
        &[
            "h.toml:9: node.nmae: unknown key; did you mean \"name\"?",
            "h.toml:10: node.id: must be a whole number, not a string",
            "h.toml:11: node.listen[1]: must be \"ADDRESS:PORT\"",
            "h.toml:11: node.listen[2]: needs a port: \"192.0.2.1:1701\"",
            "h.toml:13: ppp.mru: 90 is out of range: 576 to 9000",
            "h.toml:14: ppp.auth[0]: must be \"chap-md5\", \"ms-chap-v2\" or \"pap\", not \"chap\"",
            "h.toml:15: ppp.echo_interval: needs a unit: \"30s\" or \"30ms\"",
            "h.toml:16: ppp.bogus: unknown key; known here: mru, mtu, auth",
            "h.toml:17: user[0].password: is missing",
            "h.toml:20: tun.offload: must be true or false, not a string",
            "h.toml:21: tun.offloads: unknown key; did you mean \"offload\"?",
        ],
    );
}

#[test]
fn a_key_is_a_name_and_no_path() {
    expect(
        "[\"node.list[00400000000].4\"]\n[\"\"]\nmru = 1\n[\"ppp.mru\"]\n",
        &[
            "h.toml:9: node.list[00400000000].4: unknown key",
            "h.toml:10: unknown key",
            "h.toml:12: ppp.mru: unknown key",
        ],
    );
}

#[test]
fn sections() {
    expect(
        "[pp]\nmru = 1\n",
        &["h.toml:9: pp: unknown key; did you mean \"ppp\"?"],
    );
    expect(
        "[user]\nname = \"a\"\n",
        &["h.toml:9: user: must be written as [[user]], not as a table"],
    );
    expect(
        "[[ppp]]\n",
        &["h.toml:9: ppp: must be a section, [ppp], not a list"],
    );
}

/// A right `[cluster]` of node 1 and its members; begins with line 9.
const CLUSTER: &str = "\
[cluster]
id = \"c-1\"
listen = \"10.0.0.1:1710\"
ca = \"/c/ca.pem\"
certificate = \"/c/node-1.pem\"
key = \"/c/node-1.key\"
[[member]]
id = 1
address = \"10.0.0.1:1710\"
[[member]]
id = 2
address = \"10.0.0.2:1710\"
";

#[test]
fn a_cluster() {
    let config = parse(BASE).expect("no mistake");
    assert_eq!((config.cluster, config.members.len()), (None, 0));
    let config = parse(&format!("{BASE}{CLUSTER}")).expect("no mistake");
    let warnings = config.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("2 members survive the loss of 0"),
        "{warnings:?}"
    );
    let third = "[[member]]\nid = 3\naddress = \"[2001:db8::3]:1710\"\nwitness = true\n";
    let config = parse(&format!("{BASE}{CLUSTER}{third}")).expect("no mistake");
    assert_eq!(config.warnings(), [""; 0]);
    let cluster = config.cluster.expect("there");
    assert_eq!(
        (cluster.id.as_str(), cluster.isolation_limit.as_secs()),
        ("c-1", 600)
    );
    let members: Vec<_> = config.members.iter().map(|m| (m.id, m.witness)).collect();
    assert_eq!(members, [(1, false), (2, false), (3, true)]);
}

#[test]
fn mistakes_in_a_cluster() {
    let with = |from: &str, to: &str| CLUSTER.replacen(from, to, 1);
    let cases = [
        (
            with("id = \"c-1\"", "id = \"c/1\""),
            "h.toml:10: cluster.id: must have letters",
        ),
        (with("id = \"c-1\"\n", ""), "h.toml:9: cluster.id: is missing"),
        (
            with("listen = \"10.0.0.1:1710\"\n", ""),
            "h.toml:9: cluster.listen: is missing",
        ),
        (
            with("10.0.0.1:1710", "10.0.0.1"),
            "h.toml:11: cluster.listen: needs a port: \"10.0.0.1:1710\"",
        ),
        (
            with("10.0.0.1:1710", "10.0.0.3:1710"),
            "h.toml:11: cluster.listen: 10.0.0.3:1710 is not where the others look",
        ),
        (
            with("/c/ca.pem", "ca.pem"),
            "h.toml:12: cluster.ca: must be an absolute path",
        ),
        (
            with("id = 2", "id = 1"),
            "h.toml:19: member[1].id: 1 is taken by the [[member]] number 1",
        ),
        (
            with("10.0.0.2:1710", "10.0.0.1:1710"),
            "h.toml:20: member[1].address: 10.0.0.1:1710 is taken by the [[member]] number 1",
        ),
        (
            with("10.0.0.2:1710", "0.0.0.0:1710"),
            "h.toml:20: member[1].address: 0.0.0.0 is no address that others can reach",
        ),
        (
            with("id = 1\n", "id = 5\n"),
            "h.toml:9: cluster: there is no [[member]] with id = 1, which is this node's",
        ),
        (with("id = 2\n", ""), "h.toml:18: member[1].id: is missing"),
        (
            with("id = 2\n", "id = 0\n"),
            "h.toml:19: member[1].id: 0 is out of range",
        ),
        (
            with("id = 2\n", "id = 2\nwitnes = true\n"),
            "h.toml:20: member[1].witnes: unknown key; did you mean \"witness\"?",
        ),
        (
            CLUSTER
                .replace("id = 1\n", "id = 1\nwitness = true\n")
                .replace("id = 2\n", "id = 2\nwitness = true\n"),
            "h.toml:17: member[0].witness: all members are witnesses",
        ),
        (
            "[[member]]\nid = 1\naddress = \"10.0.0.1:1710\"\n".to_owned(),
            "h.toml:9: member[0]: there are members but no [cluster]",
        ),
    ];
    for (text, expected) in cases {
        expect(&text, &[expected]);
    }
    let file = format!("listen = [\"10.0.0.1:1710\"]\n{CLUSTER}");
    expect(
        &file,
        &["h.toml:9: node.listen[0]: 10.0.0.1:1710 is listened on for peers"],
    );
    let variable = [("HOLDFAST_MEMBER__ID", "1")];
    let found = parse_with(&format!("{BASE}{CLUSTER}"), &variable).expect_err("a list");
    assert!(found[0].contains("[[member]] is a list of tables"), "{found:?}");
    let variable = [("HOLDFAST_CLUSTER__ID", "c-2")];
    let config = parse_with(&format!("{BASE}{CLUSTER}"), &variable).expect("no mistake");
    assert_eq!(config.cluster.expect("there").id, "c-2");
}

#[test]
fn accounting() {
    expect(
        "[accounting]\ninterim_interval = \"59s\"\n",
        &["h.toml:10: accounting.interim_interval: 59s is too short: 1m at least, or \"0s\" for none"],
    );
    let interval = |given: &str| {
        let text = format!("{BASE}[accounting]\ninterim_interval = \"{given}\"\n");
        parse(&text)
            .expect("no mistake")
            .accounting
            .interim_interval
            .as_secs()
    };
    assert_eq!((interval("0s"), interval("60s"), interval("1h")), (0, 60, 3_600));
}

#[test]
fn anycast() {
    expect(
        "listen = [\"10.0.0.1:1701\", \"[::]:1701\"]\n[tun]\nenabled = \"never\"\n\
         [anycast]\naddresses = [\"192.0.2.1\", \"2001:db8::1\", \"2001:db8::1\"]\nlocal_as = 65000\ntable = 254\n",
        &[
            "h.toml:11: tun.enabled: is \"never\", but the anycast address is put on that interface",
            "h.toml:12: anycast.neighbour_as: is our own",
            "h.toml:13: anycast.addresses[0]: nobody listens there: node.listen has no \"192.0.2.1\"",
            "h.toml:13: anycast.addresses[2]: 2001:db8::1 is listed twice",
            "h.toml:15: anycast.table: 254 is out of range",
        ],
    );
    expect(
        "[anycast]\n",
        &["h.toml:9: anycast.addresses: needs one address at least"],
    );
}

#[test]
fn users() {
    let user = |name: &str, more: &str| format!("[[user]]\nname = \"{name}\"\npassword = \"x\"\n{more}\n");
    let file = [
        user("a", "address = \"100.64.0.10\""),
        user("a", "address = \"100.64.0.10\""),
        user("b", "address = \"127.0.0.10\""),
        user("c", "address = \"100.64.0.1\""),
        user("d", "address = \"100.64.0.255\""),
        user("e", "pool = \"q\""),
        user("f", "address = \"100.64.0.11\"\nmax_sessions = 2"),
    ];
    expect(
        &file.concat(),
        &[
            "h.toml:14: user[1].name: \"a\" is taken by the [[user]] number 1 above",
            "h.toml:16: user[1].address: 100.64.0.10 belongs to the user \"a\" already",
            "h.toml:20: user[2].address: 127.0.0.10 cannot be a user's: it is the loopback",
            "h.toml:24: user[3].address: 100.64.0.1 cannot be a user's: it is our own address in the pool \"p\"",
            "h.toml:28: user[4].address: 100.64.0.255 is the network or the broadcast address",
            "h.toml:32: user[5].pool: there is no [[pool]] named \"q\"",
            "h.toml:37: user[6].max_sessions: a user with a fixed address has one session",
        ],
    );
}

#[test]
fn pools() {
    expect(
        "listen = [\"10.0.0.1:1701\"]\n\
         [[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.128/25\", \"10.0.0.0/24\", \"10.1.0.1/24\"]\n\
         [[pool]]\nname = \"q\"\nprefixes = [\"10.2.0.0/24\"]\ngateway = \"10.2.0.0\"\n\
         [[pool]]\nname = \"r\"\nprefixes = [\"10.3.0.1/32\"]\n\
         [[pool]]\nname = \"s\"\nprefixes = []\n\
         [[pool]]\nname = \"t\"\nprefixes = [\"11.0.0.0/8\"]\n",
        &[
            "h.toml:11: pool[1].name: \"p\" is taken",
            "h.toml:12: pool[1].prefixes[0]: 100.64.0.128/25 overlaps 100.64.0.0/24 of the pool \"p\"",
            "h.toml:12: pool[1].prefixes[1]: 10.0.0.0/24 contains 10.0.0.1, our own address",
            "h.toml:12: pool[1].prefixes[2]: \"10.1.0.1/24\" has bits beyond its length",
            "h.toml:16: pool[2].gateway: 10.2.0.0 is the network or the broadcast address",
            "h.toml:17: pool[3].gateway: leaves no address for subscribers",
            "h.toml:22: pool[4].prefixes: needs one prefix at least",
            "h.toml:25: pool[5].prefixes[0]: 11.0.0.0/8 is too large",
        ],
    );
}

#[test]
fn lac_profiles() {
    expect(
        "[[lac]]\nname = \"late\"\nhost_name = \"lac1\"\nsecret = \"\"\n[[lac]]\nname = \"none\"\n",
        &[
            "h.toml:9: lac[1]: never applies: the profile \"any\" above takes every such LAC",
            "h.toml:12: lac[1].secret: must not be empty",
            "h.toml:13: lac[2]: never applies",
            "h.toml:13: lac[2].host_name: is missing, and so is addresses",
        ],
    );
}

#[test]
fn first_matching_profile_applies() {
    let config = parse(
        "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n\
         [[lac]]\nname = \"near\"\nhost_name = \"bras*\"\naddresses = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
         [[lac]]\nname = \"far\"\nhost_name = \"bras*\"\nallowed = false\n",
    )
    .expect("no mistake");
    let of = |name: &str, address: &str| {
        config
            .lac(name.as_bytes(), address.parse().unwrap())
            .map(|lac| lac.name.as_str())
    };
    assert_eq!(of("bras1", "192.0.2.9"), Some("near"));
    assert_eq!(of("bras1", "::ffff:192.0.2.9"), Some("near"));
    assert_eq!(of("BRAS1", "2001:db8::1"), Some("near"));
    assert_eq!(of("bras1", "198.51.100.1"), Some("far"));
    assert_eq!(of("other", "192.0.2.9"), None);
}

#[test]
fn paths_and_modes() {
    expect(
        "data_dir = \"data\"\n[api]\nsocket = \"h.sock\"\nmode = \"0666\"\n[log]\nlevel = \"loud\"\n",
        &[
            "h.toml:9: node.data_dir: must be an absolute path",
            "h.toml:11: api.socket: must be an absolute path",
            "h.toml:12: api.mode: must be \"0600\"",
            "h.toml:14: log.level: must be error, warn",
        ],
    );
    let long = "x".repeat(108);
    expect(
        &format!("[api]\nsocket = \"/{long}\"\n"),
        &["h.toml:10: api.socket: is longer than the 107 octets"],
    );
}

#[test]
fn a_file_that_is_no_toml() {
    let found = parse("[node]\nname = \"hunter2\n").expect_err("an open string");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("h.toml:2: not valid TOML"), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn no_mistake_shows_a_secret() {
    let more =
        "[[user]]\nname = \"a\"\npasswrd = \"hunter2\"\n[[user]]\nname = \"b\"\npassword = [\"hunter2\"]\n";
    let found = parse(&format!("{BASE}{more}")).expect_err("two mistakes");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
}

#[test]
fn the_environment_overrides() {
    let environment = [
        ("HOLDFAST_NODE__LISTEN", "127.0.0.1:1701, [::1]:1701"),
        ("HOLDFAST_PPP__MRU", "1400"),
        ("HOLDFAST_PPP__MSS_CLAMP", "false"),
        ("HOLDFAST_L2TP__HELLO_INTERVAL", "30s"),
        ("HOLDFAST_NODE__NAME", "007"),
        ("HOLDFAST_SEED", "none of our business"),
        ("HOME", "/root"),
    ];
    let config = parse_with(BASE, &environment).expect("no mistake");
    assert_eq!(
        config.node.listen,
        ["127.0.0.1:1701".parse().unwrap(), "[::1]:1701".parse().unwrap()]
    );
    assert_eq!((config.ppp.mru, config.ppp.mss_clamp), (1400, false));
    assert_eq!(config.l2tp.hello_interval, std::time::Duration::from_secs(30));
    assert_eq!(config.node.name, "007");
}

#[test]
fn mistakes_of_the_environment_name_the_variable() {
    let environment = [
        ("HOLDFAST_PPP__MRU", "big"),
        ("HOLDFAST_PPP__MRV", "1"),
        ("HOLDFAST_NODE__LISTEN", "127.0.0.1:1701,nowhere"),
        ("HOLDFAST_USER__NAME", "x"),
        ("HOLDFAST_FOO__BAR", "x"),
    ];
    let found = parse_with(BASE, &environment).expect_err("mistakes");
    let has = |start: &str| {
        assert!(
            found.iter().any(|text| text.starts_with(start)),
            "{start} in {found:#?}"
        )
    };
    assert_eq!(found.len(), 5, "{found:#?}");
    has("environment variable HOLDFAST_PPP__MRU: ppp.mru: must be a whole number, not \"big\"");
    has("environment variable HOLDFAST_PPP__MRV: ppp.mrv: unknown key; did you mean \"mru\"?");
    has("environment variable HOLDFAST_NODE__LISTEN: node.listen[1]: must be");
    has("environment variable HOLDFAST_USER__NAME: user.name: [[user]] is a list of tables");
    has("environment variable HOLDFAST_FOO__BAR: foo.bar: there is no section [foo]");
}

#[test]
fn a_hundred_thousand_users_load() {
    let mut text = BASE.to_owned();
    for user in 0..100_000 {
        text.push_str(&format!(
            "[[user]]\nname = \"user{user}\"\npassword = \"secret{user}\"\n"
        ));
    }
    // What is quadratic would take hours.
    assert_eq!(parse(&text).expect("no mistake").users.len(), 100_000);
}

mod reload {
    use super::*;

    const USER: &str = "[[user]]\nname = \"a\"\npassword = \"hunter2\"\n";

    fn between(old: &str, new: &str) -> Reload {
        let read = |text: &str| parse(&format!("{BASE}{text}")).expect("no mistake");
        Reload::between(&read(old), &read(new))
    }

    #[test]
    fn nothing_changed() {
        let reload = between(USER, USER);
        assert!(reload.applied.is_empty() && reload.needs_restart.is_empty());
    }

    #[test]
    fn users_pools_and_profiles_take_effect() {
        let new = "[[user]]\nname = \"a\"\npassword = \"hunter3\"\n[[user]]\nname = \"b\"\npassword = \"x\"\n\
                   [[pool]]\nname = \"q\"\nprefixes = [\"10.0.0.0/24\"]\n";
        let reload = between(&format!("{USER}[[user]]\nname = \"c\"\npassword = \"x\"\n"), new);
        let expected = [
            "pool q: added",
            "user c: removed",
            "user a: password changed",
            "user b: added",
        ];
        assert_eq!(reload.applied, expected);
        assert!(reload.needs_restart.is_empty());
        assert_eq!(reload.config.users[0].password, Secret::new("hunter3"));
        assert!(!format!("{reload:?}").contains("hunter"));
    }

    #[test]
    fn secrets_and_order_of_profiles() {
        let two = |first: &str, second: &str, secret: &str| {
            let lac = |name: &str| {
                format!("[[lac]]\nname = \"{name}\"\nhost_name = \"{name}\"\nsecret = \"{secret}\"\n")
            };
            let text = format!(
                "[[pool]]\nname = \"p\"\nprefixes = [\"10.0.0.0/24\"]\n{}{}",
                lac(first),
                lac(second)
            );
            parse(&text).expect("no mistake")
        };
        let reload = Reload::between(&two("x", "y", "one"), &two("y", "x", "two"));
        assert_eq!(
            reload.applied,
            [
                "lac x: secret changed",
                "lac y: secret changed",
                "[[lac]]: order changed"
            ]
        );
    }

    #[test]
    fn levels_limits_and_timers_take_effect() {
        let reload = between(
            "",
            "[log]\nlevel = \"debug\"\n[l2tp]\nmax_sessions = 7\nhello_interval = \"30s\"\n[ppp]\nauth = [\"pap\"]\n",
        );
        let expected = [
            "log.level: info -> debug",
            "l2tp.hello_interval: 1m -> 30s",
            "l2tp.max_sessions: 200000 -> 7",
            "ppp.auth: chap-md5, ms-chap-v2, pap -> pap",
        ];
        assert_eq!(reload.applied, expected);
        assert_eq!(reload.config.l2tp.max_sessions, 7);
    }

    #[test]
    fn a_cluster_waits_for_the_next_start() {
        let reload = between("", CLUSTER);
        let expected = [
            "[cluster]: added",
            "member 1: added, 10.0.0.1:1710",
            "member 2: added, 10.0.0.2:1710",
        ];
        assert_eq!(reload.needs_restart, expected);
        assert_eq!((reload.config.cluster, reload.config.members.len()), (None, 0));
        let changed = CLUSTER
            .replace("node-1.pem", "n.pem")
            .replace("id = 2\n", "id = 2\nwitness = true\n");
        let reload = between(CLUSTER, &changed);
        let expected = [
            "cluster.certificate: /c/node-1.pem -> /c/n.pem",
            "member 2: witness: false -> true",
        ];
        assert_eq!(reload.needs_restart, expected);
        assert!(reload.applied.is_empty());
    }

    #[test]
    fn other_members_are_taken_over_and_what_this_node_is_waits() {
        let addresses = |reload: &Reload| -> Vec<String> {
            let members = reload.config.members.iter();
            members.map(|m| format!("{}={}", m.id, m.address)).collect()
        };
        let three = format!("{CLUSTER}[[member]]\nid = 3\naddress = \"10.0.0.3:1710\"\n");
        let grown = between(CLUSTER, &three);
        assert_eq!(grown.applied, ["member 3: added, 10.0.0.3:1710"]);
        assert!(grown.needs_restart.is_empty());
        assert_eq!(grown.config.members.len(), 3);
        let moved = between(&three, &CLUSTER.replace("10.0.0.2", "10.0.0.9"));
        assert_eq!(
            moved.applied,
            [
                "member 2: address: 10.0.0.2:1710 -> 10.0.0.9:1710",
                "member 3: removed"
            ]
        );
        assert_eq!(addresses(&moved), ["1=10.0.0.1:1710", "2=10.0.0.9:1710"]);
        let own = between(CLUSTER, &three.replace("10.0.0.1:", "10.0.0.8:"));
        assert_eq!(own.applied, ["member 3: added, 10.0.0.3:1710"]);
        assert!(
            own.needs_restart
                .contains(&"member 1: address: 10.0.0.1:1710 -> 10.0.0.8:1710".to_owned())
        );
        assert_eq!(addresses(&own)[0], "1=10.0.0.1:1710");
        let other = between(CLUSTER, &three.replace("c-1", "other"));
        assert!(other.applied.is_empty(), "{:?}", other.applied);
        assert_eq!(other.config.members.len(), 2);
    }

    #[test]
    fn what_was_bound_at_the_start_waits_for_the_next() {
        let reload = between(
            "",
            "id = 2\nshards = 3\nlisten = [\"127.0.0.1:1701\"]\ndata_dir = \"/d\"\n[tun]\nmtu = 1400\noffload = false\n[api]\nmode = \"0600\"\n\
             [log]\nformat = \"json\"\n",
        );
        let expected = [
            "node.id: 1 -> 2",
            "node.data_dir: /var/lib/holdfast -> /d",
            "node.listen: [0.0.0.0:1701, [::]:1701] -> [127.0.0.1:1701]",
            "node.shards: 0 -> 3",
            "tun.mtu: 1500 -> 1400",
            "tun.offload: true -> false",
            "log.format: text -> json",
            "api.mode: 0660 -> 0600",
        ];
        assert_eq!(reload.needs_restart, expected);
        assert!(reload.applied.is_empty());
        assert_eq!(reload.config.node, NodeConfig::default());
    }
}
