//! What holds after any sequence of commands whatever.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::TunnelId;
use proptest::prelude::*;
use prost::Message;

use super::spans::Span;
use super::{Effect, Group, Restore, Table, Verdict};
use crate::commands::command::Kind;
use crate::commands::{
    Acknowledge, Assign, ChangeTunnel, Command, CommandBatch, CreateTunnel, FinalTraffic, Finalize, Move,
    PutSession, Raise, Reclaim, RemoveSession, RemoveTunnel, SessionChange, SessionKey, Tick, TunnelUpdate,
};
use crate::ids::first_life;
use crate::limits::GROUPS;
use crate::records::{QueuedMessage, Traffic, TunnelState};
use crate::testing::{address, connected, create, open, take};

/// A command that mostly makes sense once it has been fitted to the table.
#[derive(Clone, Debug)]
enum Step {
    Take(Vec<u32>, u64, u64),
    Assign(u64, u64, Vec<u64>),
    Move(Vec<u32>, u64),
    Create(u16),
    Change {
        tunnel: u16,
        off: u8,
        state: Option<TunnelState>,
        sessions: Vec<SessionStep>,
        message: bool,
    },
    Reclaim(u16),
    Remove(u16),
    Tick(u64),
    Acknowledge(u64),
    Finalize(u64, u64),
    Raise(u32),
}

#[derive(Clone, Debug)]
enum SessionStep {
    Put {
        id: u16,
        user: u8,
        address: Option<u8>,
        replaces: Option<(u16, u16)>,
    },
    Remove(u16),
}

fn tunnel_ids() -> impl Strategy<Value = u16> {
    (0u16..2, 1u16..4).prop_map(|(group, index)| group << 8 | index)
}

fn groups() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![9 => 0u32..2, 1 => 0u32..300], 0..3)
}

