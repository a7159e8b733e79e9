//! Accounting of a real cluster against a server that is scripted: what it hears, whoever dies.

use nix::sys::signal::Signal;

use crate::data::{Line, l2tp};
use crate::process::Daemon;
use crate::radius::{Heard, INTERIM, OFF, ON, SECRET, START, STOP, Server};
use crate::site::{POOL, Site};

/// An IP packet with an echo of four octets.
const PING_OCTETS: u64 = 32;

const INPUT_OCTETS: (u8, u8) = (42, 52);
const OUTPUT_OCTETS: (u8, u8) = (43, 53);
const INPUT_PACKETS: u8 = 47;
const OUTPUT_PACKETS: u8 = 48;
const CLASS: u8 = 25;
const TERMINATE_CAUSE: u8 = 49;

fn radius(server: &Server) -> String {
    let (address, access, accounting) = (server.access.ip(), server.access.port(), server.accounting.port());
    format!(
        "[[radius]]\naddress = \"{address}\"\nauth_port = {access}\nacct_port = {accounting}\nsecret = \"{SECRET}\"\n\
         timeout = \"200ms\"\n"
    )
}

fn start(site: &Site) -> (Server, Vec<Daemon>) {
    let server = Server::start(&site.address(0));
    for node in 1..=3 {
        site.configure(node, &[1, 2, 3], POOL, &radius(&server));
    }
    let daemons = site.start_three().into();
    (server, daemons)
}

fn until_heard(site: &Site, line: &mut Line, server: &Server, status: u32, times: usize) -> Vec<Heard> {
    site.until("the server hears of it", || {
        line.turn();
        server.heard(status).len() >= times
    });
    server.heard(status)
}

/// Of one session all copies say the same.
fn the_one(heard: &[Heard]) -> &Heard {
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
    &heard[0]
}

#[test]
fn a_cluster_says_what_its_subscriber_sent_by_way_of_all_nodes() {
    let site = Site::new();
    let (server, _daemons) = start(&site);
    let mut line = Line::dial(&site, 1, false);
    let heard = until_heard(&site, &mut line, &server, START, 1);
    let start = the_one(&heard).clone();
    assert!(start.attributes.contains(&(CLASS, b"gold".to_vec())), "{start:?}");
    let pings = line.ping_evenly(&site, &[1, 2, 3]);
    line.hang_up();
    let heard = until_heard(&site, &mut line, &server, STOP, 1);
    let stop = the_one(&heard);
    assert_eq!(stop.name, start.name);
    assert_eq!(stop.number(INPUT_PACKETS), Some(pings));
    assert_eq!(stop.number(OUTPUT_PACKETS), Some(pings));
    for (low, high) in [INPUT_OCTETS, OUTPUT_OCTETS] {
        assert_eq!(stop.octets(low, high), u64::from(pings) * PING_OCTETS);
    }
    assert_eq!(stop.number(TERMINATE_CAUSE), Some(2), "Lost Carrier");
    let order = server.order();
    assert_eq!(order.last(), Some(&STOP), "{order:?}");
    assert!(
        order.iter().filter(|status| **status == ON).count() <= 1 && order.first() != Some(&STOP),
        "a cluster that was founded says so before all else: {order:?}"
    );
}

#[test]
fn s_160_a_server_that_was_dead_hears_all_in_order_even_of_a_cluster_that_was_restarted_meanwhile() {
    let site = Site::new();
    let (server, daemons) = start(&site);
    server.set_silent(true);
    let mut line = Line::dial(&site, 1, false);
    let pings = line.ping_evenly(&site, &[1, 2, 3]);
    line.hang_up();
    until_heard(&site, &mut line, &server, START, 1);
    line.until_quiet(&site);
    // What has been counted is written then, and what is owed is in the log.
    for daemon in daemons {
        daemon.stop(Signal::SIGTERM);
    }
    assert!(server.heard(STOP).is_empty(), "not before the Start is there");
    server.set_silent(false);
    let _daemons = site.start_three();
    let stops = until_heard(&site, &mut line, &server, STOP, 1);
    let stop = the_one(&stops);
    assert_eq!(stop.number(INPUT_PACKETS), Some(pings));
    the_one(&server.heard(START));
}

