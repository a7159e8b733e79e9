//! Picks and releases on virtual time.

mod change;

use super::*;
use crate::config::{PrefixPoolConfig, Secret, UserPrefixes};

const T: fn(u64) -> Duration = Duration::from_secs;

fn pool(name: &str, prefixes: &[&str], gateway: &str) -> PoolConfig {
    let prefixes = prefixes
        .iter()
        .map(|prefix| prefix.parse().expect("a prefix"))
        .collect();
    PoolConfig {
        name: name.to_owned(),
        prefixes,
        gateway: address(gateway),
        drain: false,
        ipv6: PrefixPoolConfig::default(),
    }
}

fn fixed(name: &str, at: &str) -> UserConfig {
    UserConfig {
        name: name.to_owned(),
        password: Secret::new("x"),
        address: Some(address(at)),
        pool: None,
        max_sessions: None,
        policy: None,
        routes: Vec::new(),
        ipv4: true,
        ipv6: UserPrefixes::default(),
    }
}

fn claim(user: &str) -> Claim<'_> {
    Claim {
        user,
        session: key(99),
        conflict: AddressConflict::default(),
    }
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

fn key(session: u16) -> SessionKey {
    (
        TunnelId::new(256).expect("not zero"),
        SessionId::new(session).expect("not zero"),
    )
}

/// 10.0.0.0/29 without its ends and its gateway: .2 to .6.
fn five() -> Pools {
    Pools::new(&[pool("p", &["10.0.0.0/29"], "10.0.0.1")], &[])
}

/// Of a node alone: all groups are its own.
const SEAT: Seat<'_> = Seat {
    group: 1,
    is_own: &|_| true,
    horizon: u64::MAX,
};

fn reserve(pools: &mut Pools, now: u64, user: &str) -> Result<String, PickError> {
    pools
        .reserve(T(now), None, user, SEAT)
        .map(|address| address.to_string())
}

#[test]
fn hands_out_every_host_once_and_then_says_that_it_is_full() {
    let mut pools = five();
    let picked: Vec<_> = (0..5)
        .map(|user| reserve(&mut pools, 0, &format!("u{user}")).unwrap())
        .collect();
    assert_eq!(
        picked,
        ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    );
    let full = PickError::Exhausted {
        pool: "p".to_owned(),
        size: 5,
        waiting: false,
    };
    assert_eq!(reserve(&mut pools, 0, "late"), Err(full));
    let status = &pools.status(T(0))[0];
    assert_eq!((status.size, status.in_use, status.exhausted), (5, 5, 1));
}

#[test]
fn a_released_address_rests_and_the_longest_released_goes_first() {
    let mut pools = five();
    for session in 1..=5 {
        let address = pools.reserve(T(0), None, &format!("u{session}"), SEAT).unwrap();
        pools.confirm(address, &format!("u{session}"), key(session));
    }
    pools.release(T(10), 0, address("10.0.0.4"), key(3));
    pools.release(T(20), 0, address("10.0.0.2"), key(1));
    assert!(reserve(&mut pools, 41, "other").is_err());
    assert_eq!(pools.status(T(41))[0].resting, 2);
    assert_eq!(reserve(&mut pools, 42, "other").as_deref(), Ok("10.0.0.4"));
    assert!(reserve(&mut pools, 51, "another").is_err());
    assert_eq!(reserve(&mut pools, 52, "another").as_deref(), Ok("10.0.0.2"));
}

#[test]
fn a_user_has_his_last_address_back_at_once() {
    let mut pools = five();
    let first = pools.reserve(T(0), None, "ada", SEAT).unwrap();
    pools.confirm(first, "ada", key(1));
    pools.release(T(1), 0, first, key(1));
    assert_eq!(reserve(&mut pools, 2, "bob").as_deref(), Ok("10.0.0.3"));
    assert_eq!(reserve(&mut pools, 2, "ada").as_deref(), Ok("10.0.0.2"));
    assert_eq!(
        reserve(&mut pools, 2, "ada").as_deref(),
        Ok("10.0.0.4"),
        "his second session has another"
    );
}

#[test]
fn a_cancelled_redial_does_not_shorten_the_rest() {
    let mut pools = Pools::new(&[pool("p", &["10.0.0.2/32"], "10.9.9.9")], &[]);
    let only = pools.reserve(T(0), None, "ada", SEAT).unwrap();
    pools.confirm(only, "ada", key(1));
    pools.release(T(10), 0, only, key(1));
    assert_eq!(pools.reserve(T(11), None, "ada", SEAT), Ok(only));
    pools.cancel(only);
    assert!(reserve(&mut pools, 41, "bob").is_err());
    assert_eq!(reserve(&mut pools, 42, "bob").as_deref(), Ok("10.0.0.2"));
}

