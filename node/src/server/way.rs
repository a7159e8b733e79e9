//! Looks again and again whether this node has a way to the LACs, and tells the others when it has not.
//!
//! What is judged is [`holdfast_cluster::way`]'s business; here the kernel is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::limits::WAY_LOOK_INTERVAL_MS;
use holdfast_cluster::liveness::WayToLacs;
use holdfast_cluster::way::{Found, Sample, Way};
use tokio::time::MissedTickBehavior;

use crate::actors::context::Shared;
use crate::io::netlink::{self, Netlink};
use crate::metrics::Counter;

/// After so many looks, two seconds, the table is asked anew who the LACs are.
const LOOKS_PER_SAMPLE: u32 = 10;

/// To be spawned; ends with its task. A node alone has nobody to tell, and a witness no LACs.
pub async fn keep(shared: Arc<Shared>) {
    let node = shared.config.load().node.id;
    let Some(members) = shared
        .members
        .as_ref()
        .filter(|members| !members.is_witness(node))
    else {
        return;
    };
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => {
            return tracing::warn!(
                "a lost way to the LACs will not be noticed: no routes can be asked for: {error}"
            );
        }
    };
    let tun = own_tun(&shared);
    let (mut way, mut sample) = (Way::default(), Sample::default());
    let mut ticks = tokio::time::interval(Duration::from_millis(WAY_LOOK_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0u32.. {
        ticks.tick().await;
        if number % LOOKS_PER_SAMPLE == 0 {
            sample.renew(shared.directory.established_lacs(), way.is_doubtful());
        }
        let looked = match look(&mut netlink, &sample, tun) {
            Ok(looked) => looked,
            Err(error) => {
                tracing::debug!("the kernel does not say which routes it has: {error}");
                continue;
            }
        };
        let change = way.handle_look(&looked);
        members.set_way(WayToLacs {
            lost: way.is_lost(),
            in_doubt: way.is_doubtful(),
        });
        if let Some(lost) = change {
            if lost {
                shared.metrics.count(Counter::WaysLost);
            }
            log(lost, &looked);
        }
    }
}

/// Index of the device through which subscribers are reached, and no LAC is.
fn own_tun(shared: &Shared) -> Option<u32> {
    let name = &shared.config.load().tun.name;
    let index = nix::net::if_::if_nametoindex(name.as_str()).ok();
    index.filter(|_| shared.tun_up)
}

fn look(netlink: &mut Netlink, sample: &Sample, tun: Option<u32>) -> io::Result<BTreeMap<IpAddr, Found>> {
    let ask = |(lac, own): (IpAddr, IpAddr)| {
        // A wildcard is no source; the kernel chooses one then, as it does when we send.
        let from = Some(own).filter(|own| !own.is_unspecified());
        Ok((lac, judge(netlink.find_route(from, lac)?, tun)))
    };
    sample.iter().map(ask).collect()
}

fn judge(route: Option<netlink::Found>, tun: Option<u32>) -> Found {
    match route {
        None => Found::Nothing,
        Some(route) if tun.is_some() && route.interface == tun => Found::Nothing,
        Some(route) if route.prefix == 0 => Found::Default,
        Some(_) => Found::Specific,
    }
}

fn log(lost: bool, looked: &BTreeMap<IpAddr, Found>) {
    if lost {
        let lac = looked.keys().next().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            lacs = looked.len(),
            "this node has lost its way to the LACs: its groups go to others that have one; see which routes it has (\"ip \
             route get {lac} from\" the anycast address) and whether BIRD hears the routers (\"birdc show protocols\")"
        );
    } else {
        tracing::info!(
            "this node has a way to the LACs again and may own groups: \"holdfast cluster undrain\" gives it its share"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_back_into_the_node_is_no_way() {
        let route = |prefix, interface| Some(netlink::Found { prefix, interface });
        let cases = [
            (None, Some(3), Found::Nothing),
            (route(24, Some(3)), Some(3), Found::Nothing),
            (route(0, Some(3)), Some(3), Found::Nothing),
            (route(24, Some(2)), Some(3), Found::Specific),
            (route(0, Some(2)), Some(3), Found::Default),
            (route(16, None), Some(3), Found::Specific),
            (route(16, None), None, Found::Specific),
            (route(0, None), None, Found::Default),
        ];
        for (found, tun, expected) in cases {
            assert_eq!(judge(found, tun), expected, "{found:?}, {tun:?}");
        }
    }
}
