//! xl2tpd and pppd on a real kernel, dialled in beside the simulated LACs: another opinion on whether anybody notices.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::bed::{ANYCAST, CORE};
use super::error::Result;
use crate::lab::LabError;
use crate::lab::dialup::{Client, Dialup, Interface};
use crate::lab::error::expect_that;
use crate::lab::guest::Guest;
use crate::lab::image::Image;
use crate::lab::namespace::Namespace;

/// The guest's network, behind the LACs' namespace.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 1);
const TAP: &str = "guest0";

/// A guest with one session.
#[derive(Debug)]
pub struct RealClient {
    guest: Guest,
    interface: Interface,
    /// What a renegotiation would add to.
    configure_requests: usize,
}

impl RealClient {
    /// Boots the guest in the LACs' namespace, below `folder`, and dials as `user`, whose password is the name, with further options
    /// of pppd's.
    pub fn connect(
        image: &Image,
        lac: &Namespace,
        folder: &Path,
        user: &str,
        options: &[&str],
    ) -> Result<Self> {
        // A disturbed client before this one had it.
        let _ = lac.ip(&format!("link del {TAP}"));
        let _ = Self::set_heard(lac, true);
        let _ = fs::remove_dir_all(folder.join("guest"));
        lac.ip(&format!("tuntap add {TAP} mode tap"))?;
        lac.ip(&format!("addr add {GATEWAY}/24 dev {TAP}"))?;
        lac.ip(&format!("link set {TAP} up"))?;
        let guest = Guest::boot(image, lac, TAP, &folder.join("guest"), ADDRESS)?;
        guest.check(&format!(
            "ip addr add {ADDRESS}/24 dev eth0; ip route add {ANYCAST} via {GATEWAY}"
        ))?;
        let mut dialup = Dialup::new(ANYCAST, user, user);
        dialup
            .ppp_options
            .extend(options.iter().map(|option| (*option).to_owned()));
        let (_, interface) = Client::connect(&guest, &dialup)?;
        let mut client = Self {
            guest,
            interface,
            configure_requests: 0,
        };
        client.ping()?;
        client.configure_requests = client.count_configure_requests();
        Ok(client)
    }

    /// Fails if the interface went down or was negotiated anew, or if nothing gets through.
    pub fn expect_undisturbed(&self) -> Result<()> {
        let events = self.guest.journal_since(0);
        let ppp: Vec<_> = events.iter().filter(|line| line.starts_with("ppp ")).collect();
        expect_that(ppp.len() == 1, || {
            format!("{} should have come up once: {ppp:?}", self.interface.name)
        })?;
        let requests = self.count_configure_requests();
        expect_that(requests == self.configure_requests, || {
            format!(
                "{} Configure-Requests after it was up",
                requests - self.configure_requests
            )
        })?;
        self.ping()
    }

    /// The address that it was given.
    pub fn address(&self) -> Ipv4Addr {
        self.interface.local
    }

    /// The machine that it runs on.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Its PPP interface.
    pub fn interface(&self) -> &str {
        &self.interface.name
    }

    /// What the client sends is lost behind its network from here on, or arrives again.
    pub fn set_heard(lac: &Namespace, heard: bool) -> Result<()> {
        let order = if heard { "del" } else { "add" };
        lac.ip(&format!("rule {order} from {ADDRESS} blackhole"))?;
        Ok(())
    }

    /// Lets a host of this address stand behind the client.
    pub fn put_behind(&self, host: Ipv4Addr) -> Result<()> {
        self.guest.check(&format!("ip addr add {host}/32 dev lo"))?;
        Ok(())
    }

    /// Whether the core answers a host behind the client.
    pub fn ping_from(&self, host: Ipv4Addr) -> Result<()> {
        self.guest
            .check(&format!(
                "ip route replace {CORE} dev {}; ping -c 3 -i 0.2 -W 2 -I {host} {CORE}",
                self.interface.name
            ))
            .map_err(|error| LabError::unmet(format!("the ping from behind the real client: {error}")))?;
        Ok(())
    }

    /// Ends the call.
    pub fn hang_up(&self) -> Result<()> {
        self.guest.check("echo 'd holdfast' >/run/xl2tpd/control")?;
        Ok(())
    }

    fn ping(&self) -> Result<()> {
        let script = format!("ping -c 3 -i 0.2 -W 2 -I {} {CORE}", self.interface.name);
        self.guest
            .check(&script)
            .map_err(|error| LabError::unmet(format!("the real client's ping: {error}")))?;
        Ok(())
    }

    fn count_configure_requests(&self) -> usize {
        self.guest.read("pppd.log").matches(" ConfReq ").count()
    }
}
