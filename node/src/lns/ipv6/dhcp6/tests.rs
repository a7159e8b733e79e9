use proptest::prelude::*;

use super::*;

const CLIENT: &[u8] = &[0, 3, 0, 1, 2, 3, 4, 5, 6, 7];
const ORO: &[u8] = &[0, 6, 0, 4, 0, 23, 0, 24];

fn server(dns: &[Ipv6Addr]) -> Server<'_> {
    Server {
        duid: Duid::of_cluster("isp-1"),
        delegated: Some(delegated()),
        link: Some(net("2001:db8:1::/64")),
        dns,
    }
}

fn delegated() -> Ipv6Net {
    net("2001:db8:ff00:100::/56")
}

fn net(text: &str) -> Ipv6Net {
    text.parse().expect("a prefix")
}

fn dns() -> [Ipv6Addr; 1] {
    ["2001:db8::53".parse().expect("an address")]
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = code.to_be_bytes().to_vec();
    octets.extend_from_slice(&(value.len() as u16).to_be_bytes());
    octets.extend_from_slice(value);
    octets
}

fn ia(code: u16, id: u8, inner: &[u8]) -> Vec<u8> {
    let times: &[u8] = if code == code::IA_TA { &[] } else { &[0; 8] };
    option(code, &[&[0, 0, 0, id], times, inner].concat())
}

fn ia_prefix(prefix: &str) -> Vec<u8> {
    let mut value = Vec::new();
    options::put_prefix(&mut value, net(prefix), 1, 2);
    value
}

fn client_id() -> Vec<u8> {
    option(code::CLIENT_ID, CLIENT)
}

fn server_id() -> Vec<u8> {
    option(code::SERVER_ID, &Duid::of_cluster("isp-1").0)
}

fn request(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    [&[kind, 0xa, 0xb, 0xc], &options.concat()[..]].concat()
}

/// What an IA got: its id, the prefixes with their preferred and valid lifetimes, the status.
type Given = (u8, Vec<(String, u32, u32)>, Option<u16>);

/// An answer, taken apart by hand.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    kind: u8,
    options: Vec<(u16, Vec<u8>)>,
}

impl Said {
    fn of(server: &Server<'_>, request: &[u8]) -> Self {
        let octets = answer(server, request).expect("it is answered");
        assert_eq!(octets[1..4], [0xa, 0xb, 0xc]);
        let said = Self {
            kind: octets[0],
            options: taken_apart(&octets[4..]),
        };
        assert_eq!(said.get(code::SERVER_ID), Some(&server.duid.0[..]));
        said
    }

    fn get(&self, code: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(other, _)| *other == code);
        found.map(|(_, value)| &value[..])
    }

    /// What each IA of this code got.
    fn associations(&self, code: u16) -> Vec<Given> {
        let all = self.options.iter().filter(|(other, _)| *other == code);
        all.map(|(_, value)| {
            let inner = taken_apart(&value[if code == code::IA_TA { 4 } else { 12 }..]);
            let prefixes = inner.iter().filter(|(code, _)| *code == code::IA_PREFIX);
            let prefixes = prefixes.map(|(_, value)| {
                let word = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().expect("four"));
                let address: [u8; 16] = value[9..25].try_into().expect("sixteen");
                (
                    format!("{}/{}", Ipv6Addr::from(address), value[8]),
                    word(0),
                    word(4),
                )
            });
            let status = inner.iter().find(|(code, _)| *code == code::STATUS);
            let status = status.map(|(_, value)| u16::from_be_bytes([value[0], value[1]]));
            (value[3], prefixes.collect(), status)
        })
        .collect()
    }
}

fn taken_apart(mut octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while let [a, b, c, d, rest @ ..] = octets {
        let (value, behind) = rest.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        options.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        octets = behind;
    }
    assert!(octets.is_empty());
    options
}

fn ours() -> (String, u32, u32) {
    (delegated().to_string(), PREFERRED_S, VALID_S)
}

#[test]
fn solicit_and_request_give_the_sessions_prefix_and_name_servers() {
    let dns = dns();
    let wish = ia(code::IA_PD, 7, &[]);
    let advertise = Said::of(
        &server(&dns),
        &request(message::SOLICIT, &[&client_id(), ORO, &wish]),
    );
    let reply = Said::of(
        &server(&dns),
        &request(message::REQUEST, &[&client_id(), &server_id(), ORO, &wish]),
    );
    assert_eq!((advertise.kind, reply.kind), (message::ADVERTISE, message::REPLY));
    for said in [&advertise, &reply] {
        assert_eq!(said.get(code::CLIENT_ID), Some(CLIENT));
        assert_eq!(said.get(code::NAME_SERVERS), Some(&dns[0].octets()[..]));
        assert_eq!(said.associations(code::IA_PD), [(7, vec![ours()], None)]);
    }
    // T1 and T2 are half and four fifths of the preferred lifetime.
    let value = reply.get(code::IA_PD).expect("it is there");
    assert_eq!(
        value[4..12],
        [7200_u32.to_be_bytes(), 11_520_u32.to_be_bytes()].concat()
    );
    assert_eq!(advertise.get(code::PREFERENCE), Some(&[255][..]));
}

