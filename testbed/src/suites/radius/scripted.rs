//! Against a server that does what no good server does, and against servers that are away.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use holdfast::aaa::radius::Code;

use super::Test;
use super::script::{Reply, Request, SECRET, Server};
use super::stage::{self, Stage, server};
use crate::daemon::unused_port;
use crate::lab::error::{LabError, Result};
use crate::simulator::{Authentication, SessionState};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "S-150: forged, by another secret, unknown identifier",
        run: forgeries,
    },
    Test {
        name: "S-151: without Message-Authenticator, with Proxy-State",
        run: unsigned,
    },
    Test {
        name: "S-152: a Reject behind the Accept",
        run: reject_behind_accept,
    },
    Test {
        name: "S-153: an address in use",
        run: address_in_use,
    },
    Test {
        name: "S-155: truncated attributes",
        run: truncated,
    },
    Test {
        name: "an Accept that makes no sense",
        run: nonsense,
    },
    Test {
        name: "the first server is dead",
        run: first_dead,
    },
    Test {
        name: "both servers are dead, then back",
        run: both_dead_then_back,
    },
    Test {
        name: "no server answers",
        run: nobody_answers,
    },
    Test {
        name: "a slow server",
        run: slow,
    },
    Test {
        name: "killed between Access-Request and Accept",
        run: killed_while_asking,
    },
];

/// Waits and patience short enough for a test.
const FAST: &str = "timeout = \"300ms\"\ntries = 2\ndead_time = \"2s\"\n";
const IMPATIENT: &str = "[aaa]\npatience = \"3s\"\n";
const UNAVAILABLE: &str = "Service temporarily unavailable";

fn one(port: u16, more: &str) -> String {
    server(port, 0, SECRET, FAST) + more
}

fn accept(request: &Request) -> Reply {
    request.reply(Code::ACCESS_ACCEPT, |_| {})
}

fn forgeries(program: &Path) -> Result<()> {
    let script = Box::new(|request: &Request| match request.user.as_str() {
        "secret" => vec![request.signed(Code::ACCESS_ACCEPT, "another", |builder| {
            builder.message_authenticator();
        })],
        "wait" if request.repeats == 0 => {
            let forged = request.signed(Code::ACCESS_ACCEPT, "another", |_| {});
            vec![
                forged,
                request.reply(Code::ACCESS_REJECT, |builder| {
                    builder.text(18, "the true answer");
                }),
            ]
        }
        _ => Vec::new(),
    });
    let radius = Server::start(script)?;
    let stage = Stage::open(program, &one(radius.port, IMPATIENT))?;
    stage.expect_refused("secret", UNAVAILABLE)?;
    stage.expect(stage.counter("radius_dropped_total")? > 0, || {
        "forgeries are counted".into()
    })?;
    stage.expect_logged(&["reply of a RADIUS server dropped", "is the secret the same"])?;
    stage.expect_refused("wait", "the true answer")
}

fn unsigned(program: &Path) -> Result<()> {
    let script = || {
        Box::new(|request: &Request| match request.user.as_str() {
            "proxied" => vec![request.reply(Code::ACCESS_ACCEPT, |builder| {
                builder.octets(33, b"chosen by an attacker");
            })],
            _ => vec![request.signed(Code::ACCESS_ACCEPT, SECRET, |_| {})],
        })
    };
    let radius = Server::start(script())?;
    let stage = Stage::open(program, &one(radius.port, IMPATIENT))?;
    stage.expect_refused("plain", UNAVAILABLE)?;
    stage.expect_logged(&["no Message-Authenticator"])?;
    stage.expect_refused("proxied", UNAVAILABLE)?;
    stage.expect_logged(&["Proxy-State"])?;
    drop(stage);
    let lax = one(radius.port, "require_message_authenticator = \"no\"\n") + IMPATIENT;
    Stage::open(program, &lax)?.expect_up("plain").map(drop)
}

