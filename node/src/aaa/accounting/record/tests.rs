use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_cluster::records::{Identity, NcpRow, TunnelRow};
use holdfast_cluster::table::Owed;
use holdfast_protocol::TunnelId;

use super::*;
use crate::aaa::accounting::sender::Interim;
use crate::aaa::radius::Packet;
use crate::aaa::radius::attributes::LONGEST_VALUE;

fn nas() -> Nas {
    Nas {
        identity: NasIdentity {
            identifier: "isp".into(),
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: None,
        },
        host_name: "lns".into(),
    }
}

fn of_host(last: u8) -> Option<SocketAddress> {
    Some(SocketAddress {
        ip: vec![192, 0, 2, last],
        port: 1701,
    })
}

fn session() -> SessionRow {
    let ipv6cp = NcpRow {
        protocol: IPV6CP,
        open: true,
        peer: vec![0, 0, 0, 0, 0, 0, 0, 9],
        ..NcpRow::default()
    };
    let net = |text: &str| crate::lns::granted::prefix(text.parse().expect("a network"));
    let ppp = PppRow {
        user: b"ann".to_vec(),
        ncps: vec![ipv6cp],
        addresses: vec![
            Prefix::host([100, 64, 0, 2].into()),
            net("2001:db8:1::/64"),
            net("2001:db8:100::/56"),
        ],
        classes: vec![b"gold".to_vec(), b"x".to_vec()],
        opened_ms: 5_000,
        link_prefix: Some(net("2001:db8:1::/64")),
        delegated_prefix: Some(net("2001:db8:100::/56")),
        identity: Some(Identity {
            accounted_user: b"ann@isp".to_vec(),
            chargeable_user: b"cui".to_vec(),
            server_group: "isp".into(),
            ..Identity::default()
        }),
        ..PppRow::default()
    };
    SessionRow {
        session_id: 7,
        call_serial: 99,
        calling_number: b"0301".to_vec(),
        called_number: b"0800".to_vec(),
        tx_speed: 100_000_000,
        rx_speed: 40_000_000,
        acct_session_id: "0000002a00000000deadbeef".into(),
        nas_port: 0x0301_0007,
        ppp: Some(ppp),
        ..SessionRow::default()
    }
}

fn owed(kind: AccountingKind) -> Arc<Owed> {
    Arc::new(Owed {
        sequence: 1,
        kind,
        event_ms: 65_999,
        event_unix_s: 1_800_000_060,
        tunnel: TunnelId::new(0x0301).expect("not zero"),
        peer: of_host(9),
        host_name: b"lac".to_vec(),
        profile: "any".into(),
        session: Arc::new(session()),
        terminate_cause: 4,
        local: of_host(1),
        traffic: None,
    })
}

fn traffic() -> Traffic {
    Traffic {
        input_octets: (3 << 32) + 17,
        output_octets: u64::from(u32::MAX),
        input_packets: 12,
        output_packets: 34,
    }
}

type Said = BTreeMap<u8, Vec<Vec<u8>>>;

/// By attribute, its values.
fn said(request: &Request) -> Said {
    let content = content(&nas(), request).expect("it fits");
    let (octets, _) = content.encode(1, b"secret", [0; 16]).expect("it fits");
    let packet = Packet::parse(&octets).expect("ours");
    let mut said = Said::new();
    for attribute in packet.attributes() {
        said.entry(attribute.kind)
            .or_default()
            .push(attribute.value.to_vec());
    }
    said
}

fn number(said: &Said, kind: u8) -> Option<u32> {
    let [value] = said.get(&kind)?.as_slice() else {
        panic!("{kind} twice");
    };
    Some(u32::from_be_bytes(
        value.as_slice().try_into().expect("four octets"),
    ))
}

fn text(said: &Said, kind: u8) -> String {
    String::from_utf8(said[&kind][0].clone()).expect("text")
}

#[test]
fn what_happened_before_the_table_knew_the_time_bears_none() {
    let mut early = Owed::clone(&owed(AccountingKind::Start));
    early.event_unix_s = 0;
    let said_early = said(&Request::Owed(Arc::new(early), None));
    assert!(!said_early.contains_key(&attribute::EVENT_TIMESTAMP));
    let dated = said(&Request::Owed(owed(AccountingKind::Start), None));
    assert_eq!(number(&dated, attribute::EVENT_TIMESTAMP), Some(1_800_000_060));
}