#[test]
fn nobody_had_yet_goes_before_released() {
    let mut pools = five();
    let first = pools.reserve(T(0), None, "ada", SEAT).unwrap();
    pools.confirm(first, "ada", key(1));
    pools.release(T(1), 0, first, key(1));
    assert_eq!(reserve(&mut pools, 100, "bob").as_deref(), Ok("10.0.0.3"));
}

#[test]
fn a_cancelled_reservation_is_free_at_once() {
    let mut pools = Pools::new(&[pool("p", &["10.0.0.2/32"], "10.9.9.9")], &[]);
    let only = pools.reserve(T(0), None, "ada", SEAT).unwrap();
    pools.cancel(only);
    assert_eq!(reserve(&mut pools, 0, "bob").as_deref(), Ok("10.0.0.2"));
    pools.confirm(only, "bob", key(1));
    pools.cancel(only);
    assert_eq!(pools.holder(only), Some("bob"), "in use, it stays");
}

#[test]
fn a_forgotten_reservation_expires() {
    let mut pools = Pools::new(&[pool("p", &["10.0.0.2/32"], "10.9.9.9")], &[]);
    reserve(&mut pools, 0, "ada").unwrap();
    assert!(reserve(&mut pools, 659, "bob").is_err());
    assert_eq!(reserve(&mut pools, 660, "bob").as_deref(), Ok("10.0.0.2"));
}

#[test]
fn rows_found_at_the_start_are_not_handed_out() {
    let mut pools = five();
    pools.restore(address("10.0.0.2"), "ada", key(1));
    pools.restore(address("192.0.2.1"), "of-no-pool", key(2));
    assert_eq!(reserve(&mut pools, 0, "bob").as_deref(), Ok("10.0.0.3"));
    assert_eq!(pools.holder(address("192.0.2.1")), Some("of-no-pool"));
    pools.release(T(0), 0, address("192.0.2.1"), key(2));
    assert_eq!(pools.holder(address("192.0.2.1")), None);
}

#[test]
fn a_redial_to_a_fixed_address_survives_the_end_of_the_stale_session() {
    let mut pools = Pools::new(
        &[pool("p", &["10.0.0.0/29"], "10.0.0.1")],
        &[fixed("ada", "10.0.0.2")],
    );
    assert_eq!(
        reserve(&mut pools, 0, "bob").as_deref(),
        Ok("10.0.0.3"),
        "kept for its user"
    );
    let her = address("10.0.0.2");
    pools.reserve_fixed(T(0), her, claim("ada")).unwrap();
    pools.confirm(her, "ada", key(1));
    pools.reserve_fixed(T(5), her, claim("ada")).unwrap();
    pools.confirm(her, "ada", key(2));
    pools.release(T(5), 0, her, key(1));
    assert_eq!(pools.holder(her), Some("ada"));
    let taken = PickError::Taken {
        address: her,
        user: "ada".to_owned(),
    };
    assert_eq!(pools.reserve_fixed(T(6), her, claim("bob")), Err(taken));
    pools.release(T(7), 0, her, key(2));
    assert_eq!(pools.reserve_fixed(T(7), her, claim("ada")), Ok(()), "at once");
}

#[test]
fn pools_by_name_and_across_prefixes() {
    let configs = [
        pool("p", &["10.0.0.0/30"], "10.0.0.1"),
        pool("q", &["10.1.0.0/31", "10.2.0.0/32"], "10.0.0.1"),
    ];
    let mut pools = Pools::new(&configs, &[]);
    let mut pick = |user: &str| {
        pools
            .reserve(T(0), Some("q"), user, SEAT)
            .map(|address| address.to_string())
    };
    assert_eq!(pick("a").as_deref(), Ok("10.1.0.0"));
    assert_eq!(pick("b").as_deref(), Ok("10.2.0.0"), "a slice of all groups");
    assert_eq!(pick("c").as_deref(), Ok("10.1.0.1"), "a slice of the others");
    assert!(matches!(pick("d"), Err(PickError::Exhausted { .. })));
    assert_eq!(
        pools.reserve(T(0), Some("r"), "a", SEAT),
        Err(PickError::NoPool("r".to_owned()))
    );
}

