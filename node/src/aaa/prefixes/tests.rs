//! Picks and releases on virtual time.

use holdfast_protocol::{SessionId, TunnelId};

use super::*;
use crate::config::{PrefixPoolConfig, Secret, UserPrefixes};

const T: fn(u64) -> Duration = Duration::from_secs;
const ANY: PrefixAssignment = PrefixAssignment::Pool(None);
const NONE: Pair = [None, None];

fn net(text: &str) -> Ipv6Net {
    text.parse().expect("a prefix")
}

fn pool(name: &str, link: &[&str], delegated: &[&str]) -> PoolConfig {
    PoolConfig {
        drain: false,
        name: name.to_owned(),
        prefixes: Vec::new(),
        gateway: std::net::Ipv4Addr::UNSPECIFIED,
        ipv6: PrefixPoolConfig {
            link: link.iter().map(|text| net(text)).collect(),
            delegated: delegated.iter().map(|text| net(text)).collect(),
            delegated_length: 56,
        },
    }
}

fn user(name: &str, delegated: &str) -> UserConfig {
    UserConfig {
        policy: None,
        routes: Vec::new(),
        name: name.to_owned(),
        password: Secret::new("x"),
        address: None,
        pool: None,
        max_sessions: None,
        ipv4: true,
        ipv6: UserPrefixes {
            delegated_prefix: Some(net(delegated)),
            ..UserPrefixes::default()
        },
    }
}

fn key(session: u16) -> SessionKey {
    (
        TunnelId::new(256).expect("not zero"),
        SessionId::new(session).expect("not zero"),
    )
}

fn all(_: Group) -> bool {
    true
}

type Group = crate::anycast::cut::Group;

fn seat(group: Group) -> Seat<'static> {
    Seat {
        group,
        is_own: &all,
        horizon: u64::MAX,
    }
}

/// A link prefix for a session of group 1.
fn link(prefixes: &mut Prefixes, now: u64, session: u16, user: &str) -> Ipv6Net {
    let assigned = prefixes.assign(T(now), key(session), user, Use::Link, &ANY, seat(1));
    assigned.expect("one is free").expect("there is a pool")
}

#[test]
fn each_session_gets_one_of_its_own_of_each_kind_from_its_groups_slice() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/48"], &["2001:db8:200::/40"])], &[]);
    let assigned = [
        (1, Use::Link),
        (1, Use::Delegated),
        (2, Use::Link),
        (2, Use::Delegated),
    ]
    .map(|(session, purpose)| {
        let user = format!("user {session}");
        prefixes
            .assign(T(0), key(session), &user, purpose, &ANY, seat(1))
            .expect("one is free")
    });
    let expected = [
        "2001:db8:100:100::/64",
        "2001:db8:201::/56",
        "2001:db8:100:101::/64",
        "2001:db8:201:100::/56",
    ];
    assert_eq!(assigned, expected.map(|text| Some(net(text))));
    let status = prefixes.status(T(0));
    assert_eq!(
        (status[0].size, status[0].in_use, status[0].length),
        (1 << 16, 2, 64)
    );
    assert_eq!((status[1].size, status[1].delegated), (1 << 16, true));
}

#[test]
fn a_session_that_asks_again_has_the_same() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/48"], &[])], &[]);
    let first = link(&mut prefixes, 0, 1, "ada");
    assert_eq!(link(&mut prefixes, 1, 1, "ada"), first);
    prefixes.settle(T(2), 5, key(1), "ada", NONE, [Some(first), None]);
    assert_eq!(link(&mut prefixes, 3, 1, "ada"), first);
    // Another user in the same session, who authenticates anew.
    let other = link(&mut prefixes, 4, 1, "bob");
    assert_ne!(other, first);
    prefixes.settle(T(5), 6, key(1), "bob", [Some(first), None], [Some(other), None]);
    assert_eq!(prefixes.status(T(5))[0].in_use, 1);
}

#[test]
fn no_pool_is_no_prefix_but_a_name_that_is_not_there_is_an_error() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/48"], &[])], &[]);
    let mut assign =
        |wish: &PrefixAssignment| prefixes.assign(T(0), key(1), "ada", Use::Delegated, wish, seat(1));
    assert_eq!(assign(&ANY), Ok(None));
    let named = PrefixAssignment::Pool(Some("p".to_owned()));
    assert_eq!(assign(&named), Err(PrefixError::NoPool("p".to_owned())));
}

#[test]
fn the_last_one_is_found_and_then_there_is_none() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/62"], &[])], &[]);
    let mut given: Vec<_> = (1..=4)
        .map(|session| link(&mut prefixes, 0, session, &session.to_string()))
        .collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 4);
    let refused = prefixes.assign(T(0), key(5), "5", Use::Link, &ANY, seat(1));
    assert_eq!(
        refused,
        Err(PrefixError::Exhausted {
            pool: "p".to_owned(),
            length: 64
        })
    );
    assert_eq!(prefixes.status(T(0))[0].exhausted, 1);
}

