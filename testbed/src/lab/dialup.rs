//! xl2tpd and pppd in a guest: configured, dialled, hung up, watched.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::error::{LabError, Result, expect_that};
use super::guest::Guest;

/// How long a client may take until its interface is up.
pub const UP_LIMIT: Duration = Duration::from_secs(20);
const HANG_UP_LIMIT: Duration = Duration::from_secs(15);

/// How a client dials.
#[derive(Debug, Clone)]
pub struct Dialup {
    pub lns: Ipv4Addr,
    pub user: String,
    pub password: String,
    /// The tunnel secret.
    pub secret: Option<String>,
    /// Whether xl2tpd challenges the LNS; it answers a challenge in any case.
    pub challenge: bool,
    /// Octets; MRU and MTU of the client.
    pub mru: u16,
    /// xl2tpd's UDP port.
    pub port: u16,
    /// Further options of pppd, one a line.
    pub ppp_options: Vec<String>,
}

impl Dialup {
    /// A client with the usual options.
    pub fn new(lns: Ipv4Addr, user: &str, password: &str) -> Self {
        Self {
            lns,
            user: user.to_owned(),
            password: password.to_owned(),
            secret: None,
            challenge: false,
            mru: 1400,
            port: 1701,
            ppp_options: Vec::new(),
        }
    }
}

/// An interface that pppd has brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub local: Ipv4Addr,
    pub peer: Ipv4Addr,
}

/// The client software in a guest.
#[derive(Debug)]
pub struct Client<'a> {
    pub guest: &'a Guest,
    /// The journal's length at the last dialling: events before do not count.
    since: usize,
}

impl<'a> Client<'a> {
    /// Writes the configuration and starts xl2tpd, which does not dial yet.
    pub fn start(guest: &'a Guest, dialup: &Dialup) -> Result<Self> {
        guest.write("xl2tpd.conf", &tunnel_configuration(guest.address, dialup))?;
        guest.write("ppp.options", &ppp_options(dialup))?;
        guest.write(
            "l2tp-secrets",
            &format!("* * {}\n", dialup.secret.as_deref().unwrap_or_default()),
        )?;
        guest.check(&format!(
            "printf '%s\\n' '\"{}\" * \"{}\" *' >/etc/ppp/chap-secrets; cp /etc/ppp/chap-secrets /etc/ppp/pap-secrets\n\
             chmod 600 /etc/ppp/*-secrets; rm -f /run/xl2tpd/control\n\
             xl2tpd -D -c /share/xl2tpd.conf -p /run/xl2tpd.pid -C /run/xl2tpd/control >>/share/xl2tpd.log 2>&1 &\n\
             until [ -p /run/xl2tpd/control ]; do sleep 0.05; done",
            dialup.user, dialup.password
        ))?;
        Ok(Self { guest, since: 0 })
    }

    /// Starts a client and dials; returns once its interface is up.
    pub fn connect(guest: &'a Guest, dialup: &Dialup) -> Result<(Self, Interface)> {
        let mut client = Self::start(guest, dialup)?;
        client.dial()?;
        let interface = client.wait_up()?;
        Ok((client, interface))
    }

    /// Tells xl2tpd to dial.
    pub fn dial(&mut self) -> Result<()> {
        self.since = self.guest.journal_length();
        self.guest
            .check("echo 'c holdfast' >/run/xl2tpd/control")
            .map(drop)
    }

    /// Waits for the interface of the last dialling.
    pub fn wait_up(&self) -> Result<Interface> {
        self.guest
            .wait_for("the client's PPP interface", UP_LIMIT, self.since, |line| {
                interface_of(line, "up")
            })
            .map_err(|error| LabError::unmet(format!("{error}\n{}", self.logs())))
    }

    /// As [`Self::wait_up`], of IPV6CP: the interface's name and the LNS's link-local address.
    pub fn wait_ipv6_up(&self) -> Result<(String, Ipv6Addr)> {
        self.guest
            .wait_for("the client's IPv6", UP_LIMIT, self.since, |line| {
                let mut words = line.strip_prefix("ppp6 up")?.split_whitespace();
                let name = words.next()?.to_owned();
                Some((name, words.nth(1)?.parse().ok()?))
            })
            .map_err(|error| LabError::unmet(format!("{error}\n{}", self.logs())))
    }