#[test]
fn an_owner_that_is_killed_right_after_the_start_leaves_one_session() {
    let site = Site::new();
    let (server, mut daemons) = start(&site);
    server.set_silent(true);
    let mut line = Line::dial(&site, 1, false);
    until_heard(&site, &mut line, &server, START, 1);
    daemons.remove(0).stop(Signal::SIGKILL);
    site.until_whole(2, &[2, 3]);
    line.node = l2tp(&site, 2);
    let before = server.heard(START).len();
    until_heard(&site, &mut line, &server, START, before + 1);
    server.set_silent(false);
    line.ping_evenly(&site, &[2, 3]);
    line.hang_up();
    let stops = until_heard(&site, &mut line, &server, STOP, 1);
    let starts = server.heard(START);
    assert_eq!(the_one(&starts).name, the_one(&stops).name);
}

#[test]
fn an_owner_that_is_killed_amid_an_interim_leaves_counters_that_do_not_fall() {
    let site = Site::new();
    let (server, mut daemons) = start(&site);
    let mut line = Line::dial(&site, 1, false);
    until_heard(&site, &mut line, &server, START, 1);
    line.ping_evenly(&site, &[1, 2, 3]);
    server.set_silent(true);
    // Between half a minute and a minute after the Start.
    let interims = until_heard(&site, &mut line, &server, INTERIM, 1);
    let shown = interims[0].octets(INPUT_OCTETS.0, INPUT_OCTETS.1);
    daemons.remove(0).stop(Signal::SIGKILL);
    site.until_whole(2, &[2, 3]);
    line.node = l2tp(&site, 2);
    server.set_silent(false);
    line.ping_evenly(&site, &[2, 3]);
    line.hang_up();
    let stops = until_heard(&site, &mut line, &server, STOP, 1);
    let stop = the_one(&stops);
    assert!(
        shown > 0 && stop.octets(INPUT_OCTETS.0, INPUT_OCTETS.1) > shown,
        "{shown}: {stop:?}"
    );
    the_one(&server.heard(START));
}

/// Ended on purpose at all nodes, the cluster says what is owed and then that it is off; one node that ends does not.
#[test]
fn a_cluster_that_is_shut_down_as_a_whole_says_its_last_words() {
    let site = Site::new();
    let (server, daemons) = start(&site);
    let Ok([one, two, three]) = <[Daemon; 3]>::try_from(daemons) else {
        panic!("three")
    };
    let mut line = Line::dial(&site, 1, false);
    until_heard(&site, &mut line, &server, START, 1);
    let disconnect = |node: u8| {
        let file = format!("{node}.toml");
        let output = site.holdfast(&["shutdown", "--disconnect", "--config", &file]);
        assert!(output.status.success(), "{output:?}");
    };
    let mut until_ended = |mut daemon: Daemon| {
        site.until("it ends", || {
            line.turn();
            daemon.0.try_wait().expect("our child").is_some()
        });
    };
    disconnect(3);
    until_ended(three);
    assert!(server.heard(OFF).is_empty() && server.heard(STOP).is_empty());
    disconnect(1);
    disconnect(2);
    until_ended(one);
    until_ended(two);
    let stops = server.heard(STOP);
    assert_eq!(
        the_one(&stops).number(TERMINATE_CAUSE),
        Some(11),
        "NAS Reboot\n{}",
        site.logs()
    );
    assert_eq!(server.heard(OFF).len(), 1, "{}", site.logs());
    assert_eq!(server.order().last(), Some(&OFF), "{:?}", server.order());
}