fn reject_behind_accept(program: &Path) -> Result<()> {
    let script = Box::new(|request: &Request| {
        let reject = request.reply(Code::ACCESS_REJECT, |_| {});
        vec![accept(request), reject.after(Duration::from_millis(1))]
    });
    let radius = Server::start(script)?;
    let stage = Stage::open(program, &one(radius.port, IMPATIENT))?;
    let (mut simulator, _) = stage.expect_up("bob")?;
    let checked = simulator
        .check(Duration::from_secs(10))
        .map_err(LabError::unmet)?;
    stage.expect(checked.sessions_silent() == 0, || "the session lives on".into())
}

fn address_in_use(program: &Path) -> Result<()> {
    let address = Ipv4Addr::new(100, 64, 0, 9);
    let script = Box::new(move |request: &Request| {
        vec![request.reply(Code::ACCESS_ACCEPT, |builder| {
            builder.ipv4(8, address);
        })]
    });
    let radius = Server::start(script)?;
    let stage = Stage::open(program, &one(radius.port, IMPATIENT))?;
    let (mut first, session) = stage.expect_up("bob")?;
    stage.expect(session.address == Some(address), || format!("{session:?}"))?;
    stage.expect_refused("ada", "No address available")?;
    let (_second, session) = stage.expect_up("bob")?;
    stage.expect(session.address == Some(address), || format!("{session:?}"))?;
    let gone = first.wait_until(
        "the end of the stale session",
        Duration::from_secs(20),
        |report| report.sessions_open == 0,
    );
    gone.map(drop).map_err(LabError::unmet)
}

fn truncated(program: &Path) -> Result<()> {
    let script = Box::new(|request: &Request| {
        let attributes: &[u8] = match request.user.as_str() {
            "zero" => &[8, 0, 100, 64],
            "one" => &[8, 1, 100, 64],
            _ => &[8, 6, 100, 64],
        };
        vec![Reply::with_attributes(request, Code::ACCESS_ACCEPT, attributes)]
    });
    let radius = Server::start(script)?;
    let lax = one(radius.port, "require_message_authenticator = \"no\"\n") + IMPATIENT;
    let stage = Stage::open(program, &lax)?;
    for user in ["zero", "one", "beyond"] {
        stage.expect_refused(user, UNAVAILABLE)?;
    }
    stage.expect_logged(&[
        "reply of a RADIUS server dropped",
        "Framed-IP-Address (8) at octet 20",
    ])
}

fn nonsense(program: &Path) -> Result<()> {
    let script = Box::new(|request: &Request| {
        vec![request.reply(Code::ACCESS_ACCEPT, |builder| {
            match request.user.as_str() {
                "rate" => builder.vendor(14122, 8, &[0; 4]),
                "timeout" => builder.octets(27, &[1]),
                "route" => builder.text(22, "everywhere"),
                "pool" => builder.text(88, "no-such-pool"),
                _ => builder,
            };
        })]
    });
    let radius = Server::start(script)?;
    let stage = Stage::open(program, &one(radius.port, IMPATIENT))?;
    for (user, attribute) in [
        ("rate", "WISPr attribute 8 (vendor 14122)"),
        ("timeout", "Session-Timeout (27)"),
        ("route", "Framed-Route (22)"),
    ] {
        stage.expect_refused(user, "Authentication failed")?;
        stage.expect_logged(&[&format!("user={user}"), "127.0.0.1", attribute])?;
    }
    stage.expect(stage.counter("radius_unusable_total")? == 3, || {
        "they are counted".into()
    })?;
    stage.expect_refused("pool", "No address available")?;
    stage.expect_logged(&["user=pool", "no-such-pool"])?;
    stage.expect_up("bob").map(drop)
}

fn first_dead(program: &Path) -> Result<()> {
    let nobody = unused_port().map_err(|error| LabError::io("port", error))?;
    let radius = Server::start(Box::new(|request: &Request| vec![accept(request)]))?;
    let sections = server(nobody, 0, SECRET, FAST) + &server(radius.port, 0, SECRET, FAST);
    let stage = Stage::open(program, &sections)?;
    stage.expect_up("bob")?;
    let states: Vec<String> = stage
        .status()?
        .radius
        .iter()
        .map(|server| server.state.clone())
        .collect();
    stage.expect(states == ["dead", "alive"], || format!("{states:?}"))?;
    stage.expect_logged(&["RADIUS server: dead"])?;
    stage.expect_up("ada").map(drop)
}

