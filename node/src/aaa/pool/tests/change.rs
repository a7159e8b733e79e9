//! Pools that grow, shrink and are drained, and who gives way to whom.

use super::*;

fn reserve_from(pools: &mut Pools, pool: Option<&str>, user: &str) -> Result<Ipv4Addr, PickError> {
    pools.reserve(T(0), pool, user, SEAT)
}

#[test]
fn a_drained_pool_gives_nothing_new_and_takes_nothing_away() {
    let configs = |drain| {
        let first = PoolConfig {
            drain,
            ..pool("p", &["10.0.0.0/29"], "10.0.0.1")
        };
        [first, pool("q", &["10.1.0.0/29"], "10.1.0.1")]
    };
    let mut pools = Pools::new(&configs(false), &[]);
    let (ada, bob) = (
        reserve_from(&mut pools, None, "ada").unwrap(),
        reserve_from(&mut pools, None, "bob").unwrap(),
    );
    pools.confirm(ada, "ada", key(1));
    pools.confirm(bob, "bob", key(2));
    pools.configure(&configs(true), &[]);
    pools.release(T(1), 0, bob, key(2));
    assert_eq!(
        reserve_from(&mut pools, Some("p"), "bob"),
        Err(PickError::Draining("p".to_owned())),
        "not even the one that was his"
    );
    let elsewhere = reserve_from(&mut pools, None, "bob").expect("the next pool");
    assert_eq!(elsewhere, address("10.1.0.2"));
    let status = pools.status(T(1));
    assert!(status[0].draining && !status[1].draining);
    assert_eq!(
        (status[0].in_use, pools.holder(ada)),
        (1, Some("ada")),
        "one is left"
    );
    pools.release(T(2), 0, ada, key(1));
    assert_eq!(pools.status(T(2))[0].in_use, 0);
    pools.configure(&configs(false), &[]);
    assert_eq!(reserve_from(&mut pools, Some("p"), "bob"), Ok(bob), "back again");
}

#[test]
fn where_all_is_drained_that_is_said() {
    let drained = PoolConfig {
        drain: true,
        ..pool("p", &["10.0.0.0/29"], "10.0.0.1")
    };
    let mut pools = Pools::new(&[drained], &[]);
    assert_eq!(
        reserve_from(&mut pools, None, "ada"),
        Err(PickError::Draining("p".to_owned()))
    );
}

#[test]
fn what_lies_in_a_removed_prefix_is_kept_reported_and_never_given_again() {
    let wide = pool("p", &["10.0.0.0/29", "10.5.0.0/31"], "10.0.0.1");
    let mut pools = Pools::new(std::slice::from_ref(&wide), &[]);
    for (user, session) in [("a", 1), ("b", 2)] {
        pools.confirm(address(&format!("10.5.0.{}", session - 1)), user, key(session));
    }
    pools.configure(&[pool("p", &["10.0.0.0/29"], "10.0.0.1")], &[]);
    let left = |pools: &Pools| (pools.status(T(0))[0].leaving, pools.outside());
    assert_eq!(
        (left(&pools), pools.holder(address("10.5.0.0"))),
        ((2, 2), Some("a"))
    );
    // Another reload does not forget it.
    pools.configure(&[pool("p", &["10.0.0.0/29"], "10.0.0.1")], &[]);
    pools.release(T(1), 0, address("10.5.0.0"), key(1));
    assert_eq!(left(&pools), (1, 1));
    let again: BTreeSet<_> = (0..5)
        .map(|user| {
            pools
                .reserve(T(100), None, if user == 0 { "a" } else { "c" }, SEAT)
                .expect("free")
        })
        .collect();
    assert!(
        again.iter().all(|address| address.octets()[1] == 0),
        "not even to a: {again:?}"
    );
    pools.release(T(2), 0, address("10.5.0.1"), key(2));
    assert_eq!(left(&pools), (0, 0));
    pools.configure(&[wide], &[]);
    assert_eq!(
        reserve(&mut pools, 200, "d").as_deref(),
        Ok("10.5.0.0"),
        "grown again, and rested"
    );
}

/// S-153: an address that is in use is kept by its session, or goes to the new one with the session table's consent.
#[test]
fn s_153_who_gives_way_is_the_policys_choice() {
    use AddressConflict::{Refuse, Replace, ReplaceSameUser};
    let at = address("203.0.113.7");
    for (conflict, user, session, gets) in [
        (ReplaceSameUser, "ada", 2, true),
        (ReplaceSameUser, "bob", 2, false),
        (Replace, "ada", 2, true),
        (Replace, "bob", 2, true),
        (Refuse, "ada", 2, false),
        (Refuse, "bob", 2, false),
        // The same session negotiates anew.
        (Refuse, "ada", 1, true),
    ] {
        let mut pools = five();
        pools.confirm(at, "ada", key(1));
        let claim = Claim {
            user,
            session: key(session),
            conflict,
        };
        let outcome = pools.reserve_fixed(T(1), at, claim);
        assert_eq!(outcome.is_ok(), gets, "{conflict:?}, {user}, session {session}");
        // Whatever was said, it is hers until the table has decided.
        assert_eq!(pools.holder(at), Some("ada"));
    }
}
