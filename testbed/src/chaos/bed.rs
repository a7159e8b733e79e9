//! The standing lab: LACs, two routers, the nodes between them, a host in the core, and the network between the nodes.
//!
//! ```text
//!   lac ---- r1 ---+--- n1 ---+--- r2 ---- core          10.1.I.0/24 r1 - nI, 10.2.I.0/24 r2 - nI, 10.30.0.0/24 r1 - r2
//!             |    +--- n2 ---+    |                     10.10.0.0/24 lac - r1, 10.20.0.0/24 r2 - core
//!             |    +--- n3 ---+    |                     10.10.1.1 to .10 the LACs, 10.77.0.I the nodes among themselves
//!             +--------------------+
//! ```
//!
//! BIRD with BFD on the routers and beside each node; both routers spread over all nodes that announce (ECMP).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::error::{Error, Result};
use super::membership;
use super::mesh::{self, Mesh};
use super::node::{Common, Node, View};
use super::relay::Relay;
use super::scenarios::radius;
use super::slow_disk;
use super::speaker::{self, Speaker};
use crate::lab::freeradius::FreeRadius;
use crate::lab::namespace::Namespace;
use crate::lab::process::ProcessGroup;
use crate::node_config;
use crate::simulator::Plan;

/// The address that LACs see.
pub const ANYCAST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The subscribers' addresses.
pub const POOL: &str = "100.64.0.0/16";
/// The host in the core that answers the subscribers' pings.
pub const CORE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 2);
/// The same where there is IPv6.
pub const CORE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 2);
/// The links between router 2 and the nodes.
const NODES6: &str = "fd00:2::/32";
/// The first LAC; the others follow.
pub const FIRST_LAC: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 1);
pub const LACS: u16 = 10;
/// Nodes that have a certificate and are no members at first.
const SPARE: u8 = 3;
/// The number, on the network between the nodes, of the place for strangers.
const STRANGERS_ADDRESS: u8 = 250;
/// How long the routers may take to see what they are to see.
const ROUTES_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How to build a bed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `holdfast` program.
    pub program: PathBuf,
    /// The stand-in for a later release, where one is wanted.
    pub next_program: Option<PathBuf>,
    pub nodes: u8,
    /// The last of them is a witness.
    pub witness: bool,
    pub bfd_ms: u32,
    /// FreeRADIUS in the core judges the subscribers, who have IPv6 if they want it.
    pub radius: bool,
    pub seed: u64,
}

/// The lab; dropped, everything is gone. The order of the fields is that of their end.
#[derive(Debug)]
pub struct Bed {
    pub nodes: BTreeMap<u8, Node>,
    routers: [Speaker; 2],
    pub mesh: Mesh,
    /// A namespace on the network between the nodes for who does not belong there, and what runs in it.
    outside: Option<Outside>,
    pub lac: Namespace,
    r1: Namespace,
    r2: Namespace,
    /// The server, and what stands before it.
    radius: Option<(FreeRadius, Relay)>,
    pub core: Namespace,
    common: Common,
    next_program: Option<PathBuf>,
    /// The sections of each node that has a certificate, with all of them as members.
    sections: BTreeMap<u8, String>,
    folder: Folder,
}

/// Where strangers are.
#[derive(Debug)]
struct Outside {
    stranger: Option<ProcessGroup>,
    /// How many there were.
    serial: u32,
    namespace: Namespace,
}

