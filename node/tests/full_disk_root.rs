//! A node whose disk is full hands over to the others, with real processes and a small file system of their own. Needs root.

#[allow(dead_code, reason = "the tests of the daemon use all of it")]
#[path = "process_common/mod.rs"]
mod process;
#[allow(dead_code, reason = "the tests of the cluster use all of it")]
#[path = "cluster/site.rs"]
mod site;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use site::{Site, member, stop_all, text};

/// Five segments of the log, the counters, and some space to fill.
const SIZE: &str = "size=112m";

fn mount(args: &[&str]) {
    let status = Command::new("mount").args(args).status().expect("mount runs");
    assert!(status.success(), "mount {args:?}");
}

/// As a log that has used one of its spare segments finds the disk.
fn fill(folder: &Path) {
    let spare = fs::read_dir(folder)
        .expect("the data folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.display().to_string().contains("spare-"));
    fs::remove_file(spare.expect("a spare segment")).expect("removed");
    let mut file = File::create(folder.join("filler")).expect("created");
    while file.write_all(&[0; 65_536]).is_ok() {}
}

fn owned(site: &Site, asked: u8, of: u8) -> Option<u64> {
    member(&site.status(asked), of, "groups").as_u64()
}

#[test]
#[ignore = "needs root: run by the test command"]
fn who_has_a_full_disk_owns_nothing_and_does_not_lead_until_it_has_space() {
    let test = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("root");
        mount(&["--make-rprivate", "/"]);
        let site = Site::new();
        let folder = site.path("1");
        fs::create_dir(&folder).expect("created");
        mount(&["-t", "tmpfs", "-o", SIZE, "tmpfs", &folder.display().to_string()]);
        stop_all(site.start_three(), Signal::SIGKILL);
        fill(&folder);
        // The first node has its groups still, and stands for election before the others.
        let daemons = [1, 2, 3].map(|node| site.start(node));
        site.until_whole(2, &[2, 3]);
        site.until("another node leads", || [2, 3].contains(&site.leader(2)));
        assert_eq!(owned(&site, 2, 1), Some(0));
        let warnings = site.status(3)["warnings"].to_string();
        assert!(
            warnings.contains("the disk of the data folder of node 1 is full"),
            "{warnings}"
        );
        let refused = site.cluster(2, &["undrain", "1"]);
        assert!(
            text(&refused.stderr).contains("the disk of node 1 is full"),
            "{refused:?}"
        );
        assert!(site.log(1).contains("free some space"), "{}", site.log(1));

        fs::remove_file(folder.join("filler")).expect("removed");
        site.until("it has space", || {
            site.status(2)["warnings"] == serde_json::json!([])
        });
        site.until_ordered(2, &["undrain", "1"]);
        site.until_whole(2, &[1, 2, 3]);
        assert!(owned(&site, 2, 1) > Some(0));
        stop_all(daemons, Signal::SIGKILL);
        let unmounted = Command::new("umount").arg(&folder).status().expect("umount runs");
        assert!(unmounted.success());
    });
    test.join().expect("no failure");
}
