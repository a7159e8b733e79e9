//! The rules of the channel, one by one; whole exchanges are in `tests/`.

use std::time::Duration;

use super::*;
use crate::header::{ControlPacket, Packet, decode};
use crate::message::Message;

const TIMING: Timing = Timing {
    first: Duration::from_secs(1),
    cap: Duration::from_secs(8),
    max_retransmits: 5,
};
const START: Duration = Duration::from_secs(1000);

fn channel(own_window: u16, peer_window: u16) -> Channel {
    Channel::new(TIMING, own_window, peer_window)
}

/// A channel whose peer has sent `received` messages, all accepted.
fn after(received: u16) -> Channel {
    let progress = Progress {
        received,
        queued: 0,
        acknowledged: 0,
    };
    let mut channel = Channel::restore(TIMING, 4, 4, progress, std::iter::empty());
    assert!(
        channel.poll_transmit(START, None).is_some(),
        "the repeated acknowledgement"
    );
    channel
}

fn queue(channel: &mut Channel, count: u16) {
    for _ in 0..count {
        channel.queue(hello).expect("room");
    }
}

fn hello(ns: u16) -> Vec<u8> {
    Message::Hello.encode(
        ControlHeader {
            tunnel: TunnelId::new(7),
            session: None,
            ns,
            nr: 0,
        },
        None,
    )
}

fn open_gate(channel: &mut Channel) {
    channel.accept(channel.progress());
}

/// (Ns, Nr, is a ZLB) of all that leaves.
fn sent(channel: &mut Channel, now: Duration) -> Vec<(u16, u16, bool)> {
    let mut out = Vec::new();
    while let Some(octets) = channel.poll_transmit(now, TunnelId::new(7)) {
        let Ok(Packet::Control(ControlPacket { header, body })) = decode(&octets) else {
            panic!("only control messages leave")
        };
        out.push((header.ns, header.nr, body.is_empty()));
    }
    out
}

fn receive(channel: &mut Channel, ns: u16) -> Result<Delivery, DropReason> {
    channel.receive(ns, None, &[0x80, 8, 0, 0, 0, 0, 0, 6])
}

#[test]
fn s_30_old_ns_is_acknowledged_not_processed() {
    let mut channel = after(16);
    // The RFC's example: 15 was the last one, so 0..=15 and 32784..=65535 are duplicates.
    for ns in [15, 0, 65535, 32784] {
        assert_eq!(receive(&mut channel, ns), Ok(Delivery::Duplicate), "{ns}");
        assert_eq!(sent(&mut channel, START), [(0, 16, true)], "{ns}");
    }
    assert!(receive(&mut channel, 32783).is_err());
    assert_eq!(channel.progress().received, 16);
}

#[test]
fn s_31_messages_within_the_window_wait_for_their_turn() {
    let mut channel = after(0);
    for ns in [3, 1, 3] {
        assert_eq!(receive(&mut channel, ns), Ok(Delivery::Early));
    }
    assert!(channel.next_early().is_none());
    assert_eq!(receive(&mut channel, 0), Ok(Delivery::Deliver));
    assert!(channel.next_early().is_some());
    assert!(channel.next_early().is_none());
    assert_eq!(channel.progress().received, 2);
    assert_eq!(receive(&mut channel, 2), Ok(Delivery::Deliver));
    assert!(channel.next_early().is_some());
    assert_eq!(channel.progress().received, 4);
}

#[test]
fn s_32_ns_beyond_the_window_is_dropped_unacknowledged() {
    let mut channel = after(10);
    for ns in [14, 1010] {
        assert_eq!(
            receive(&mut channel, ns),
            Err(DropReason::OutOfWindow { ns, expected: 10 })
        );
    }
    assert_eq!(sent(&mut channel, START), []);
}

