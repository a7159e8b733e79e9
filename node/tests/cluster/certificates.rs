//! Certificates that end, and new ones under the same CA while the nodes run.

use std::fs;

use crate::site::{Site, member, text};

#[test]
fn a_certificate_that_ends_soon_is_named_and_renewed_without_a_restart() {
    let site = Site::new();
    let _daemons = site.start_three();
    let folder = site.path("pki").display().to_string();
    let make = |more: &[&str]| {
        let args = [&["cluster", "certificate", &folder, "--node", "2"], more].concat();
        site.holdfast(&args)
    };
    let before = fs::read(site.path("pki/node-2.pem")).expect("by init");
    let refused = make(&[]);
    assert!(text(&refused.stderr).contains("--replace"), "{refused:?}");
    assert_eq!(fs::read(site.path("pki/node-2.pem")).expect("left"), before);

    let reload = || text(&site.holdfast(&["reload", "--config", "2.toml"]).stdout);
    assert!(!reload().contains("certificate"));
    let made = make(&["--replace", "--days", "20"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(reload().contains("cluster.certificate: renewed"));
    let warns = || {
        site.status(2)["warnings"]
            .to_string()
            .contains("node-2.pem ends within a day of")
    };
    assert!(warns());
    // Connections that stand stay.
    assert!(!site.log(1).contains("lost the connection") && !site.log(2).contains("lost the connection"));

    let made = make(&["--replace"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(reload().contains("cluster.certificate: renewed"));
    assert!(!warns());
    (1..=3).for_each(|node| site.until_whole(node, &[1, 2, 3]));
}

#[test]
fn a_member_that_is_not_known_yet_gets_a_certificate_that_the_others_take() {
    let site = Site::new();
    let folder = site.path("pki").display().to_string();
    for name in ["pki/node-3.pem", "pki/node-3.key"] {
        fs::remove_file(site.path(name)).expect("by init");
    }
    let made = site.holdfast(&["cluster", "certificate", &folder, "--node", "3"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let _daemons = site.start_three();
    assert_eq!(member(&site.status(1), 3, "connected"), true);

    // Another cluster's key signs nothing for this one.
    let other = site.path("other").display().to_string();
    let init = site.holdfast(&["cluster", "init", &other, "--member", "1=127.0.0.1:1710"]);
    assert!(init.status.success(), "{}", text(&init.stderr));
    fs::copy(site.path("other/ca.key"), site.path("pki/ca.key")).expect("copied");
    let refused = site.holdfast(&["cluster", "certificate", &folder, "--node", "5"]);
    assert!(text(&refused.stderr).contains("is not the key of"), "{refused:?}");
    assert!(!site.path("pki/node-5.pem").exists());
}
