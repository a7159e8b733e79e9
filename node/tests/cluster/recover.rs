//! The quorum is gone for good: one node goes on by itself.

use std::fs;

use nix::sys::signal::Signal;

use crate::line::Line;
use crate::site::{Daemon, POOL, Site, member, others, stop_all, text};

fn recover(site: &Site, node: u8, more: &[&str]) -> std::process::Output {
    let file = format!("{node}.toml");
    let args = [&["cluster", "recover", "--config", &file], more].concat();
    site.holdfast(&args)
}

#[test]
fn a_survivor_serves_all_sessions_again_and_the_lost_are_added_anew() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let survivor = others(site.leader(1))[0];
    let lost = others(survivor);
    // One session that the survivor owns, one that a lost node does.
    let mut own = Line::dial(&site, survivor, 1);
    own.until_up();
    let mut theirs = Line::dial(&site, lost[0], 2);
    theirs.until_up();
    let sessions = || {
        let listed = site.holdfast(&["sessions", "--config", &format!("{survivor}.toml")]);
        text(&listed.stdout)
    };
    site.until("the survivor knows both", || {
        sessions().contains("257") && sessions().contains("513")
    });

    let running = recover(&site, survivor, &["--force"]);
    assert!(
        text(&running.stderr).contains("is in use by process"),
        "{running:?}"
    );
    let last = daemons.remove(usize::from(survivor) - 1);
    stop_all(daemons, Signal::SIGKILL);
    for node in &lost {
        fs::rename(site.path(&node.to_string()), site.path(&format!("{node}.old"))).expect("their data");
    }
    last.stop(Signal::SIGTERM);

    let plan = recover(&site, survivor, &[]);
    assert_eq!(plan.status.code(), Some(1));
    let said = text(&plan.stdout);
    assert!(
        said.contains("2 sessions") && said.contains("is lost") && !said.contains("Done"),
        "{said}"
    );
    assert!(text(&plan.stderr).contains("--force"), "{plan:?}");
    let done = recover(&site, survivor, &["--force"]);
    let said = text(&done.stdout);
    assert!(
        done.status.success() && said.contains("Next:"),
        "{said}{}",
        text(&done.stderr)
    );
    let _first = site.start(survivor);
    site.until_whole(survivor, &[survivor]);
    own.until_answered();
    theirs.lead_to(&site, survivor);
    theirs.until_answered();

    let members = [1, 2, 3];
    let mut added = Vec::new();
    for node in &lost {
        site.configure(*node, &members, POOL, "join = true");
        added.push(site.start(*node));
        site.until_ordered(survivor, &["add", &node.to_string()]);
    }
    site.until_ordered(survivor, &["rebalance"]);
    site.until_whole(lost[0], &members);
    for node in members {
        assert!(member(&site.status(lost[1]), node, "groups").as_u64() > Some(0));
    }
    own.until_answered();
    theirs.until_answered();
}

#[test]
fn a_lost_majority_that_comes_back_ends_when_it_meets_the_recovered_node() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    stop_all(daemons.drain(..), Signal::SIGKILL);
    let done = recover(&site, 1, &["--force"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let first = site.start(1);
    site.until_whole(1, &[1]);

    let old = [2, 3].map(|node| site.start(node));
    for (node, daemon) in [2, 3].into_iter().zip(old) {
        assert_eq!(daemon.end(), Some(1));
        let log = site.log(node);
        assert!(
            log.contains("the cluster was recovered without this node"),
            "{log}"
        );
    }
    site.until_whole(1, &[1]);
    assert!(site.log(1).contains("as it was before it was recovered"));

    // The old majority among themselves, and then the recovered node comes.
    first.stop(Signal::SIGTERM);
    let old = [2, 3].map(|node| site.start(node));
    site.until_whole(2, &[2, 3]);
    let _first = site.start(1);
    for daemon in old {
        assert_eq!(daemon.end(), Some(1));
    }
    site.until_whole(1, &[1]);
}

#[test]
fn what_cannot_be_recovered_is_refused_and_left_as_it_is() {
    let site = Site::new();
    let nothing = recover(&site, 1, &["--force"]);
    assert!(
        text(&nothing.stderr).contains("there is no such folder"),
        "{nothing:?}"
    );
    assert!(!site.path("1").exists());
    let mut daemons: Vec<Daemon> = site.start_three().into();
    daemons.remove(0).stop(Signal::SIGTERM);
    a_healthy_cluster_is_left_alone(&site);
    stop_all(daemons.drain(..), Signal::SIGTERM);

    let segment = fs::read_dir(site.path("2"))
        .expect("its data")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.display().to_string().contains("segment-"))
        .expect("a log");
    let whole = fs::read(&segment).expect("read");
    let mut broken = whole;
    broken[4096 + 40] ^= 0xff;
    fs::write(&segment, &broken).expect("written");
    let damaged = recover(&site, 2, &["--force"]);
    assert!(
        text(&damaged.stderr).contains("is damaged at offset"),
        "{damaged:?}"
    );
    assert_eq!(fs::read(&segment).expect("read"), broken);

    site.configure(1, &[1, 2], POOL, "");
    let nowhere = recover(&site, 1, &["--force"]);
    assert!(
        text(&nowhere.stderr).contains("cannot look whether node 3 still runs"),
        "{nowhere:?}"
    );
    site.configure(1, &[1, 2, 3], POOL, "");
    let done = recover(&site, 1, &["--force", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(said["recovered"], true);
    assert_eq!(said["lost"], serde_json::json!([2, 3]));
    let backup = said["backup"].as_str().expect("a folder").to_owned();
    assert!(fs::read_dir(backup).expect("kept").count() > 0);
    let again = recover(&site, 1, &["--force"]);
    assert!(
        text(&again.stderr).contains("the only voter of its cluster already"),
        "{again:?}"
    );
}

/// Node 1 is stopped, the others run: they are a majority.
fn a_healthy_cluster_is_left_alone(site: &Site) {
    let refused = recover(site, 1, &["--force"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("the quorum is not lost"), "{said}");
    for node in [2, 3] {
        let answers = format!("node {node} answers at {}:1710", site.address(node));
        assert!(said.contains(&answers), "{said}");
    }
    let begins = |entry: fs::DirEntry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("before-recovery-")
    };
    let folder = fs::read_dir(site.path("1")).expect("its data");
    assert!(!folder.flatten().any(begins), "nothing was written");
    site.until_whole(2, &[2, 3]);
}