#[test]
fn s_33_ns_and_nr_wrap() {
    let mut channel = after(65534);
    for ns in [65534, 65535, 0, 1] {
        assert_eq!(receive(&mut channel, ns), Ok(Delivery::Deliver), "{ns}");
        open_gate(&mut channel);
    }
    assert_eq!(receive(&mut channel, 65535), Ok(Delivery::Duplicate));
    assert_eq!(channel.progress().received, 2);

    let progress = Progress {
        received: 0,
        queued: 65535,
        acknowledged: 65535,
    };
    let mut channel = Channel::restore(TIMING, 4, 4, progress, std::iter::empty());
    queue(&mut channel, 2);
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(65535, 0, false)]);
    assert!(channel.acknowledge(START, 0));
    assert_eq!(sent(&mut channel, START), [(0, 0, false)]);
    assert!(channel.acknowledge(START, 1));
    assert_eq!(
        channel.progress(),
        Progress {
            received: 0,
            queued: 1,
            acknowledged: 1
        }
    );
}

#[test]
fn s_34_nr_of_something_never_sent_is_ignored() {
    let mut channel = channel(4, 4);
    queue(&mut channel, 3);
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(0, 0, false)]);
    for nr in [2, 3, 4, 1000] {
        assert!(!channel.acknowledge(START, nr), "{nr}");
    }
    assert_eq!(channel.progress().acknowledged, 0);
    assert!(channel.acknowledge(START, 1));
}

#[test]
fn s_35_old_nr_is_ignored() {
    let mut channel = channel(4, 4);
    queue(&mut channel, 3);
    open_gate(&mut channel);
    sent(&mut channel, START);
    assert!(channel.acknowledge(START, 1));
    sent(&mut channel, START);
    assert!(channel.acknowledge(START, 3));
    for nr in [2, 1, 0, 40000] {
        assert!(!channel.acknowledge(START, nr), "{nr}");
    }
    assert_eq!(channel.progress().acknowledged, 3);
}

#[test]
fn s_38_a_window_of_one_has_one_message_outstanding() {
    let mut channel = channel(4, 1);
    queue(&mut channel, 200);
    open_gate(&mut channel);
    for ns in 0..200 {
        assert_eq!(sent(&mut channel, START), [(ns, 0, false)]);
        assert!(channel.acknowledge(START, ns + 1));
    }
    assert!(channel.is_idle());
}

#[test]
fn s_38_the_queue_is_bounded_but_for_the_last_message() {
    let mut channel = channel(4, 1);
    queue(&mut channel, sender::SEND_QUEUE_MESSAGES as u16);
    assert_eq!(channel.queue(hello), Err(QueueFull));
    channel.queue_last(hello);
    assert_eq!(
        usize::from(channel.progress().queued),
        sender::SEND_QUEUE_MESSAGES + 1
    );
}

#[test]
fn s_40_retransmission_doubles_to_the_cap_and_ends_after_31_seconds() {
    let mut channel = channel(4, 4);
    queue(&mut channel, 1);
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(0, 0, false)]);
    let mut times = Vec::new();
    let end = loop {
        let due = channel.poll_timeout().expect("the timer runs");
        assert_eq!(channel.handle_timeout(due - Duration::from_millis(1)), Ok(()));
        if channel.handle_timeout(due).is_err() {
            break due;
        }
        assert_eq!(sent(&mut channel, due), [(0, 0, false)]);
        times.push((due - START).as_secs());
    };
    assert_eq!(times, [1, 3, 7, 15, 23]);
    assert_eq!((end - START).as_secs(), 31);
}

#[test]
fn an_acknowledgement_resets_the_backoff_and_stops_the_timer() {
    let mut channel = channel(4, 4);
    queue(&mut channel, 2);
    open_gate(&mut channel);
    sent(&mut channel, START);
    let late = START + Duration::from_secs(3);
    channel
        .handle_timeout(START + Duration::from_secs(1))
        .expect("not the last");
    sent(&mut channel, late);
    assert!(channel.acknowledge(late, 1));
    assert_eq!(channel.poll_timeout(), None, "nothing is in flight");
    sent(&mut channel, late);
    assert_eq!(channel.poll_timeout(), Some(late + Duration::from_secs(1)));
    assert!(channel.acknowledge(late, 2));
    assert_eq!(channel.poll_timeout(), None);
}

