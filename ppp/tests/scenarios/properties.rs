//! What holds whatever a peer sends.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_ppp::{AuthMethod, LinkConfig, Ncp, OpenLink, OpenNcp, Proxy, Secret, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bench::*;

/// A step of an unruly peer, or of the world around the link.
#[derive(Clone, Debug)]
enum Step {
    /// Octets from nowhere.
    Raw(Vec<u8>),
    /// A packet that is well formed at least outside.
    Packet(u16, u8, u8, Vec<u8>),
    /// The peer acknowledges our last request of this protocol.
    AckOurs(u16),
    /// A good IPCP request under this identifier.
    GoodIpcp(u8),
    /// A good IPV6CP request under this identifier.
    GoodIpv6cp(u8),
    /// A good LCP request under this identifier.
    GoodLcp(u8),
    Accept,
    Verdict(bool),
    Wait(u16),
    DataSeen,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop_oneof![
        Just(LCP),
        Just(IPCP),
        Just(IPV6CP),
        Just(PAP),
        Just(CHAP),
        Just(0x80fd)
    ];
    prop_oneof![
        1 => vec(any::<u8>(), 0..40).prop_map(Step::Raw),
        3 => (protocol, 0..16u8, any::<u8>(), vec(any::<u8>(), 0..20))
            .prop_map(|(protocol, code, id, data)| Step::Packet(protocol, code, id, data)),
        6 => prop_oneof![Just(LCP), Just(IPCP), Just(IPV6CP)].prop_map(Step::AckOurs),
        5 => (0..4u8).prop_map(Step::GoodIpcp),
        5 => (0..4u8).prop_map(Step::GoodIpv6cp),
        4 => (0..4u8).prop_map(Step::GoodLcp),
        5 => Just(Step::Accept),
        4 => any::<bool>().prop_map(Step::Verdict),
        3 => (0..4000u16).prop_map(Step::Wait),
        1 => Just(Step::DataSeen),
        1 => Just(Step::Close),
    ]
}

/// The link with a table beside it, which checks the gate.
struct Watched {
    bench: Bench,
    /// What the table holds.
    row: Option<OpenLink>,
    /// The commit that is on its way.
    pending: Option<(u32, Option<OpenLink>)>,
    authentication: Option<u32>,
    /// Our last request of each protocol.
    ours: BTreeMap<u16, (u8, Vec<u8>)>,
    up: Vec<Ncp>,
    finished: bool,
}

impl Watched {
    fn start(config: LinkConfig) -> Self {
        let (bench, said) = Bench::start(config);
        let mut watched = Self {
            bench,
            row: None,
            pending: None,
            authentication: None,
            ours: BTreeMap::new(),
            up: Vec::new(),
            finished: false,
        };
        watched.look(said);
        watched
    }

    fn take(&mut self, step: Step) {
        let said = match step {
            Step::Raw(octets) => self.bench.raw(&octets),
            Step::Packet(protocol, code, id, data) => self.bench.input(protocol, code, id, &data),
            Step::AckOurs(protocol) => {
                let (id, options) = self.ours.get(&protocol).cloned().unwrap_or_default();
                self.bench.input(protocol, ACK, id, &options)
            }
            Step::GoodIpcp(id) => self.bench.input(IPCP, REQUEST, id, &GOOD_IPCP),
            Step::GoodIpv6cp(id) => self.bench.input(IPV6CP, REQUEST, id, &GOOD_IPV6CP),
            Step::GoodLcp(id) => self.bench.input(LCP, REQUEST, id, &PEER_OPTIONS),
            Step::Accept => match self.pending.take() {
                Some((serial, row)) => {
                    self.row = row;
                    self.bench.accepted(serial)
                }
                None => Vec::new(),
            },
            Step::Verdict(good) => match self.authentication.take() {
                Some(serial) => self
                    .bench
                    .verdict(serial, if good { accept_both() } else { reject(b"") }),
                None => Vec::new(),
            },
            Step::Wait(millis) => {
                let until = self.bench.now + Duration::from_millis(millis.into());
                self.bench.run_until(until)
            }
            Step::DataSeen => {
                self.bench.link.set_data_seen();
                Vec::new()
            }
            Step::Close => self.bench.close(holdfast_ppp::Cause::Administrative),
        };
        self.look(said);
    }

