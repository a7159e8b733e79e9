//! Nodes that are drained or stopped while calls arrive.

mod caller;

use std::fs;

use caller::{Caller, TUNNEL};
use holdfast_protocol::SessionId;
use nix::sys::signal::Signal;

use super::{Daemon, Site, member, others, text};

/// Subscribers who may dial.
const SUBSCRIBERS: u16 = 120;

/// A machine that is too busy to let PPP finish within three seconds gets another chance so often.
const ATTEMPTS: usize = 10;

/// Three nodes that know the subscribers.
fn site() -> Site {
    let site = Site::new();
    let users: String = (1..=SUBSCRIBERS)
        .map(|call| format!("[[user]]\nname = \"{}\"\npassword = \"pw\"\n", TUNNEL << 8 | call))
        .collect();
    for node in 1..=3 {
        let file = site.path(&format!("{node}.toml"));
        let text = fs::read_to_string(&file).expect("written");
        fs::write(&file, text + "[ppp]\nauth = [\"pap\"]\n" + &users).expect("written");
    }
    site
}

/// A LAC whose tunnel belongs to node 1, with a subscriber who is online.
fn caller(site: &Site) -> Caller {
    let mut caller = Caller::new(&site.address(1));
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

fn counter(site: &Site, node: u8, name: &str) -> u64 {
    let file = format!("{node}.toml");
    let shown = site.holdfast(&["status", "--counters", "--json", "--config", &file]);
    let status: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("a status");
    let rows = status["counters"].as_array().expect("counters");
    let row = rows.iter().find(|row| row["name"] == name);
    row.and_then(|row| row["value"].as_u64()).expect("a counter")
}

#[test]
fn ppp_that_is_under_way_finishes_at_the_node_that_is_drained() {
    for call in 2..ATTEMPTS as u16 + 2 {
        let site = site();
        let _daemons = site.start_three();
        let mut caller = caller(&site);
        let call = caller.place_call(call);
        caller.silent = Some(call);
        caller.until("the node has begun PPP", |caller| {
            caller.lac.call(call).client.lcp_requests > 0
        });
        let opened = counter(&site, 1, "sessions_opened_total");
        let ordered = site
            .command(&["cluster", "drain", "1", "--config", "2.toml"])
            .spawn();
        let mut drain = Daemon(ordered.expect("started"));
        caller.until("the other groups have gone", |_| {
            let groups = member(&site.status(1), 1, "groups").as_u64();
            groups.is_some_and(|groups| groups <= 1)
        });
        caller.silent = None;
        until_up(&mut caller, call);
        let status = drain.0.wait().expect("our child");
        assert!(status.success(), "{}", site.logs());
        assert_eq!(member(&site.status(1), 1, "groups"), 0);
        if counter(&site, 1, "groups_cut_total") > 0 {
            // Its three seconds were over before we got so far.
            continue;
        }
        assert_eq!(counter(&site, 1, "sessions_opened_total"), opened + 1);
        assert_eq!(caller.lac.call(call).client.downs, 0);
        assert_ne!(site.leader(2), 1, "nor does a drained node lead");
        return;
    }
    panic!("this machine never let PPP finish within three seconds");
}

#[test]
fn calls_that_arrive_while_a_node_is_stopped_are_completed() {
    let site = site();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let mut caller = caller(&site);
    // The routers have heard that node 1 withdraws.
    caller.send_to(&site.address(2));
    let stopping = daemons.remove(0);
    let mut placed = 2..=SUBSCRIBERS;
    let place = |caller: &mut Caller, calls: usize, placed: &mut std::ops::RangeInclusive<u16>| {
        for call in placed.take(calls) {
            caller.place_call(call);
        }
    };
    place(&mut caller, 30, &mut placed);
    stopping.signal(Signal::SIGTERM);
    place(&mut caller, 60, &mut placed);
    stopping.end();
    place(&mut caller, usize::from(SUBSCRIBERS), &mut placed);
    caller.until("all are online", |caller| {
        let ended = caller.lac.calls.values().find_map(|call| call.end.as_ref());
        assert!(ended.is_none(), "a call was cleared: {ended:?}\n{}", site.logs());
        caller.lac.calls.values().all(|call| call.client.is_up())
    });
    assert!(site.log(1).contains("groups handed over"), "{}", site.log(1));
    assert!(caller.lac.closed.is_none());
    assert_eq!(caller.lac.first().client.downs, 0);
}

#[test]
fn all_that_are_stopped_at_once_wait_for_nobody_and_come_back_with_everything() {
    let site = site();
    let daemons = site.start_three();
    let mut caller = caller(&site);
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
    let site = site();
    let _daemons = site.start_three();
    let order = |asked: u8, node: &str| {
        let file = format!("{asked}.toml");
        let mut command = site.command(&["cluster", "drain", node, "--json", "--config", &file]);
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started")
    };
    // The same node twice: whoever comes second sees it done by the first.
    let orders = [order(2, "1"), order(3, "1"), order(1, "1")];
    for order in orders {
        let output = order.wait_with_output().expect("our child");
        assert!(
            output.status.success(),
            "{}\n{}",
            text(&output.stdout),
            site.logs()
        );
    }
    assert_eq!(member(&site.status(2), 1, "groups"), 0);
    site.until_whole(2, &[1, 2, 3]);

    // Both others: each may get what the other one gives away, and says so.
    let orders = [order(2, "2"), order(3, "3")].map(|order| order.wait_with_output());
    for (node, output) in others(1).into_iter().zip(orders) {
        let output = output.expect("our child");
        assert!(output.status.success(), "{}", site.logs());
        let status = serde_json::from_slice(&output.stdout).expect("a status");
        let groups = member(&status, node, "groups").as_u64();
        let warned = status["warnings"].to_string().contains("was given groups again");
        assert_eq!(groups > Some(0), warned, "{status}");
    }
    site.until_whole(1, &[1, 2, 3]);
}