#[test]
fn rapid_commit_is_answered_by_a_reply() {
    let wish = ia(code::IA_PD, 7, &[]);
    let rapid = option(code::RAPID_COMMIT, &[]);
    let said = Said::of(
        &server(&[]),
        &request(message::SOLICIT, &[&client_id(), &rapid, &wish]),
    );
    assert_eq!(
        (said.kind, said.get(code::RAPID_COMMIT)),
        (message::REPLY, Some(&[][..]))
    );
    assert_eq!(said.associations(code::IA_PD), [(7, vec![ours()], None)]);
}

#[test]
fn s_138_of_200_prefixes_one_is_given_and_a_hint_is_ignored() {
    let mut wishes = vec![client_id()];
    wishes.extend((0..200).map(|id| ia(code::IA_PD, id, &ia_prefix("2001:db8::/32"))));
    let wishes: Vec<&[u8]> = wishes.iter().map(Vec::as_slice).collect();
    let octets = answer(&server(&[]), &request(message::SOLICIT, &wishes)).expect("it is answered");
    assert!(octets.len() <= ANSWER_MAX, "{}", octets.len());
    let said = Said::of(&server(&[]), &request(message::SOLICIT, &wishes));
    let got = said.associations(code::IA_PD);
    assert_eq!(got[0], (0, vec![ours()], None));
    assert!(got.len() > 40, "{}", got.len());
    for (id, prefixes, status) in &got[1..] {
        assert_eq!((prefixes.len(), *status), (0, Some(6)), "{id}");
    }
}

#[test]
fn a_hint_of_the_right_prefix_says_which_association_has_it() {
    let first = ia(code::IA_PD, 1, &[]);
    let second = ia(code::IA_PD, 2, &ia_prefix(&delegated().to_string()));
    for kind in [message::SOLICIT, message::REBIND] {
        let said = Said::of(&server(&[]), &request(kind, &[&client_id(), &first, &second]));
        let got = said.associations(code::IA_PD);
        assert_eq!((got[0].1.len(), &got[1]), (0, &(2, vec![ours()], None)));
    }
}

#[test]
fn renew_and_rebind_go_on_from_the_row_alone() {
    let held = ia(code::IA_PD, 7, &ia_prefix(&delegated().to_string()));
    let renew = request(message::RENEW, &[&client_id(), &server_id(), &held]);
    let rebind = request(message::REBIND, &[&client_id(), &held]);
    for octets in [renew, rebind] {
        let said = Said::of(&server(&[]), &octets);
        assert_eq!(said.kind, message::REPLY);
        assert_eq!(said.associations(code::IA_PD), [(7, vec![ours()], None)]);
    }
}

#[test]
fn a_prefix_of_an_earlier_session_is_taken_back() {
    let held = ia(code::IA_PD, 7, &ia_prefix("2001:db8:dead::/56"));
    let said = Said::of(&server(&[]), &request(message::REBIND, &[&client_id(), &held]));
    let gone = ("2001:db8:dead::/56".to_owned(), 0, 0);
    assert_eq!(
        said.associations(code::IA_PD),
        [(7, vec![ours(), gone.clone()], None)]
    );
    // And with nothing in its place.
    let none = Server {
        delegated: None,
        ..server(&[])
    };
    let said = Said::of(&none, &request(message::REBIND, &[&client_id(), &held]));
    assert_eq!(
        said.associations(code::IA_PD),
        [(7, vec![gone], Some(status::NO_BINDING))]
    );
}

#[test]
fn a_session_without_a_prefix_says_so() {
    let none = Server {
        delegated: None,
        ..server(&[])
    };
    let said = Said::of(
        &none,
        &request(message::SOLICIT, &[&client_id(), &ia(code::IA_PD, 7, &[])]),
    );
    assert_eq!(
        said.associations(code::IA_PD),
        [(7, vec![], Some(status::NO_PREFIX))]
    );
}

#[test]
fn addresses_are_not_given() {
    let wishes = [ia(code::IA_NA, 1, &[]), ia(code::IA_TA, 2, &[])].concat();
    let said = Said::of(&server(&[]), &request(message::SOLICIT, &[&client_id(), &wishes]));
    for (code, id) in [(code::IA_NA, 1), (code::IA_TA, 2)] {
        assert_eq!(
            said.associations(code),
            [(id, vec![], Some(status::NO_ADDRESSES))]
        );
    }
}

