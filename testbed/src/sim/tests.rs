//! The simulation repeats itself, finds nothing where nothing is wrong, and finds what is planted.

use super::*;

/// Virtual minutes with faults; enough for every planted mistake to matter within its number of seeds.
const MINUTES: u64 = 3;

fn run_seed(seed: u64, bug: Option<Bug>) -> Run {
    run(&Setup::of_seed(seed, None, MINUTES, bug))
}

/// The invariant that finds a planted mistake within so many seeds.
fn found_by(bug: Bug, seeds: u64) -> &'static str {
    let failure = (1..=seeds).find_map(|seed| run_seed(seed, Some(bug)).failure);
    match failure {
        Some(failure) => failure.invariant,
        None => panic!("{bug:?} is not found within {seeds} seeds"),
    }
}

#[test]
fn a_seed_repeats_itself_to_the_last_octet() {
    let [first, second] = [1, 1].map(|seed| run_seed(seed, None));
    assert_eq!((first.steps, first.digest), (second.steps, second.digest));
    assert_ne!(first.digest, run_seed(2, None).digest);
}

#[test]
fn nothing_is_found_in_what_is_right() {
    for seed in 1..=5 {
        let run = run_seed(seed, None);
        assert!(run.failure.is_none(), "seed {seed}: {:?}", run.failure);
    }
}

/// A node that was cut off was vouched for again before its sessions' actors were told that their group had gone.
#[test]
fn what_was_found_once_is_not_found_again() {
    for seed in [25_132, 41_422] {
        let run = run_seed(seed, None);
        assert!(run.failure.is_none(), "{:?}", run.failure);
    }
}

#[test]
fn members_come_and_go() {
    let setup = |seed| Setup {
        reconfigured: true,
        ..Setup::of_seed(seed, None, MINUTES, None)
    };
    let runs: Vec<Run> = (1..=5).map(|seed| run(&setup(seed))).collect();
    let failed = runs.iter().find_map(|run| run.failure.as_ref());
    assert!(failed.is_none(), "{failed:?}");
    let orders: u64 = runs.iter().map(|run| run.orders).sum();
    assert!(orders > 10, "{orders} members were added or removed");
}

#[test]
fn output_before_acceptance_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::OutputBeforeAcceptance, 1), "acknowledged");
}

#[test]
fn an_nr_that_is_not_replicated_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::NrNotReplicated, 1), "acknowledged");
}

#[test]
fn a_configure_ack_before_acceptance_is_found_in_one_seed() {
    found_by(Bug::ConfigureAckEarly, 1);
}

#[test]
fn a_disk_that_does_not_sync_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::FsyncSkipped, 1), "durable");
}

#[test]
fn an_unchecked_revision_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::RevisionUnchecked, 1), "acknowledged");
}

#[test]
fn leaving_open_without_a_word_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::LeavingOpenNotCommitted, 1), "negotiated");
}

#[test]
fn forgetting_what_was_not_acknowledged_is_found_in_two_seeds() {
    found_by(Bug::UnacknowledgedForgotten, 2);
}

#[test]
fn an_unchecked_epoch_is_found_in_ten_seeds() {
    found_by(Bug::EpochUnchecked, 10);
}

#[test]
fn a_stale_owner_that_speaks_is_found_in_twenty_seeds() {
    found_by(Bug::StaleOwnerSpeaks, 20);
}

#[test]
fn a_lac_that_is_never_asked_is_found_in_fifty_seeds() {
    assert_eq!(found_by(Bug::NeverAsks, 50), "half-dead");
}

#[test]
fn an_incarnation_that_is_kept_is_found_in_forty_seeds() {
    found_by(Bug::IncarnationKept, 40);
}

#[test]
fn what_is_relayed_twice_is_found_in_forty_seeds() {
    assert_eq!(found_by(Bug::RelayedTwice, 40), "relayed");
}

#[test]
fn an_ignored_refusal_is_found_in_forty_seeds() {
    found_by(Bug::RefusalIgnored, 40);
}

#[test]
fn a_change_that_is_not_proposed_again_is_found_in_sixty_seeds() {
    found_by(Bug::NoResubmission, 60);
}

#[test]
fn a_block_that_is_leased_twice_is_found_in_three_seeds() {
    assert_eq!(found_by(Bug::BlockLeasedTwice, 3), "addresses");
}

#[test]
fn accounting_that_is_settled_unseen_is_found_in_one_seed() {
    assert_eq!(found_by(Bug::AccountingSettledUnseen, 1), "accounting");
}

#[test]
fn stops_that_differ_are_found_in_ten_seeds() {
    assert_eq!(found_by(Bug::StopsDiffer, 10), "accounting");
}

#[test]
fn an_accept_that_is_used_again_is_found_in_five_seeds() {
    assert_eq!(found_by(Bug::AcceptRemembered, 5), "judged");
}

#[test]
fn a_reject_that_is_ignored_is_found_in_five_seeds() {
    assert_eq!(found_by(Bug::RejectIgnored, 5), "judged");
}

#[test]
fn counters_that_a_process_does_not_read_are_found_in_one_seed() {
    assert_eq!(found_by(Bug::CountersForgotten, 1), "counters");
}