#[test]
fn a_reload_takes_addresses_from_nobody() {
    let mut pools = five();
    let ada = pools.reserve(T(0), None, "ada", SEAT).unwrap();
    pools.confirm(ada, "ada", key(1));
    let bob = pools.reserve(T(0), None, "bob", SEAT).unwrap();
    pools.confirm(bob, "bob", key(2));
    pools.release(T(1), 0, bob, key(2));
    pools.configure(
        &[pool("p", &["10.0.0.0/29", "10.5.0.0/32"], "10.0.0.1")],
        &[fixed("eve", "10.0.0.4")],
    );
    let picked: Vec<_> = (0..3)
        .map(|user| reserve(&mut pools, 2, &format!("u{user}")).unwrap())
        .collect();
    assert_eq!(
        picked,
        ["10.5.0.0", "10.0.0.5", "10.0.0.6"],
        "neither ada's, nor resting, nor eve's"
    );
    assert_eq!(reserve(&mut pools, 33, "u3").as_deref(), Ok("10.0.0.3"));
    pools.configure(&[pool("other", &["10.7.0.0/30"], "10.7.0.1")], &[]);
    assert_eq!(pools.holder(ada), Some("ada"));
    pools.release(T(40), 0, ada, key(1));
    assert_eq!(reserve(&mut pools, 100, "ada").as_deref(), Ok("10.7.0.2"));
}

#[test]
fn a_large_full_pool_costs_nothing_to_ask() {
    let mut pools = Pools::new(&[pool("p", &["10.0.0.0/16"], "10.0.0.1")], &[]);
    let user = |index: u32| format!("u{index}");
    for index in 0..65_533 {
        pools.reserve(T(0), None, &user(index), SEAT).expect("free");
    }
    // Were each look at all addresses, this would take minutes.
    for index in 0..10_000 {
        assert!(pools.reserve(T(1), None, &user(index), SEAT).is_err());
    }
}

