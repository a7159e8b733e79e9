//! All nodes together: killed, stopped, misconfigured, added and removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::site::{Daemon, POOL, Site, member, others, stop_all, text};

#[test]
fn the_groups_of_a_killed_node_go_elsewhere_and_all_start_again() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let dead = site.leader(1);
    daemons.remove(usize::from(dead) - 1).stop(Signal::SIGKILL);
    let living = others(dead);
    for node in &living {
        site.until_whole(*node, &living);
        assert_eq!(member(&site.status(*node), dead, "groups"), 0);
    }
    stop_all(daemons, Signal::SIGKILL);
    let _daemons = site.start_three();
}

#[test]
fn a_leader_that_is_told_to_stop_passes_the_lead_on_first() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let first = site.leader(1);
    assert_eq!(site.leader(first), first);
    daemons.remove(usize::from(first) - 1).stop(Signal::SIGTERM);
    let log = site.log(first);
    assert!(log.contains("passed the lead on"), "{log}");
    let living = others(first);
    site.until_whole(living[0], &living);
    assert_ne!(site.leader(living[0]), first);
}

#[test]
fn other_pools_are_refused_and_other_secrets_are_named() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    daemons.remove(2).stop(Signal::SIGTERM);

    site.configure(3, &[1, 2, 3], "100.64.9.0/24", "");
    assert_eq!(site.start(3).end(), Some(1));
    let log = site.log(3);
    assert!(log.contains("has other pools: make [[pool]] name"), "{log}");
    let logged = format!("{}{}", site.log(1), site.log(2));
    assert!(logged.contains("node 3 has other pools"), "{logged}");

    site.configure(3, &[1, 2, 3], POOL, "");
    let file = site.path("3.toml");
    let other = fs::read_to_string(&file)
        .expect("written above")
        .replace("hunter2", "hunter3");
    fs::write(file, other).expect("written");
    let _third = site.start(3);
    // Whether it was back before the others took its groups or not.
    site.until_whole(3, &[1, 2, 3]);
    let named = |node: u8, of: u8| {
        let texts = member(&site.status(node), of, "disagreements").to_string();
        texts.contains("has other LACs, policies, filters, users or secrets")
    };
    site.until("all name the other secret", || {
        named(1, 3) && named(2, 3) && named(3, 1)
    });
    let shown = text(&site.cluster(1, &["status"]).stdout);
    assert!(shown.contains("WARNING: node 3 has other LACs"), "{shown}");
    assert!(!shown.contains("hunter") && !site.logs().contains("hunter"));

    site.configure(3, &[1, 2, 3], POOL, "");
    let reload = site.holdfast(&["reload", "--config", "3.toml"]);
    assert!(reload.status.success(), "{}", text(&reload.stderr));
    site.until("after a reload they agree", || {
        !named(1, 3) && !named(2, 3) && !named(3, 1)
    });
}

#[test]
fn a_second_process_under_one_id_is_refused_and_named() {
    let site = Site::new();
    let _daemons = site.start_three();
    // As if the files of node 3 had been copied to another host.
    let copied = fs::read_to_string(site.path("3.toml")).expect("written");
    let folder = site.folder.path().display().to_string();
    let copied = copied
        .replace(&format!("{}:", site.address(3)), &format!("{}:", site.address(4)))
        .replace(&format!("{folder}/3"), &format!("{folder}/4"));
    let file = site.path("4.toml");
    fs::write(&file, copied).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("private");
    let _second = site.start(4);
    for node in [1, 2] {
        site.until("the others name it", || {
            let texts = member(&site.status(node), 3, "disagreements").to_string();
            texts.contains("two processes run as node 3")
        });
    }
    site.until("it knows that it is refused", || {
        site.log(4).contains("it refused us; its log says why")
    });
    (1..=3).for_each(|node| site.until_whole(node, &[1, 2, 3]));
}