fn session_step() -> impl Strategy<Value = SessionStep> {
    let replaces = proptest::option::weighted(0.3, (tunnel_ids(), 1u16..6));
    let put = (1u16..6, 0u8..3, proptest::option::weighted(0.8, 1u8..5), replaces);
    prop_oneof![
        3 => put.prop_map(|(id, user, address, replaces)| SessionStep::Put { id, user, address, replaces }),
        1 => (1u16..6).prop_map(SessionStep::Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let state = proptest::option::weighted(
        0.2,
        prop_oneof![
            6 => Just(TunnelState::Established),
            1 => Just(TunnelState::Closing),
            1 => Just(TunnelState::Closed),
        ],
    );
    let off = prop_oneof![8 => Just(1u8), 1 => Just(0u8), 1 => Just(2u8)];
    let sessions = proptest::collection::vec(session_step(), 0..4);
    let change = (tunnel_ids(), off, state, sessions, any::<bool>());
    prop_oneof![
        1 => (groups(), 1u64..4, 1u64..5).prop_map(|(groups, node, incarnation)| {
            Step::Take(groups, node, incarnation)
        }),
        1 => (0u64..4, 0u64..5, proptest::collection::vec(0u64..5, 0..4)).prop_map(|(from, incarnation, alive)| {
            Step::Assign(from, incarnation, alive)
        }),
        1 => (groups(), 0u64..5).prop_map(|(groups, to)| Step::Move(groups, to)),
        3 => tunnel_ids().prop_map(Step::Create),
        12 => change.prop_map(|(tunnel, off, state, sessions, message)| {
            Step::Change { tunnel, off, state, sessions, message }
        }),
        1 => tunnel_ids().prop_map(Step::Reclaim),
        1 => tunnel_ids().prop_map(Step::Remove),
        2 => (0u64..6_000).prop_map(Step::Tick),
        1 => (0u64..20).prop_map(Step::Acknowledge),
        1 => (0u64..20, 0u64..3).prop_map(|(sequence, octets)| Step::Finalize(sequence, octets)),
        1 => (0u32..5).prop_map(Step::Raise),
    ]
}

/// Fits a step to the table, as an owner would.
fn command(table: &Table, step: &Step) -> Command {
    let epoch = |id: u16| table.group((id >> 8) as u8).epoch;
    let found = |id: u16| {
        table
            .tunnel(TunnelId::new(id).expect("not zero"))
            .map(|tunnel| tunnel.row())
    };
    let life = |id: u16| found(id).map_or(first_life(epoch(id)), |row| table.current_life(row));
    match *step {
        Step::Take(ref groups, node, incarnation) => take(groups.clone(), node, incarnation).into(),
        Step::Assign(from, incarnation, ref alive) => Assign {
            term: 0,
            from,
            incarnation,
            alive: alive.clone(),
        }
        .into(),
        Step::Move(ref groups, to) => Move {
            groups: groups.clone(),
            to,
        }
        .into(),
        Step::Create(id) => CreateTunnel {
            life: first_life(epoch(id)),
            ..create(id)
        }
        .into(),
        Step::Reclaim(id) => Reclaim {
            tunnel_id: u32::from(id),
            life: life(id) + 1,
        }
        .into(),
        Step::Remove(id) => RemoveTunnel {
            tunnel_id: u32::from(id),
            life: life(id),
        }
        .into(),
        Step::Tick(ms) => Tick {
            now_ms: table.now_ms() + ms,
            unix_s: 1,
        }
        .into(),
        Step::Raise(version) => Raise { version }.into(),
        Step::Acknowledge(sequence) => Acknowledge {
            sequences: vec![sequence],
        }
        .into(),
        Step::Finalize(sequence, input_octets) => Finalize {
            records: vec![FinalTraffic {
                sequence,
                traffic: Some(Traffic {
                    input_octets,
                    ..Traffic::default()
                }),
            }],
        }
        .into(),
        Step::Change {
            tunnel,
            off,
            state,
            ref sessions,
            message,
        } => {
            let row = found(tunnel);
            let ns = row.map_or(0, |row| row.ns);
            let messages = message
                .then(|| QueuedMessage { ns, octets: vec![1] })
                .into_iter()
                .collect();
            let update = TunnelUpdate {
                state: state.map(|state| state as i32),
                ..TunnelUpdate::default()
            };
            ChangeTunnel {
                tunnel_id: u32::from(tunnel),
                life: life(tunnel),
                revision: row.map_or(1, |row| row.revision) + u64::from(off),
                messages,
                update: Some(update),
                sessions: sessions.iter().map(session_change).collect(),
                ..ChangeTunnel::default()
            }
            .into()
        }
    }
}

fn session_change(step: &SessionStep) -> SessionChange {
    match *step {
        SessionStep::Remove(id) => RemoveSession {
            session_id: u32::from(id),
            terminate_cause: 1,
        }
        .into(),
        SessionStep::Put {
            id,
            user,
            address: last,
            replaces,
        } => {
            let user = ["", "ann", "bob"][usize::from(user)];
            let row = last.map_or_else(|| connected(id), |last| open(id, user, address(last)));
            let replaces = replaces.map(|(tunnel, session)| SessionKey {
                tunnel_id: u32::from(tunnel),
                session_id: u32::from(session),
                any_user: false,
            });
            PutSession {
                row: Some(row),
                replaces,
            }
            .into()
        }
    }
}

/// Runs the steps and hands every table and verdict to `check`. Returns the batches too.
fn run(
    steps: &[Step],
    mut check: impl FnMut(&Table, &Command, &Verdict, &[Effect]),
) -> (Table, Vec<CommandBatch>) {
    let mut table = Table::new();
    let mut batches = Vec::new();
    for (index, step) in (1..).zip(steps) {
        let command = command(&table, step);
        let batch = CommandBatch {
            origin: proposer(&table, &command),
            commands: vec![command.clone()],
            ..CommandBatch::default()
        };
        batches.push(batch.clone());
        let mut effects = Vec::new();
        let verdicts = table.apply(index, batch, &mut effects);
        check(&table, &command, &verdicts[0], &effects);
    }
    (table, batches)
}

/// Who would propose the command: the tunnel's owner.
fn proposer(table: &Table, command: &Command) -> u64 {
    let tunnel = match &command.kind {
        Some(Kind::CreateTunnel(create)) => create.row.as_ref().map_or(0, |row| row.tunnel_id),
        Some(Kind::ChangeTunnel(change)) => change.tunnel_id,
        Some(Kind::Reclaim(reclaim)) => reclaim.tunnel_id,
        Some(Kind::RemoveTunnel(remove)) => remove.tunnel_id,
        _ => 0,
    };
    table.group((tunnel >> 8) as u8).owner
}

fn nothing_is_held_twice(table: &Table) {
    let (mut spans, mut sessions) = (BTreeSet::new(), 0);
    let mut half_open = BTreeSet::new();
    for (id, tunnel) in table.tunnels() {
        assert_eq!(tunnel.row().id(), Some(id));
        if tunnel.row().state() == TunnelState::HalfOpen {
            let key = super::apply::peer_key(tunnel.row()).expect("a peer");
            assert!(half_open.insert(key), "a half-open key twice");
            assert_eq!(table.half_open.get(&key), Some(&id));
        }
        for (session, row) in tunnel.sessions() {
            assert_eq!(row.id(), Some(session));
            sessions += 1;
            for prefix in row.ppp.iter().flat_map(|ppp| &ppp.addresses) {
                assert!(
                    spans.insert(Span::of(prefix).expect("a span")),
                    "an address twice"
                );
                let holder = table.holder(prefix.ip().expect("an address"));
                assert_eq!(holder, Some((id, session)));
            }
        }
    }
    assert_eq!(table.session_count(), sessions);
    assert_eq!(table.half_open.len(), half_open.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn ids_and_addresses_are_unique_and_revisions_never_skip(steps in proptest::collection::vec(step(), 1..80)) {
        let mut revisions: BTreeMap<u16, u64> = BTreeMap::new();
        run(&steps, |table, command, verdict, effects| {
            nothing_is_held_twice(table);
            if !verdict.is_accepted() {
                assert!(effects.is_empty(), "refused means unchanged");
            }
            let now: BTreeMap<u16, u64> =
                table.tunnels().map(|(id, tunnel)| (id.get(), tunnel.row().revision)).collect();
            for (id, revision) in &now {
                let before = revisions.get(id).copied().unwrap_or(0);
                assert!(*revision == before || *revision == before + 1, "{before} to {revision}");
                let changed = *revision != before;
                let by_it = matches!(&command.kind, Some(Kind::ChangeTunnel(change)) if change.revision == *revision)
                    || matches!(&command.kind, Some(Kind::CreateTunnel(_)));
                assert!(!changed || by_it && verdict.is_accepted());
            }
            revisions = now;
        });
    }

    #[test]
    fn owners_are_registered_and_epochs_count_their_changes(steps in proptest::collection::vec(step(), 1..80)) {
        let mut before: Vec<Group> = vec![Group::default(); GROUPS];
        run(&steps, |table, _, _, effects| {
            let now: Vec<Group> = (0..=255).map(|group| table.group(group)).collect();
            for (number, (before, now)) in (0u8..=255).zip(before.iter().zip(&now)) {
                let Group { owner, epoch, incarnation } = *now;
                let changed = before != now;
                assert_eq!(epoch, before.epoch + u32::from(changed));
                let told = effects.contains(&Effect::GroupTaken { group: number, owner, epoch });
                assert_eq!(told, changed, "group {number}");
                assert!(owner != 0 || !changed, "an owner is never taken away");
                assert!(owner == 0 || table.incarnation(owner) >= Some(incarnation));
            }
            before = now;
        });
    }

    #[test]
    fn the_same_commands_make_the_same_table(
        steps in proptest::collection::vec(step(), 1..60),
        cut in 0usize..60,
    ) {
        let (table, batches) = run(&steps, |_, _, _, _| ());
        let cut = cut.min(batches.len());
        let replay = |table: &mut Table, from: usize, batches: &[CommandBatch]| {
            for (index, batch) in (from as u64 + 1..).zip(batches) {
                let batch = CommandBatch::decode(batch.encode_to_vec().as_slice()).expect("encoded above");
                table.apply(index, batch, &mut Vec::new());
            }
        };
        let mut again = Table::new();
        replay(&mut again, 0, &batches[..cut]);
        let mut restore = Restore::default();
        again.image().encode(|part| restore.part(part)).expect("decodes");
        replay(&mut again, cut, &batches[cut..]);
        prop_assert_eq!(again.digest(), table.digest(), "full replay");
        let mut restored = restore.finish().expect("whole");
        replay(&mut restored, cut, &batches[cut..]);
        prop_assert_eq!(restored.digest(), table.digest(), "snapshot and tail");
    }

    #[test]
    fn any_octets_are_judged_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut table = Table::new();
        if let Ok(batch) = CommandBatch::decode(octets.as_slice()) {
            table.apply(1, batch, &mut Vec::new());
        }
        let _ = Restore::default().part(&octets);
    }
}
