//! The first message of a tunnel: judges an SCCRQ and makes the tunnel's first row (RFC 2661 §7.2.1, idle).
//!
//! Pure. It runs after [`super::admission`] and the recognition of repeats. A row that it makes holds the SCCRP already; the
//! actor that will send it is born from the row once the table has accepted that.

use std::net::SocketAddr;

use holdfast_cluster::records::TunnelRow;
use holdfast_protocol::avp::{Context, ResultCode};
use holdfast_protocol::header::{self, Packet};
use holdfast_protocol::iana::{error_code, stop_result};
use holdfast_protocol::message::{Message, Sccrq};
use holdfast_protocol::{Connection, Refusal, Secret, Settings, TunnelId};

use super::{Now, rows};

/// What the configuration says about a LAC.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: String,
    /// Whether such a LAC may open a tunnel.
    pub allowed: bool,
    /// The shared secret.
    pub secret: Option<Secret>,
    /// Whether unknown mandatory AVPs of vendors are tolerated.
    pub permissive: bool,
}

/// An SCCRQ that parses, from a LAC that may open a tunnel.
#[derive(Debug)]
pub struct Candidate {
    /// The message.
    pub sccrq: Sccrq,
    /// Who sent it.
    pub profile: Profile,
    /// Over its octets: tells a repeat from a restarted LAC.
    pub hash: u64,
}

/// A message without a tunnel id of ours.
#[derive(Debug)]
pub enum First {
    /// A LAC that may opens a tunnel.
    Request(Box<Candidate>),
    /// A LAC that has not learnt our id gives up the tunnel for which it assigned this one (S-26).
    Stop(TunnelId),
}

