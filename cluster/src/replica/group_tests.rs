//! Three and five members in one process: the path that a single node goes too, over a network that has faults.

use super::test_net::Net;
use super::{MemberChange, Members, MembersError, TransferError};
use crate::testing::{create, take};

const FAULTS: [u64; 4] = [1, 2, 3, 4];

fn voters(ids: &[u64]) -> Members {
    Members {
        voters: ids.to_vec(),
        ..Members::default()
    }
}

/// Proposes as an owner does: again, until it is accepted.
fn insist(net: &mut Net, node: u64, token: u64, command: impl Into<crate::commands::Command>) {
    let command = command.into();
    for _ in 0..100 {
        net.node(node).propose(token, command.clone()).expect("room");
        for _ in 0..100 {
            net.run(1);
            if net.is_accepted(token) {
                return;
            }
        }
    }
    panic!("not accepted within 10 s: {command:?}");
}

/// Node `owner` takes all groups and creates tunnels, some of which outgrow the log so that a snapshot is due.
fn fill(net: &mut Net, owner: u64, tunnels: std::ops::Range<u16>) {
    insist(net, owner, u64::from(tunnels.start), take(0..256, owner, 1));
    for id in tunnels {
        insist(net, owner, 0x1_0000 + u64::from(id), create(id));
    }
}

#[test]
fn the_lowest_rank_is_elected_and_a_followers_proposal_comes_back_to_it() {
    let mut net = Net::new(1, &[1, 2, 3]);
    let ms = net.until("a leader", |net| net.leader().is_some());
    assert_eq!(net.leader(), Some(1));
    assert!((250..=300).contains(&ms), "{ms} ms");
    insist(&mut net, 3, 5, take(0..256, 3, 1));
    net.until("the same table", Net::agree);
}

#[test]
fn a_dead_leader_is_replaced_by_the_next_rank_without_a_split_vote() {
    for seed in 0..20 {
        let mut net = Net::new(seed, &[1, 2, 3]);
        net.elect();
        net.run(200 + seed * 7);
        net.kill(1);
        let ms = net.until("a leader", |net| net.leader().is_some());
        assert_eq!(net.leader(), Some(2));
        assert!((250..=310).contains(&ms), "{ms} ms with seed {seed}");
    }
}

#[test]
fn a_first_rank_that_follows_stands_as_soon_as_it_may() {
    for seed in 0..20 {
        let mut net = Net::new(seed, &[1, 2, 3]);
        net.elect();
        net.node(1).transfer_leadership(3).expect("a voter");
        net.until("the other leads", |net| net.leader() == Some(3));
        net.run(200 + seed * 7);
        net.kill(3);
        let ms = net.until("a leader", |net| net.leader().is_some());
        assert_eq!(net.leader(), Some(1));
        assert!((200..=260).contains(&ms), "{ms} ms with seed {seed}");
    }
}

#[test]
fn the_group_outlives_its_leader_and_the_late_one_gets_the_whole_table() {
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        (net.lost, net.delay_ms) = (5, 60);
        net.elect();
        net.kill(1);
        let leader = net.elect();
        assert_ne!(leader, 1);
        fill(&mut net, leader, 0x0301..0x0341);
        net.start(1, &[1, 2, 3]);
        assert!(!net.node(1).is_caught_up());
        net.until("the whole table", |net| net.got_the_whole_table(1));
        net.lost = 0;
        net.until("the same table", Net::agree);
        assert_eq!(net.node(1).table().tunnel_count(), 64);
        net.run(100);
        assert!(net.node(1).is_caught_up());
    }
}

#[test]
fn a_large_table_goes_in_many_parts() {
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        (net.lost, net.delay_ms) = (5, 60);
        net.elect();
        net.kill(3);
        fill(&mut net, 2, 0x0301..0x0302);
        for id in 0x0400..0x0428 {
            let mut large = create(id);
            let row = large.row.as_mut().expect("made with a row");
            row.unacknowledged[0].octets = vec![7; 300_000];
            insist(&mut net, 2, 0x1_0000 + u64::from(id), large);
        }
        net.largest = 0;
        net.start(3, &[1, 2, 3]);
        net.run(50);
        // In the middle of it both ends are cut off for longer than the sender waits, and begin again.
        net.cut.insert(3);
        net.run(2_500);
        assert!(!net.got_the_whole_table(3));
        net.cut.clear();
        net.until("the whole table", |net| net.got_the_whole_table(3));
        net.until("the same table", Net::agree);
        assert!(
            net.largest <= crate::limits::PEER_MESSAGE_OCTETS_MAX,
            "{} octets",
            net.largest
        );
    }
}

#[test]
fn a_follower_that_starts_again_finds_its_log() {
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        (net.lost, net.delay_ms) = (5, 60);
        net.elect();
        fill(&mut net, 2, 0x0301..0x0305);
        for id in 0x0305..0x0310 {
            net.kill(3);
            insist(&mut net, 2, 0x1_0000 + u64::from(id), create(id));
            net.start(3, &[1, 2, 3]);
            net.run(100);
        }
        net.lost = 0;
        net.until("the same table", Net::agree);
    }
}

