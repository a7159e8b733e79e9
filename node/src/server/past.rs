//! Whether the data folder fits the cluster that runs, before this node says a word of Raft in it.
//!
//! Raft trusts its members' memories: one that votes after its disk was lost can undo what it had acknowledged, and one that brings
//! another group's log has two clusters hand out the same addresses. Members say in their Hello what they remember, so that the
//! node with the wrong folder finds out by itself, refuses to start and says why. Programs that do not tell are not
//! asked; `ReplicaError::EntriesLost` then remains.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_cluster::Replica;
use tokio::time::{Instant, sleep};

use crate::actors::members::Members;
use crate::config::Config;
use crate::peers::Past;

/// The file in the data folder that says which cluster it belongs to.
const FILE: &str = "cluster";

/// How long those members are waited for who say nothing, where the others are enough to go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked who has been heard.
const LOOK: Duration = Duration::from_millis(10);

/// How often a node that waits says so.
const REMINDER: Duration = Duration::from_secs(10);

/// What a replica remembers.
pub fn of(replica: &Replica) -> Past {
    let members = replica.members();
    let mut group: Vec<u64> = [members.voters, members.learners, members.outgoing].concat();
    group.sort_unstable();
    group.dedup();
    Past {
        group,
        known: replica.table().known_nodes().collect(),
    }
}

/// Whether a folder may be this configuration's, whoever else runs; why not, otherwise.
pub fn check_folder(config: &Config, past: &Past) -> Result<(), String> {
    let folder = config.node.data_dir.display();
    let Some(cluster) = &config.cluster else {
        if past.group == [config.node.id] {
            return Ok(());
        }
        return Err(format!(
            "the data folder {folder} holds the table of a cluster of {}, and the configuration has no [cluster] section: put \
             that and its [[member]]s back, or name another folder ([node] data_dir)",
            nodes(&past.group)
        ));
    };
    let file = config.node.data_dir.join(FILE);
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == cluster.id => Ok(()),
        Ok(found) => Err(format!(
            "the data folder {folder} belongs to the cluster \"{}\" and the configuration to \"{}\" ([cluster] id): name the \
             right folder ([node] data_dir)",
            found.trim().escape_debug(),
            cluster.id
        )),
        Err(_) => {
            note_cluster(&file, &cluster.id);
            Ok(())
        }
    }
}

/// On a disk that is full it is noted next time.
fn note_cluster(file: &Path, id: &str) {
    if let Err(error) = fs::write(file, format!("{id}\n")) {
        tracing::debug!(file = %file.display(), "cannot note whose data folder this is: {error}");
    }
}

/// Waits until enough members have said what they remember; why this node must not take part, otherwise.
pub async fn compare(config: &Config, past: &Past, is_empty: bool, members: &Members) -> Result<(), String> {
    let joins = config.cluster.as_ref().is_some_and(|cluster| cluster.join);
    let memory = match () {
        () if is_empty && joins => Memory::Joins,
        () if is_empty => Memory::None,
        () => Memory::Of(past),
    };
    let me = config.node.id;
    let others = config.members.len().saturating_sub(1);
    let (started, mut said) = (Instant::now(), Instant::now());
    loop {
        let theirs = members.agreements().pasts();
        if let Some(why) = contradiction(me, memory, &theirs) {
            return Err(format!("{}: {why}", config.node.data_dir.display()));
        }
        let is_over = started.elapsed() >= PATIENCE || theirs.len() >= others;
        let goes_on = match memory {
            // Without a quorum it could do nothing anyway.
            Memory::None => (theirs.len() + 1) * 2 > others + 1 && is_over,
            // It has no vote until others give it one.
            Memory::Joins => is_over,
            Memory::Of(past) => past.group != [me] || is_over,
        };
        if goes_on {
            return Ok(());
        }
        if said.elapsed() > REMINDER {
            said = Instant::now();
            tracing::warn!(
                waited_seconds = started.elapsed().as_secs(),
                "waiting for a quorum of the cluster: start the other members, or see why they cannot be reached"
            );
        }
        sleep(LOOK).await;
    }
}

/// What the log of a node that starts holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory<'a> {
    /// Nothing, and the node is to join a cluster that runs.
    Joins,
    /// Nothing.
    None,
    /// This.
    Of(&'a Past),
}

