//! Addresses across members: who keeps one that two are to have, who gets his own again, and limits of sessions.

use std::net::Ipv4Addr;

use holdfast_protocol::{CallEnd, SessionId};
use nix::sys::signal::Signal;

use crate::caller::Caller;
use crate::site::{Daemon, Site, stop_all, text};

/// The user of call 1 of a LAC's tunnel 1.
const FIRST: &str = "[[user]]\nname = \"257\"\npassword = \"pw\"\n";

fn caller(site: &Site, node: u8) -> Caller {
    let mut caller = Caller::new(&site.address(node), 1);
    caller.until("the tunnel is up", |caller| caller.lac.established);
    caller
}

fn address_of(caller: &Caller, call: SessionId) -> Ipv4Addr {
    let octets = caller.lac.calls[&call].client.address();
    <[u8; 4]>::try_from(octets).expect("an IPv4 address").into()
}

fn dial(caller: &mut Caller, call: u16) -> Ipv4Addr {
    let call = caller.place_call(call);
    until_up(caller, call);
    address_of(caller, call)
}

fn until_up(caller: &mut Caller, call: SessionId) {
    caller.until("the subscriber is up", |caller| {
        caller.lac.calls[&call].client.is_up()
    });
}

fn until_over(caller: &mut Caller, call: SessionId) {
    caller.until("the call is cleared", |caller| caller.lac.calls[&call].over);
}

/// Of all nodes.
fn counted(site: &Site, name: &str) -> u64 {
    (1..=3).map(|node| site.counter(node, name)).sum()
}

/// All nodes have 257's address fixed, and this policy.
fn set_policy(site: &Site, address: Ipv4Addr, policy: &str) {
    for node in 1..=3 {
        site.edit(node, |text| {
            let (text, _) = text.split_once("\n[ppp]").expect("the section");
            let users = site
                .users()
                .replace(FIRST, &format!("{FIRST}address = \"{address}\"\n"));
            format!("{text}\n[ppp]\nauth = [\"pap\"]\naddress_conflict = \"{policy}\"\n{users}")
        });
    }
}

/// S-153, of which the session table has the last word.
#[test]
fn s_153_an_address_that_is_in_use_is_kept_or_taken_over_as_the_policy_says() {
    let site = Site::new();
    let _daemons = site.start_three();
    // User 258 has it of the pool, before it is fixed for 257.
    let mut of_258 = caller(&site, 1);
    let address = dial(&mut of_258, 2);
    let his = SessionId::new(2).expect("not zero");
    let refused = |node: u8| {
        let mut caller = caller(&site, node);
        let call = caller.place_call(1);
        until_over(&mut caller, call);
        assert!(!caller.lac.calls[&call].client.is_up());
    };

    for policy in ["replace-same-user", "refuse"] {
        set_policy(&site, address, policy);
        let before = counted(&site, "auth_address_taken_total");
        refused(2);
        assert!(counted(&site, "auth_address_taken_total") > before);
    }
    // A node that knows nothing of it is told by the table.
    site.forget_address(2, address);
    refused(2);
    assert!(counted(&site, "auth_address_refused_total") > 0);
    of_258.turn();
    assert!(
        of_258.lac.calls[&his].client.is_up(),
        "the old one was not touched"
    );

    set_policy(&site, address, "replace");
    let mut of_257 = caller(&site, 3);
    assert_eq!(dial(&mut of_257, 1), address);
    until_over(&mut of_258, his);
    assert_eq!(
        counted(&site, "sessions_replaced_total"),
        3,
        "as each node has seen it"
    );

    // The same user dials again while his old session stands.
    set_policy(&site, address, "refuse");
    refused(1);
    set_policy(&site, address, "replace-same-user");
    let mut again = caller(&site, 1);
    assert_eq!(dial(&mut again, 1), address);
    let old = SessionId::new(1).expect("not zero");
    until_over(&mut of_257, old);
    assert!(!site.logs().contains("panicked"));
}

#[test]
fn who_comes_back_gets_his_address_again_after_a_takeover_and_after_a_restart_of_all() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let mut first = caller(&site, 1);
    let address = dial(&mut first, 1);
    first.hang_up(1);
    first.until("the call has gone", |_| {
        site.counter(2, "sessions_closed_total") > 0
    });
    daemons.remove(0).stop(Signal::SIGKILL);
    site.until_whole(2, &[2, 3]);
    let mut second = caller(&site, 2);
    assert_ne!(dial(&mut second, 9), address, "nobody else gets it meanwhile");
    assert_eq!(dial(&mut second, 1), address);
    second.hang_up(1);
    second.until("the call has gone", |_| {
        site.counter(3, "sessions_closed_total") > 1
    });
    stop_all(daemons, Signal::SIGKILL);

    let _daemons = site.start_three();
    let mut third = Caller::new(&site.address(3), 2);
    third.until("the tunnel is up", |caller| caller.lac.established);
    assert_ne!(dial(&mut third, 9), address);
    let mut fourth = caller(&site, 3);
    assert_eq!(dial(&mut fourth, 1), address);
}

#[test]
fn sessions_beyond_a_limit_are_refused_by_name() {
    let site = Site::new();
    let _daemons = site.start_three();
    let mut line = caller(&site, 1);
    dial(&mut line, 1);
    // Of the LAC's profile and of the cluster, at a node that owns none of them.
    for (section, text_for_lac, limit) in [
        ("[[lac]]", "session limit of the LAC reached", "lac_max_sessions"),
        ("[l2tp]", "session limit of the cluster reached", "max_sessions"),
    ] {
        let original = std::fs::read_to_string(site.path("2.toml")).expect("written");
        site.edit(2, |text| match section {
            "[l2tp]" => format!("[l2tp]\nmax_sessions = 1\n{text}"),
            _ => text.replace("[[lac]]\n", "[[lac]]\nmax_sessions = 1\n"),
        });
        let mut other = caller(&site, 2);
        let call = other.place_call(3);
        until_over(&mut other, call);
        let Some(CallEnd::Peer(result)) = &other.lac.calls[&call].end else {
            panic!("{:?}", other.lac.calls[&call].end);
        };
        let result = &result.as_ref().expect("a result code").result;
        assert_eq!((result.result, result.error), (2, Some(4)), "no resources");
        assert_eq!(text(&result.text), text_for_lac);
        assert!(site.hits(2, limit) > 0, "{limit}");
        site.edit(2, |_| original.clone());
    }

    // Of a user: his first session stays.
    site.edit(2, |text| {
        text.replace(FIRST, &format!("{FIRST}max_sessions = 1\n"))
    });
    let mut other = caller(&site, 2);
    let call = other.place_call(1);
    until_over(&mut other, call);
    assert!(site.hits(2, "user_max_sessions") > 0);
    line.turn();
    assert!(line.lac.first().client.is_up());
}
