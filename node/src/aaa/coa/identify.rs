//! Whom a request means (RFC 5176 §3): every attribute that identifies has to fit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use holdfast_cluster::records::{Prefix, SessionRow};
use holdfast_protocol::{SessionId, TunnelId};
use ipnet::Ipv6Net;

use super::answer::{ErrorCause, Refusal};
use crate::aaa::radius::attributes::{Attribute, LONGEST_VALUE};
use crate::aaa::radius::dictionary::attribute;
use crate::aaa::radius::error::name;
use crate::aaa::radius::request::NasIdentity;
use crate::aaa::radius::{Packet, WrongValue};

/// The protocol number of IPV6CP (RFC 5072 §4).
const IPV6CP: u32 = 0x8057;

/// One thing that a session must have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Criterion {
    UserName(Vec<u8>),
    NasPort(u32),
    NasPortId(Vec<u8>),
    Address(Ipv4Addr),
    CalledNumber(Vec<u8>),
    CallingNumber(Vec<u8>),
    AcctSessionId(Vec<u8>),
    /// There are no bundles here, so no session has one.
    MultiSessionId,
    ChargeableUser(Vec<u8>),
    InterfaceId(Vec<u8>),
    LinkPrefix(Ipv6Net),
}

/// The session that a request describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<Criterion>);

/// Whether the attribute says whom a request means, and so changes nothing.
pub fn identifies(kind: u8) -> bool {
    is_of_session(kind) || is_of_nas(kind)
}

fn is_of_session(kind: u8) -> bool {
    matches!(
        kind,
        attribute::USER_NAME
            | attribute::NAS_PORT
            | attribute::FRAMED_IP_ADDRESS
            | attribute::CALLED_STATION_ID
            | attribute::CALLING_STATION_ID
            | attribute::ACCT_SESSION_ID
            | attribute::ACCT_MULTI_SESSION_ID
            | attribute::NAS_PORT_ID
            | attribute::CHARGEABLE_USER_IDENTITY
            | attribute::FRAMED_INTERFACE_ID
            | attribute::FRAMED_IPV6_PREFIX
    )
}

fn is_of_nas(kind: u8) -> bool {
    matches!(
        kind,
        attribute::NAS_IP_ADDRESS | attribute::NAS_IDENTIFIER | attribute::NAS_IPV6_ADDRESS
    )
}

/// Reads whom a request means. `addressed` is where it was sent to: a client may call us by that address too.
pub fn wanted(packet: &Packet<'_>, nas: &NasIdentity, addressed: IpAddr) -> Result<Wanted, Refusal> {
    let malformed = |wrong: WrongValue| Refusal::new(ErrorCause::InvalidRequest, wrong.to_string());
    let mut criteria = Vec::new();
    for a in packet.attributes() {
        if is_of_nas(a.kind) {
            if !is_ours(&a, nas, addressed).map_err(malformed)? {
                let why = format!("{} is another's", name(a.kind, None));
                return Err(Refusal::new(ErrorCause::NasIdentificationMismatch, why));
            }
        } else if is_of_session(a.kind) {
            criteria.push(Criterion::read(&a).map_err(malformed)?);
        }
    }
    if criteria.is_empty() {
        let why = "no attribute says which session is meant";
        return Err(Refusal::new(ErrorCause::MissingAttribute, why));
    }
    Ok(Wanted(criteria))
}

fn is_ours(a: &Attribute<'_>, nas: &NasIdentity, addressed: IpAddr) -> Result<bool, WrongValue> {
    Ok(match a.kind {
        attribute::NAS_IP_ADDRESS => {
            let address = a.ipv4()?;
            nas.ipv4 == Some(address) || addressed == IpAddr::V4(address)
        }
        attribute::NAS_IPV6_ADDRESS => {
            let address: Ipv6Addr = a.ipv6()?;
            nas.ipv6 == Some(address) || addressed == IpAddr::V6(address)
        }
        _ => a.value == nas.identifier.as_bytes(),
    })
}

impl Criterion {
    fn read(a: &Attribute<'_>) -> Result<Self, WrongValue> {
        let value = || a.value.to_vec();
        Ok(match a.kind {
            attribute::USER_NAME => Self::UserName(value()),
            attribute::NAS_PORT => Self::NasPort(a.u32()?),
            attribute::NAS_PORT_ID => Self::NasPortId(value()),
            attribute::FRAMED_IP_ADDRESS => Self::Address(a.ipv4()?),
            attribute::CALLED_STATION_ID => Self::CalledNumber(value()),
            attribute::CALLING_STATION_ID => Self::CallingNumber(value()),
            attribute::ACCT_SESSION_ID => Self::AcctSessionId(value()),
            attribute::CHARGEABLE_USER_IDENTITY => Self::ChargeableUser(value()),
            attribute::FRAMED_INTERFACE_ID => Self::InterfaceId(
                <[u8; 8]>::try_from(a.value)
                    .map_err(|_| a.wrong("must have 8 octets"))?
                    .to_vec(),
            ),
            attribute::FRAMED_IPV6_PREFIX => Self::LinkPrefix(a.prefix()?),
            _ => Self::MultiSessionId,
        })
    }