#[test]
fn what_rested_before_a_restart_rests_after_it() {
    let mut pools = five();
    pools.restore_released(address("10.0.0.2"), "ada", T(20), 0);
    pools.restore_released(address("10.0.0.3"), "bob", T(0), 0);
    let picked: Vec<_> = (0..5)
        .map(|user| reserve(&mut pools, 5, &format!("u{user}")))
        .collect();
    let names: Vec<_> = picked.iter().flatten().map(String::as_str).collect();
    assert_eq!(names, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3"]);
    assert!(picked[4].is_err());
    assert_eq!(reserve(&mut pools, 5, "ada").as_deref(), Ok("10.0.0.2"));
}

/// Picks for `count` users of a group, in order.
fn picks(pools: &mut Pools, group: Group, is_own: &dyn Fn(Group) -> bool, count: usize) -> Vec<Ipv4Addr> {
    let seat = Seat {
        group,
        is_own,
        horizon: u64::MAX,
    };
    let user = |index: usize| format!("{group}-{index}");
    let pick = |index| pools.reserve(T(0), None, &user(index), seat).expect("free");
    (0..count).map(pick).collect()
}

#[test]
fn each_group_picks_from_its_own_slice() {
    let mut pools = Pools::new(&[pool("p", &["100.64.0.0/16"], "100.64.0.1")], &[]);
    for group in [7, 200] {
        for picked in picks(&mut pools, group, &|_| true, 254) {
            assert_eq!(picked.octets()[2], group);
        }
    }
}

#[test]
fn every_prefix_of_a_pool_has_a_slice_of_the_group() {
    let prefixes = ["100.64.0.0/16", "10.0.0.0/22", "10.1.0.0/30"];
    let mut pools = Pools::new(&[pool("p", &prefixes, "100.64.0.1")], &[]);
    let picked = picks(&mut pools, 100, &|group| group == 100, 256 + 4 + 1);
    let outside = picked
        .iter()
        .filter(|address| {
            let [a, b, c, d] = address.octets();
            ![(100, 64, 100), (10, 0, 1), (10, 1, 0)].contains(&(a, b, c))
                || (a == 10 && b == 0 && d / 4 != 100 % 64)
        })
        .count();
    assert_eq!(outside, 0, "{picked:?}");
}

#[test]
fn a_group_whose_slice_is_full_goes_on_in_its_nodes_others_and_then_elsewhere() {
    let mut pools = Pools::new(&[pool("p", &["100.64.0.0/22"], "10.9.9.9")], &[]);
    let own = |group| group == 7 || group == 90;
    let picked = picks(&mut pools, 7, &own, 11);
    let slices: Vec<_> = picked
        .iter()
        .map(|address| u32::from(*address) % 1024 / 4)
        .collect();
    assert_eq!(slices, [7, 7, 7, 7, 90, 90, 90, 90, 8, 8, 8]);
    // The slice is another's, who begins at its other end.
    assert_eq!(picked[8], address("100.64.0.35"));
    let theirs = picks(&mut pools, 8, &|group| group == 8, 1);
    assert_eq!(theirs, [address("100.64.0.32")]);
}

#[test]
fn members_that_know_nothing_of_each_other_pick_apart() {
    let configs = [pool("p", &["100.64.0.0/20"], "100.64.0.1")];
    let mut all = BTreeSet::new();
    for node in 0..3 {
        let mut pools = Pools::new(&configs, &[]);
        for group in (0..=255).filter(|group| group % 3 == node) {
            for address in picks(&mut pools, group, &|group| group % 3 == node, 14) {
                assert!(all.insert(address), "{address} is picked twice");
            }
        }
    }
}

#[test]
fn tiny_pools_are_used_to_the_last_address_whatever_the_group() {
    for (prefixes, size) in [
        (&["10.0.0.0/30"][..], 2),
        (&["10.0.0.9/32"], 1),
        (&["10.0.0.0/31", "10.0.0.8/29", "10.1.0.0/25"], 2 + 6 + 126),
    ] {
        for group in [0, 1, 97, 255] {
            for is_own in [&|_| true, &|_| false] as [&dyn Fn(Group) -> bool; 2] {
                let mut pools = Pools::new(&[pool("p", prefixes, "192.0.2.1")], &[]);
                let picked: BTreeSet<_> = picks(&mut pools, group, is_own, size).into_iter().collect();
                assert_eq!(picked.len(), size);
                let seat = Seat {
                    group,
                    is_own,
                    horizon: u64::MAX,
                };
                assert!(pools.reserve(T(0), None, "late", seat).is_err());
                let any = *picked.first().expect("there are some");
                pools.confirm(any, "u", key(1));
                pools.release(T(1), 0, any, key(1));
                assert_eq!(pools.reserve(T(33), None, "late", seat), Ok(any));
            }
        }
    }
}

#[test]
fn what_others_took_and_gave_back_is_followed() {
    let mut pools = Pools::new(&[pool("p", &["100.64.0.0/20"], "100.64.0.1")], &[]);
    let seat = Seat {
        group: 5,
        is_own: &|group| group == 5,
        horizon: u64::MAX,
    };
    // Slice 5 is .80 to .95; another member has put somebody on one of them.
    pools.confirm(address("100.64.0.81"), "theirs", key(1));
    let pick = |pools: &mut Pools, now, user: &str| pools.reserve(T(now), None, user, seat).expect("free");
    assert_eq!(pick(&mut pools, 0, "a"), address("100.64.0.80"));
    assert_eq!(pick(&mut pools, 0, "b"), address("100.64.0.82"));
    pools.release(T(1), 0, address("100.64.0.81"), key(1));
    for user in 83..=95 {
        assert_eq!(pick(&mut pools, 2, &user.to_string()).octets()[3], user);
    }
    assert_eq!(
        pick(&mut pools, 33, "c"),
        address("100.64.0.81"),
        "rested, in the own slice"
    );
    assert_eq!(
        pick(&mut pools, 33, "d"),
        address("100.64.0.111"),
        "the far end of the next"
    );
}

#[test]
fn others_get_an_address_when_no_member_forwards_for_its_last_user() {
    const INDEX: u64 = 10;
    const WAIT: u64 = 600;
    // Seconds since the release, the horizon, who asks, and whether he gets the only address there is.
    for (since, horizon, user, gets) in [
        (31, INDEX, "bob", false),
        (32, INDEX, "bob", true),
        (32, INDEX - 1, "bob", false),
        (0, 0, "ada", true),
        (32 + WAIT - 1, INDEX - 1, "bob", false),
        (32 + WAIT, INDEX - 1, "bob", true),
        (32, u64::MAX, "bob", true),
    ] {
        let mut pools = Pools::new(&[pool("p", &["10.0.0.2/32"], "10.9.9.9")], &[]);
        pools.set_isolation_wait(T(WAIT));
        let only = pools.reserve(T(0), None, "ada", SEAT).unwrap();
        pools.confirm(only, "ada", key(1));
        pools.release(T(100), INDEX, only, key(1));
        // A redial that comes to nothing changes nothing.
        assert_eq!(pools.reserve(T(100), None, "ada", SEAT), Ok(only));
        pools.cancel(only);
        let seat = Seat { horizon, ..SEAT };
        let expected = match gets {
            true => Ok(only),
            false => Err(PickError::Exhausted {
                pool: "p".to_owned(),
                size: 1,
                waiting: since >= 32,
            }),
        };
        let picked = pools.reserve(T(100 + since), None, user, seat);
        assert_eq!(picked, expected, "{since} s, horizon {horizon}, {user}");
    }
}

#[test]
fn what_waits_for_a_member_is_said() {
    let text = |waiting| {
        let full = PickError::Exhausted {
            pool: "p".to_owned(),
            size: 5,
            waiting,
        };
        full.to_string()
    };
    assert!(text(true).contains("until every member has applied their release"));
    assert!(!text(false).contains("member"));
}
