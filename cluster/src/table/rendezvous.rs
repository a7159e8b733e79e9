//! Rendezvous hashing: which of several nodes gets a group.
//!
//! Each node has a score for each group, and the highest wins. When a node goes, its groups fall to whoever scored
//! next, so they spread evenly and no other group moves; when a node comes, it takes its share from all alike.
//!
//! The score is part of what a log entry means: a change of it would let two versions of the program give the same
//! group to different nodes.

/// The node that gets the group, of which there is one unless `nodes` is empty. The order of `nodes` does not matter.
pub fn winner(group: u8, nodes: impl IntoIterator<Item = u64>) -> Option<u64> {
    // Two nodes with the same score are told apart by their ids.
    nodes.into_iter().max_by_key(|node| (score(group, *node), *node))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014) over the
/// node, and again over that with the group: each bit of either changes half of the result.
fn score(group: u8, node: u64) -> u64 {
    mix(mix(node) ^ u64::from(group))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shares(nodes: &[u64]) -> BTreeMap<u64, usize> {
        let mut shares = BTreeMap::new();
        for group in 0..=255 {
            let winner = winner(group, nodes.iter().copied()).expect("some node");
            *shares.entry(winner).or_default() += 1;
        }
        shares
    }

    #[test]
    fn the_score_is_what_it_always_was() {
        // The first output of SplitMix64 with seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(score(0, 1), mix(mix(1)));
    }

    #[test]
    fn nobody_gets_too_much() {
        for first in (1..=60).step_by(3) {
            let shares = shares(&[first, first + 1, first + 2]);
            assert_eq!(shares.len(), 3);
            assert!(
                shares.values().all(|share| (55..=115).contains(share)),
                "{shares:?}"
            );
        }
    }

    #[test]
    fn only_the_groups_of_a_node_that_goes_move_and_they_spread() {
        let before: Vec<_> = (0..=255).map(|group| winner(group, 1..=5)).collect();
        let mut gained: BTreeMap<u64, usize> = BTreeMap::new();
        for (group, before) in (0..=255).zip(before) {
            let after = winner(group, [1, 2, 4, 5]);
            match before {
                Some(3) => *gained.entry(after.expect("some node")).or_default() += 1,
                _ => assert_eq!(after, before),
            }
        }
        assert_eq!(gained.len(), 4, "{gained:?}");
        assert!(
            gained.values().all(|share| (5..=25).contains(share)),
            "{gained:?}"
        );
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter_and_none_win_nothing() {
        for group in 0..=255 {
            assert_eq!(winner(group, [1, 2, 3]), winner(group, [3, 1, 2, 1]));
        }
        assert_eq!(winner(0, []), None);
    }
}
