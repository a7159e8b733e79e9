//! The simulation repeats itself, finds nothing where nothing is wrong, and finds what is planted.

use super::*;

fn setup(seed: u64) -> Setup {
    Setup::of_seed(seed, 3, 1, None)
}

#[test]
fn a_seed_repeats_itself_to_the_last_octet() {
    let [first, second] = [1, 1].map(|seed| run(&setup(seed)));
    assert_eq!((first.steps, first.digest), (second.steps, second.digest));
    assert_ne!(first.digest, run(&setup(2)).digest);
}

#[test]
fn nothing_is_found_in_what_is_right() {
    for seed in 1..=3 {
        let run = run(&setup(seed));
        assert!(run.failure.is_none(), "seed {seed}: {:?}", run.failure);
    }
}