#[test]
fn a_released_prefix_rests_for_others_and_its_user_has_it_back_at_once() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/64"], &[])], &[]);
    let only = link(&mut prefixes, 0, 1, "ada");
    prefixes.settle(T(0), 1, key(1), "ada", NONE, [Some(only), None]);
    prefixes.settle(T(10), 2, key(1), "", [Some(only), None], NONE);
    assert_eq!(prefixes.status(T(10))[0].resting, 1);
    let mut other = |now: u64| prefixes.assign(T(now), key(2), "bob", Use::Link, &ANY, seat(1));
    assert!(other(11).is_err() && other(40).is_err());
    assert_eq!(link(&mut prefixes, 12, 3, "ada"), only);
    prefixes.abandon(key(3));
    assert_eq!(
        prefixes.assign(T(60), key(2), "bob", Use::Link, &ANY, seat(1)),
        Ok(Some(only))
    );
}

#[test]
fn nobody_gets_one_before_every_node_has_applied_its_release() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/64"], &[])], &[]);
    prefixes.set_isolation_wait(T(600));
    let only = link(&mut prefixes, 0, 1, "ada");
    prefixes.settle(T(0), 1, key(1), "ada", NONE, [Some(only), None]);
    prefixes.settle(T(10), 7, key(1), "", [Some(only), None], NONE);
    let behind = Seat {
        horizon: 6,
        ..seat(1)
    };
    let mut other = |now: u64, seat| prefixes.assign(T(now), key(2), "bob", Use::Link, &ANY, seat);
    assert!(other(60, behind).is_err());
    assert!(other(60, Seat { horizon: 7, ..behind }).is_ok());
    prefixes.abandon(key(2));
    assert!(
        prefixes
            .assign(T(700), key(3), "eve", Use::Link, &ANY, behind)
            .is_ok()
    );
}

#[test]
fn what_was_reserved_and_came_to_nothing_is_free() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/64"], &[])], &[]);
    let only = link(&mut prefixes, 0, 1, "ada");
    prefixes.abandon(key(1));
    assert_eq!(link(&mut prefixes, 0, 2, "bob"), only);
    // And in time by itself, should nobody say so.
    let late = RESERVATION_LIFE.as_secs();
    assert_eq!(link(&mut prefixes, late, 3, "eve"), only);
    // What is in use stays.
    prefixes.settle(T(late), 1, key(3), "eve", NONE, [Some(only), None]);
    prefixes.abandon(key(3));
    assert_eq!(prefixes.user_of(only), Some(key(3)));
}

#[test]
fn what_the_table_refuses_is_not_tried_again_at_once() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/63"], &[])], &[]);
    let first = link(&mut prefixes, 0, 1, "ada");
    prefixes.refused(T(0), 9, key(1));
    let second = link(&mut prefixes, 0, 1, "ada");
    assert_ne!(second, first);
    prefixes.settle(T(1), 10, key(1), "ada", NONE, [Some(second), None]);
    assert!(
        prefixes
            .assign(T(1), key(2), "bob", Use::Link, &ANY, seat(1))
            .is_err()
    );
    assert!(
        prefixes
            .assign(T(60), key(2), "bob", Use::Link, &ANY, seat(1))
            .is_ok()
    );
}

#[test]
fn a_fixed_prefix_is_its_users_alone_and_a_redial_takes_it_from_the_stale_session() {
    let fixed = net("2001:db8:200::/56");
    let pools = [pool("p", &[], &["2001:db8:200::/55"])];
    let mut prefixes = Prefixes::new(&pools, &[user("ada", "2001:db8:200::/56")]);
    let wish = PrefixAssignment::Fixed(fixed);
    let mut assign = |session: u16, user: &str, wish: &PrefixAssignment| {
        prefixes.assign(T(0), key(session), user, Use::Delegated, wish, seat(1))
    };
    // Others get the rest of the pool.
    assert_eq!(assign(1, "bob", &ANY), Ok(Some(net("2001:db8:200:100::/56"))));
    assert!(assign(2, "eve", &ANY).is_err());
    assert_eq!(assign(3, "ada", &wish), Ok(Some(fixed)));
    assert!(matches!(assign(4, "eve", &wish), Err(PrefixError::Taken { .. })));
    prefixes.settle(T(1), 1, key(3), "ada", NONE, [None, Some(fixed)]);
    let again = prefixes.assign(T(2), key(5), "ada", Use::Delegated, &wish, seat(1));
    assert_eq!((again, prefixes.user_of(fixed)), (Ok(Some(fixed)), Some(key(3))));
    // The table moves it, and the end of the stale session changes nothing.
    prefixes.settle(T(3), 2, key(5), "ada", NONE, [None, Some(fixed)]);
    prefixes.settle(T(3), 2, key(3), "", [None, Some(fixed)], NONE);
    assert_eq!(prefixes.user_of(fixed), Some(key(5)));
}

#[test]
fn a_reload_takes_nobodys_prefix_away() {
    let mut prefixes = Prefixes::new(&[pool("p", &["2001:db8:100::/63"], &[])], &[]);
    let first = link(&mut prefixes, 0, 1, "ada");
    prefixes.settle(T(0), 1, key(1), "ada", NONE, [Some(first), None]);
    prefixes.configure(&[pool("p", &["2001:db8:100::/62"], &[])], &[]);
    let others: Vec<_> = (2..5)
        .map(|session| link(&mut prefixes, 1, session, &session.to_string()))
        .collect();
    assert!(!others.contains(&first));
    prefixes.configure(&[], &[]);
    assert_eq!(prefixes.user_of(first), Some(key(1)));
}
