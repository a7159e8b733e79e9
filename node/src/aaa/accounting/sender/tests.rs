use super::*;

const GROUP: Option<&str> = Some("isp");

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn row(name: &str) -> Arc<SessionRow> {
    Arc::new(SessionRow {
        acct_session_id: name.to_owned(),
        ..SessionRow::default()
    })
}

pub(super) fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

pub(super) fn owed(sequence: u64, kind: AccountingKind, name: &str, tunnel_id: u16) -> Arc<Owed> {
    Arc::new(Owed {
        sequence,
        kind,
        event_ms: sequence * 10,
        event_unix_s: 1_800_000_000 + sequence,
        tunnel: tunnel(tunnel_id),
        peer: None,
        host_name: Vec::new(),
        profile: String::new(),
        session: row(name),
        terminate_cause: 0,
        local: None,
        traffic: None,
    })
}

fn start(sequence: u64, name: &str) -> Arc<Owed> {
    owed(sequence, AccountingKind::Start, name, 0x0101)
}

fn stop(sequence: u64, name: &str) -> Arc<Owed> {
    owed(sequence, AccountingKind::Stop, name, 0x0101)
}

pub(super) fn traffic(input_octets: u64) -> Traffic {
    Traffic {
        input_octets,
        ..Traffic::default()
    }
}

pub(super) fn interim(name: &str, input_octets: u64) -> Interim {
    Interim {
        tunnel: Arc::default(),
        session: row(name),
        traffic: traffic(input_octets),
        now_ms: 0,
        unix_s: 0,
    }
}

/// What it sends now.
fn sent(sender: &mut Sender, now: Duration) -> Vec<Key> {
    let commands = std::iter::from_fn(|| sender.poll_output(now));
    commands
        .filter_map(|command| match command {
            Command::Send { key, .. } => Some(key),
            Command::Acknowledge(_) => None,
        })
        .collect()
}

fn acknowledges(sender: &mut Sender, now: Duration) -> Vec<u64> {
    let commands = std::iter::from_fn(|| sender.poll_output(now));
    commands
        .flat_map(|command| match command {
            Command::Acknowledge(sequences) => sequences,
            Command::Send { key, .. } => panic!("sends {key:?}"),
        })
        .collect()
}

#[test]
fn a_start_is_sent_once_confirmed_and_acknowledged() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(7, "a"), GROUP);
    sender.owe(ms(0), &start(7, "a"), GROUP);
    assert_eq!(sent(&mut sender, ms(0)), [Key::Owed(7)]);
    sender.answered(ms(5), Key::Owed(7));
    assert!(acknowledges(&mut sender, ms(5)).is_empty(), "others may join");
    assert_eq!(sender.poll_timeout(), Some(ms(205)));
    assert_eq!(acknowledges(&mut sender, ms(205)), [7]);
    sender.owe(ms(206), &start(7, "a"), GROUP);
    assert!(
        sent(&mut sender, ms(300)).is_empty(),
        "the table has it still, and was asked"
    );
    sender.acknowledged(ms(300), &[7], false);
    assert_eq!(acknowledges(&mut sender, ms(500)), [7], "a proposal can vanish");
    sender.acknowledged(ms(600), &[7], true);
    assert_eq!((sender.poll_timeout(), sender.waiting()), (None, 0));
}

#[test]
fn without_servers_a_record_is_settled() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(7, "a"), None);
    sender.owe(ms(0), &stop(8, "a"), None);
    assert_eq!(acknowledges(&mut sender, ms(200)), [7, 8]);
}

#[test]
fn a_stop_waits_for_its_start_and_for_its_traffic() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(7, "a"), GROUP);
    sender.owe(ms(0), &stop(8, "a"), GROUP);
    assert_eq!(sent(&mut sender, ms(0)), [Key::Owed(7)]);
    assert!(sender.wants_traffic(8) && !sender.wants_traffic(7));
    sender.answered(ms(1), Key::Owed(7));
    assert!(sent(&mut sender, ms(1)).is_empty(), "its traffic is not known");
    sender.finalize(8, traffic(1));
    sender.finalize(8, traffic(2));
    let Some(Command::Send {
        request: Request::Owed(record, Some(told)),
        ..
    }) = sender.poll_output(ms(1))
    else {
        panic!("the Stop is complete");
    };
    assert_eq!(
        (record.sequence, told.input_octets),
        (8, 1),
        "the first word counts"
    );
}