/// What the others remember of this node that it does not.
fn contradiction(me: u64, memory: Memory<'_>, theirs: &BTreeMap<u64, Past>) -> Option<String> {
    match memory {
        Memory::None | Memory::Joins => theirs
            .iter()
            // Who was removed may join again.
            .find(|(_, past)| past.known.contains(&me) && (memory == Memory::None || past.group.contains(&me)))
            .map(|(node, _)| {
                format!(
                    "the data folder is empty, but node {node} knows that node {me} has run before: its disk was lost. What it \
                     had acknowledged is gone, so it cannot go on under this id. Remedy: on the leader \"holdfast cluster \
                     remove {me}\"; in [[member]] of all files, and in [node] and the certificate of this one, another id in \
                     place of {me}; here [cluster] join = true, and start; then on the leader \"holdfast cluster add ID\" and \
                     \"holdfast cluster undrain ID\""
                )
            }),
        Memory::Of(Past { group, known }) => theirs
            .iter()
            .find(|(node, past)| {
                let shares = |member: &u64| *member != me && group.contains(member);
                // One that we know to have run was removed, and may not have heard of it.
                let is_foreign = !group.contains(node) && !known.contains(node);
                past.group.contains(&me) && is_foreign && !past.group.iter().any(shares)
            })
            .map(|(node, past)| {
                format!(
                    "the data folder holds the table of a cluster of {}, but node {node} runs in one of {}: together they would \
                     give the same addresses to different subscribers. Remedy: name the folder that node {me} has in that \
                     cluster ([node] data_dir). To make a cluster of a node that was alone, the others start with empty data \
                     folders and [cluster] join = true instead, and \"holdfast cluster add ID\" here takes them in",
                    nodes(group),
                    nodes(&past.group)
                )
            }),
    }
}

fn nodes(ids: &[u64]) -> String {
    match ids {
        [] => "nobody".to_owned(),
        [one] => format!("node {one} alone"),
        several => {
            let several: Vec<String> = several.iter().map(u64::to_string).collect();
            format!("the nodes {}", several.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembers(group: &[u64], known: &[u64]) -> Past {
        Past {
            group: group.to_vec(),
            known: known.to_vec(),
        }
    }

    fn heard(said: &[(u64, &[u64], &[u64])]) -> BTreeMap<u64, Past> {
        said.iter()
            .map(|(node, group, known)| (*node, remembers(group, known)))
            .collect()
    }

    #[test]
    fn an_empty_folder_of_a_node_that_has_run_is_a_lost_disk() {
        let first_start = heard(&[(1, &[1, 2, 3], &[1, 2]), (2, &[1, 2, 3], &[])]);
        assert_eq!(contradiction(3, Memory::None, &first_start), None);
        let later = heard(&[(1, &[1, 2, 3], &[]), (2, &[1, 2, 3], &[1, 2, 3])]);
        let text = contradiction(3, Memory::None, &later).expect("lost");
        assert!(text.contains("node 2 knows that node 3 has run before"), "{text}");
        let behind = remembers(&[1, 2, 3], &[1, 2]);
        assert_eq!(contradiction(3, Memory::Of(&behind), &later), None);
    }

    #[test]
    fn who_joins_is_no_member_that_lost_its_disk() {
        let member = heard(&[(1, &[1, 2, 4], &[1, 2, 4])]);
        assert!(contradiction(4, Memory::Joins, &member).is_some());
        let removed = heard(&[(1, &[1, 2], &[1, 2, 4])]);
        assert_eq!(contradiction(4, Memory::Joins, &removed), None);
        let new = heard(&[(1, &[1, 2, 4], &[1, 2])]);
        assert_eq!(contradiction(4, Memory::Joins, &new), None);
    }

    #[test]
    fn a_log_of_another_group_is_refused_and_one_that_is_behind_is_not() {
        let theirs = heard(&[(1, &[1, 2, 3], &[1, 2, 3])]);
        let alone = remembers(&[3], &[3]);
        let text = contradiction(3, Memory::Of(&alone), &theirs).expect("two clusters");
        assert!(
            text.contains("node 3 alone") && text.contains("nodes 1, 2, 3"),
            "{text}"
        );
        // Node 4 was added, or this node removed, while it was away.
        let three = remembers(&[1, 2, 3], &[1, 2, 3]);
        let added = heard(&[(4, &[1, 2, 3, 4], &[])]);
        assert_eq!(contradiction(3, Memory::Of(&three), &added), None);
        let removed = heard(&[(1, &[1, 2], &[])]);
        assert_eq!(contradiction(3, Memory::Of(&three), &removed), None);
        // A node that was alone takes in others, which are empty.
        assert_eq!(
            contradiction(3, Memory::Of(&alone), &heard(&[(1, &[], &[])])),
            None
        );
        // One that removed all others; the last of them does not know of it yet.
        let last = remembers(&[3], &[1, 2, 3]);
        let unaware = heard(&[(1, &[1, 3], &[1, 2, 3])]);
        assert_eq!(contradiction(3, Memory::Of(&last), &unaware), None);
    }
}