#[test]
fn after_a_loss_sending_goes_back_to_the_oldest_in_slow_start() {
    let mut channel = channel(4, 8);
    queue(&mut channel, 8);
    open_gate(&mut channel);
    sent(&mut channel, START);
    assert!(channel.acknowledge(START, 1));
    assert_eq!(sent(&mut channel, START).len(), 2);
    let later = START + Duration::from_secs(1);
    channel.handle_timeout(later).expect("not the last");
    assert_eq!(sent(&mut channel, later), [(1, 0, false)]);
    // The peer had kept message 2: its Nr leaps, and what was sent before still counts.
    assert!(channel.acknowledge(later, 3));
    assert_eq!(sent(&mut channel, later).first(), Some(&(3, 0, false)));
}

#[test]
fn a_message_carries_the_acknowledgement() {
    let mut channel = after(0);
    receive(&mut channel, 0).expect("in order");
    queue(&mut channel, 1);
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(0, 1, false)]);
}

#[test]
fn the_gate_holds_acknowledgement_and_message_back() {
    let mut channel = after(0);
    receive(&mut channel, 0).expect("in order");
    queue(&mut channel, 1);
    let first = channel.progress();
    assert_eq!(sent(&mut channel, START), []);
    assert_eq!(channel.poll_timeout(), None);
    receive(&mut channel, 1).expect("in order");
    queue(&mut channel, 1);
    channel.accept(first);
    assert_eq!(sent(&mut channel, START), [(0, 1, false)]);
    channel.acknowledge(START, 1);
    assert_eq!(sent(&mut channel, START), [], "the second message is held");
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(1, 2, false)]);
}

#[test]
fn a_duplicate_is_acknowledged_only_as_far_as_accepted() {
    let mut channel = after(0);
    receive(&mut channel, 0).expect("in order");
    assert_eq!(receive(&mut channel, 0), Ok(Delivery::Duplicate));
    assert_eq!(sent(&mut channel, START), [(0, 0, true)]);
    open_gate(&mut channel);
    assert_eq!(sent(&mut channel, START), [(0, 1, true)]);
}

#[test]
fn a_gate_that_stays_shut_bounds_what_is_processed() {
    let mut channel = after(0);
    for ns in 0..4 {
        assert_eq!(receive(&mut channel, ns), Ok(Delivery::Deliver));
    }
    assert!(receive(&mut channel, 4).is_err(), "our window of 4 is used up");
    open_gate(&mut channel);
    assert_eq!(receive(&mut channel, 4), Ok(Delivery::Deliver));
}

#[test]
fn the_gate_takes_no_nonsense() {
    let mut channel = after(10);
    queue(&mut channel, 2);
    channel.accept(Progress {
        received: 12,
        queued: 3,
        acknowledged: 0,
    });
    assert_eq!(sent(&mut channel, START), []);
    channel.accept(Progress {
        received: 9,
        queued: 65535,
        acknowledged: 0,
    });
    assert_eq!(sent(&mut channel, START), []);
    open_gate(&mut channel);
    channel.accept(Progress {
        received: 10,
        queued: 0,
        acknowledged: 0,
    });
    assert_eq!(
        sent(&mut channel, START),
        [(0, 10, false)],
        "a release is not taken back"
    );
}

#[test]
fn messages_from_lists_what_is_to_be_proposed() {
    let mut channel = channel(4, 4);
    queue(&mut channel, 3);
    let from = |ns| channel.messages_from(ns).map(|(ns, _)| ns).collect::<Vec<_>>();
    assert_eq!(from(0), [0, 1, 2]);
    assert_eq!(from(2), [2]);
    assert_eq!(from(3), [] as [u16; 0]);
    assert_eq!(from(65535), [0, 1, 2]);
    let (_, octets) = channel.messages_from(1).next().expect("the second");
    assert_eq!(octets, hello(1));
}

#[test]
fn a_restored_channel_repeats_at_once_and_knows_what_may_have_left() {
    let messages = (5..8).map(|ns| hello(ns).into_boxed_slice());
    let progress = Progress {
        received: 9,
        queued: 8,
        acknowledged: 5,
    };
    let mut channel = Channel::restore(TIMING, 4, 4, progress, messages);
    assert_eq!(channel.progress(), progress);
    assert_eq!(sent(&mut channel, START), [(5, 9, false)]);
    // Its predecessor had sent them all.
    assert!(channel.acknowledge(START, 8));
    assert!(channel.is_idle());
}