#[test]
fn a_stop_with_traffic_waits_for_its_start_all_the_same() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(7, "a"), GROUP);
    sender.owe(ms(0), &stop(8, "a"), GROUP);
    sender.finalize(8, traffic(1));
    assert_eq!(sent(&mut sender, ms(0)), [Key::Owed(7)]);
    sender.answered(ms(1), Key::Owed(7));
    assert_eq!(sent(&mut sender, ms(1)), [Key::Owed(8)]);
}

#[test]
fn no_more_than_a_window_is_under_way() {
    let mut sender = Sender::default();
    for sequence in 0..100 {
        sender.owe(ms(0), &start(sequence, &sequence.to_string()), GROUP);
    }
    sender.owe(ms(0), &start(100, "other"), Some("other"));
    let first = sent(&mut sender, ms(0));
    assert_eq!(first.len(), WINDOW + 1, "each group has its own");
    assert!(
        first.contains(&Key::Owed(0)) && first.contains(&Key::Owed(100)),
        "the oldest first"
    );
    sender.answered(ms(1), Key::Owed(3));
    assert_eq!(sent(&mut sender, ms(1)), [Key::Owed(WINDOW as u64)]);
}

#[test]
fn s_160_a_dead_server_is_asked_ever_more_seldom_and_for_ever() {
    let mut sender = Sender::default();
    for sequence in 0..100 {
        sender.owe(ms(0), &start(sequence, &sequence.to_string()), GROUP);
    }
    for key in sent(&mut sender, ms(0)) {
        sender.unanswered(ms(10), key);
    }
    let mut now = ms(10);
    let mut waits = Vec::new();
    for _ in 0..3_000 {
        let at = sender.poll_timeout().expect("it never gives up");
        waits.push(at - now);
        now = at;
        assert_eq!(sent(&mut sender, now), [Key::Owed(0)], "one, the oldest");
        sender.unanswered(now, Key::Owed(0));
    }
    assert_eq!(
        (waits[0], waits[1], waits[2]),
        (RETRY_MIN, RETRY_MIN * 2, RETRY_MIN * 4)
    );
    assert!(waits[10..].iter().all(|wait| *wait == RETRY_MAX));
    assert_eq!(sender.waiting(), 100, "nothing is lost");
    assert_eq!(sender.silent().collect::<Vec<_>>(), ["isp"]);
    assert!(now > Duration::from_secs(24 * 3_600), "a day");

    now = sender.poll_timeout().expect("still");
    assert_eq!(sent(&mut sender, now), [Key::Owed(0)]);
    sender.answered(now, Key::Owed(0));
    assert_eq!(sent(&mut sender, now).len(), WINDOW, "it is back");
}

#[test]
fn a_silent_group_holds_no_other_up() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(1, "a"), GROUP);
    assert_eq!(sent(&mut sender, ms(0)), [Key::Owed(1)]);
    sender.unanswered(ms(1), Key::Owed(1));
    sender.owe(ms(2), &start(2, "b"), Some("other"));
    assert_eq!(sent(&mut sender, ms(2)), [Key::Owed(2)]);
}

#[test]
fn an_interim_is_dropped_rather_than_late() {
    let mut sender = Sender::default();
    sender.interim("isp", interim("a", 1));
    sender.interim("isp", interim("a", 2));
    let Some(Command::Send {
        key,
        request: Request::Interim(told),
        ..
    }) = sender.poll_output(ms(0))
    else {
        panic!("one is due");
    };
    assert_eq!(told.traffic.input_octets, 2, "the newer one has taken its place");
    sender.interim("isp", interim("a", 3));
    assert!(
        sent(&mut sender, ms(0)).is_empty(),
        "the last one is not answered"
    );
    sender.interim("isp", interim("b", 1));
    sender.interim("isp", interim("c", 1));
    sender.unanswered(ms(1), key);
    assert!(
        sent(&mut sender, ms(1)).is_empty(),
        "the group is silent, and its interims are dropped"
    );
    sender.interim("isp", interim("d", 1));
    assert!(
        sent(&mut sender, ms(60_000)).is_empty(),
        "an interim is no reason to ask"
    );
    let tally = sender.take_tally();
    assert_eq!(
        (tally.unanswered, tally.interims_dropped, tally.interims),
        (1, 6, 0)
    );
    assert!(sender.lines.is_empty() && sender.interims.is_empty());
}

