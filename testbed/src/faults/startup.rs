//! Starts that cannot succeed, or only in part: each says why and what to do.

use std::net::UdpSocket;
use std::path::Path;

use super::Setting;
use super::error::{Error, Outcome, ensure, ensure_says};
use super::site::{Site, ensure_undisturbed};
use crate::node_config::Settings;

/// Somebody else has the port.
pub fn port_in_use(setting: &Setting) -> Result<Outcome, Error> {
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let settings = Settings {
        listen: Some(address),
        ..Settings::default()
    };
    let mut site = Site::new(setting, &settings)?;
    let said = site.refused()?;
    ensure_says(&said, &[&address.to_string(), "in use", "listen"])?;
    Ok(Outcome::Held(said.trim().replace('\n', " ")))
}

/// A second node on the same data, and one on the same port: the first one goes on.
pub fn second_daemon(setting: &Setting) -> Result<Outcome, Error> {
    let mut first = Site::start(setting, &Settings::default())?;
    let plan = first.plan(2, 20);
    let mut simulator = first.dial(&plan, 20)?;
    let data = first.node().data_folder().to_owned();
    let pid = first.node().daemon.pid().unwrap_or_default().to_string();
    let same_data = Settings {
        data_dir: Some(data.clone()),
        ..Settings::default()
    };
    let said = Site::new(setting, &same_data)?.refused()?;
    ensure_says(
        &said,
        &[&data.display().to_string(), "in use", &pid, "another folder"],
    )?;
    let address = first.node().daemon.address();
    let same_port = Settings {
        listen: Some(address),
        ..Settings::default()
    };
    let other = Site::new(setting, &same_port)?.refused()?;
    ensure_says(&other, &[&address.to_string(), "in use"])?;
    ensure_undisturbed(&mut simulator, 20)?;
    Ok(Outcome::Held(said.trim().replace('\n', " ")))
}

/// The process may not make a TUN device.
pub fn tun_denied(setting: &Setting) -> Result<Outcome, Error> {
    let launcher: &[&str] = if nix::unistd::geteuid().is_root() {
        &[
            "setpriv",
            "--bounding-set",
            "-net_admin",
            "--inh-caps",
            "-net_admin",
        ]
    } else {
        &[]
    };
    without_tun(setting, launcher, "CAP_NET_ADMIN")
}

/// There is no device to make one with.
pub fn tun_missing(setting: &Setting) -> Result<Outcome, Error> {
    let hide = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev/net && exec \"$@\"",
        "hide",
    ];
    if !Path::new("/dev/net/tun").exists() {
        return without_tun(setting, &[], "/dev/net/tun is missing");
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::Skipped("hiding /dev/net/tun needs root"));
    }
    without_tun(setting, &hide, "/dev/net/tun is missing")
}

/// With "always" the node refuses to start, with "auto" it says so in one line and serves control.
fn without_tun(setting: &Setting, launcher: &[&str], why: &str) -> Result<Outcome, Error> {
    let settings = |tun| Settings {
        tun,
        launcher: launcher.iter().map(ToString::to_string).collect(),
        ..Settings::default()
    };
    let said = Site::new(setting, &settings("always"))?.refused()?;
    ensure_says(&said, &[why, "TUN", "always", "auto"])?;

    let mut site = Site::start(setting, &settings("auto"))?;
    let plan = site.plan(2, 20);
    let mut simulator = site.dial(&plan, 20)?;
    ensure_undisturbed(&mut simulator, 20)?;
    let printed = site.printed()?;
    let lines: Vec<_> = printed.lines().filter(|line| line.contains("TUN")).collect();
    ensure(lines.len() == 1 && lines[0].contains(why), || {
        format!("not one plain line about it: {lines:#?}")
    })?;
    let warnings = site.status()?.warnings;
    ensure(warnings.iter().any(|warning| warning.contains(why)), || {
        format!("status says {warnings:?}")
    })?;
    Ok(Outcome::Held(format!(
        "always: {}; auto: 20 sessions, pings answered",
        said.trim()
    )))
}
