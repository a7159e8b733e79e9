//! What of a tunnel needs no world around it; the rest is in `node/tests/lns`.

use super::*;

const NOW: Now = Now {
    monotonic: Duration::from_secs(100),
    table_ms: 50_000,
};

fn row(state: TunnelState) -> TunnelRow {
    TunnelRow {
        tunnel_id: 7,
        peer_tunnel_id: 9,
        peer_window: 16,
        state: state.into(),
        revision: 1,
        ns: 1,
        nr: 1,
        ..TunnelRow::default()
    }
}

fn born(row: &TunnelRow) -> Tunnel {
    let birth = Birth {
        row,
        sessions: &[],
        life: 1,
        seed: 1,
        accounting_prefix: 1,
        max_sessions: 65_535,
    };
    let mut tunnel = Tunnel::born(NOW, Settings::default(), &birth);
    drain(&mut tunnel);
    tunnel
}

fn drain(tunnel: &mut Tunnel) -> Vec<Command> {
    std::iter::from_fn(|| tunnel.poll_output()).collect()
}

fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

#[test]
fn what_waits_for_a_change_in_parts_waits_for_the_last_part() {
    let mut tunnel = born(&row(TunnelState::Established));
    for _ in 0..=SESSION_CHANGES_MAX {
        tunnel.changes.push_back(PutSession::default().into());
    }
    tunnel.held.push(Command::StopSession(session(5)));
    tunnel.settle(NOW);
    let sizes: Vec<_> = drain(&mut tunnel)
        .into_iter()
        .filter_map(|command| match command {
            Command::Propose(change) => Some((change.revision, change.sessions.len())),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [(2, SESSION_CHANGES_MAX), (3, 1)]);
    tunnel.handle_verdict(NOW, 2, None);
    assert!(drain(&mut tunnel).is_empty(), "a part alone sets nothing free");
    tunnel.handle_verdict(NOW, 3, None);
    let freed = drain(&mut tunnel);
    assert!(matches!(freed[..], [Command::StopSession(id)] if id == session(5)));
}

#[test]
fn a_tombstone_whose_time_is_over_says_nothing() {
    let mut over = row(TunnelState::Closed);
    over.deadline_ms = NOW.table_ms;
    over.ns = 2;
    over.unacknowledged.push(QueuedMessage {
        ns: 1,
        octets: vec![0; 12],
    });
    let birth = Birth {
        row: &over,
        sessions: &[],
        life: 1,
        seed: 1,
        accounting_prefix: 1,
        max_sessions: 1,
    };
    let mut tunnel = Tunnel::born(NOW, Settings::default(), &birth);
    assert!(drain(&mut tunnel).is_empty());
    tunnel.handle_timeout(NOW);
    assert!(matches!(drain(&mut tunnel)[..], [Command::ProposeRemoval]));
}

#[test]
fn an_id_that_rests_in_the_table_is_not_drawn() {
    let mut tunnel = born(&row(TunnelState::Established));
    let all_but_one = (2..=u16::MAX).map(|id| (session(id), NOW.table_ms));
    tunnel.rest_ids(NOW, &all_but_one.collect::<Vec<_>>());
    let drawn: Vec<_> = (0..100).filter_map(|_| tunnel.draw_session_id()).collect();
    assert!(drawn.iter().all(|id| *id == session(1)));
    let later = Now {
        monotonic: NOW.monotonic + SESSION_ID_REST,
        ..NOW
    };
    tunnel.handle_timeout(later);
    assert!(tunnel.resting.is_empty());
}