#[test]
fn all_that_was_accepted_is_there_after_all_were_killed() {
    let mut net = Net::new(7, &[1, 2, 3]);
    net.elect();
    fill(&mut net, 2, 0x0301..0x0310);
    for id in 1..=3 {
        net.kill(id);
    }
    for id in 1..=3 {
        net.start(id, &[1, 2, 3]);
    }
    net.elect();
    net.until("the same table", Net::agree);
    assert_eq!(net.node(3).table().tunnel_count(), 15);
}

#[test]
fn a_proposal_whose_leader_is_gone_is_given_up_and_the_next_goes_through() {
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    net.kill(1);
    net.node(2).propose(5, take(0..256, 2, 1).into()).expect("room");
    net.elect();
    assert!(!net.is_accepted(5), "it vanished on its way to the dead leader");
    insist(&mut net, 2, 6, take(0..256, 2, 1));
    net.until("it is said", |net| net.is_unanswered(5));
}

#[test]
fn a_verdict_that_comes_late_is_given() {
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    // A round trip takes longer than the patience with a batch.
    net.cut.extend([2, 3]);
    net.node(1).propose(5, take(0..256, 1, 1).into()).expect("room");
    net.run(150);
    net.cut.clear();
    net.until("the verdict", |net| net.is_accepted(5));
}

#[test]
fn a_learner_is_filled_and_then_promoted() {
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        (net.lost, net.delay_ms) = (5, 60);
        net.elect();
        fill(&mut net, 2, 0x0301..0x0341);
        // The fourth begins with nothing, and is told of no members.
        net.start(4, &[]);
        assert_eq!(net.node(4).members(), Members::default());
        let leader = net.until_leader_of(&[1, 2, 3]);
        net.node(leader)
            .propose_members(&[MemberChange::Learner(4)])
            .expect("leads");
        net.until("the learner's table", |net| net.got_the_whole_table(4));
        net.lost = 0;
        let learning = Members {
            learners: vec![4],
            ..voters(&[1, 2, 3])
        };
        net.until("a learner", |net| net.all_have(&learning) && net.agree());
        net.until("caught up", |net| net.is_caught_up(4));
        let leader = net.elect();
        let progress = net.node(leader).progress();
        assert_eq!(
            progress.iter().map(|member| member.id).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(
            net.node(leader).transfer_leadership(4),
            Err(TransferError::NoVoter(4))
        );
        net.node(leader)
            .propose_members(&[MemberChange::Voter(4)])
            .expect("leads");
        net.until("a voter", |net| net.all_have(&voters(&[1, 2, 3, 4])));
    }
}

#[test]
fn three_grow_to_five_and_shrink_again() {
    use MemberChange::{Remove, Voter};
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        (net.lost, net.delay_ms) = (5, 60);
        net.elect();
        fill(&mut net, 2, 0x0301..0x0310);
        net.start(4, &[]);
        net.start(5, &[]);
        let leader = net.until_leader_of(&[1, 2, 3]);
        net.node(leader)
            .propose_members(&[Voter(4), Voter(5)])
            .expect("leads");
        net.until("five voters", |net| net.all_have(&voters(&[1, 2, 3, 4, 5])));
        // With five two may be gone.
        net.cut.extend([1, 2]);
        let leader = net.elect();
        assert!(leader > 2);
        insist(&mut net, 4, 77, take([9], 4, 1));
        net.cut.clear();
        let leader = net.elect();
        let others: Vec<_> = (1..=5).filter(|id| *id != leader).collect();
        let refused = net.node(leader).propose_members(&[Remove(leader)]);
        assert_eq!(refused, Err(MembersError::LeaderLeaves));
        let refused = net.node(others[0]).propose_members(&[Remove(others[1])]);
        assert_eq!(refused, Err(MembersError::NotLeader { leader: Some(leader) }));
        net.node(leader)
            .propose_members(&[Remove(others[0]), Remove(others[1])])
            .expect("leads");
        let mut left = vec![leader, others[2], others[3]];
        left.sort_unstable();
        net.until("three voters", |net| net.have(leader, &voters(&left)));
        net.run(1_000);
        net.kill(others[0]);
        net.kill(others[1]);
        net.lost = 0;
        assert_eq!(net.elect(), leader, "those that left disturb nobody");
        net.until("the same table", |net| {
            net.all_have(&voters(&left)) && net.agree()
        });
    }
}

#[test]
fn an_exchange_is_completed_by_whoever_leads() {
    for seed in 0..40 {
        let mut net = Net::new(seed, &[1, 2, 3]);
        net.delay_ms = 20;
        net.elect();
        for id in [4, 5] {
            net.start(id, &[]);
        }
        net.node(1)
            .propose_members(&[
                MemberChange::Voter(4),
                MemberChange::Voter(5),
                MemberChange::Remove(2),
            ])
            .expect("leads");
        // The leader dies at another moment of it each time.
        net.run(seed % 20);
        net.kill(1);
        net.run(2_000);
        net.start(1, &[1, 2, 3]);
        let (old, new) = (voters(&[1, 2, 3]), voters(&[1, 3, 4, 5]));
        net.until("all or nothing", |net| {
            net.have(3, &old) && net.have(1, &old) || net.have(3, &new) && net.have(1, &new)
        });
    }
}