#[test]
fn of_a_session_one_request_is_under_way() {
    let mut sender = Sender::default();
    sender.interim("isp", interim("a", 1));
    let keys = sent(&mut sender, ms(0));
    assert_eq!(keys.len(), 1);
    sender.owe(ms(1), &stop(9, "a"), GROUP);
    sender.finalize(9, traffic(2));
    assert!(
        sent(&mut sender, ms(1)).is_empty(),
        "the server would see the interim after the Stop"
    );
    sender.answered(ms(2), keys[0]);
    assert_eq!(sent(&mut sender, ms(2)), [Key::Owed(9)]);
    sender.interim("isp", interim("a", 1));
    sender.answered(ms(3), Key::Owed(9));
    assert!(
        acknowledges(&mut sender, ms(203)) == [9],
        "the interim after the Stop is none"
    );
}

#[test]
fn an_interim_that_waits_gives_way_to_the_stop() {
    let mut sender = Sender::default();
    sender.interim("isp", interim("a", 1));
    sender.owe(ms(1), &stop(9, "a"), GROUP);
    assert!(sent(&mut sender, ms(1)).is_empty());
    sender.finalize(9, traffic(2));
    assert_eq!(sent(&mut sender, ms(1)), [Key::Owed(9)]);
}

#[test]
fn another_owner_has_the_rest() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(1, "a"), GROUP);
    sender.owe(ms(0), &owed(2, AccountingKind::Start, "b", 0x0201), GROUP);
    assert_eq!(sent(&mut sender, ms(0)).len(), 2);
    sender.retain(|tunnel| tunnel.group() == 1);
    assert_eq!(sender.waiting(), 1);
    sender.unanswered(ms(1), Key::Owed(2));
    sender.answered(ms(2), Key::Owed(1));
    assert_eq!(acknowledges(&mut sender, ms(202)), [1]);
    // And back while a copy is under way.
    sender.owe(ms(300), &start(3, "c"), GROUP);
    assert_eq!(sent(&mut sender, ms(300)), [Key::Owed(3)]);
    sender.retain(|_| false);
    sender.owe(ms(301), &start(3, "c"), GROUP);
    assert!(sent(&mut sender, ms(301)).is_empty());
    sender.answered(ms(302), Key::Owed(3));
    assert_eq!(acknowledges(&mut sender, ms(502)), [3]);
}

#[test]
fn what_the_table_dropped_at_its_bound_is_forgotten() {
    let mut sender = Sender::default();
    for sequence in 0..3 {
        sender.owe(ms(0), &start(sequence, &sequence.to_string()), GROUP);
    }
    sender.forget_before(2);
    assert_eq!(sent(&mut sender, ms(0)), [Key::Owed(2)]);
}

#[test]
fn a_cluster_that_begins_says_so_before_its_first_session() {
    let mut sender = Sender::default();
    sender.announce("isp", 5);
    let keys = sent(&mut sender, ms(0));
    assert!(matches!(keys[..], [Key::On(_)]));
    sender.unanswered(ms(10), keys[0]);
    assert_eq!(sent(&mut sender, ms(1_010)), keys, "again");
    sender.interim("isp", interim("a", 1));
    sender.answered(ms(1_011), keys[0]);
    assert!(sent(&mut sender, ms(1_011)).is_empty());

    sender.announce("isp", 5);
    sender.owe(ms(2_000), &start(1, "a"), GROUP);
    assert_eq!(
        sent(&mut sender, ms(2_000)),
        [Key::Owed(1)],
        "it would end this session at the server"
    );
    assert_eq!(sender.take_tally().on_given_up, 1);
}

#[test]
fn many_records_are_acknowledged_in_parts() {
    let mut sender = Sender::default();
    for sequence in 0..2_500 {
        sender.owe(ms(0), &start(sequence, "x"), None);
    }
    let parts: Vec<_> = std::iter::from_fn(|| sender.poll_output(ms(200)))
        .map(|command| match command {
            Command::Acknowledge(sequences) => sequences.len(),
            Command::Send { .. } => 0,
        })
        .collect();
    assert_eq!(parts, [1_024, 1_024, 452]);
}