fn check_session(said: &Said) {
    for (kind, expected) in [
        (32, "isp"),
        (44, "0000002a00000000deadbeef"),
        (1, "ann@isp"),
        (89, "cui"),
        (30, "0800"),
    ] {
        assert_eq!(text(said, kind), expected, "{kind}");
    }
    for (kind, expected) in [
        (31, "0301"),
        (77, "100000000/40000000"),
        (66, "192.0.2.9"),
        (67, "192.0.2.1"),
    ] {
        assert_eq!(text(said, kind), expected, "{kind}");
    }
    for (kind, expected) in [(68, "99"), (82, "769"), (90, "lac"), (91, "lns"), (87, "769/7")] {
        assert_eq!(text(said, kind), expected, "{kind}");
    }
    for (kind, expected) in [
        (5, 0x0301_0007),
        (61, 5),
        (6, 2),
        (7, 1),
        (45, 1),
        (64, 3),
        (65, 1),
        (4, 0xc000_0201),
    ] {
        assert_eq!(number(said, kind), Some(expected), "{kind}");
    }
    assert_eq!(said[&25], [b"gold".to_vec(), b"x".to_vec()], "each Class");
    assert_eq!(said[&8], [[100, 64, 0, 2]]);
    assert_eq!(said[&9], [[255; 4]]);
    assert_eq!(said[&96], [[0, 0, 0, 0, 0, 0, 0, 9]]);
    assert_eq!(said[&97], [[0, 64, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0]]);
    assert_eq!(said[&123], [[0, 56, 0x20, 0x01, 0x0d, 0xb8, 1, 0, 0]]);
    assert!(
        !said.contains_key(&41) && !said.contains_key(&33),
        "neither a delay nor Proxy-State"
    );
}

#[test]
fn a_start_says_who_and_where_and_no_traffic() {
    let said = said(&Request::Owed(owed(AccountingKind::Start), None));
    check_session(&said);
    assert_eq!(number(&said, 40), Some(1));
    assert_eq!(number(&said, 55), Some(1_800_000_060));
    for kind in [42, 43, 46, 47, 48, 49, 52, 53] {
        assert!(!said.contains_key(&kind), "{kind}");
    }
}

#[test]
fn s_161_a_stop_carries_gigawords_its_cause_and_how_long_it_was() {
    let said = said(&Request::Owed(owed(AccountingKind::Stop), Some(traffic())));
    check_session(&said);
    let expected = [
        (40, 2),
        (42, 17),
        (52, 3),
        (43, u32::MAX),
        (53, 0),
        (47, 12),
        (48, 34),
        (46, 60),
        (49, 4),
    ];
    for (kind, expected) in expected {
        assert_eq!(number(&said, kind), Some(expected), "{kind}");
    }
}

#[test]
fn an_interim_says_how_far_it_is() {
    let tunnel = TunnelRow {
        tunnel_id: 0x0301,
        peer: of_host(9),
        local: of_host(1),
        host_name: b"lac".to_vec(),
        ..TunnelRow::default()
    };
    let said = said(&Request::Interim(Arc::new(Interim {
        tunnel: Arc::new(tunnel),
        session: Arc::new(session()),
        traffic: traffic(),
        now_ms: 35_000,
        unix_s: 1_800_000_030,
    })));
    check_session(&said);
    let expected = [(40, 3), (42, 17), (52, 3), (46, 30), (55, 1_800_000_030)];
    for (kind, expected) in expected {
        assert_eq!(number(&said, kind), Some(expected), "{kind}");
    }
    assert!(!said.contains_key(&49), "it has not ended");
}

#[test]
fn an_accounting_on_or_off_says_no_more_than_who() {
    let unix_s = 1_800_000_000;
    for (request, status, name) in [
        (Request::On { unix_s }, 7, "on-6b49d200"),
        (Request::Off { unix_s }, 8, "off-6b49d200"),
    ] {
        let said = said(&request);
        assert_eq!(said.keys().copied().collect::<Vec<_>>(), [4, 32, 40, 44, 55]);
        assert_eq!(
            (number(&said, 40), number(&said, 55)),
            (Some(status), Some(unix_s as u32))
        );
        assert_eq!(said[&44], [name.as_bytes()]);
    }
}

#[test]
fn the_same_record_is_the_same_octets_whoever_writes_it() {
    assert_eq!(
        said(&Request::Owed(owed(AccountingKind::Stop), Some(traffic()))),
        said(&Request::Owed(owed(AccountingKind::Stop), Some(traffic())))
    );
}

#[test]
fn more_than_fits_is_refused_by_name() {
    let mut session = session();
    session.ppp.as_mut().expect("it is open").classes = vec![vec![1; LONGEST_VALUE]; 16];
    let owed = Owed {
        session: Arc::new(session),
        ..Owed::clone(&owed(AccountingKind::Start))
    };
    let refused = content(&nas(), &Request::Owed(Arc::new(owed), None)).map(|_| ());
    assert_eq!(refused, Err(TooLong(attribute::CLASS)));
}

#[test]
fn a_local_user_without_anything_is_accounted_as_he_called_himself() {
    let mut session = session();
    let ppp = session.ppp.as_mut().expect("it is open");
    (ppp.identity, ppp.link_prefix, ppp.delegated_prefix) = (None, None, None);
    session.calling_number = vec![b'1'; 1_000];
    session.tx_speed = 0;
    let owed = Owed {
        session: Arc::new(session),
        peer: None,
        local: None,
        ..Owed::clone(&owed(AccountingKind::Start))
    };
    let said = said(&Request::Owed(Arc::new(owed), None));
    assert_eq!((text(&said, 1), number(&said, 45)), ("ann".into(), Some(2)));
    assert_eq!(
        text(&said, 31).len(),
        LONGEST_VALUE,
        "cut to what an attribute holds"
    );
    for kind in [65, 66, 67, 77, 89, 97, 123] {
        assert!(!said.contains_key(&kind), "{kind}");
    }
}
