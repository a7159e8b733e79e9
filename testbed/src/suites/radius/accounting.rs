//! What FreeRADIUS hears of sessions.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Test;
use super::stage::{Stage, server};
use crate::lab::error::{LabError, Result};
use crate::lab::freeradius::{FreeRadius, Record, SECRET};
use crate::simulator::{Command, HangUp, Simulator};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "freeradius: Start, Interim and Stop with the octets that were sent",
        run: octets,
    },
    Test {
        name: "freeradius: S-160, dead for a while and the node restarted meanwhile",
        run: dead_for_a_while,
    },
];

/// The shortest interim interval is a minute.
const LIMIT: Duration = Duration::from_secs(120);
/// An IP packet with a ping of the simulator's.
const PING_OCTETS: u64 = 20 + 8 + 32;
const LOOK: Duration = Duration::from_millis(100);

const USERS: &str = r#"
bob Cleartext-Password := "secret"
    Class = 0x676f6c64,
    Acct-Interim-Interval = 60
"#;

/// The records of this Acct-Status-Type, repetitions included.
fn records(radius: &FreeRadius, status: &str) -> Vec<Record> {
    let mut records = radius.accounting();
    records.retain(|record| record["Acct-Status-Type"] == status);
    records
}

fn until_heard(stage: &Stage, radius: &FreeRadius, status: &str) -> Result<Record> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(record) = records(radius, status).pop() {
            return Ok(record);
        }
        let in_time = Instant::now() < deadline;
        stage.expect(in_time, || format!("no {status} in\n{}", radius.records()))?;
        std::thread::sleep(LOOK);
    }
}

fn number(record: &Record, name: &str) -> Result<u64> {
    let value = record.get(name).and_then(|value| value.parse().ok());
    value.ok_or_else(|| LabError::unmet(format!("no {name} in {record:?}")))
}

/// Octets with their Gigawords.
fn octets_of(record: &Record, way: &str) -> Result<u64> {
    let low = number(record, &format!("Acct-{way}-Octets"))?;
    Ok(number(record, &format!("Acct-{way}-Gigawords"))? << 32 | low)
}

/// Pings until some are answered, and then until all are; how many that were.
fn ping(simulator: &mut Simulator) -> Result<u64> {
    let set = |simulator: &mut Simulator, interval_ms| {
        let command = Command::Ping {
            interval_ms,
            host: None,
            fast_sessions: 0,
            fast_interval_us: 0,
        };
        simulator.ask(&command).map(drop).map_err(LabError::unmet)
    };
    set(simulator, 10)?;
    let some = simulator.wait_until("answers", LIMIT, |report| report.pings_answered >= 100);
    some.map_err(LabError::unmet)?;
    set(simulator, 0)?;
    let all = simulator.wait_until("all answers", LIMIT, |report| {
        report.pings_answered == report.pings_sent
    });
    all.map_err(LabError::unmet)?;
    Ok(simulator.report().map_err(LabError::unmet)?.pings_sent)
}

fn hang_up(simulator: &mut Simulator) -> Result<()> {
    let command = Command::HangUp {
        from: 0,
        sessions: None,
        by: HangUp::Terminate,
    };
    simulator.ask(&command).map_err(LabError::unmet)?;
    let gone = simulator.wait_until("the end of the session", LIMIT, |report| {
        report.sessions_open == 0
    });
    gone.map(drop).map_err(LabError::unmet)
}

/// A record tells how many pings went each way.
fn expect_traffic(stage: &Stage, record: &Record, pings: u64) -> Result<()> {
    for way in ["Input", "Output"] {
        let (octets, packets) = (
            octets_of(record, way)?,
            number(record, &format!("Acct-{way}-Packets"))?,
        );
        stage.expect((octets, packets) == (pings * PING_OCTETS, pings), || {
            format!("{pings} pings each way: {record:?}")
        })?;
    }
    Ok(())
}

fn octets(program: &Path) -> Result<()> {
    let radius = FreeRadius::start(USERS)?;
    let stage = Stage::open(program, &server(radius.auth_port, radius.acct_port, SECRET, ""))?;
    let (mut bob, _) = stage.expect_up("bob")?;
    let start = until_heard(&stage, &radius, "Start")?;
    let pings = ping(&mut bob)?;
    let interim = until_heard(&stage, &radius, "Interim-Update")?;
    expect_traffic(&stage, &interim, pings)?;
    hang_up(&mut bob)?;
    let stop = until_heard(&stage, &radius, "Stop")?;
    expect_traffic(&stage, &stop, pings)?;
    let expected = [
        ("User-Name", "bob"),
        ("Class", "0x676f6c64"),
        ("Acct-Authentic", "RADIUS"),
        ("Framed-Protocol", "PPP"),
        ("Tunnel-Type:0", "L2TP"),
    ];
    for record in [&start, &interim, &stop] {
        for (name, value) in expected {
            stage.expect(record.get(name).is_some_and(|found| found == value), || {
                format!("no {name} = {value} in {record:?}")
            })?;
        }
        for same in [
            "Acct-Session-Id",
            "NAS-Identifier",
            "NAS-Port-Id",
            "Framed-IP-Address",
        ] {
            let is_same = record.contains_key(same) && record.get(same) == start.get(same);
            stage.expect(is_same, || format!("{same}: {record:?} and {start:?}"))?;
        }
    }
    let cause = stop.get("Acct-Terminate-Cause").map(String::as_str);
    stage.expect(cause == Some("User-Request"), || format!("{stop:?}"))?;
    let kinds = ["Start", "Stop", "Accounting-On"].map(|status| records(&radius, status).len());
    stage.expect(kinds == [1, 1, 1], || radius.records())
}

fn dead_for_a_while(program: &Path) -> Result<()> {
    let radius = FreeRadius::start(USERS)?;
    let sections = server(
        radius.auth_port,
        radius.acct_port,
        SECRET,
        "timeout = \"200ms\"\n",
    );
    let mut stage = Stage::open(program, &sections)?;
    let (mut bob, _) = stage.expect_up("bob")?;
    until_heard(&stage, &radius, "Start")?;
    radius.signal(Signal::SIGSTOP)?;
    let pings = ping(&mut bob)?;
    hang_up(&mut bob)?;
    stage.node.daemon.terminate().map_err(LabError::unmet)?;
    stage.node.daemon.start().map_err(LabError::unmet)?;
    stage.expect(records(&radius, "Stop").is_empty(), || radius.records())?;
    radius.signal(Signal::SIGCONT)?;
    let stop = until_heard(&stage, &radius, "Stop")?;
    expect_traffic(&stage, &stop, pings)?;
    let is_same = |pair: &[Record]| pair[0].get("Acct-Input-Octets") == pair[1].get("Acct-Input-Octets");
    stage.expect(records(&radius, "Stop").windows(2).all(is_same), || {
        radius.records()
    })
}
