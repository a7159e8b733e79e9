//! Case 10: a site with a network of its own, of which no pool knows anything.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::error::{Error, Result};
use super::super::stage::Stage;

/// The site's line. Both are routed and announced while it is up, and only then.
pub const USERS: &str = r#"[[user]]
name = "site"
password = "site"
address = "203.0.113.7"
routes = ["198.51.100.0/28 5"]

"#;
const SITE: &str = "site";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const NETWORKS: [&str; 2] = ["203.0.113.7", "198.51.100.0/28"];
/// A host of the site.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const ROUTES_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

pub fn behind(stage: &mut Stage) -> Result<()> {
    let client = stage.redial_as(SITE, &[])?;
    let address = client.address();
    client.put_behind(HOST)?;
    expect(address == ADDRESS, || format!("the site was given {address}"))?;
    // The owner of the session alone is sent what is for the site, and each node would take it.
    let owner = wait_for(stage, "one node for the site", |hops| hops.len() == 1)?[0];
    for node in stage.bed.nodes.values() {
        for network in NETWORKS {
            let routes = node.kernel_routes(network)?;
            expect(routes.contains("dev "), || {
                format!("node {} has no route for {network}", node.id)
            })?;
        }
    }
    stage.real_client()?.ping_from(HOST)?;
    stage.note(format!("node {owner}"));

    // The others forward what does not reach the owner.
    stage.bed.set_router_link(2, owner, false)?;
    wait_for(stage, "the other nodes for the site", |hops| {
        hops.len() == 2 && !hops.contains(&owner)
    })?;
    stage.real_client()?.ping_from(HOST)?;
    stage.bed.set_router_link(2, owner, true)?;
    stage.bed.wait_routes()?;
    wait_for(stage, "the owner for the site", |hops| hops == [owner])?;

    stage.event(|bed| bed.node(owner)?.kill())?;
    stage.real_client()?.ping_from(HOST)?;
    stage.restore()?;
    stage.real_client()?.expect_undisturbed()?;
    stage.real_client()?.ping_from(HOST)?;

    stage.real_client()?.hang_up()?;
    wait_for(stage, "nobody for the site", <[u8]>::is_empty)?;
    for node in stage.bed.nodes.values() {
        for network in NETWORKS {
            let routes = node.kernel_routes(network)?;
            expect(routes.is_empty(), || {
                format!("node {} still has {routes}", node.id)
            })?;
        }
    }
    stage.dismiss_real_client();
    Ok(())
}

/// Waits until the core's router sends what is for each of the site's networks to such nodes.
fn wait_for(stage: &Stage, what: &str, fits: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let deadline = Instant::now() + ROUTES_LIMIT;
    loop {
        let hops = NETWORKS.map(|network| stage.bed.nodes_for(network));
        let [first, second] = hops;
        let (first, second) = (first?, second?);
        if fits(&first) && fits(&second) {
            return Ok(first);
        }
        if Instant::now() > deadline {
            return Err(Error::Unmet(format!(
                "{what} was waited for in vain: {first:?} and {second:?}"
            )));
        }
        std::thread::sleep(POLL);
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::Unmet(otherwise())),
    }
}
