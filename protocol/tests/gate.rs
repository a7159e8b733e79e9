//! The commit gate: while it is shut, nothing leaves that acknowledges or advances; and rebirth from a snapshot
//! goes on exactly where the row stands.

mod support;

use std::time::Duration;

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::header::{self, Packet};
use holdfast_protocol::message::*;
use holdfast_protocol::*;
use support::scripted::*;
use support::{CLEAN, LOSSY, Pair, Side, answer_id, dial, session, tunnel};

/// All that leaves without opening the gate: (Ns, Nr, is a ZLB).
fn leaks(connection: &mut Connection, now: Duration) -> Vec<(u16, u16, bool)> {
    let octets = std::iter::from_fn(|| connection.poll_transmit(now));
    let headers = octets.map(|octets| match header::decode(&octets) {
        Ok(Packet::Control(packet)) => (packet.header.ns, packet.header.nr, packet.is_zlb()),
        other => panic!("{other:?}"),
    });
    headers.collect()
}

#[test]
fn nothing_leaves_a_new_tunnel_before_its_row_is_accepted() {
    let now = Duration::from_secs(1);
    let mut lns = Connection::respond(plain(), now, tunnel(0x2002), &sccrq()).expect("acceptable");
    assert_eq!(leaks(&mut lns, now), []);
    let progress = lns.progress();
    assert_eq!(
        progress,
        Progress {
            received: 1,
            queued: 1,
            acknowledged: 0
        }
    );
    assert_eq!(lns.messages_from(0).count(), 1);
    lns.accept(now, progress);
    assert_eq!(leaks(&mut lns, now), [(0, 1, false)]);
}

#[test]
fn a_shut_gate_holds_every_answer_and_a_duplicate_learns_nothing_new() {
    let mut pair = Pair::new(plain(), plain(), CLEAN, 1);
    pair.run_for(Duration::from_secs(1));
    pair.withheld = Some(Side::Lns);
    let accepted = pair.lns().progress();
    pair.lac.place_call(pair.now, session(1), dial(1)).expect("free");
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.lns().call_count(), 1, "processed");
    assert_eq!(
        pair.lac.call(session(1)),
        Some((CallState::WaitReply, None)),
        "but not answered"
    );
    assert_eq!(
        pair.lac.progress().acknowledged.wrapping_add(1),
        pair.lac.progress().queued
    );
    let advanced = pair.lns().progress();
    assert_ne!(advanced, accepted);
    pair.withheld = None;
    pair.run_for(Duration::from_secs(10));
    assert_eq!(
        pair.lac.call(session(1)),
        Some((CallState::Established, Some(answer_id(session(1)))))
    );
}

#[test]
fn accepting_an_older_progress_releases_no_more_than_that() {
    let mut lns = Scripted::open();
    let (now, nr, ns) = (
        lns.now,
        lns.connection.progress().received,
        lns.connection.progress().queued,
    );
    for peer in [0x3003, 0x3004] {
        let header = header::ControlHeader {
            tunnel: None,
            session: None,
            ns: lns.ns,
            nr: ns,
        };
        lns.ns += 1;
        let datagram = icrq(peer).encode(header, None);
        lns.connection.handle_input(now, &datagram).expect("valid");
    }
    lns.connection
        .accept_call(now, session(0x3003), session(1))
        .expect("offered");
    let proposed = lns.connection.progress();
    lns.connection
        .accept_call(now, session(0x3004), session(2))
        .expect("offered");
    assert_eq!(leaks(&mut lns.connection, now), []);
    lns.connection.accept(now, proposed);
    assert_eq!(leaks(&mut lns.connection, now), [(ns, nr + 2, false)]);
    assert_eq!(lns.connection.messages_from(proposed.queued).count(), 1);
}

/// A pair whose LNS is reborn from its snapshot after every step of `every`.
fn run_with_rebirths(path: support::Path, seed: u64, every: Duration, calls: u16) -> Pair {
    let mut pair = Pair::new(challenging(), challenging(), path, seed);
    for call in 1..=calls {
        pair.lac
            .place_call(pair.now, session(call), dial(u32::from(call)))
            .expect("free");
    }
    let end = pair.now + Duration::from_secs(120);
    while pair.now < end {
        pair.run_for(every);
        let (now, settings) = (pair.now, pair.lns_settings.clone());
        if let Some(lns) = &mut pair.lns {
            let snapshot = lns.snapshot();
            let reborn = Connection::restore(settings, now, &snapshot);
            assert_eq!(reborn.snapshot(), snapshot);
            *lns = reborn;
        }
    }
    pair
}

#[test]
fn a_connection_that_is_reborn_again_and_again_loses_nothing() {
    for seed in 0..20 {
        let mut pair = run_with_rebirths(LOSSY, seed, Duration::from_millis(700), 30);
        assert_eq!(pair.lns().call_count(), 30, "seed {seed}");
        let answered = pair.count(|event| matches!(event, Event::CallAnswered { .. }));
        let connected = pair.count(|event| matches!(event, Event::CallConnected { .. }));
        assert_eq!((answered, connected), (30, 30), "seed {seed}");
        assert_eq!(
            pair.count(|event| matches!(event, Event::Closed(_))),
            0,
            "seed {seed}"
        );
    }
}

#[test]
fn a_half_open_tunnel_is_born_from_its_row() {
    let now = Duration::from_secs(1);
    let unborn = Connection::respond(challenging(), now, tunnel(0x2002), &sccrq()).expect("acceptable");
    let snapshot = unborn.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.ns, snapshot.nr),
        (State::WaitCtlConn, 1, 1)
    );
    assert_eq!(snapshot.peer.host_name, b"lac1");
    let other_challenge = Settings {
        challenge: Some([0; 16]),
        ..challenging()
    };
    let mut lns = Scripted {
        now,
        connection: Connection::restore(other_challenge, now, &snapshot),
        ns: 1,
        nr: 0,
    };
    let scccn = response_to(&lns.drain(), &secret());
    lns.send(None, &Message::Scccn(scccn));
    assert_eq!(
        lns.events(),
        [Event::Established],
        "the row's challenge counts, not the new process's"
    );
}

#[test]
fn a_reborn_tombstone_goes_on_acknowledging() {
    let mut lns = Scripted::open();
    let ns = lns.ns;
    let stop = StopCcn {
        assigned_tunnel_id: None,
        result: ResultCode::new(1),
    };
    lns.send(None, &Message::StopCcn(stop));
    lns.connection = Connection::restore(plain(), lns.now, &lns.connection.snapshot());
    assert!(only_acknowledged(&lns.drain(), ns + 1));
    lns.now += Duration::from_secs(10);
    assert!(only_acknowledged(
        &lns.send_numbered(ns, None, &body(6, &[])),
        ns + 1
    ));
    lns.wait(Duration::from_secs(21));
    assert_eq!(lns.events(), [Event::Finished]);
}

#[test]
fn reborn_tunnels_do_not_send_their_hellos_together() {
    let mut due = Vec::new();
    for id in 1..=64 {
        let now = Duration::from_secs(1000);
        let mut snapshot = Scripted::open().connection.snapshot();
        snapshot.local = tunnel(id << 8 | 1);
        snapshot.unacknowledged.clear();
        let connection = Connection::restore(plain(), now, &snapshot);
        due.push((connection.poll_timeout().expect("a HELLO is due") - now).as_secs());
    }
    assert!(due.iter().all(|seconds| (30..=60).contains(seconds)), "{due:?}");
    due.sort_unstable();
    due.dedup();
    assert!(due.len() > 16, "{due:?}");
}