/// A folder that goes with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bed {
    /// Builds everything and starts the nodes.
    pub fn build(settings: &Settings) -> Result<Self> {
        let [lac, r1, r2, core] = ["lac", "r1", "r2", "core"].map(host);
        let (lac, r1, r2, core) = (lac?, r1?, r2?, core?);
        let folder = std::env::temp_dir().join(lac.name());
        fs::create_dir_all(&folder)?;
        link(&lac, "r1", "10.10.0.2/24", &r1, "lac", "10.10.0.1/24")?;
        link(&core, "r2", &format!("{CORE}/24"), &r2, "core", "10.20.0.1/24")?;
        lac.ip("route add local 10.10.1.0/24 dev lo")?;
        lac.ip("route add default via 10.10.0.1")?;
        r1.ip("route add 10.10.0.0/16 via 10.10.0.2")?;
        // Each router knows the other's side through it.
        link(&r1, "r2", "10.30.0.1/24", &r2, "r1", "10.30.0.2/24")?;
        r1.ip("route add default via 10.30.0.2")?;
        r2.ip("route add 10.10.0.0/16 via 10.30.0.1")?;
        core.ip("route add default via 10.20.0.1")?;
        // Flows of a LAC by their ports, flows to a subscriber by his address.
        sysctl(&r1, "fib_multipath_hash_policy", "1")?;
        sysctl(&r2, "fib_multipath_hash_policy", "0")?;
        let ipv6 = settings.radius;
        if ipv6 {
            prepare_ipv6(&r2, &core)?;
        }
        let start = |namespace: &Namespace, number: u8| {
            let mut configuration = speaker::router(number, settings.bfd_ms);
            if ipv6 && number == 2 {
                configuration += &speaker::router6(number, NODES6);
            }
            Speaker::start(namespace, &folder, &format!("r{number}"), &configuration)
        };
        let radius = match settings.radius {
            true => {
                // A node may ask from its address on the other side.
                r2.ip("route add 10.1.0.0/16 via 10.30.0.1")?;
                let server = FreeRadius::start_in(&core, &radius::users())?;
                Some((server, Relay::start(&core, CORE)?))
            }
            false => None,
        };
        let mut bed = Self {
            nodes: BTreeMap::new(),
            routers: [start(&r1, 1)?, start(&r2, 2)?],
            mesh: Mesh::start(settings.seed)?,
            outside: None,
            lac,
            r1,
            r2,
            radius,
            core,
            common: Common {
                program: settings.program.clone(),
                folder: folder.clone(),
                bfd_ms: settings.bfd_ms,
                slow_disk: slow_disk::compile(&folder)?,
                ipv6,
                sections: settings.radius.then(radius::sections).unwrap_or_default(),
            },
            next_program: settings.next_program.clone(),
            sections: BTreeMap::new(),
            folder: Folder(folder),
        };
        let ids: Vec<u8> = (1..=settings.nodes).collect();
        let witness = ids.last().copied().filter(|_| settings.witness);
        if ids.len() > 1 {
            let certified = (1..=settings.nodes + SPARE).map(|id| (id, mesh::address(id)));
            let certified = certified.collect();
            bed.sections = membership::sections(&bed.common, "cluster", &certified, witness.as_slice())?;
        }
        for id in &ids {
            let sections = bed.sections_of(*id, &ids, false);
            bed.add_node(*id, &sections, witness == Some(*id))?;
        }
        for node in bed.nodes.values_mut() {
            node.spawn()?;
        }
        for node in bed.nodes.values_mut() {
            node.wait_ready()?;
        }
        bed.wait_routes()?;
        Ok(bed)
    }

    /// What the configuration of a node says of the cluster when these are its members.
    fn sections_of(&self, id: u8, members: &[u8], join: bool) -> String {
        let all = self.sections.get(&id).map_or("", String::as_str);
        membership::restricted(all, members, join)
    }

    /// All nodes' configurations name these members from the next start on.
    pub fn set_members(&self, members: &[u8]) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|(id, node)| node.configure(&self.sections_of(*id, members, false)))
    }

    /// Starts one more node, which the cluster does not know yet; it waits to be added.
    pub fn start_newcomer(&mut self, id: u8, members: &[u8]) -> Result<()> {
        let sections = self.sections_of(id, members, true);
        self.add_node(id, &sections, false)?;
        self.node(id)?.spawn()
    }

    /// A namespace with its links for one more node, and the node, not started.
    fn add_node(&mut self, id: u8, sections: &str, witness: bool) -> Result<()> {
        let namespace = host(&format!("n{id}"))?;
        for (router, number) in [(&self.r1, 1), (&self.r2, 2)] {
            let far = format!("10.{number}.{id}.1/24");
            let near = format!("10.{number}.{id}.2/24");
            link(
                router,
                &format!("n{id}"),
                &far,
                &namespace,
                &format!("r{number}"),
                &near,
            )?;
        }
        if self.common.ipv6 {
            sysctl(&namespace, "../ipv6/conf/all/forwarding", "1")?;
            let (far, near) = (router6(id), format!("fd00:2:{id}::2"));
            self.r2.ip(&format!("-6 addr add {far}/64 dev n{id} nodad"))?;
            namespace.ip(&format!("-6 addr add {near}/64 dev r2 nodad"))?;
        }
        self.mesh.connect(id, &namespace)?;
        let node = Node::new(id, namespace, &self.common, sections, witness)?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// Takes a node, dead or alive, and its links away.
    pub fn remove_node(&mut self, id: u8) -> Result<()> {
        for router in [&self.r1, &self.r2] {
            router.ip(&format!("link del n{id}"))?;
        }
        self.mesh.disconnect(id);
        let node = self.nodes.remove(&id);
        node.map(drop)
            .ok_or_else(|| Error::Unmet(format!("there is no node {id}")))
    }

    /// What the LACs of the lab are to do: ten of them, each with an address of its own.
    pub fn plan(&self) -> Plan {
        let (user, password) = match self.radius {
            Some(_) => (radius::USER, radius::PASSWORD),
            None => (node_config::USER, node_config::USER),
        };
        Plan {
            target: (ANYCAST, 1701).into(),
            lacs: LACS,
            source: FIRST_LAC.into(),
            many_sources: true,
            source_port: 1701,
            user: user.into(),
            password: password.into(),
            ..Plan::default()
        }
    }

    /// Who judges the subscribers.
    pub fn radius(&self) -> Result<&FreeRadius> {
        let none = || Error::Unmet("there is no FreeRADIUS here".into());
        self.radius.as_ref().map(|(server, _)| server).ok_or_else(none)
    }

    /// What stands before that, where nodes ask.
    pub fn relay(&self) -> Result<&Relay> {
        let none = || Error::Unmet("there is no FreeRADIUS here".into());
        self.radius.as_ref().map(|(_, relay)| relay).ok_or_else(none)
    }

    /// What server and relay have seen goes beside the nodes' logs, for whoever looks into a failure.
    pub fn write_down_radius(&self) -> Result<()> {
        if let Some((server, relay)) = &self.radius {
            fs::write(self.folder().join("radius-requests"), server.requests())?;
            fs::write(self.folder().join("radius-records"), server.records())?;
            fs::write(self.folder().join("radius-relay"), relay.history())?;
        }
        Ok(())
    }

    pub fn node(&mut self, id: u8) -> Result<&mut Node> {
        self.nodes
            .get_mut(&id)
            .ok_or_else(|| Error::Unmet(format!("there is no node {id}")))
    }

    /// The program that the nodes run at first, and the one of a later release.
    pub fn programs(&self) -> Result<[PathBuf; 2]> {
        let next = self.next_program.clone();
        let next = next.ok_or_else(|| Error::Unmet("there is no program of a later release".into()))?;
        Ok([self.common.program.clone(), next])
    }

    /// Where logs and data lie.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// How the cluster sees itself, by the first node that answers.
    pub fn view(&self) -> Result<View> {
        let mut first = None;
        for node in self.nodes.values().filter(|node| node.pid().is_some()) {
            match node.view() {
                Ok(view) => return Ok(view),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::Unmet("no node runs".into())))
    }

    /// The nodes that run and are to announce.
    fn announcing(&self) -> usize {
        let runs = |node: &&Node| node.pid().is_some() && !node.witness;
        self.nodes.values().filter(runs).count()
    }

    /// To which nodes the router towards the core sends what is for `prefix`.
    pub fn nodes_for(&self, prefix: &str) -> Result<Vec<u8>> {
        let text = self.r2.ip(&format!("route show {prefix}"))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let hops = words
            .windows(2)
            .filter(|pair| pair[0] == "via")
            .map(|pair| pair[1]);
        let node = |hop: &str| hop.split('.').nth(2)?.parse().ok();
        Ok(hops.filter_map(node).collect())
    }

    /// Waits until both routers send to every node that runs.
    pub fn wait_routes(&self) -> Result<()> {
        let wanted = self.announcing();
        let deadline = Instant::now() + ROUTES_LIMIT;
        loop {
            let seen = [hops(&self.r1, &format!("{ANYCAST}/32"))?, hops(&self.r2, POOL)?];
            if seen.iter().all(|hops| *hops == wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let protocols = self.routers[0].ask(&["show", "protocols"])?;
                return Err(Error::Unmet(format!(
                    "the routers send to {seen:?} nodes, not to {wanted}\n{protocols}"
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// All links are up and all disks fast again, and nobody is held.
    pub fn heal(&self) -> Result<()> {
        self.mesh.heal();
        self.set_link_of_routers(true)?;
        for node in self.nodes.values() {
            node.set_slow_disk(false)?;
            if node.pid().is_some() {
                node.signal(Signal::SIGCONT)?;
            }
            for router in [1, 2] {
                self.set_router_link(router, node.id, true)?;
            }
        }
        Ok(())
    }

    /// Takes the link between the two routers down, or up again.
    pub fn set_link_of_routers(&self, up: bool) -> Result<()> {
        if up {
            self.r1.ip("link set r2 up")?;
            self.r1.ip("route replace default via 10.30.0.2")?;
            self.r2.ip("route replace 10.10.0.0/16 via 10.30.0.1")?;
        } else {
            self.r1.ip("link set r2 down")?;
        }
        Ok(())
    }

    /// Starts a node of another cluster that says it is `number`, and that takes our nodes for the other members of its own.
    ///
    /// Returns the folder of that cluster's certificates.
    pub fn invite_stranger(&mut self, number: u8) -> Result<PathBuf> {
        let common = self.common.clone();
        let mut members: BTreeMap<u8, Ipv4Addr> =
            self.nodes.keys().map(|id| (*id, mesh::address(*id))).collect();
        members.insert(number, mesh::address(STRANGERS_ADDRESS));
        let outside = self.outside()?;
        outside.serial += 1;
        let name = format!("strangers{}", outside.serial);
        let sections = membership::sections(&common, &name, &members, &[])?;
        let folder = common.folder.join(&name);
        let config = folder.join("holdfast.toml");
        let settings = node_config::Settings {
            id: u64::from(number),
            sections: sections[&number].clone(),
            ..node_config::Settings::default()
        };
        let address = (Ipv4Addr::LOCALHOST, 1701).into();
        fs::write(
            &config,
            node_config::config(&folder, &folder.join("data"), address, &settings),
        )?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
        let log = File::create(folder.join("log"))?;
        let mut command = outside.namespace.command(&common.program);
        command
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        outside.stranger = Some(ProcessGroup::spawn(&mut command)?);
        Ok(folder)
    }

    pub fn dismiss_stranger(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.stranger = None;
        }
    }

    /// Does something where a stranger would be.
    pub fn beside(&mut self, work: impl FnOnce() -> std::io::Result<()> + Send) -> Result<()> {
        Ok(self.outside()?.namespace.enter(work)??)
    }

    fn outside(&mut self) -> Result<&mut Outside> {
        if self.outside.is_none() {
            let namespace = host("outside")?;
            self.mesh.connect(STRANGERS_ADDRESS, &namespace)?;
            self.outside = Some(Outside {
                stranger: None,
                serial: 0,
                namespace,
            });
        }
        Ok(self.outside.as_mut().expect("just made"))
    }

    /// Takes the link between a router (1 or 2) and a node down, or up again.
    pub fn set_router_link(&self, router: u8, node: u8, up: bool) -> Result<()> {
        let namespace = if router == 1 { &self.r1 } else { &self.r2 };
        let state = if up { "up" } else { "down" };
        namespace.ip(&format!("link set n{node} {state}"))?;
        Ok(())
    }
}

/// Router 2's address towards a node.
pub fn router6(node: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 2, node.into(), 0, 0, 0, 0, 1)
}

/// IPv6 between the core and its router; the nodes' links follow with the nodes.
fn prepare_ipv6(router: &Namespace, core: &Namespace) -> Result<()> {
    sysctl(router, "../ipv6/conf/all/forwarding", "1")?;
    router.ip("-6 addr add fd00:20::1/64 dev core nodad")?;
    core.ip(&format!("-6 addr add {CORE6}/64 dev r2 nodad"))?;
    core.ip("-6 route add default via fd00:20::1")?;
    Ok(())
}

/// A namespace that forwards.
fn host(role: &str) -> Result<Namespace> {
    let namespace = Namespace::create(role)?;
    sysctl(&namespace, "ip_forward", "1")?;
    for scope in ["all", "default"] {
        sysctl(&namespace, &format!("conf/{scope}/rp_filter"), "0")?;
        sysctl(
            &namespace,
            &format!("conf/{scope}/ignore_routes_with_linkdown"),
            "1",
        )?;
    }
    Ok(namespace)
}

/// Sets a knob below `net/ipv4` of a namespace.
fn sysctl(namespace: &Namespace, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    namespace.enter(|| fs::write(&path, value))??;
    Ok(())
}

/// A cable between two namespaces.
fn link(
    left: &Namespace,
    left_device: &str,
    left_address: &str,
    right: &Namespace,
    right_device: &str,
    right_address: &str,
) -> Result<()> {
    left.ip(&format!(
        "link add {left_device} type veth peer name {right_device} netns {}",
        right.name()
    ))?;
    for (end, device, address) in [
        (left, left_device, left_address),
        (right, right_device, right_address),
    ] {
        end.ip(&format!("addr add {address} dev {device}"))?;
        end.ip(&format!("link set {device} up"))?;
    }
    Ok(())
}

/// To how many next hops a router sends what is for `prefix`.
fn hops(router: &Namespace, prefix: &str) -> Result<usize> {
    let text = router.ip(&format!("-j route show {prefix}"))?;
    let routes: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::Unmet(format!("{error} in {text:?}")))?;
    let of_route = |route: &serde_json::Value| match route["nexthops"].as_array() {
        Some(hops) => hops.len(),
        None => usize::from(route["gateway"].is_string()),
    };
    Ok(routes.as_array().into_iter().flatten().map(of_route).sum())
}
