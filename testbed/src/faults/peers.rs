//! Peers that have the wrong secret, are unknown, send garbage or want more than there is.

use holdfast::api::Fault;

use super::error::{Error, Outcome, ensure, ensure_says};
use super::site::{PATIENCE, Site, ensure_undisturbed};
use super::{Setting, datagrams, node_api};
use crate::node_config::Settings;
use crate::simulator::{Command, Plan};

const SESSIONS: u32 = 200;
const TUNNELS: u32 = 10;
/// Datagrams for nobody from each LAC's socket.
const GARBAGE: u32 = 5_000;

const WITH_SECRET: &str = "host_name = \"*\"\nsecret = \"right\"\nrequire_challenge = true";

/// The LAC has another secret than its profile.
pub fn wrong_secret(setting: &Setting) -> Result<Outcome, Error> {
    let settings = Settings {
        lac: WITH_SECRET,
        ..Settings::default()
    };
    let mut site = Site::start(setting, &settings)?;
    let right = Plan {
        secret: Some("right".into()),
        ..site.plan(1, 20)
    };
    let mut good = site.dial(&right, 20)?;
    // Found out by us, by the LAC, and by a LAC that has none.
    for (secret, trusting) in [(Some("wrong"), true), (Some("wrong"), false), (None, false)] {
        let wrong = Plan {
            secret: secret.map(str::to_owned),
            trusting,
            ..site.plan(1, 1)
        };
        let mut bad = site.simulate(&wrong)?;
        bad.dial(1, None)?;
        bad.wait_until("the refusal", PATIENCE, |report| {
            report.sessions_lost + report.sessions_failed == 1
        })?;
    }
    let printed = site.printed()?;
    ensure_says(&printed, &["wrong tunnel secret", "[[lac]]", "profile=\"any\""])?;
    ensure_says(&printed, &["the LAC does not authorize us"])?;
    let counted = site.counter("tunnel_secret_wrong_total")?;
    ensure(counted == 1, || format!("tunnel_secret_wrong_total is {counted}"))?;
    ensure_undisturbed(&mut good, 20)?;
    Ok(Outcome::Held(format!(
        "refused, named and counted ({counted}); the LAC with the right one goes on"
    )))
}

/// No profile matches the LAC's host name.
pub fn unknown_lac(setting: &Setting) -> Result<Outcome, Error> {
    let settings = Settings {
        lac: r#"host_name = "lac0""#,
        ..Settings::default()
    };
    let mut site = Site::start(setting, &settings)?;
    let known = site.plan(1, 20);
    let mut good = site.dial(&known, 20)?;
    let stranger = Plan {
        host_name: "stranger".into(),
        ..site.plan(1, 1)
    };
    let mut bad = site.simulate(&stranger)?;
    bad.dial(1, None)?;
    let report = bad.wait_until("the refusal", PATIENCE, |report| report.sessions_failed == 1)?;
    let reason = report.failures.keys().next().cloned().unwrap_or_default();
    ensure_says(&reason, &["StopCCN", "unknown LAC"])?;
    ensure_says(
        &site.printed()?,
        &["unknown LAC", "stranger", "[[lac]]", "127.0.0.1"],
    )?;
    let counted = site.counter("lac_refused_total")?;
    ensure(counted == 1, || format!("lac_refused_total is {counted}"))?;
    ensure_undisturbed(&mut good, 20)?;
    Ok(Outcome::Held(format!(
        "refused by {reason}; the log names it and the remedy"
    )))
}

/// Garbage from the address and port of living tunnels, some of it addressed to them.
pub fn garbage(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = Site::start(setting, &Settings::default())?;
    let plan = site.plan(TUNNELS, SESSIONS + 20);
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let mut sent = 0;
    for session in node_api::sessions(&site.socket())? {
        for octets in datagrams::hostile(session.tunnel_id, session.session_id) {
            simulator.ask(&Command::Inject {
                lac: 0,
                octets: datagrams::hexadecimal(&octets),
            })?;
            sent += 1;
        }
    }
    simulator.ask(&Command::InjectGarbage {
        count: GARBAGE,
        seed: setting.seed,
    })?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    simulator.dial(20, None)?;
    simulator.wait_until("new calls", PATIENCE, |report| {
        report.sessions_open == u64::from(SESSIONS + 20)
    })?;
    ensure_undisturbed(&mut simulator, SESSIONS + 20)?;
    let status = site.status()?;
    let counted = [
        "control_malformed_total",
        "control_dropped_total",
        "shard_drops_total",
    ]
    .map(|name| node_api::counter(&status, name));
    ensure(counted.iter().sum::<u64>() > u64::from(GARBAGE) / 2, || {
        format!("little of it is counted: {counted:?}")
    })?;
    let lines = site.printed()?.lines().count();
    // Rate-limited: some lines a second at each place, not one for each datagram.
    ensure(lines < 2_000, || format!("{lines} lines of log for it"))?;
    Ok(Outcome::Held(format!(
        "{SESSIONS} sessions noticed nothing of {} datagrams; {lines} lines of log",
        sent + GARBAGE
    )))
}