/// The record 1 is left unanswered at `now`, while `other` is answered.
fn leave_out(sender: &mut Sender, now: Duration, other: u64) {
    sender.owe(now, &start(other, "other"), GROUP);
    assert_eq!(sent(sender, now), [Key::Owed(1), Key::Owed(other)]);
    sender.answered(now + ms(1), Key::Owed(other));
    sender.unanswered(now + ms(30_000), Key::Owed(1));
    while sender.owed(1).is_some()
        && let Some(command) = sender.poll_output(now + ms(30_000))
    {
        match command {
            Command::Acknowledge(sequences) => sender.acknowledged(now + ms(30_000), &sequences, true),
            Command::Send { key, .. } => panic!("{key:?} is not due"),
        }
    }
}

#[test]
fn a_record_that_a_living_server_drops_holds_up_its_own_session_alone() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(1, "a"), GROUP);
    sender.owe(ms(0), &stop(2, "a"), GROUP);
    sender.finalize(2, traffic(1));
    leave_out(&mut sender, ms(0), 10);
    assert_eq!(sender.silent().count(), 0);
    sender.owe(ms(30_001), &start(11, "b"), GROUP);
    assert_eq!(sent(&mut sender, ms(30_001)), [Key::Owed(11)]);
    sender.answered(ms(30_002), Key::Owed(11));
    assert_eq!(sender.poll_timeout(), Some(ms(30_202)), "to acknowledge");
    sender.poll_output(ms(30_202));
    assert_eq!(sender.poll_timeout(), Some(ms(31_000)));
    // The next waits are longer, and it may be answered after all.
    leave_out(&mut sender, ms(31_000), 12);
    assert_eq!(sender.poll_timeout(), Some(ms(63_000)));
    assert_eq!(sent(&mut sender, ms(63_000)), [Key::Owed(1)]);
    sender.answered(ms(63_001), Key::Owed(1));
    assert_eq!(sent(&mut sender, ms(63_001)), [Key::Owed(2)]);
    assert!(sender.take_notices().is_empty());
}

#[test]
fn a_record_that_a_living_server_drops_is_given_up_after_a_day() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(1, "a"), GROUP);
    sender.owe(ms(0), &stop(2, "a"), GROUP);
    sender.finalize(2, traffic(1));
    let (mut now, mut attempts) = (ms(0), 0);
    loop {
        attempts += 1;
        leave_out(&mut sender, now, 10 + attempts);
        if sender.owed(1).is_none() {
            break;
        }
        now = sender.poll_timeout().expect("it is tried again");
    }
    now += ms(30_000);
    assert!(
        now >= LEFT_OUT_MAX && now < LEFT_OUT_MAX + ms(1_300_000),
        "{now:?}"
    );
    let notices = sender.take_notices();
    let said: Vec<_> = notices.iter().map(|n| (n.owed.sequence, n.given_up)).collect();
    assert_eq!(said, [(1, false), (1, true)]);
    assert_eq!(sender.take_tally().given_up, 1);
    let commands: Vec<_> = std::iter::from_fn(|| sender.poll_output(now)).collect();
    let [
        Command::Acknowledge(sequences),
        Command::Send {
            key: Key::Owed(2), ..
        },
    ] = &commands[..]
    else {
        panic!("its Stop has its turn: {commands:?}");
    };
    assert!(sequences.contains(&1));
}

/// A server that answers nothing is no reason to give anything up.
#[test]
fn a_dead_server_loses_nothing() {
    let mut sender = Sender::default();
    sender.owe(ms(0), &start(1, "a"), GROUP);
    leave_out(&mut sender, ms(0), 10);
    let mut now = sender.poll_timeout().expect("it is tried again");
    while now < LEFT_OUT_MAX * 7 {
        assert_eq!(sent(&mut sender, now), [Key::Owed(1)]);
        sender.unanswered(now + ms(30_000), Key::Owed(1));
        now = sender.poll_timeout().expect("it is tried again");
    }
    assert!(sender.owed(1).is_some() && sender.take_notices().is_empty());
    assert_eq!(sender.silent().count(), 1);
}
