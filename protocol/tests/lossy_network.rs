//! Ten thousand calls over a hundred tunnels, through a path that loses 5 %, repeats 2 % and reorders, both ways.
//! Whatever fails must have failed for one reason: the retransmissions of a message were used up.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::message::Cdn;
use holdfast_protocol::{CloseReason, Event, Secret, Settings};
use support::{LOSSY, Pair, Side, answer_id, dial, session};

const TUNNELS: u64 = 100;
const CALLS: u16 = 100;

fn settings(challenge: u8) -> Settings {
    Settings {
        secret: Some(Secret::new("tunnel-secret")),
        challenge: Some([challenge; 16]),
        setup_timeout: Duration::from_secs(600),
        connect_timeout: Duration::from_secs(600),
        ..Settings::default()
    }
}

/// Sets up, tears down half of the calls from either side, closes the tunnel. Returns calls that came up at both.
fn run_tunnel(seed: u64) -> usize {
    let mut pair = Pair::new(settings(1), settings(2), LOSSY, seed);
    for call in 1..=CALLS {
        pair.lac
            .place_call(pair.now, session(call), dial(u32::from(call)))
            .expect("the id is free");
    }
    pair.run_for(Duration::from_secs(300));
    if explained(&pair) {
        return 0;
    }
    check_calls_are_up(&mut pair);
    let now = pair.now;
    for call in 1..=CALLS {
        let cdn = Cdn::new(ResultCode::new(3));
        let closed = match call % 2 {
            0 => pair.lac.close_call(now, session(call), cdn),
            _ => pair.lns().close_call(now, answer_id(session(call)), cdn),
        };
        closed.expect("the call is up");
    }
    pair.run_for(Duration::from_secs(300));
    if explained(&pair) {
        return usize::from(CALLS);
    }
    assert_eq!(
        (pair.lac.call_count(), pair.lns().call_count()),
        (0, 0),
        "seed {seed}"
    );
    let closed = pair.count(|event| matches!(event, Event::CallClosed { .. }));
    assert_eq!(closed, usize::from(CALLS), "seed {seed}: each CDN is seen once");
    pair.lac.close(pair.now, ResultCode::new(1));
    pair.run_for(Duration::from_secs(100));
    assert!(pair.lac.is_finished(), "seed {seed}");
    assert!(pair.lns().is_finished() || explained(&pair), "seed {seed}");
    usize::from(CALLS)
}

fn check_calls_are_up(pair: &mut Pair) {
    let mut seen: BTreeMap<_, u32> = BTreeMap::new();
    for (_, side, event) in &pair.events {
        match (side, event) {
            (Side::Lns, Event::CallConnected { local, .. }) => *seen.entry((*side, *local)).or_default() += 1,
            (Side::Lac, Event::CallAnswered { local, .. }) => *seen.entry((*side, *local)).or_default() += 1,
            (_, Event::Established) | (Side::Lns, Event::CallRequested { .. }) => {}
            (side, event) => panic!("{side:?}: {event:?}"),
        }
    }
    assert_eq!(seen.len(), 2 * usize::from(CALLS));
    assert!(seen.values().all(|times| *times == 1), "each call comes up once");
    assert_eq!(pair.lac.call_count(), usize::from(CALLS));
    assert_eq!(pair.lns().call_count(), usize::from(CALLS));
}

/// Whether the tunnel died of exhausted retransmissions; any other death fails the test.
fn explained(pair: &Pair) -> bool {
    let mut died = false;
    for (_, _, event) in &pair.events {
        match event {
            Event::Closed(CloseReason::NoAnswer) => died = true,
            Event::Closed(reason) => assert!(died, "closed for another reason: {reason:?}"),
            _ => {}
        }
    }
    died
}

#[test]
fn ten_thousand_calls_over_a_hundred_tunnels() {
    let up: usize = (0..TUNNELS).map(run_tunnel).sum();
    // Six transmissions in a row, or their acknowledgements, fail about once in a million messages.
    assert!(
        up >= usize::from(CALLS) * (TUNNELS as usize - 1),
        "{up} calls came up"
    );
}

#[test]
fn a_run_is_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut pair = Pair::new(settings(1), settings(2), LOSSY, seed);
        pair.lac
            .place_call(pair.now, session(1), dial(1))
            .expect("the id is free");
        pair.run_for(Duration::from_secs(60));
        pair.events
    };
    assert_eq!(run(7), run(7));
}