    fn fits(&self, tunnel: TunnelId, row: &SessionRow) -> bool {
        let ppp = row.ppp.as_ref();
        let identity = ppp.and_then(|ppp| ppp.identity.as_ref());
        match self {
            Self::UserName(name) => {
                row.user() == Some(name) || identity.is_some_and(|identity| identity.accounted_user == *name)
            }
            Self::NasPort(port) => row.nas_port == *port,
            Self::NasPortId(id) => *id == format!("{tunnel}/{}", row.session_id).as_bytes(),
            Self::Address(address) => {
                let address = Prefix::host(IpAddr::V4(*address));
                ppp.is_some_and(|ppp| ppp.addresses.contains(&address))
            }
            Self::CalledNumber(number) => clipped(&row.called_number) == number.as_slice(),
            Self::CallingNumber(number) => clipped(&row.calling_number) == number.as_slice(),
            Self::AcctSessionId(id) => row.acct_session_id.as_bytes() == id.as_slice(),
            Self::MultiSessionId => false,
            Self::ChargeableUser(user) => identity.is_some_and(|identity| identity.chargeable_user == *user),
            Self::InterfaceId(id) => ppp.is_some_and(|ppp| {
                let mut ncps = ppp.ncps.iter();
                ncps.any(|ncp| ncp.protocol == IPV6CP && ncp.peer == *id)
            }),
            Self::LinkPrefix(net) => {
                let prefix = Prefix {
                    address: net.network().octets().to_vec(),
                    length: u32::from(net.prefix_len()),
                };
                ppp.is_some_and(|ppp| ppp.link_prefix.as_ref() == Some(&prefix))
            }
        }
    }
}

/// As far as an attribute could tell it to the server.
fn clipped(octets: &[u8]) -> &[u8] {
    &octets[..octets.len().min(LONGEST_VALUE)]
}

impl Wanted {
    /// Whether all of it fits this session.
    pub fn fits(&self, tunnel: TunnelId, row: &SessionRow) -> bool {
        self.0.iter().all(|criterion| criterion.fits(tunnel, row))
    }

    /// The only session that can be meant, where the request names its ids.
    pub fn ids(&self) -> Option<(TunnelId, SessionId)> {
        self.0.iter().find_map(|criterion| match criterion {
            Criterion::NasPort(port) => {
                let (tunnel, session) = ((port >> 16) as u16, *port as u16);
                TunnelId::new(tunnel).zip(SessionId::new(session))
            }
            _ => None,
        })
    }

    /// Whether it names the session by what no other one ever has.
    pub fn is_exact(&self) -> bool {
        let mut criteria = self.0.iter();
        criteria.any(|criterion| matches!(criterion, Criterion::AcctSessionId(_)))
    }

    /// The address that the session must have, where the request names one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.0.iter().find_map(|criterion| match criterion {
            Criterion::Address(address) => Some(*address),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{Identity, NcpRow, PppRow};

    use super::*;
    use crate::aaa::radius::Builder;
    use crate::aaa::radius::dictionary::Code;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn nas() -> NasIdentity {
        NasIdentity {
            identifier: "lns".to_owned(),
            ipv4: Some([10, 0, 0, 9].into()),
            ipv6: Some("2001:db8::9".parse().expect("an address")),
        }
    }

    fn tunnel() -> TunnelId {
        TunnelId::new(0x0102).expect("not zero")
    }

    fn row() -> SessionRow {
        let ncp = NcpRow {
            protocol: IPV6CP,
            open: true,
            peer: vec![1; 8],
            ..NcpRow::default()
        };
        let prefix = Prefix {
            address: "2001:db8:1::"
                .parse::<Ipv6Addr>()
                .expect("an address")
                .octets()
                .to_vec(),
            length: 64,
        };
        let ppp = PppRow {
            user: b"bob".to_vec(),
            ncps: vec![ncp],
            addresses: vec![Prefix::host(IpAddr::from([100, 64, 0, 7])), prefix.clone()],
            link_prefix: Some(prefix),
            identity: Some(Identity {
                accounted_user: b"bob@isp".to_vec(),
                chargeable_user: b"line-7".to_vec(),
                ..Identity::default()
            }),
            ..PppRow::default()
        };
        SessionRow {
            session_id: 5,
            nas_port: 0x0102_0005,
            calling_number: b"0301234".to_vec(),
            called_number: b"0190".to_vec(),
            acct_session_id: "0001-0002".to_owned(),
            ppp: Some(ppp),
            ..SessionRow::default()
        }
    }

    fn ask(fill: impl FnOnce(&mut Builder)) -> Result<Wanted, ErrorCause> {
        let mut builder = Builder::new(Code::DISCONNECT_REQUEST, 1);
        fill(&mut builder);
        let octets = builder.finish_request(b"s").expect("it fits");
        let packet = Packet::parse(&octets).expect("well-formed");
        wanted(&packet, &nas(), HERE).map_err(|refusal| refusal.cause)
    }