fn both_dead_then_back(program: &Path) -> Result<()> {
    let port = || unused_port().map_err(|error| LabError::io("port", error));
    let (first, second) = (port()?, port()?);
    let sections =
        server(first, 0, SECRET, FAST) + &server(second, 0, SECRET, FAST) + "[aaa]\npatience = \"20s\"\n";
    let stage = Stage::open(program, &sections)?;
    let mut simulator = stage.subscribers(1, "bob", "secret", Authentication::Pap)?;
    let back = thread::spawn(move || {
        thread::sleep(Duration::from_secs(3));
        let start = |port| Server::start_on(port, Box::new(|request: &Request| vec![accept(request)]));
        Ok::<_, LabError>((start(first)?, start(second)?))
    });
    let session = stage::dial(&mut simulator)?;
    let _servers = back.join().expect("it does not panic")?;
    stage.expect(session.state == SessionState::Open, || format!("{session:?}"))?;
    let alive = stage
        .status()?
        .radius
        .iter()
        .any(|server| server.state == "alive");
    stage.expect(alive, || "one is alive again".into())
}

/// A failure for now is none of the subscriber's.
fn nobody_answers(program: &Path) -> Result<()> {
    let nobody = unused_port().map_err(|error| LabError::io("port", error))?;
    let stage = Stage::open(program, &one(nobody, IMPATIENT))?;
    stage.expect_refused("bob", UNAVAILABLE)?;
    stage.expect_logged(&["user=bob", "no RADIUS server has answered"])?;
    stage.expect(stage.counter("auth_unavailable_total")? == 1, || {
        "it is counted".into()
    })?;
    stage.expect(stage.counter("auth_rejected_total")? == 0, || {
        "nobody was rejected".into()
    })
}

/// While a server thinks, the subscriber repeats himself and the request is sent again; it stays one question.
fn slow(program: &Path) -> Result<()> {
    let script = Box::new(|request: &Request| match request.repeats {
        0 => vec![accept(request).after(Duration::from_secs(5))],
        _ => Vec::new(),
    });
    let radius = Server::start(script)?;
    let sections = server(radius.port, 0, SECRET, "timeout = \"1s\"\ntries = 4\n");
    let stage = Stage::open(program, &sections)?;
    stage.expect_up("bob")?;
    let requests = radius.requests();
    let same = requests.iter().all(|request| *request == requests[0]);
    stage.expect(same && requests.len() > 1, || {
        format!("{} requests, all alike: {same}", requests.len())
    })
}

/// The node dies while a server is being asked. The next one asks anew, and grants once.
fn killed_while_asking(program: &Path) -> Result<()> {
    let answers = Arc::new(AtomicBool::new(false));
    let script = {
        let answers = answers.clone();
        Box::new(move |request: &Request| match answers.load(Ordering::Relaxed) {
            true => vec![request.reply(Code::ACCESS_ACCEPT, |builder| {
                builder.ipv4(8, Ipv4Addr::new(100, 64, 0, 9));
            })],
            false => Vec::new(),
        })
    };
    let radius = Server::start(script)?;
    let mut stage = Stage::open(program, &server(radius.port, 0, SECRET, ""))?;
    let mut simulator = stage.subscribers(1, "bob", "secret", Authentication::Pap)?;
    simulator.dial(1, None).map_err(LabError::unmet)?;
    while radius.requests().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    stage.node.daemon.kill().map_err(LabError::unmet)?;
    answers.store(true, Ordering::Relaxed);
    stage.node.daemon.start().map_err(LabError::unmet)?;
    let up = simulator.wait_until("the session", Duration::from_secs(60), |report| {
        report.sessions_open == 1
    });
    up.map_err(LabError::unmet)?;
    let status = stage.status()?;
    let accepted = status.radius.first().map(|server| server.accepted);
    stage.expect(accepted == Some(1), || format!("granted once: {accepted:?}"))?;
    let requests = radius.requests();
    let other = requests
        .iter()
        .any(|request| request[4..20] != requests[0][4..20]);
    stage.expect(other, || "another process asks with another authenticator".into())
}
