//! Bounds, order and time of the queue.

use std::time::Duration;

use holdfast_protocol::TunnelId;
use proptest::prelude::*;

use super::{HoldQueue, Overflow};
use crate::limits::{HELD_MAX, HELD_MS, HELD_PER_TUNNEL_MAX};

const T0: Duration = Duration::from_secs(5);

fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

#[test]
fn a_ninth_relay_of_a_tunnel_comes_back() {
    let mut queue = HoldQueue::default();
    for item in 0..HELD_PER_TUNNEL_MAX {
        assert_eq!(queue.hold(T0, tunnel(7), 1, item), Ok(()));
    }
    assert_eq!(queue.hold(T0, tunnel(7), 1, 99), Err(Overflow(99)));
    assert_eq!(
        queue.hold(T0, tunnel(8), 1, 99),
        Ok(()),
        "another tunnel has room"
    );
}

#[test]
fn the_whole_queue_is_bounded() {
    let mut queue = HoldQueue::default();
    let tunnels = u16::try_from(HELD_MAX / HELD_PER_TUNNEL_MAX).expect("fits");
    for id in 1..=tunnels {
        for _ in 0..HELD_PER_TUNNEL_MAX {
            assert_eq!(queue.hold(T0, tunnel(id), 1, ()), Ok(()));
        }
    }
    assert_eq!(queue.hold(T0, tunnel(u16::MAX), 1, ()), Err(Overflow(())));
    assert_eq!(queue.expire(T0 + Duration::from_millis(HELD_MS)).len(), HELD_MAX);
    assert_eq!(queue.hold(T0, tunnel(u16::MAX), 1, ()), Ok(()));
}

#[test]
fn a_group_is_released_in_order_and_others_stay() {
    let mut queue = HoldQueue::default();
    for (id, item) in [
        (0x0102, 'a'),
        (0x0101, 'b'),
        (0x0102, 'c'),
        (0x0201, 'd'),
        (0x00ff, 'e'),
    ] {
        queue.hold(T0, tunnel(id), 4, item).expect("room");
    }
    let released = queue.release(1, 4);
    let expected = [(0x0101, 'b'), (0x0102, 'a'), (0x0102, 'c')];
    assert_eq!(released, expected.map(|(id, item)| (tunnel(id), item)));
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.release(0, 4), [(tunnel(0xff), 'e')]);
}

#[test]
fn what_waits_for_a_later_epoch_stays() {
    let mut queue = HoldQueue::default();
    queue.hold(T0, tunnel(0x0101), 5, "later").expect("room");
    queue.hold(T0, tunnel(0x0101), 4, "now").expect("room");
    assert_eq!(queue.release(1, 4), [(tunnel(0x0101), "now")]);
    assert_eq!(queue.release(1, 4), []);
    assert_eq!(queue.release(1, 6), [(tunnel(0x0101), "later")]);
    assert_eq!(queue.poll_timeout(), None);
}

#[test]
fn a_relay_is_held_for_a_second() {
    let mut queue = HoldQueue::default();
    let second = Duration::from_millis(HELD_MS);
    let later = Duration::from_millis(10);
    queue.hold(T0, tunnel(9), 1, 'a').expect("room");
    queue.hold(T0 + later, tunnel(3), 1, 'b').expect("room");
    assert_eq!(queue.poll_timeout(), Some(T0 + second));
    assert_eq!(queue.expire(T0 + second - Duration::from_nanos(1)), []);
    assert_eq!(queue.expire(T0 + second), [(tunnel(9), 'a')]);
    assert_eq!(queue.poll_timeout(), Some(T0 + second + later));
    assert_eq!(queue.expire(T0 + second + later), [(tunnel(3), 'b')]);
    assert!(queue.is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Hold(u16, u32),
    Release(u8, u32),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..1024, 0u32..4).prop_map(|(id, epoch)| Step::Hold(id % 0x0203 + 1, epoch)),
        1 => (0u8..3, 0u32..4).prop_map(|(group, epoch)| Step::Release(group, epoch)),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// Against a plain list: the same items come out, none is lost, doubled or too old.
    #[test]
    fn every_item_leaves_once_as_in_a_plain_list(steps in proptest::collection::vec((step(), 0u64..400), 0..200)) {
        let mut queue = HoldQueue::default();
        let mut list: Vec<(Duration, TunnelId, u32, usize)> = Vec::new();
        let mut now = T0;
        for (item, (step, wait)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(wait);
            match step {
                Step::Hold(id, epoch) => {
                    let id = tunnel(id);
                    let full = list.iter().filter(|held| held.1 == id).count() >= HELD_PER_TUNNEL_MAX;
                    prop_assert_eq!(queue.hold(now, id, epoch, item).is_err(), full);
                    if !full {
                        list.push((now, id, epoch, item));
                    }
                }
                Step::Release(group, epoch) => {
                    let mut expected: Vec<_> = list
                        .extract_if(.., |held| held.1.group() == group && held.2 <= epoch)
                        .map(|held| (held.1, held.3))
                        .collect();
                    expected.sort_by_key(|(id, _)| *id);
                    prop_assert_eq!(queue.release(group, epoch), expected);
                }
                Step::Expire => {
                    let old = now - Duration::from_millis(HELD_MS);
                    let expected: Vec<_> =
                        list.extract_if(.., |held| held.0 <= old).map(|held| (held.1, held.3)).collect();
                    prop_assert_eq!(queue.expire(now), expected);
                }
            }
            prop_assert_eq!(queue.len(), list.len());
            prop_assert_eq!(queue.poll_timeout(), list.first().map(|held| held.0 + Duration::from_millis(HELD_MS)));
        }
    }
}
