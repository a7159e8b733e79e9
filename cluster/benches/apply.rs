//! What one change of the session table costs once it is committed: `cargo bench -p holdfast-cluster`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_cluster::Table;
use holdfast_cluster::commands::{
    ChangeTunnel, Command, CommandBatch, CreateTunnel, PutSession, Take, TunnelUpdate,
};
use holdfast_cluster::first_life;
use holdfast_cluster::records::{SessionRow, SessionState, SocketAddress, TunnelRow, TunnelState};
use holdfast_protocol::TunnelId;

/// Changes in one entry of the log, as under load.
const BATCH: u32 = 64;
const SESSIONS_PER_TUNNEL: u32 = 100;

fn entry(commands: Vec<Command>) -> CommandBatch {
    CommandBatch {
        origin: 1,
        commands,
        ..CommandBatch::default()
    }
}

/// Applies and makes sure that nothing was refused.
fn apply(table: &mut Table, commands: Vec<Command>) {
    let index = table.applied() + 1;
    let mut effects = Vec::new();
    let verdicts = table.apply(index, entry(commands), &mut effects);
    assert!(
        verdicts.iter().all(|verdict| verdict.is_accepted()),
        "{verdicts:?}"
    );
}

fn tunnel(id: u32) -> CreateTunnel {
    let address = |text: &str| {
        Some(SocketAddress::from(
            text.parse::<std::net::SocketAddr>().expect("an address"),
        ))
    };
    CreateTunnel {
        life: first_life(1),
        row: Some(TunnelRow {
            tunnel_id: id,
            state: TunnelState::HalfOpen as i32,
            local: address("192.0.2.1:1701"),
            peer: address("198.51.100.7:1701"),
            peer_tunnel_id: id,
            profile: "default".to_owned(),
            sccrq_hash: vec![7; 16],
            ns: 1,
            nr: 1,
            ..TunnelRow::default()
        }),
    }
}

fn session(tunnel: u32, id: u32) -> PutSession {
    PutSession {
        row: Some(SessionRow {
            session_id: id,
            peer_session_id: id,
            state: SessionState::Connected as i32,
            calling_number: b"0301234567".to_vec(),
            called_number: b"0800".to_vec(),
            acct_session_id: format!("{tunnel:04x}{id:04x}"),
            ..SessionRow::default()
        }),
        replaces: None,
    }
}

fn change(tunnel: u32, revision: u64) -> ChangeTunnel {
    ChangeTunnel {
        tunnel_id: tunnel,
        life: first_life(1),
        revision,
        ..ChangeTunnel::default()
    }
}

fn next_revision(table: &Table, tunnel: u32) -> u64 {
    let id = TunnelId::new(tunnel as u16).expect("not zero");
    table.tunnel(id).expect("it was made").row().revision + 1
}

/// A table with so many sessions in tunnels of `each`; and the next revision of every tunnel.
fn table(sessions: u32, each: u32) -> (Table, u64) {
    let mut table = Table::new();
    let take = Take {
        groups: (0..256).collect(),
        node: 1,
        incarnation: 1,
    };
    apply(&mut table, vec![take.into()]);
    for id in 1..=sessions / each {
        apply(&mut table, vec![tunnel(id).into()]);
        let up = ChangeTunnel {
            update: Some(TunnelUpdate {
                state: Some(TunnelState::Established as i32),
                ..TunnelUpdate::default()
            }),
            sessions: (1..=each)
                .map(|session_id| session(id, session_id).into())
                .collect(),
            ..change(id, next_revision(&table, id))
        };
        apply(&mut table, vec![up.into()]);
    }
    let revision = next_revision(&table, 1);
    (table, revision)
}

fn raft_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    for sessions in [1_000, 100_000] {
        let each = SESSIONS_PER_TUNNEL.min(sessions / BATCH);
        let (mut table, mut revision) = table(sessions, each);
        // Nothing but the revision moves, as when a HELLO is acknowledged.
        group.bench_function(
            BenchmarkId::new("one HELLO in each of 64 tunnels", sessions),
            |b| {
                b.iter_batched(
                    || {
                        let now = revision;
                        revision += 1;
                        (1..=BATCH).map(|id| change(id, now).into()).collect()
                    },
                    |commands: Vec<Command>| apply(&mut table, black_box(commands)),
                    BatchSize::PerIteration,
                );
            },
        );
        group.bench_function(
            BenchmarkId::new("one session row in each of 64 tunnels", sessions),
            |b| {
                b.iter_batched(
                    || {
                        let now = revision;
                        revision += 1;
                        let put = |id: u32| ChangeTunnel {
                            sessions: vec![session(id, 1 + now as u32 % each).into()],
                            ..change(id, now)
                        };
                        (1..=BATCH).map(|id| put(id).into()).collect()
                    },
                    |commands: Vec<Command>| apply(&mut table, black_box(commands)),
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(benches, raft_apply);
criterion_main!(benches);
