//! Orders at whichever node, and what a node says of itself that was removed.

use nix::sys::signal::Signal;

use crate::site::{Daemon, Site, member, others, stop_all, text};

#[test]
fn a_node_that_was_removed_says_so_and_comes_back_when_it_is_added() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let leader = site.leader(1);
    let [removed, asked] = *others(leader) else {
        panic!("three nodes")
    };
    let id = removed.to_string();
    // Asked of a node that does not lead.
    let done = site.cluster(asked, &["remove", &id]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let again = site.cluster(asked, &["remove", &id]);
    assert!(
        text(&again.stderr).contains(&format!("node {id} is no member")),
        "{again:?}"
    );

    let says = "this node was removed from the cluster";
    site.until("it knows", || {
        site.status(removed)["warnings"].to_string().contains(says)
    });
    let status = site.holdfast(&["status", "--config", &format!("{removed}.toml")]);
    assert!(text(&status.stdout).contains(says), "{status:?}");
    site.until("its log says so", || site.log(removed).contains(says));

    // It comes back as it is.
    let done = site.cluster(asked, &["add", &id]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    site.until("it knows that too", || {
        let status = site.status(removed);
        member(&status, removed, "membership") == "voter" && !status["warnings"].to_string().contains(says)
    });

    // Removed while it does not run.
    daemons.remove(usize::from(removed) - 1).stop(Signal::SIGTERM);
    site.until_ordered(asked, &["remove", &id]);
    let _third = site.start(removed);
    site.until("it waits to be added", || {
        site.log(removed).contains("waiting to be added")
    });
    for command in [&["cluster", "status"][..], &["sessions"], &["reload"]] {
        let file = format!("{removed}.toml");
        let answer = site.holdfast(&[command, &["--config", &file]].concat());
        let said = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(1), "{answer:?}");
        assert!(
            said.contains("waiting to be added") && said.contains(&format!("holdfast cluster add {id}")),
            "{said}"
        );
    }
    site.until_ordered(asked, &["add", &id]);
    site.until("it is whole", || {
        member(&site.status(removed), removed, "membership") == "voter"
    });
}

#[test]
fn how_far_each_node_is_is_shown() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let number = |node: u8, of: u8, key: &str| member(&site.status(node), of, key).as_u64();
    site.until("all have applied much the same", || {
        (1..=3).all(|of| number(1, of, "applied") > Some(0))
    });
    let shown = text(&site.cluster(1, &["status"]).stdout);
    assert!(shown.contains("APPLIED") && shown.contains("BEHIND"), "{shown}");
    let stopped = others(site.leader(1))[0];
    let asked = site.leader(1);
    daemons[usize::from(stopped) - 1].signal(Signal::SIGSTOP);
    site.until("the node that stands still is behind", || {
        number(asked, stopped, "behind") > Some(2)
    });
    daemons[usize::from(stopped) - 1].signal(Signal::SIGCONT);
    site.until("it catches up", || number(asked, stopped, "behind") <= Some(1));
    stop_all(daemons.drain(..), Signal::SIGTERM);
}