#[test]
fn members_come_and_go() {
    let site = Site::new();
    let daemons = site.start_three();
    site.configure(1, &[1, 2, 4], POOL, "");
    let refused = site.holdfast(&["reload", "--config", "1.toml"]);
    assert!(!refused.status.success(), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("node 3 belongs to the cluster"), "{said}");
    assert_eq!(member(&site.status(1), 3, "connected"), true);
    assert_eq!(site.status(1)["nodes"].as_array().map(Vec::len), Some(3));
    let reload = |node: u8, members: &[u8], says: &str| {
        site.configure(node, members, POOL, "");
        let reload = site.holdfast(&["reload", "--config", &format!("{node}.toml")]);
        let said = text(&reload.stdout);
        assert!(
            said.contains(says) && !said.contains("waits for the next start"),
            "{reload:?}"
        );
    };
    (1..=3).for_each(|node| reload(node, &[1, 2, 3, 4], "member 4: added"));
    site.until("the fourth is missed", || {
        site.status(1)["warnings"]
            .to_string()
            .contains("holdfast cluster add 4")
    });
    let refused = site.cluster(others(site.leader(1))[0], &["add", "4"]);
    assert!(text(&refused.stderr).contains("cannot be reached"), "{refused:?}");

    site.configure(4, &[1, 2, 3, 4], POOL, "join = true");
    let fourth = site.start(4);
    site.until_ordered(1, &["add", "4"]);
    site.until("it knows that it votes", || {
        member(&site.status(4), 4, "membership") == "voter"
    });
    site.until_ordered(1, &["undrain", "4"]);
    site.until("it owns groups", || {
        member(&site.status(2), 4, "groups").as_u64() > Some(0)
    });
    site.until_whole(2, &[1, 2, 3, 4]);

    site.until_ordered(1, &["remove", "4"]);
    site.until_whole(2, &[1, 2, 3]);
    assert_eq!(member(&site.status(site.leader(1)), 4, "membership"), "none");
    drop(fourth);
    for node in 1..=3 {
        site.until("it has heard", || {
            member(&site.status(node), 4, "membership") == "none"
        });
        reload(node, &[1, 2, 3], "member 4: removed");
    }
    site.until("nothing is left of it", || {
        (1..=3).all(|node| site.status(node)["warnings"] == serde_json::json!([]))
    });

    // The leader itself, asked of itself: it hands the lead over first.
    let leader = site.leader(1);
    let rest = others(leader);
    let removed = site.cluster(leader, &["remove", &leader.to_string()]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    site.until_whole(rest[0], &rest);
    drop(daemons);
}

#[test]
fn a_node_that_lost_its_disk_says_how_to_come_back_and_does() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let lost = others(site.leader(1))[0];
    daemons.remove(usize::from(lost) - 1).stop(Signal::SIGKILL);
    fs::remove_dir_all(site.path(&lost.to_string())).expect("its data");
    assert_eq!(site.start(lost).end(), Some(1));
    let log = site.log(lost);
    assert!(
        log.contains("its disk was lost") && log.contains("join = true"),
        "{log}"
    );
    let living = others(lost);
    site.until_whole(living[0], &living);

    // What it says: away with it, and back as a new member.
    site.until_ordered(living[0], &["remove", &lost.to_string()]);
    let members = [living[0], living[1], 4];
    for node in &living {
        site.configure(*node, &members, POOL, "");
        let reload = site.holdfast(&["reload", "--config", &format!("{node}.toml")]);
        assert!(reload.status.success(), "{}", text(&reload.stderr));
    }
    site.configure(4, &members, POOL, "join = true");
    daemons.push(site.start(4));
    site.until_ordered(living[0], &["add", "4"]);
    site.until("it owns groups", || {
        site.until_ordered(living[0], &["rebalance"]);
        member(&site.status(living[0]), 4, "groups").as_u64() > Some(0)
    });
    site.until_whole(living[1], &members);
    assert_eq!(site.status(living[1])["warnings"], serde_json::json!([]));
}