    /// Waits for the end of the interface of the last dialling.
    pub fn wait_down(&self, limit: Duration) -> Result<()> {
        self.guest
            .wait_for("the client's interface going down", limit, self.since, |line| {
                interface_of(line, "down").map(drop)
            })
            .map_err(|error| LabError::unmet(format!("{error}\n{}", self.logs())))
    }

    /// Tells xl2tpd to hang up and waits for pppd to take the interface down.
    pub fn hang_up(&self) -> Result<()> {
        self.guest.check("echo 'd holdfast' >/run/xl2tpd/control")?;
        self.wait_down(HANG_UP_LIMIT)?;
        // pppd reports the interface before it has ended; the next dialling needs it gone.
        self.guest
            .check("while pidof pppd >/dev/null; do sleep 0.05; done")
            .map(drop)
    }

    /// Fails if the interface has gone down or come up anew since the last dialling brought it up.
    pub fn expect_undisturbed(&self) -> Result<()> {
        let events = self.guest.journal_since(self.since);
        let ppp: Vec<_> = events.iter().filter(|line| line.starts_with("ppp ")).collect();
        expect_that(ppp.len() == 1, || {
            format!(
                "the client's interface should have come up once and stayed; instead {ppp:?}\n{}",
                self.logs()
            )
        })
    }

    /// How many PPP packets of a kind, such as `sent [LCP ConfReq`, pppd has logged.
    pub fn count_in_ppp_log(&self, pattern: &str) -> usize {
        self.guest.read("pppd.log").matches(pattern).count()
    }

    /// All Configure-Requests seen so far, in either direction: they tell a renegotiation.
    pub fn configure_requests(&self) -> usize {
        self.count_in_ppp_log(" ConfReq ")
    }

    /// The index of an interface, which changes when it is made anew.
    pub fn interface_index(&self, interface: &Interface) -> Result<u32> {
        let text = self
            .guest
            .check(&format!("cat /sys/class/net/{}/ifindex", interface.name))?;
        text.trim()
            .parse()
            .map_err(|_| LabError::unmet(format!("{text:?} is no interface index")))
    }

    /// The ends of the client's logs, for the report of a failure.
    pub fn logs(&self) -> String {
        let tail = |file: &str| {
            let text = self.guest.read(file);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        format!(
            "-- pppd.log\n{}\n-- xl2tpd.log\n{}",
            tail("pppd.log"),
            tail("xl2tpd.log")
        )
    }
}

/// Reads a line that `ip-up` or `ip-down` has written.
fn interface_of(line: &str, event: &str) -> Option<Interface> {
    let mut words = line.strip_prefix("ppp ")?.strip_prefix(event)?.split_whitespace();
    let name = words.next()?.to_owned();
    Some(Interface {
        name,
        local: words.next()?.parse().ok()?,
        peer: words.next()?.parse().ok()?,
    })
}

fn tunnel_configuration(own: Ipv4Addr, dialup: &Dialup) -> String {
    let mut text = format!(
        "[global]\nport = {}\nlisten-addr = {own}\naccess control = no\n\
         debug tunnel = yes\ndebug state = yes\nauth file = /share/l2tp-secrets\n\n\
         [lac holdfast]\nlns = {}\nautodial = no\nredial = no\nppp debug = yes\nlength bit = yes\n\
         pppoptfile = /share/ppp.options\n",
        dialup.port, dialup.lns
    );
    if dialup.challenge {
        text.push_str("challenge = yes\n");
    }
    text
}

fn ppp_options(dialup: &Dialup) -> String {
    let Dialup {
        user, password, mru, ..
    } = dialup;
    let mut text = format!(
        "debug\nlogfile /share/pppd.log\nipparam client\nnoauth\nnoipdefault\nipcp-accept-local\nipcp-accept-remote\n\
         user \"{user}\"\npassword \"{password}\"\nmtu {mru}\nmru {mru}\nlcp-restart 1\nipcp-restart 1\n\
         lcp-echo-interval 0\ndefaultroute\n"
    );
    for option in &dialup.ppp_options {
        writeln!(text, "{option}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_pppd_are_read() {
        let line = "ppp up ppp0 100.64.0.2 100.64.0.1 client";
        let interface = Interface {
            name: "ppp0".into(),
            local: Ipv4Addr::new(100, 64, 0, 2),
            peer: Ipv4Addr::new(100, 64, 0, 1),
        };
        assert_eq!(interface_of(line, "up"), Some(interface));
        assert_eq!(interface_of(line, "down"), None);
        assert_eq!(interface_of("done 3 0", "up"), None);
    }
}
