//! What operators get wrong with data folders: the node that is wrong ends and says so, and the others do not notice.

use std::fs;

use nix::sys::signal::Signal;

use crate::site::{Daemon, POOL, Site};

/// Starts node 3, which must end; what it says then.
fn refused(site: &Site) -> String {
    assert_eq!(site.start(3).end(), Some(1), "{}", site.logs());
    site.log(3)
}

/// Three nodes that have run, the third of which is stopped.
fn without_the_third(site: &Site) -> Vec<Daemon> {
    let mut daemons: Vec<Daemon> = site.start_three().into();
    daemons.remove(2).stop(Signal::SIGTERM);
    daemons
}

fn alone(site: &Site) {
    let file = site.path("3.toml");
    let text = fs::read_to_string(&file).expect("written");
    let (before, rest) = text.split_once("[cluster]").expect("its section");
    let (_, after) = rest.split_once("[[pool]]").expect("its section");
    fs::write(file, format!("{before}[[pool]]{after}")).expect("written");
}

#[test]
fn a_folder_of_a_node_that_was_alone_does_not_make_a_second_cluster() {
    let site = Site::new();
    let daemons = without_the_third(&site);
    let term = site.status(1)["term"].clone();
    let (own, aside) = (site.path("3"), site.path("3-aside"));
    fs::rename(&own, &aside).expect("moved");
    alone(&site);
    let single = site.start(3);
    site.until("it serves alone", || site.log(3).contains(" ready "));
    single.stop(Signal::SIGTERM);

    site.configure(3, &[1, 2, 3], POOL, "");
    let log = refused(&site);
    assert!(
        log.contains("holds the table of a cluster of node 3 alone"),
        "{log}"
    );
    assert!(log.contains("([node] data_dir)"), "{log}");
    site.until_whole(1, &[1, 2]);
    assert_eq!(site.status(1)["term"], term, "nobody was disturbed");

    fs::remove_dir_all(&own).expect("removed");
    fs::rename(&aside, &own).expect("moved back");
    let _third = site.start(3);
    site.until_whole(3, &[1, 2, 3]);
    drop(daemons);
}

#[test]
fn a_folder_of_a_member_is_not_served_alone() {
    let site = Site::new();
    let _daemons = without_the_third(&site);
    alone(&site);
    let log = refused(&site);
    assert!(
        log.contains("cluster of the nodes 1, 2, 3, and the configuration has no [cluster] section"),
        "{log}"
    );
    site.configure(3, &[1, 2, 3], POOL, "");
    let _third = site.start(3);
    site.until_whole(3, &[1, 2, 3]);
}

#[test]
fn a_folder_of_another_member_is_refused() {
    let site = Site::new();
    let mut daemons = without_the_third(&site);
    daemons.remove(1).stop(Signal::SIGTERM);
    let (own, aside) = (site.path("3"), site.path("3-aside"));
    fs::rename(&own, &aside).expect("moved");
    fs::rename(site.path("2"), &own).expect("mistaken");
    let log = refused(&site);
    assert!(
        log.contains("belongs to node 2, and the configuration is that of node 3"),
        "{log}"
    );
    assert!(
        log.contains("name the folder of node 3 ([node] data_dir)"),
        "{log}"
    );

    fs::rename(&own, site.path("2")).expect("moved back");
    fs::rename(&aside, &own).expect("moved back");
    let _others = [2, 3].map(|node| site.start(node));
    site.until_whole(3, &[1, 2, 3]);
}

#[test]
fn a_folder_of_another_cluster_is_refused() {
    let site = Site::new();
    let _daemons = without_the_third(&site);
    fs::write(site.path("3/cluster"), "lab\n").expect("written");
    let log = refused(&site);
    assert!(
        log.contains("belongs to the cluster \"lab\" and the configuration to \"test\""),
        "{log}"
    );
    site.until_whole(1, &[1, 2]);
}

/// The leader of a new term knows nothing of what the lost disk had acknowledged; the table does.
#[test]
fn a_lost_disk_is_found_out_after_a_new_election_and_at_each_start() {
    let site = Site::new();
    let mut daemons = without_the_third(&site);
    fs::remove_dir_all(site.path("3")).expect("removed");
    for _ in 0..2 {
        for node in [2_u8, 1] {
            daemons.remove(usize::from(node) - 1).stop(Signal::SIGKILL);
        }
        daemons = [1, 2].map(|node| site.start(node)).into();
        site.until_whole(1, &[1, 2]);
        let log = refused(&site);
        assert!(
            log.contains("knows that node 3 has run before: its disk was lost"),
            "{log}"
        );
        assert!(log.contains("\"holdfast cluster remove 3\""), "{log}");
    }
}
