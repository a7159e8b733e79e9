//! Against Debian's FreeRADIUS.

use std::net::Ipv4Addr;
use std::path::Path;

use super::Test;
use super::stage::{Stage, server};
use crate::lab::error::Result;
use crate::lab::freeradius::{FreeRadius, SECRET};
use crate::simulator::{Authentication, SessionState};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "freeradius: PAP, CHAP, MS-CHAPv2",
        run: each_authentication,
    },
    Test {
        name: "freeradius: reject, challenge, another service",
        run: refusals,
    },
    Test {
        name: "freeradius: fixed address, pool by name",
        run: addresses,
    },
    Test {
        name: "freeradius: what it is told",
        run: requests,
    },
    Test {
        name: "freeradius: local users where they are to count",
        run: local_users,
    },
];

const USERS: &str = r#"
bob Cleartext-Password := "hello"
    Framed-IP-Address = 100.64.0.77,
    Reply-Message = "welcome"

ada Cleartext-Password := "secret"
    Framed-Pool = "gold"

cid Cleartext-Password := "secret"
    Framed-IP-Address = 255.255.255.254

eve Cleartext-Password := "secret"
    Service-Type = Login-User

chal Auth-Type := Accept, Response-Packet-Type := Access-Challenge
    Reply-Message = "token?"

nil Auth-Type := Reject
    Reply-Message = "unpaid"
"#;

const GOLD: &str = "[[pool]]\nname = \"gold\"\nprefixes = [\"100.65.0.0/24\"]\n";

fn open(program: &Path, more: &str) -> Result<(FreeRadius, Stage)> {
    let radius = FreeRadius::start(USERS)?;
    let sections = server(radius.auth_port, radius.acct_port, SECRET, "") + GOLD + more;
    let stage = Stage::open(program, &sections)?;
    Ok((radius, stage))
}

fn each_authentication(program: &Path) -> Result<()> {
    let (radius, stage) = open(program, "")?;
    for method in [
        Authentication::Pap,
        Authentication::Chap,
        Authentication::MsChapV2,
    ] {
        let (_simulator, session) = stage.dial("bob", "hello", method)?;
        stage.expect(session.state == SessionState::Open, || {
            format!("{method:?}: {session:?}\n{}", radius.log())
        })?;
        let (_, session) = stage.dial("bob", "hallo", method)?;
        stage.expect(session.state != SessionState::Open, || {
            format!("{method:?}, wrong password: {session:?}")
        })?;
    }
    stage.expect(stage.counter("auth_rejected_total")? == 3, || {
        "three were rejected".into()
    })?;
    let status = stage.status()?;
    let access = status.radius.iter().find(|server| server.purpose == "access");
    let right = access.is_some_and(|server| {
        (
            server.state.as_str(),
            server.accepted,
            server.rejected,
            server.dropped,
        ) == ("alive", 3, 3, 0)
    });
    stage.expect(right, || format!("the server's counts: {access:?}"))
}

fn refusals(program: &Path) -> Result<()> {
    let (_radius, stage) = open(program, "")?;
    stage.expect_refused("nil", "unpaid")?;
    stage.expect_refused("chal", "token?")?;
    stage.expect_logged(&["user=chal", "Access-Challenge"])?;
    stage.expect_refused("eve", "Authentication failed")?;
    stage.expect_logged(&["user=eve", "Service-Type"])?;
    stage.expect_refused("nobody", "Authentication failed")
}

fn addresses(program: &Path) -> Result<()> {
    let (_radius, stage) = open(program, "")?;
    let (_bob, session) = stage.dial("bob", "hello", Authentication::Pap)?;
    stage.expect(session.address == Some(Ipv4Addr::new(100, 64, 0, 77)), || {
        format!("{session:?}")
    })?;
    let (_ada, session) = stage.expect_up("ada")?;
    let octets = session.address.map(|address| address.octets());
    stage.expect(octets.is_some_and(|octets| octets[..2] == [100, 65]), || {
        format!("{session:?}")
    })?;
    let (_cid, session) = stage.expect_up("cid")?;
    let octets = session.address.map(|address| address.octets());
    stage.expect(octets.is_some_and(|octets| octets[..2] == [100, 64]), || {
        format!("{session:?}")
    })
}

fn requests(program: &Path) -> Result<()> {
    let (radius, stage) = open(
        program,
        "[aaa]\nnas_identifier = \"isp-1\"\nnas_ip_address = \"192.0.2.1\"\n",
    )?;
    let (_bob, _) = stage.dial("bob", "hello", Authentication::Pap)?;
    let requests = radius.requests();
    for expected in [
        "User-Name = \"bob\"",
        "NAS-Identifier = \"isp-1\"",
        "NAS-IP-Address = 192.0.2.1",
        "NAS-Port-Type = Virtual",
        "NAS-Port-Id = ",
        "Service-Type = Framed-User",
        "Framed-Protocol = PPP",
        "Calling-Station-Id = ",
        "Called-Station-Id = ",
        "Acct-Session-Id = ",
        "Connect-Info = ",
        "Tunnel-Type:0 = L2TP",
        "Tunnel-Medium-Type:0 = IPv4",
        "Tunnel-Client-Endpoint:0 = \"127.0.0.1\"",
        "Tunnel-Server-Endpoint:0 = \"127.0.0.1\"",
        "Tunnel-Assignment-Id:0 = ",
        "Tunnel-Client-Auth-Id:0 = \"lac0\"",
        "Tunnel-Server-Auth-Id:0 = ",
        "Acct-Tunnel-Connection = ",
        "Message-Authenticator = ",
    ] {
        stage.expect(requests.contains(expected), || {
            format!("no {expected} in\n{requests}")
        })?;
    }
    stage.expect(
        !stage.node.daemon.printed().unwrap_or_default().contains("hello"),
        || "no password in the log".into(),
    )
}

fn local_users(program: &Path) -> Result<()> {
    let local = "[[user]]\nname = \"ned\"\npassword = \"secret\"\n";
    let (radius, stage) = open(program, local)?;
    stage.expect_refused("ned", "Authentication failed")?;
    drop(stage);
    let stage = Stage::open(
        program,
        &(server(radius.auth_port, 0, SECRET, "") + GOLD + local + "[aaa]\nlocal = \"first\"\n"),
    )?;
    stage.expect_up("ned")?;
    stage.expect_up("ada")?;
    drop(stage);
    let (auth_port, fast) = (radius.auth_port, "timeout = \"200ms\"\n");
    let fallback = server(auth_port, 0, SECRET, fast)
        + GOLD
        + local
        + "[aaa]\nlocal = \"fallback\"\npatience = \"2s\"\n";
    let stage = Stage::open(program, &fallback)?;
    stage.expect_refused("ned", "Authentication failed")?;
    drop(radius);
    stage.expect_up("ned")?;
    stage.expect_refused("ada", "Authentication failed")
}