/// More subscribers than addresses.
pub fn full_pool(setting: &Setting) -> Result<Outcome, Error> {
    let settings = Settings {
        pool: "100.64.0.0/28",
        ..Settings::default()
    };
    let mut site = Site::start(setting, &settings)?;
    let size = site.status()?.pools.first().map_or(0, |pool| pool.size);
    let size = u32::try_from(size).unwrap_or(0);
    ensure(size > 0 && size < 16, || format!("a /28 has {size} addresses"))?;
    let plan = site.plan(1, size + 10);
    let mut simulator = site.dial(&plan, size)?;
    simulator.dial(10, None)?;
    let report = simulator.wait_until("the refusals", PATIENCE, |report| report.sessions_failed == 10)?;
    let reasons: Vec<_> = report.failures.keys().cloned().collect();
    ensure_says(&reasons.join(", "), &["No address available"])?;
    ensure_undisturbed(&mut simulator, size)?;
    ensure_says(
        &site.printed()?,
        &["subscriber refused", "pool \"default\"", "prefix"],
    )?;
    let counted = site.counter("pool_exhausted_total")?;
    ensure(counted >= 10, || format!("pool_exhausted_total is {counted}"))?;

    let shown = site.status()?.pools.first().map_or(0, |pool| pool.exhausted);
    ensure(shown >= 10, || "status does not show the exhausted pool".into())?;
    Ok(Outcome::Held(format!(
        "{size} sessions stay, 10 were refused: {}",
        reasons.join(", ")
    )))
}

/// Addresses in use that the pools take for free: the table refuses them, the newcomers get others, and nobody's is given away.
pub fn address_in_use(setting: &Setting) -> Result<Outcome, Error> {
    const BEFORE: u32 = 8;
    const FORGOTTEN: usize = 3;
    let settings = Settings {
        pool: "100.64.0.0/28",
        ..Settings::default()
    };
    let mut site = Site::new(setting, &settings)?;
    site.node()
        .daemon
        .set_environment("HOLDFAST_FAULT_INJECTION", "1");
    site.node().daemon.start()?;
    let size = site.status()?.pools.first().map_or(0, |pool| pool.size);
    let size = u32::try_from(size).unwrap_or(0);
    let plan = site.plan(2, size + 1);
    let mut simulator = site.dial(&plan, BEFORE)?;
    for session in node_api::sessions(&site.socket())?.iter().take(FORGOTTEN) {
        let address = session.address.as_ref().and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| Error::Violation("an open session shows no address".into()))?;
        node_api::inject(&site.socket(), Fault::ForgetAddress(address))?;
    }
    simulator.dial(size - BEFORE, None)?;
    simulator.wait_until("the newcomers", PATIENCE, |report| {
        report.sessions_open == u64::from(size)
    })?;
    // For the last one the pools have nothing left but what they were made to forget.
    simulator.dial(1, None)?;
    simulator.wait_until("the last one's refusal", PATIENCE, |report| {
        report.sessions_failed == 1
    })?;
    ensure_undisturbed(&mut simulator, size)?;
    let refused = site.counter("auth_address_refused_total")?;
    ensure(refused >= FORGOTTEN as u64, || {
        format!("auth_address_refused_total is {refused}")
    })?;
    let mut addresses: Vec<_> = node_api::sessions(&site.socket())?
        .into_iter()
        .filter_map(|session| session.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure(addresses.len() == size as usize, || {
        format!("{} addresses for {size} sessions", addresses.len())
    })?;
    Ok(Outcome::Held(format!(
        "{refused} guesses were refused, {size} sessions have an address each"
    )))
}
