//! Looks again and again whether this node has a way to the LACs, and tells the others when it has not.
//!
//! What is judged is [`holdfast_cluster::way`]'s business; here the kernel is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::limits::{WAY_FAILED_LOOKS, WAY_LOOK_INTERVAL_MS};
use holdfast_cluster::liveness::WayToLacs;
use holdfast_cluster::way::{Found, Sample, Way};
use tokio::time::MissedTickBehavior;

use crate::actors::context::Shared;
use crate::io::netlink::{self, Netlink};
use crate::metrics::{Counter, Metrics};

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
    let mut kernel = Kernel {
        netlink: None,
        tun: own_tun(&shared),
    };
    let (mut way, mut sample) = (Way::default(), Sample::default());
    let mut ticks = tokio::time::interval(Duration::from_millis(WAY_LOOK_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0u32.. {
        ticks.tick().await;
        if number % LOOKS_PER_SAMPLE == 0 {
            sample.renew(shared.directory.established_lacs(), way.is_doubtful());
        }
        let (asked, looked) = kernel.look(sample.clone()).await;
        kernel = asked;
        let change = judge_look(&mut way, &shared.metrics, &looked);
        members.set_way(WayToLacs {
            lost: way.is_lost(),
            in_doubt: way.is_doubtful(),
        });
        if let (Some(lost), Ok(looked)) = (change, &looked) {
            log(lost, looked);
        }
    }
}

/// Tells whether the way has just been lost or come back.
fn judge_look(way: &mut Way, metrics: &Metrics, looked: &io::Result<Looked>) -> Option<bool> {
    match looked {
        Ok(looked) => {
            if way.is_unknown() {
                tracing::info!("the kernel says again which routes it has");
            }
            let change = way.handle_look(looked);
            if change == Some(true) {
                metrics.count(Counter::WaysLost);
            }
            change
        }
        Err(error) => {
            metrics.count(Counter::WayLooksFailed);
            if way.handle_failure() {
                tracing::warn!(
                    looks = WAY_FAILED_LOOKS,
                    "the kernel does not say which routes it has, so it is not noticed when the way to the LACs is lost or comes \
                     back: {error}"
                );
            }
            None
        }
    }
}

/// What the kernel said of each LAC.
type Looked = BTreeMap<IpAddr, Found>;

/// Where the routes are asked for.
#[derive(Debug)]
struct Kernel {
    /// Opened anew after an error: an answer that came too late would be read as the next one's.
    netlink: Option<Netlink>,
    tun: Option<u32>,
}

impl Kernel {
    /// Asks in a thread that may wait: the kernel can take its time while somebody else changes many routes.
    async fn look(mut self, sample: Sample) -> (Self, io::Result<Looked>) {
        let tun = self.tun;
        let asked = tokio::task::spawn_blocking(move || {
            let looked = self.ask(&sample);
            if looked.is_err() {
                self.netlink = None;
            }
            (self, looked)
        });
        asked
            .await
            .unwrap_or_else(|error| (Self { netlink: None, tun }, Err(io::Error::other(error))))
    }

    fn ask(&mut self, sample: &Sample) -> io::Result<Looked> {
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            None => self.netlink.insert(Netlink::open()?),
        };
        look(netlink, sample, self.tun)
    }
}

/// Index of the device through which subscribers are reached, and no LAC is.
fn own_tun(shared: &Shared) -> Option<u32> {
    let name = &shared.config.load().tun.name;
    let index = nix::net::if_::if_nametoindex(name.as_str()).ok();
    index.filter(|_| shared.tun_up)
}

fn look(netlink: &mut Netlink, sample: &Sample, tun: Option<u32>) -> io::Result<Looked> {
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

fn log(lost: bool, looked: &Looked) {
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

    #[test]
    fn looks_that_fail_are_counted_and_cost_no_way() {
        let (mut way, metrics) = (Way::default(), Metrics::default());
        let found = Ok(BTreeMap::from([([10, 0, 0, 1].into(), Found::Specific)]));
        assert_eq!(judge_look(&mut way, &metrics, &found), None);
        for _ in 0..2 * WAY_FAILED_LOOKS {
            let failed = Err(io::ErrorKind::TimedOut.into());
            assert_eq!(judge_look(&mut way, &metrics, &failed), None);
        }
        assert!(way.is_unknown() && !way.is_doubtful());
        assert_eq!(
            metrics.get(Counter::WayLooksFailed),
            u64::from(2 * WAY_FAILED_LOOKS)
        );
        judge_look(&mut way, &metrics, &found);
        assert!(!way.is_unknown());
    }

    #[tokio::test]
    async fn the_kernel_is_asked_beside_the_workers_and_its_socket_kept() {
        let kernel = Kernel {
            netlink: None,
            tun: None,
        };
        let home: IpAddr = [127, 0, 0, 1].into();
        let mut sample = Sample::default();
        sample.renew([(home, home)], false);
        let (kernel, looked) = kernel.look(sample).await;
        assert_eq!(looked.expect("anybody may ask")[&home], Found::Specific);
        assert!(kernel.netlink.is_some(), "kept for the next look");
    }
}