    fn fits(fill: impl FnOnce(&mut Builder)) -> bool {
        ask(fill).expect("it identifies").fits(tunnel(), &row())
    }

    #[test]
    fn each_attribute_finds_the_session_and_misses_another() {
        let prefix = |text: &str| text.parse::<Ipv6Net>().expect("a prefix");
        assert!(fits(|b| _ = b.text(1, "bob")) && !fits(|b| _ = b.text(1, "eve")));
        assert!(fits(|b| _ = b.text(1, "bob@isp")), "as accounting names him");
        assert!(fits(|b| _ = b.u32(5, 0x0102_0005)) && !fits(|b| _ = b.u32(5, 0x0102_0006)));
        assert!(
            fits(|b| _ = b.ipv4(8, [100, 64, 0, 7].into()))
                && !fits(|b| _ = b.ipv4(8, [100, 64, 0, 8].into()))
        );
        assert!(fits(|b| _ = b.text(30, "0190")) && !fits(|b| _ = b.text(30, "01901")));
        assert!(fits(|b| _ = b.text(31, "0301234")) && !fits(|b| _ = b.text(31, "030123")));
        assert!(fits(|b| _ = b.text(44, "0001-0002")) && !fits(|b| _ = b.text(44, "0001-0003")));
        assert!(!fits(|b| _ = b.text(50, "any")), "no session is part of a bundle");
        let id = format!("{}/5", tunnel());
        assert!(fits(|b| _ = b.text(87, &id)) && !fits(|b| _ = b.text(87, "1/5")));
        assert!(fits(|b| _ = b.text(89, "line-7")) && !fits(|b| _ = b.text(89, "line-8")));
        assert!(fits(|b| _ = b.octets(96, &[1; 8])) && !fits(|b| _ = b.octets(96, &[2; 8])));
        assert!(fits(|b| _ = b.prefix(97, prefix("2001:db8:1::/64"))));
        assert!(!fits(|b| _ = b.prefix(97, prefix("2001:db8:1::/63"))));
    }

    #[test]
    fn all_that_is_said_must_fit() {
        assert!(fits(
            |b| _ = b.text(1, "bob").text(44, "0001-0002").text(32, "lns")
        ));
        assert!(!fits(|b| _ = b.text(1, "bob").text(44, "0001-0003")));
        assert!(!fits(|b| _ = b.text(1, "bob").text(1, "eve")));
    }

    #[test]
    fn requests_for_another_nas_are_refused() {
        let of = |fill: fn(&mut Builder)| ask(|b| fill(b.text(1, "bob"))).map(|_| ());
        let foreign = Err(ErrorCause::NasIdentificationMismatch);
        assert_eq!(of(|b| _ = b.ipv4(4, [10, 0, 0, 9].into())), Ok(()));
        assert_eq!(
            of(|b| _ = b.ipv4(4, [192, 0, 2, 1].into())),
            Ok(()),
            "where it was sent to"
        );
        assert_eq!(of(|b| _ = b.ipv4(4, [10, 0, 0, 8].into())), foreign);
        assert_eq!(of(|b| _ = b.text(32, "lns")), Ok(()));
        assert_eq!(of(|b| _ = b.text(32, "lns2")), foreign);
        assert_eq!(of(|b| _ = b.ipv6(95, nas().ipv6.expect("set"))), Ok(()));
        assert_eq!(of(|b| _ = b.ipv6(95, Ipv6Addr::LOCALHOST)), foreign);
    }

    #[test]
    fn who_means_nobody_or_says_it_wrongly_is_told_so() {
        assert_eq!(ask(|b| _ = b.text(32, "lns")), Err(ErrorCause::MissingAttribute));
        assert_eq!(ask(|b| _ = b.octets(5, &[1, 2])), Err(ErrorCause::InvalidRequest));
        assert_eq!(
            ask(|b| _ = b.octets(96, &[1; 7])),
            Err(ErrorCause::InvalidRequest)
        );
        assert_eq!(ask(|b| _ = b.octets(4, &[1; 5])), Err(ErrorCause::InvalidRequest));
    }

    #[test]
    fn what_leads_to_the_session_at_once() {
        let ids = ask(|b| _ = b.text(1, "bob").u32(5, 0x0102_0005)).map(|wanted| wanted.ids());
        assert_eq!(ids, Ok(Some((tunnel(), SessionId::new(5).expect("not zero")))));
        assert_eq!(ask(|b| _ = b.u32(5, 7)).map(|wanted| wanted.ids()), Ok(None));
        let address = Ipv4Addr::new(100, 64, 0, 7);
        assert_eq!(
            ask(|b| _ = b.ipv4(8, address)).map(|wanted| wanted.address()),
            Ok(Some(address))
        );
    }
}