/// Why no tunnel comes of an SCCRQ.
#[derive(Debug)]
pub enum Rejection {
    /// Nothing is answered: it cannot be, or must not.
    Drop(&'static str),
    /// No profile allows this LAC.
    NotAllowed {
        /// What it calls itself.
        host_name: Vec<u8>,
        /// The StopCCN to send.
        refusal: Refusal,
    },
    /// The message is at fault, or the two sides cannot agree; the StopCCN to send.
    Refused(Refusal),
}

/// Reads a message with tunnel id 0. `local` is any id of ours, to be named in a refusal; `profile` finds the LAC by its host name.
///
/// # Errors
/// What to answer instead, if anything.
pub fn read(
    datagram: &[u8],
    local: TunnelId,
    profile: impl FnOnce(&[u8]) -> Option<Profile>,
) -> Result<First, Rejection> {
    let Ok(Packet::Control(packet)) = header::decode(datagram) else {
        return Err(Rejection::Drop("not a control message"));
    };
    if packet.is_zlb() {
        return Err(Rejection::Drop("a ZLB for no tunnel"));
    }
    // Two passes: the secret that unhides AVPs is found by the host name, which is never hidden.
    let known = Sccrq::peek_host_name(packet.body).and_then(profile);
    let context = Context {
        secret: known.as_ref().and_then(|profile| profile.secret.as_ref()),
        permissive: known.as_ref().is_some_and(|profile| profile.permissive),
    };
    let sccrq = match Message::decode(packet.body, &context) {
        // The first message of its tunnel. Any other number could not be acknowledged: the channel begins with this one.
        Ok(Message::Sccrq(_)) if packet.header.ns != 0 => {
            return Err(Rejection::Drop("SCCRQ whose Ns is not 0"));
        }
        Ok(Message::Sccrq(sccrq)) => sccrq,
        Ok(Message::StopCcn(stop)) => {
            let named = stop.assigned_tunnel_id.map(First::Stop);
            return named.ok_or(Rejection::Drop("StopCCN that names no tunnel"));
        }
        Ok(_) => return Err(Rejection::Drop("tunnel id 0, but no SCCRQ")),
        Err(fault) => {
            let refusal = Refusal::of_fault(local, &fault);
            return Err(refusal.map_or(Rejection::Drop("malformed SCCRQ"), Rejection::Refused));
        }
    };
    match known.filter(|profile| profile.allowed) {
        Some(profile) => Ok(First::Request(Box::new(Candidate {
            sccrq,
            profile,
            hash: hash(datagram),
        }))),
        None => {
            let result = ResultCode::with_error(stop_result::NOT_AUTHORIZED, error_code::NONE, "unknown LAC");
            Err(Rejection::NotAllowed {
                refusal: Refusal::new(local, sccrq.assigned_tunnel_id, result),
                host_name: sccrq.host_name,
            })
        }
    }
}

/// The first row of the tunnel `local`, with the SCCRP in it.
///
/// # Errors
/// The StopCCN to send.
pub fn first_row(
    now: Now,
    settings: Settings,
    local: TunnelId,
    candidate: &Candidate,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<TunnelRow, Rejection> {
    let connection =
        Connection::respond(settings, now.monotonic, local, &candidate.sccrq).map_err(Rejection::Refused)?;
    Ok(TunnelRow {
        local: Some(to.into()),
        peer: Some(from.into()),
        profile: candidate.profile.name.clone(),
        sccrq_hash: candidate.hash.to_be_bytes().to_vec(),
        ..rows::first_tunnel_row(&connection, now)
    })
}

/// Refuses a candidate for want of room.
pub fn refuse(local: TunnelId, candidate: &Candidate, text: &'static str) -> Refusal {
    let result = ResultCode::with_error(stop_result::GENERAL_ERROR, error_code::NO_RESOURCES, text);
    Refusal::new(local, candidate.sccrq.assigned_tunnel_id, result)
}

/// FNV-1a, 64 bits. The function is fixed: the row is read by other versions and other nodes. An attacker who could make
/// octets collide gains nothing: a repeat is only acknowledged.
fn hash(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::header::ControlHeader;
    use holdfast_protocol::message::StopCcn;
    use std::time::Duration;

    const LNS: &str = "192.0.2.1:1701";
    const LAC: &str = "198.51.100.7:1701";

    fn id(id: u16) -> TunnelId {
        TunnelId::new(id).expect("not zero")
    }

    /// The SCCRQ of a LAC for its tunnel `assigned`.
    fn sccrq(assigned: u16, settings: Settings) -> Vec<u8> {
        let mut lac = Connection::initiate(settings, Duration::ZERO, id(assigned));
        lac.accept(Duration::ZERO, lac.progress());
        lac.poll_transmit(Duration::ZERO).expect("an SCCRQ")
    }

    fn known(secret: Option<Secret>) -> impl FnOnce(&[u8]) -> Option<Profile> {
        move |_| {
            Some(Profile {
                name: "lac".into(),
                allowed: true,
                secret,
                permissive: false,
            })
        }
    }

    fn request(datagram: &[u8]) -> Candidate {
        match read(datagram, id(9), known(None)) {
            Ok(First::Request(candidate)) => *candidate,
            other => panic!("{other:?}"),
        }
    }

    fn row(local: u16, candidate: &Candidate, from: &str) -> TunnelRow {
        let address = |text: &str| text.parse().expect("an address");
        let now = Now::default();
        first_row(
            now,
            Settings::default(),
            id(local),
            candidate,
            address(from),
            address(LNS),
        )
        .expect("acceptable")
    }

    #[test]
    fn the_first_row_holds_the_sccrp() {
        let row = row(0x2002, &request(&sccrq(0x1001, Settings::default())), LAC);
        assert_eq!((row.ns, row.nr), (1, 1));
        assert_eq!(row.unacknowledged.len(), 1);
        assert_eq!((row.tunnel_id, row.peer_tunnel_id), (0x2002, 0x1001));
        assert_eq!(row.deadline_ms, 10_000, "half-open for ten seconds");
    }

    #[test]
    fn s_12_s_13_another_id_or_another_port_is_another_tunnel() {
        let (first, second) = (
            sccrq(0x1001, Settings::default()),
            sccrq(0x1002, Settings::default()),
        );
        let (first, second) = (request(&first), request(&second));
        assert_ne!(first.hash, second.hash);
        let rows = [
            row(1, &first, LAC),
            row(2, &second, LAC),
            row(3, &first, "198.51.100.7:40000"),
        ];
        let keys: std::collections::BTreeSet<_> = rows
            .iter()
            .map(|row| {
                (
                    row.peer.as_ref().and_then(|peer| peer.to_std()),
                    row.peer_tunnel_id,
                )
            })
            .collect();
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn s_19_a_challenge_that_no_secret_answers_is_refused_before_anything_is_proposed() {
        let lac = Settings {
            secret: Some(Secret::new(b"secret")),
            challenge: Some([7; 16]),
            ..Settings::default()
        };
        let candidate = request(&sccrq(0x1001, lac));
        let address = |text: &str| text.parse().expect("an address");
        let refused = first_row(
            Now::default(),
            Settings::default(),
            id(1),
            &candidate,
            address(LAC),
            address(LNS),
        );
        let Err(Rejection::Refused(refusal)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refusal.result.result, stop_result::NOT_AUTHORIZED);
    }

    #[test]
    fn an_sccrq_with_another_ns_than_0_is_dropped() {
        let mut datagram = sccrq(0x1001, Settings::default());
        datagram[8..10].copy_from_slice(&5u16.to_be_bytes());
        let read = read(&datagram, id(9), known(None));
        assert!(matches!(read, Err(Rejection::Drop(_))), "{read:?}");
    }

    #[test]
    fn a_lac_without_profile_is_refused_by_name_and_a_zlb_is_dropped() {
        let read_for = |datagram: &[u8]| read(datagram, id(9), |_| None);
        let unknown = read_for(&sccrq(0x1001, Settings::default()));
        assert!(
            matches!(unknown, Err(Rejection::NotAllowed { .. })),
            "{unknown:?}"
        );
        let zlb = [0xc8, 0x02, 0, 12, 0, 0, 0, 0, 0, 1, 0, 0];
        assert!(matches!(read_for(&zlb), Err(Rejection::Drop(_))));
    }

    #[test]
    fn s_26_a_stopccn_without_tunnel_id_names_the_lacs_own() {
        let stop = |assigned| {
            let stop = StopCcn {
                assigned_tunnel_id: assigned,
                result: ResultCode::new(stop_result::GENERAL_REQUEST),
            };
            let header = ControlHeader {
                tunnel: None,
                session: None,
                ns: 1,
                nr: 0,
            };
            read(&Message::StopCcn(stop).encode(header, None), id(9), known(None))
        };
        assert!(matches!(stop(Some(id(0x1001))), Ok(First::Stop(peer)) if peer == id(0x1001)));
        assert!(matches!(stop(None), Err(Rejection::Drop(_))));
    }
}