#[test]
fn an_information_request_gets_name_servers() {
    let dns = dns();
    let said = Said::of(&server(&dns), &request(message::INFORMATION_REQUEST, &[ORO]));
    assert_eq!((said.kind, said.get(code::CLIENT_ID)), (message::REPLY, None));
    assert_eq!(said.get(code::NAME_SERVERS), Some(&dns[0].octets()[..]));
    let other = option(code::REQUESTED, &[0, 24]);
    let said = Said::of(&server(&dns), &request(message::INFORMATION_REQUEST, &[&other]));
    assert_eq!(said.get(code::NAME_SERVERS), None, "it did not ask for them");
}

#[test]
fn release_and_decline_are_acknowledged() {
    let held = ia(code::IA_PD, 7, &ia_prefix(&delegated().to_string()));
    for kind in [message::RELEASE, message::DECLINE] {
        let said = Said::of(&server(&[]), &request(kind, &[&client_id(), &server_id(), &held]));
        assert_eq!(
            (said.kind, said.get(code::STATUS)),
            (message::REPLY, Some(&[0, 0][..]))
        );
    }
}

#[test]
fn confirm_says_whether_the_addresses_are_of_the_link() {
    for (address, status) in [("2001:db8:1::7", 0), ("2001:db8:2::7", 4)] {
        let address: Ipv6Addr = address.parse().expect("an address");
        let value = [&address.octets()[..], &[0; 8]].concat();
        let held = ia(code::IA_NA, 1, &option(code::IA_ADDRESS, &value));
        let said = Said::of(&server(&[]), &request(message::CONFIRM, &[&client_id(), &held]));
        assert_eq!(said.get(code::STATUS), Some(&[0, status][..]));
    }
    let nothing = request(message::CONFIRM, &[&client_id(), &ia(code::IA_PD, 1, &[])]);
    assert_eq!(answer(&server(&[]), &nothing), Err(Discard::NotForUs));
}

#[test]
fn what_must_be_named_and_must_not() {
    let (client, own) = (client_id(), server_id());
    let other = option(code::SERVER_ID, &[0, 4, 1]);
    for kind in [message::SOLICIT, message::CONFIRM, message::REBIND] {
        assert_eq!(answer(&server(&[]), &request(kind, &[])), Err(Discard::NotForUs));
        let named = request(kind, &[&client, &own]);
        assert_eq!(answer(&server(&[]), &named), Err(Discard::NotForUs));
    }
    for kind in [
        message::REQUEST,
        message::RENEW,
        message::RELEASE,
        message::DECLINE,
    ] {
        for options in [&[&client[..]][..], &[&own], &[&client, &other]] {
            let octets = request(kind, options);
            assert_eq!(answer(&server(&[]), &octets), Err(Discard::NotForUs), "{kind}");
        }
    }
    let asks = request(message::INFORMATION_REQUEST, &[&ia(code::IA_PD, 1, &[])]);
    assert_eq!(answer(&server(&[]), &asks), Err(Discard::NotForUs));
    for kind in [0, message::ADVERTISE, message::REPLY, 10, 12, 13, 14] {
        let octets = request(kind, &[&client]);
        assert_eq!(answer(&server(&[]), &octets), Err(Discard::NotForUs), "{kind}");
    }
}

#[test]
fn what_does_not_parse_is_dropped() {
    let good = request(message::SOLICIT, &[&client_id(), &ia(code::IA_PD, 1, &[])]);
    for length in (0..good.len()).filter(|length| ![4, 18].contains(length)) {
        let cut = answer(&server(&[]), &good[..length]);
        assert_eq!(cut, Err(Discard::Malformed), "{length}");
    }
    let short = option(code::IA_PD, &[0; 11]);
    let inner = ia(code::IA_PD, 1, &[0, 26, 0, 99]);
    for bad in [short, inner] {
        let octets = request(message::SOLICIT, &[&client_id(), &bad]);
        assert_eq!(answer(&server(&[]), &octets), Err(Discard::Malformed));
    }
    let nameless = request(message::SOLICIT, &[&option(code::CLIENT_ID, &[0, 1])]);
    assert_eq!(answer(&server(&[]), &nameless), Err(Discard::Malformed));
}

#[test]
fn the_server_is_the_same_on_all_nodes_of_a_cluster() {
    assert_eq!(Duid::of_cluster("isp-1"), Duid::of_cluster("isp-1"));
    assert_ne!(Duid::of_cluster("isp-1"), Duid::of_cluster("isp-2"));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic_and_answers_are_bounded(
        kind in 0..14u8,
        options in proptest::collection::vec((0..30u16, proptest::collection::vec(any::<u8>(), 0..60)), 0..40),
        named in any::<bool>(),
    ) {
        let mut octets = request(kind, &[&client_id()]);
        if named {
            octets.extend(server_id());
        }
        options.iter().for_each(|(code, value)| octets.extend(option(*code, value)));
        if let Ok(reply) = answer(&server(&dns()), &octets) {
            prop_assert!(reply.len() <= ANSWER_MAX);
            taken_apart(&reply[4..]);
        }
    }

    #[test]
    fn arbitrary_noise_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = answer(&server(&dns()), &octets);
    }
}
