//! Nodes that are drained or stopped while calls arrive.

use std::process::{Child, Stdio};

use holdfast_protocol::SessionId;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::caller::Caller;
use crate::site::{CALLS, Daemon, Site, member, others, text};

/// A machine that is too busy to let PPP finish within three seconds gets another chance so often.
const ATTEMPTS: usize = 10;

/// A LAC whose tunnel belongs to a node, with a subscriber who is online.
fn caller(site: &Site, node: u8) -> Caller {
    let mut caller = Caller::new(&site.address(node), 1);
    caller.until("the tunnel is up", |caller| caller.lac.established);
    let first = caller.place_call(1);
    until_up(&mut caller, first);
    caller
}

fn until_up(caller: &mut Caller, call: SessionId) {
    caller.until("the subscriber is online", |caller| {
        let call = caller.lac.call(call);
        assert!(!call.over, "{:?}", call.end);
        call.client.is_up()
    });
}

/// A call whose PPP has begun, and whose subscriber then falls silent.
fn begin_call(caller: &mut Caller, call: u16) -> SessionId {
    let call = caller.place_call(call);
    caller.silent = Some(call);
    caller.until("the node has begun PPP", |caller| {
        caller.lac.call(call).client.lcp_requests > 0
    });
    call
}

/// Orders a drain of a node.
fn drain(site: &Site, asked: u8, node: u8) -> Child {
    let (file, node) = (format!("{asked}.toml"), node.to_string());
    let mut command = site.command(&["cluster", "drain", &node, "--json", "--config", &file]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

/// The order is carried out; gives how the cluster is then.
fn succeeds(site: &Site, order: Child) -> Value {
    let output = order.wait_with_output().expect("our child");
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stderr),
        site.logs()
    );
    serde_json::from_slice(&output.stdout).expect("a status")
}

/// Until the node that is drained has given away what nothing is under way in.
fn until_rest_has_gone(site: &Site, caller: &mut Caller, node: u8) {
    caller.until("the other groups have gone", |_| {
        let groups = member(&site.status(node), node, "groups").as_u64();
        groups.is_some_and(|groups| groups <= 1)
    });
}

#[test]
fn ppp_that_is_under_way_finishes_at_the_node_that_is_drained() {
    for call in 2..ATTEMPTS as u16 + 2 {
        let site = Site::new();
        let _daemons = site.start_three();
        let mut caller = caller(&site, 1);
        let call = begin_call(&mut caller, call);
        let opened = site.counter(1, "sessions_opened_total");
        let drain = drain(&site, 2, 1);
        until_rest_has_gone(&site, &mut caller, 1);
        caller.silent = None;
        until_up(&mut caller, call);
        succeeds(&site, drain);
        assert_eq!(member(&site.status(1), 1, "groups"), 0);
        if site.counter(1, "groups_cut_total") > 0 {
            // Its three seconds were over before we got so far.
            continue;
        }
        assert_eq!(site.counter(1, "sessions_opened_total"), opened + 1);
        assert_eq!(caller.lac.call(call).client.downs, 0);
        assert_ne!(site.leader(2), 1, "nor does a drained node lead");
        return;
    }
    panic!("this machine never let PPP finish within three seconds");
}

#[test]
fn calls_that_arrive_while_a_node_is_stopped_are_completed() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let mut caller = caller(&site, 1);
    // The routers have heard that node 1 withdraws.
    caller.send_to(&site.address(2));
    let stopping = daemons.remove(0);
    let mut placed = 2..=CALLS;
    let place = |caller: &mut Caller, calls: usize, placed: &mut std::ops::RangeInclusive<u16>| {
        for call in placed.take(calls) {
            caller.place_call(call);
        }
    };
    place(&mut caller, 30, &mut placed);
    stopping.signal(Signal::SIGTERM);
    place(&mut caller, 60, &mut placed);
    stopping.end();
    place(&mut caller, usize::from(CALLS), &mut placed);
    caller.until("all are online", |caller| {
        let ended = caller.lac.calls.values().find_map(|call| call.end.as_ref());
        assert!(ended.is_none(), "a call was cleared: {ended:?}\n{}", site.logs());
        caller.lac.calls.values().all(|call| call.client.is_up())
    });
    assert!(caller.lac.closed.is_none());
    assert_eq!(caller.lac.first().client.downs, 0);
}

