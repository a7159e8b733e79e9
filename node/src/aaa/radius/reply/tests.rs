use proptest::prelude::*;

use super::*;
use crate::aaa::profile::Service;
use crate::aaa::radius::Builder;

fn asked() -> Asked<'static> {
    Asked {
        name: b"bob",
        user: "bob",
        ms_chap: false,
        group: "main",
    }
}

fn decide(code: Code, asked: &Asked<'_>, write: impl FnOnce(&mut Builder)) -> Result<Decision, String> {
    let mut builder = Builder::new(code, 1);
    write(&mut builder);
    let octets = builder.finish_reply(b"s", &[0; 16]).expect("it fits");
    let packet = Packet::parse(&octets).expect("well-formed");
    read(&packet, asked).map_err(|error| error.to_string())
}

fn accept(write: impl FnOnce(&mut Builder)) -> Result<Profile, String> {
    match decide(Code::ACCESS_ACCEPT, &asked(), write)? {
        Decision::Accept(profile) => Ok(*profile),
        Decision::Refuse(refusal) => Err(format!("{refusal:?}")),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

#[test]
fn an_empty_accept_is_an_address_of_the_first_pool() {
    let profile = accept(|_| {}).expect("accepted");
    assert_eq!(profile.ipv4, Some(Assignment::Pool(None)));
    assert_eq!(
        (profile.user.as_str(), profile.identity.server_group.as_str()),
        ("bob", "main")
    );
    assert_eq!(profile.service, Service::default());
}

#[test]
fn everything_of_the_reply_table() {
    let profile = accept(|b| {
        b.text(1, "bob@isp")
            .u32(6, 2)
            .u32(7, 1)
            .ipv4(8, [10, 0, 0, 9].into())
            .ipv4(9, [255, 255, 255, 248].into());
        b.text(88, "ignored")
            .text(11, "customers")
            .text(11, "20M/5M")
            .u32(12, 1400)
            .text(18, "wel")
            .text(18, "come");
        b.text(22, "192.168.5.0/24 0.0.0.0 7")
            .text(22, "172.16.1.1")
            .octets(24, b"st")
            .octets(25, b"c1")
            .octets(25, b"c2");
        b.u32(27, 3600)
            .u32(28, 600)
            .u32(29, 1)
            .u32(62, 2)
            .u32(85, 300)
            .octets(89, b"cui");
        b.octets(96, &[1; 8]).text(99, "2001:db8:5::/48 :: 3");
        b.prefix(97, "2001:db8:1::/64".parse().expect("a prefix"))
            .text(100, "ignored");
        b.prefix(123, "2001:db8:100::/56".parse().expect("a prefix"));
        b.ipv6(169, "2001:db8::53".parse().expect("an address"));
        b.vendor(311, 29, &[10, 0, 0, 54])
            .vendor(311, 28, &[10, 0, 0, 53]);
        b.octets(200, b"who knows").vendor(99999, 1, b"?");
    })
    .expect("accepted");
    assert_eq!(profile.ipv4, Some(Assignment::Fixed([10, 0, 0, 9].into())));
    let routes: Vec<_> = profile
        .routes
        .iter()
        .map(|route| (route.net, route.metric))
        .collect();
    let expected = [
        (net("192.168.5.0/24"), 7),
        (net("172.16.0.0/16"), 0),
        (net("2001:db8:5::/48"), 3),
        (net("10.0.0.8/29"), 0),
    ];
    assert_eq!(routes, expected);
    assert_eq!(profile.service.filters, ["customers"]);
    assert_eq!(
        (
            profile.service.rate_down,
            profile.service.rate_up,
            profile.service.mtu
        ),
        (20_000_000, 5_000_000, 1400)
    );
    assert_eq!(profile.message, b"welcome");
    assert_eq!(
        (
            profile.session_timeout_s,
            profile.idle_timeout_s,
            profile.interim_interval_s
        ),
        (3600, 600, 300)
    );
    assert_eq!(profile.max_sessions, Some(2));
    assert_eq!(profile.interface_id, Some([1; 8]));
    let fixed = |text: &str| Some(PrefixAssignment::Fixed(text.parse().expect("a prefix")));
    assert_eq!(profile.link_prefix, fixed("2001:db8:1::/64"));
    assert_eq!(profile.delegated_prefix, fixed("2001:db8:100::/56"));
    assert_eq!(
        profile.dns,
        [Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 0, 54)]
    );
    assert_eq!(profile.dns6.len(), 1);
    let identity = &profile.identity;
    assert_eq!(identity.accounted_user, b"bob@isp");
    assert_eq!(identity.classes, [b"c1".to_vec(), b"c2".to_vec()]);
    assert_eq!(
        (identity.state.as_slice(), identity.chargeable_user.as_slice()),
        (&b"st"[..], &b"cui"[..])
    );
    assert_eq!(identity.termination_action, 1);
}

#[test]
fn who_picks_the_address() {
    for picks in [NAS_PICKS, USER_PICKS] {
        let profile = accept(|b| {
            b.ipv4(8, picks).text(88, "gold");
        });
        assert_eq!(
            profile.expect("accepted").ipv4,
            Some(Assignment::Pool(Some("gold".to_owned())))
        );
    }
    let pool = |vendor: u32, kind: u8, text: &str| {
        let profile = accept(|b| {
            b.vendor(vendor, kind, text.as_bytes());
        });
        profile.expect("accepted").ipv4
    };
    assert_eq!(
        pool(9, 1, "ip:addr-pool=silver"),
        Some(Assignment::Pool(Some("silver".to_owned())))
    );
    assert_eq!(
        pool(4874, 2, "bronze"),
        Some(Assignment::Pool(Some("bronze".to_owned())))
    );
}

#[test]
fn prefixes_of_pools() {
    let profile = accept(|b| {
        b.text(100, "link").text(171, "pd");
    })
    .expect("accepted");
    let pool = |name: &str| Some(PrefixAssignment::Pool(Some(name.to_owned())));
    assert_eq!(
        (profile.link_prefix, profile.delegated_prefix),
        (pool("link"), pool("pd"))
    );
}

#[test]
fn rates_of_vendors() {
    let rates = |vendor: u32, pairs: &[(u8, &[u8])]| {
        let profile = accept(|b| {
            for (kind, value) in pairs {
                b.vendor(vendor, *kind, value);
            }
        });
        profile.map(|profile| (profile.service.rate_up, profile.service.rate_down))
    };
    let mega = &1_000_000_u32.to_be_bytes()[..];
    let two_thousand = &2_000_u32.to_be_bytes()[..];
    assert_eq!(
        rates(14122, &[(7, mega), (8, two_thousand)]),
        Ok((1_000_000, 2_000))
    );
    assert_eq!(
        rates(2011, &[(2, mega), (5, two_thousand)]),
        Ok((1_000_000, 2_000))
    );
    assert_eq!(
        rates(10055, &[(1, two_thousand), (2, mega)]),
        Ok((2_000_000, 1_000_000_000))
    );
    assert_eq!(rates(14988, &[(8, b"1M/2M")]), Ok((1_000_000, 2_000_000)));
    assert_eq!(
        rates(
            9,
            &[(1, b"lcp:interface-config#1=rate-limit output 2000000 9000 9000")]
        ),
        Ok((0, 2_000_000))
    );
    assert_eq!(
        rates(14122, &[(7, &[0; 4])]),
        Err("WISPr attribute 7 (vendor 14122): must be a rate between 1 kbit/s and 400 Gbit/s".to_owned())
    );
}

/// Service-Type or Framed-Protocol that is not spoken here: as good as a Reject.
#[test]
fn s_154_another_service_is_a_reject() {
    for (kind, value) in [(6, 1), (6, 8), (7, 2)] {
        let decision = decide(Code::ACCESS_ACCEPT, &asked(), |b| {
            b.u32(kind, value).text(18, "no");
        });
        let Ok(Decision::Refuse(refusal)) = decision else {
            panic!("{kind}={value}: {decision:?}")
        };
        assert!(refusal.why.is_some());
        assert_eq!(refusal.message, b"no");
    }
}

/// Session-Timeout 0 is none; an interim interval below the minimum is raised.
#[test]
fn s_156_timeouts_at_their_edges() {
    let profile = accept(|b| {
        b.u32(27, 0).u32(28, 0).u32(85, 1);
    })
    .expect("accepted");
    assert_eq!(
        (
            profile.session_timeout_s,
            profile.idle_timeout_s,
            profile.interim_interval_s
        ),
        (0, 0, 60)
    );
    let none = accept(|b| {
        b.u32(85, 0);
    });
    assert_eq!(none.expect("accepted").interim_interval_s, 0);
}

#[test]
fn nonsense_is_refused_by_name() {
    let wrong = |write: &dyn Fn(&mut Builder) -> &mut Builder| {
        accept(|b| {
            write(b);
        })
        .expect_err("nonsense")
    };
    let begins = |text: String, beginning: &str| assert!(text.starts_with(beginning), "{text}");
    begins(
        wrong(&|b| b.octets(8, &[1])),
        "Framed-IP-Address (8): must be an IPv4 address",
    );
    begins(
        wrong(&|b| b.ipv4(8, [127, 0, 0, 1].into())),
        "Framed-IP-Address (8): must be an address",
    );
    begins(
        wrong(&|b| b.ipv4(8, [224, 0, 0, 1].into())),
        "Framed-IP-Address (8): must be an address",
    );
    begins(
        wrong(&|b| b.ipv4(8, [10, 0, 0, 1].into()).ipv4(9, [255, 0, 255, 0].into())),
        "Framed-IP-Netmask (9): must be a netmask",
    );
    begins(wrong(&|b| b.u32(12, 63)), "Framed-MTU (12): must be 64");
    begins(wrong(&|b| b.u32(12, 65_536)), "Framed-MTU (12): must be 64");
    begins(
        wrong(&|b| b.octets(27, &[0; 3])),
        "Session-Timeout (27): must have 4 octets",
    );
    begins(wrong(&|b| b.u32(62, 0)), "Port-Limit (62)");
    begins(
        wrong(&|b| b.text(22, "10.0.0.0/33 0.0.0.0 1")),
        "Framed-Route (22)",
    );
    begins(
        wrong(&|b| b.text(22, "10.0.0.0/24 gateway 1")),
        "Framed-Route (22)",
    );
    begins(
        wrong(&|b| b.text(22, "10.0.0.0/24 0.0.0.0 far")),
        "Framed-Route (22)",
    );
    begins(
        wrong(&|b| b.text(99, "2001:db8::1 :: 1")),
        "Framed-IPv6-Route (99)",
    );
    begins(wrong(&|b| b.octets(96, &[0; 8])), "Framed-Interface-Id (96)");
    begins(
        wrong(&|b| b.octets(97, &[0, 64])),
        "Framed-IPv6-Prefix (97): must be a prefix of unicast",
    );
    begins(
        wrong(&|b| b.octets(123, &[0, 200])),
        "Delegated-IPv6-Prefix (123)",
    );
    begins(wrong(&|b| b.text(11, "0/0")), "Filter-Id (11): must be a rate");
    begins(
        wrong(&|b| b.vendor(311, 28, &[0; 4])),
        "Microsoft attribute 28 (vendor 311)",
    );
    begins(
        wrong(&|b| {
            for _ in 0..=ROUTES_MAX {
                b.text(22, "10.0.0.0/24 0.0.0.0 1");
            }
            b
        }),
        "Framed-Route (22): a subscriber may have 64 routes",
    );
}

#[test]
fn ms_chap_needs_its_proof() {
    let ms_chap = Asked {
        ms_chap: true,
        ..asked()
    };
    let proof = format!("S={}", "0123456789ABCDEF0123456789ABCDEF01234567");
    let accepted = decide(Code::ACCESS_ACCEPT, &ms_chap, |b| {
        b.vendor(311, 26, format!("\x07{proof} M=hello").as_bytes());
    });
    let Ok(Decision::Accept(profile)) = accepted else {
        panic!("{accepted:?}")
    };
    assert_eq!(profile.ms_chap_success, Some(proof.into_bytes()));
    let missing = decide(Code::ACCESS_ACCEPT, &ms_chap, |_| {});
    assert!(missing.expect_err("no proof").contains("is missing"));
    let broken = decide(Code::ACCESS_ACCEPT, &ms_chap, |b| {
        b.vendor(311, 26, b"\x07S=xyz");
    });
    assert!(broken.is_err());
}

#[test]
fn rejects_and_challenges() {
    let rejected = decide(Code::ACCESS_REJECT, &asked(), |b| {
        b.text(18, "unpaid")
            .vendor(311, 2, b"\x07E=649 R=0 C=00 V=3 M=other");
    });
    let expected = Refusal {
        message: b"unpaid".to_vec(),
        ms_chap_error: Some(649),
        why: None,
    };
    assert_eq!(rejected, Ok(Decision::Refuse(expected)));
    let spoken = decide(Code::ACCESS_REJECT, &asked(), |b| {
        b.vendor(311, 2, b"\x07E=648 R=0 V=3 M=expired");
    });
    let Ok(Decision::Refuse(refusal)) = spoken else {
        panic!("{spoken:?}")
    };
    assert_eq!(
        (refusal.message.as_slice(), refusal.ms_chap_error),
        (&b"expired"[..], Some(648))
    );
    let challenged = decide(Code::ACCESS_CHALLENGE, &asked(), |b| {
        b.octets(24, b"state").text(18, "token?");
    });
    let Ok(Decision::Refuse(refusal)) = challenged else {
        panic!("{challenged:?}")
    };
    assert!(refusal.why.is_some_and(|why| why.contains("Access-Challenge")));
    let overlong = decide(Code::ACCESS_REJECT, &asked(), |b| {
        b.octets(18, &[b'x'; 200]).octets(18, &[b'y'; 200]);
    });
    let Ok(Decision::Refuse(refusal)) = overlong else {
        panic!("{overlong:?}")
    };
    assert_eq!(refusal.message.len(), 255);
}

#[test]
fn rules_that_a_server_brings_along() {
    let (first, second) = (
        "permit in tcp from any to 192.0.2.1 80",
        "deny in ip from any to any",
    );
    let rules = |fill: &dyn Fn(&mut Builder)| match decide(Code::ACCESS_ACCEPT, &asked(), fill) {
        Ok(Decision::Accept(profile)) => Ok(profile.service.rules),
        Ok(Decision::Refuse(refusal)) => panic!("{refusal:?}"),
        Err(wrong) => Err(wrong.to_string()),
    };
    let together = format!("{first}\0{second}");
    let (start, end) = together.split_at(50);
    for fill in [
        &(|b: &mut Builder| _ = b.octets(92, together.as_bytes())) as &dyn Fn(&mut Builder),
        &|b| _ = b.octets(92, start.as_bytes()).octets(92, end.as_bytes()),
        &|b| _ = b.octets(92, first.as_bytes()).octets(92, second.as_bytes()),
        &|b| _ = b.octets(92, format!("{together}\0").as_bytes()),
    ] {
        assert_eq!(rules(fill), Ok(vec![first.to_owned(), second.to_owned()]));
    }
    assert_eq!(rules(&|_| {}), Ok(Vec::new()));
    for wrong in [
        &b"allow all"[..],
        b"\0",
        b"deny in ip from any to any\xff",
        b"deny in ip from any",
    ] {
        let error = rules(&|b| _ = b.octets(92, wrong)).expect_err("it is none");
        assert!(error.contains("NAS-Filter-Rule"), "{error}");
    }
    let many = rules(&|b| {
        (0..65).for_each(|_| _ = b.octets(92, b"deny in 1 from any to any"));
    });
    assert!(many.is_err());
}

proptest! {
    #[test]
    fn any_attributes_are_read(
        attributes in prop::collection::vec((1..=255_u8, prop::collection::vec(any::<u8>(), 1..=60)), 0..12),
        vendors in prop::collection::vec(
            (prop::sample::select(vec![9_u32, 311, 2011, 4874, 6527, 10055, 14122, 14988]), 0..=162_u8, prop::collection::vec(any::<u8>(), 0..=50)),
            0..8,
        ),
        ms_chap: bool,
    ) {
        let asked = Asked { ms_chap, ..asked() };
        let _ = decide(Code::ACCESS_ACCEPT, &asked, |builder| {
            for (kind, value) in &attributes {
                builder.octets(*kind, value);
            }
            for (vendor, kind, value) in &vendors {
                builder.vendor(*vendor, *kind, value);
            }
        });
    }
}

#[test]
fn ipv6_alone_and_ipv4_alone() {
    let none = Ipv4Addr::UNSPECIFIED;
    let profile = accept(|b| _ = b.ipv4(8, none).text(100, "links")).expect("accepted");
    assert_eq!(profile.ipv4, None);
    let links = Some(PrefixAssignment::Pool(Some("links".to_owned())));
    assert_eq!(profile.link_prefix, links);
    let delegated = accept(|b| _ = b.ipv4(8, none).text(171, "sites")).expect("accepted");
    assert_eq!((delegated.ipv4, delegated.link_prefix), (None, None));
    let nothing = accept(|b| _ = b.ipv4(8, none)).expect_err("nothing is left");
    assert!(
        nothing.contains("Framed-IP-Address") && nothing.contains("no IPv6 either"),
        "{nothing}"
    );
    // Without a word of IPv6 there is none.
    let ipv4 = accept(|_| {}).expect("accepted");
    assert_eq!((ipv4.link_prefix, ipv4.delegated_prefix), (None, None));
}

#[test]
fn an_ipv6_address_is_a_prefix_and_an_interface_id() {
    let address = "2001:db8:7:9::a:b".parse().expect("an address");
    let prefix = || PrefixAssignment::Fixed("2001:db8:7:9::/64".parse().expect("a prefix"));
    let other = "2001:db8:7:a::/64".parse().expect("a prefix");
    let own = "2001:db8:7:9::/64".parse().expect("a prefix");
    let alike: [&dyn Fn(&mut Builder); 3] = [
        &|b| _ = b.ipv6(168, address),
        &|b| _ = b.vendor(6527, 99, &address.octets()),
        &|b| {
            _ = b
                .ipv6(168, address)
                .prefix(97, own)
                .octets(96, &[0, 0, 0, 0, 0, 10, 0, 11])
        },
    ];
    for write in alike {
        let profile = accept(write).expect("accepted");
        assert_eq!(profile.link_prefix, Some(prefix()));
        assert_eq!(profile.interface_id, Some([0, 0, 0, 0, 0, 10, 0, 11]));
    }
    assert!(accept(|b| _ = b.ipv6(168, address).prefix(97, other)).is_err());
    assert!(accept(|b| _ = b.ipv6(168, address).octets(96, &[1; 8])).is_err());
    assert!(accept(|b| _ = b.ipv6(168, "2001:db8:7:9::".parse().expect("an address"))).is_err());
    // A pool of addresses is one of links, unless those have their own.
    let pool = |write: fn(&mut Builder)| accept(write).expect("accepted").link_prefix;
    let named = |name: &str| Some(PrefixAssignment::Pool(Some(name.to_owned())));
    assert_eq!(pool(|b| _ = b.text(172, "addresses")), named("addresses"));
    assert_eq!(
        pool(|b| _ = b.text(172, "addresses").text(100, "links")),
        named("links")
    );
}

#[test]
fn filters_and_policies_in_the_words_of_vendors() {
    let service = |write: &dyn Fn(&mut Builder)| accept(write).map(|profile| profile.service);
    for (vendor, up, down) in [(4874, 10, 11), (4874, 106, 107), (9, 57, 58)] {
        let service = service(&|b| _ = b.vendor(vendor, up, b"garden").vendor(vendor, down, b"garden"));
        assert_eq!(service.expect("accepted").filters, ["garden"]);
        let service = self::accept(|b| _ = b.vendor(vendor, up, b"in").vendor(vendor, down, b"out"));
        assert_eq!(service.expect("accepted").service.filters, ["in", "out"]);
    }
    for (up, down) in [(37, 38), (55, 56)] {
        let both = service(&|b| _ = b.vendor(9, up, b"fast").vendor(9, down, b"fast"));
        assert_eq!(both.expect("accepted").policy, "fast");
        let one = service(&|b| _ = b.vendor(9, down, b"fast"));
        assert_eq!(one.expect("accepted").policy, "fast");
        let wrong = service(&|b| _ = b.vendor(9, up, b"fast").vendor(9, down, b"slow"));
        assert!(wrong.is_err());
    }
}