    fn look(&mut self, said: Vec<Said>) {
        for said in said {
            assert!(!self.finished, "a dead link says {said:?}");
            match said {
                Said::Packet(protocol @ (IPCP | IPV6CP), ACK, id, _) => {
                    let open = self.held(protocol).expect("a Configure-Ack needs a row");
                    assert_eq!(open.request_id, id);
                }
                // On an open protocol these answer, or cause, leaving: never while the table says "open".
                Said::Packet(protocol @ (LCP | IPCP | IPV6CP), code @ (1..=6), id, data) => {
                    let leaves = match protocol {
                        LCP => !self.up.is_empty() && self.row.is_some(),
                        ncp => self.up.iter().any(|up| up.protocol() == ncp) && self.held(ncp).is_some(),
                    };
                    assert!(!leaves, "code {code} of {protocol:#06x} leaves open");
                    if code == REQUEST {
                        self.ours.insert(protocol, (id, data));
                    }
                }
                Said::Packet(..) => {}
                Said::Authenticate(serial, _) => self.authentication = Some(serial),
                Said::Open(serial, row) => self.propose(serial, Some(row)),
                Said::Leave(serial) => self.propose(serial, None),
                Said::Up(ncp) => {
                    assert!(self.held(ncp.protocol()).is_some() && !self.up.contains(&ncp));
                    self.up.push(ncp);
                }
                Said::Down(ncp) => {
                    assert!(self.up.contains(&ncp));
                    self.up.retain(|up| *up != ncp);
                }
                Said::Finished(_) => self.finished = true,
            }
        }
        if !self.finished {
            assert_eq!(self.bench.link.row(), self.row.as_ref());
        }
    }

    /// What the table holds of a protocol.
    fn held(&self, protocol: u16) -> Option<&OpenNcp> {
        let ncps = &self.row.as_ref()?.ncps;
        ncps.iter().find(|open| open.ncp().protocol() == protocol)
    }

    fn propose(&mut self, serial: u32, row: Option<OpenLink>) {
        assert!(self.pending.is_none(), "one commit at a time");
        assert_ne!(row, self.row, "a commit that changes nothing");
        self.pending = Some((serial, row));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_gate_holds_whatever_the_peer_does(steps in vec(step(), 0..80)) {
        let mut watched = Watched::start(open_door());
        for step in steps {
            watched.take(step);
        }
    }

    #[test]
    fn the_gate_holds_on_an_open_link_born_from_its_row(steps in vec(step(), 0..40), seed in any::<u64>()) {
        let (_, row) = Bench::open_with(open_door(), accept_both());
        let bench = Bench::resume(open_door(), &row, seconds(1), seed);
        let mut watched = Watched {
            bench,
            row: Some(row),
            pending: None,
            authentication: None,
            ours: BTreeMap::new(),
            up: vec![Ncp::Ipcp],
            finished: false,
        };
        for step in steps {
            watched.take(step);
        }
    }

    #[test]
    fn arbitrary_proxy_avps_never_panic(
        lcp in vec(proptest::option::of(vec(any::<u8>(), 0..30)), 3),
        authen_type in proptest::option::of(0..8u16),
        authen in vec(proptest::option::of(vec(any::<u8>(), 0..30)), 3),
        authen_id in proptest::option::of(any::<u8>()),
    ) {
        let proxy = Proxy {
            initial_received: lcp[0].clone(),
            last_sent: lcp[1].clone(),
            last_received: lcp[2].clone(),
            authen_type,
            authen_name: authen[0].clone(),
            authen_challenge: authen[1].clone(),
            authen_id,
            authen_response: authen[2].clone().map(Secret::new),
        };
        let (_, said) = Bench::start_with(LinkConfig::default(), Some(&proxy));
        prop_assert_eq!(said.len(), 1);
    }

    #[test]
    fn arbitrary_frames_never_panic(
        frames in vec(vec(any::<u8>(), 0..60), 0..20),
        method in prop_oneof![Just(AuthMethod::Pap), Just(AuthMethod::ChapMd5), Just(AuthMethod::MsChapV2)],
    ) {
        let (mut bench, said) = Bench::start(LinkConfig { auth: vec![method], ..LinkConfig::default() });
        bench.open_lcp(&said);
        for frame in frames {
            bench.raw(&frame);
            bench.verdict(2, Verdict::Reject { message: frame, ms_chap_error: None });
        }
    }
}