#[test]
fn all_that_are_stopped_at_once_wait_for_nobody_and_come_back_with_everything() {
    let site = Site::new();
    let daemons = site.start_three();
    let mut caller = caller(&site, 1);
    for daemon in &daemons {
        daemon.signal(Signal::SIGTERM);
    }
    for daemon in daemons {
        assert_eq!(daemon.end(), Some(0), "{}", site.logs());
    }
    let _daemons = site.start_three();
    let second = caller.place_call(2);
    until_up(&mut caller, second);
    assert_eq!(caller.lac.first().client.downs, 0);
    assert!(caller.lac.closed.is_none());
}

#[test]
fn drains_at_the_same_time_are_both_carried_out() {
    let site = Site::new();
    let _daemons = site.start_three();
    // The same node three times: whoever comes second sees it done by the first.
    for order in [2, 3, 1].map(|asked| drain(&site, asked, 1)) {
        succeeds(&site, order);
    }
    assert_eq!(member(&site.status(2), 1, "groups"), 0);
    site.until_whole(2, &[1, 2, 3]);

    // Both others: each may get what the other one gives away, and says so.
    for (node, order) in [2, 3].map(|node| (node, drain(&site, node, node))) {
        let status = succeeds(&site, order);
        let groups = member(&status, node, "groups").as_u64();
        let warned = status["warnings"].to_string().contains("was given groups again");
        assert_eq!(groups > Some(0), warned, "{status}");
    }
    site.until_whole(1, &[1, 2, 3]);
}

#[test]
fn a_node_that_dies_while_it_is_drained_is_drained_all_the_same() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let mut caller = caller(&site, 1);
    let call = begin_call(&mut caller, 2);
    let order = drain(&site, 2, 1);
    until_rest_has_gone(&site, &mut caller, 1);
    daemons.remove(0).stop(Signal::SIGKILL);
    caller.send_to(&site.address(2));
    caller.silent = None;
    assert_eq!(member(&succeeds(&site, order), 1, "groups"), 0);
    until_up(&mut caller, call);
    assert_eq!(caller.lac.first().client.downs, 0);
}

#[test]
fn a_leader_that_dies_during_a_drain_does_not_end_it() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let leader = site.leader(1);
    let [drained, asked] = others(leader)[..] else {
        panic!("three nodes");
    };
    let mut caller = caller(&site, drained);
    let call = begin_call(&mut caller, 2);
    let order = drain(&site, asked, drained);
    until_rest_has_gone(&site, &mut caller, drained);
    daemons.remove(usize::from(leader) - 1).stop(Signal::SIGKILL);
    caller.silent = None;
    succeeds(&site, order);
    until_up(&mut caller, call);
    // What the dead leader had goes to both.
    site.until_whole(asked, &[drained, asked]);
    assert_eq!(caller.lac.first().client.downs, 0);
}

/// Its tunnel is born again within a second of the takeover, in which frames of the former owner are waited for.
#[test]
fn a_call_whose_address_is_refused_right_after_a_takeover_gets_another() {
    let site = Site::new();
    let _daemons = site.start_three();
    let earlier = caller(&site, 1);
    let address = earlier.lac.first().client.address().to_vec();
    let octets = <[u8; 4]>::try_from(&address[..]).expect("an IPv4 address");
    // Another LAC, with a subscriber of the same name.
    let mut caller = Caller::new(&site.address(1), 1);
    caller.until("the tunnel is up", |caller| caller.lac.established);
    let first = begin_call(&mut caller, 2);
    let drain = drain(&site, 2, 1);
    until_rest_has_gone(&site, &mut caller, 1);
    // It is kept waiting, and answered by the next owner; the one that all wait for may finish.
    let second = caller.place_call(1);
    caller.silent = Some(second);
    caller.until("the node has begun PPP", |caller| {
        caller.lac.call(second).client.lcp_requests > 0
    });
    [2, 3]
        .iter()
        .for_each(|node| site.forget_address(*node, octets.into()));
    caller.silent = None;
    until_up(&mut caller, second);
    assert_ne!(caller.lac.call(second).client.address(), address);
    until_up(&mut caller, first);
    succeeds(&site, drain);
    let refused = [2, 3].map(|node| site.counter(node, "auth_address_refused_total"));
    assert_eq!(refused.iter().sum::<u64>(), 1, "by the next owner");
}