#[test]
fn a_leader_that_is_being_removed_steps_down() {
    for seed in 0..40 {
        let mut net = Net::new(seed, &[1, 2, 3]);
        net.delay_ms = 20;
        net.elect();
        net.node(1).transfer_leadership(2).expect("a voter");
        net.until("the other leads", |net| net.leader() == Some(2));
        // A new leader changes members only when its term has begun.
        net.run(100);
        for id in [4, 5] {
            net.start(id, &[]);
        }
        net.node(2)
            .propose_members(&[
                MemberChange::Voter(4),
                MemberChange::Voter(5),
                MemberChange::Remove(1),
            ])
            .expect("leads");
        // So the one that leaves may lead while it does.
        let _ = net.node(2).transfer_leadership(1);
        net.run(3_000);
        insist(&mut net, 3, 7, take([9], 3, 1));
        net.until("one or the other", |net| {
            net.have(3, &voters(&[1, 2, 3])) || net.have(3, &voters(&[2, 3, 4, 5]))
        });
    }
}

#[test]
fn leadership_is_passed_on_and_nothing_is_lost_meanwhile() {
    for seed in FAULTS {
        let mut net = Net::new(seed, &[1, 2, 3]);
        net.elect();
        fill(&mut net, 1, 0x0301..0x0305);
        net.node(1).transfer_leadership(3).expect("a voter");
        net.node(1).propose(9, create(0x0306).into()).expect("room");
        let ms = net.until("the other leads", |net| net.leader() == Some(3));
        assert!(ms < 20, "{ms} ms");
        net.until("the verdict", |net| net.is_accepted(9));
        assert_eq!(
            net.node(1).transfer_leadership(2),
            Err(TransferError::NotLeader { leader: Some(3) })
        );
    }
}

#[test]
fn a_witness_may_lead_and_passes_leadership_on() {
    // To consensus a witness is a voter like the others; it only never registers as an owner.
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    fill(&mut net, 2, 0x0301..0x0305);
    insist(&mut net, 3, 8, take([], 3, 1));
    net.node(1).transfer_leadership(3).expect("a voter");
    net.until("the witness leads", |net| net.leader() == Some(3));
    insist(&mut net, 2, 9, create(0x0306));
    let asked = net.node(3).pass_leadership_at_once(&[1, 3].into());
    assert_eq!(asked, Some(2));
    net.until("a node leads", |net| net.leader() == Some(2));
}

#[test]
fn a_witness_goes_on_leading_while_the_other_lacks_much() {
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    net.node(1).transfer_leadership(3).expect("a voter");
    net.until("the witness leads", |net| net.leader() == Some(3));
    net.kill(1);
    net.run(1_000);
    assert!(!net.node(3).has_caught_up(1), "it is not there");
    assert!(net.node(3).has_caught_up(2));
    assert_eq!(net.node(3).pass_leadership_at_once(&[2, 3].into()), None);
    assert_eq!(net.node(3).pass_leadership_at_once(&[3].into()), Some(2));
}

#[test]
fn what_makes_no_sense_ends_nothing() {
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    net.node(1).receive(b"\xff\xff\xff").expect("not final");
    net.node(1).receive(b"").expect("not final");
    assert_eq!(net.node(1).messages_dropped(), 2);
    insist(&mut net, 1, 5, take([], 1, 1));
}

#[test]
fn a_log_that_lost_what_it_acknowledged_is_found_out() {
    let mut net = Net::new(1, &[1, 2, 3]);
    net.elect();
    fill(&mut net, 1, 0x0301..0x0305);
    net.until("the same table", Net::agree);
    net.kill(3);
    net.lose_disk(3);
    net.start(3, &[1, 2, 3]);
    let error = net.until_final(3);
    assert!(error.contains("disk was lost"), "{error}");
}

#[test]
fn members_that_the_configuration_contradicts_are_seen_at_opening() {
    let mut net = Net::new(1, &[1]);
    net.run(20);
    net.kill(1);
    net.start(1, &[1, 2, 3]);
    assert_eq!(net.node(1).members(), voters(&[1]), "the log has the say");
    net.node(1)
        .propose_members(&[MemberChange::Learner(2)])
        .expect("a group of one leads itself");
}

#[test]
fn the_version_is_raised_when_all_members_know_it() {
    let newest = crate::limits::COMMAND_VERSION;
    let mut net = Net::new(1, &[1, 2, 3]);
    net.kill(3);
    net.elect();
    net.run(3_000);
    assert_eq!(net.node(1).table().version(), 1, "one was never heard");
    net.start(3, &[1, 2, 3]);
    net.until("the newest version", |net| net.all_use(newest));
    net.until("the same table", Net::agree);
}
