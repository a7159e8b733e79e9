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

/// Reads an SCCRQ. `local` is any id of ours, to be named in a refusal; `profile` finds the LAC by its host name.
///
/// # Errors
/// What to answer instead, if anything.
pub fn read(
    datagram: &[u8],
    local: TunnelId,
    profile: impl FnOnce(&[u8]) -> Option<Profile>,
) -> Result<Candidate, Rejection> {
    let Ok(Packet::Control(packet)) = header::decode(datagram) else {
        return Err(Rejection::Drop("not a control message"));
    };
    // Two passes: the secret that unhides AVPs is found by the host name, which is never hidden.
    let known = Sccrq::peek_host_name(packet.body).and_then(profile);
    let context = Context {
        secret: known.as_ref().and_then(|profile| profile.secret.as_ref()),
        permissive: known.as_ref().is_some_and(|profile| profile.permissive),
    };
    let sccrq = match Message::decode(packet.body, &context) {
        Ok(Message::Sccrq(sccrq)) => sccrq,
        Ok(_) => return Err(Rejection::Drop("tunnel id 0, but no SCCRQ")),
        Err(fault) => {
            let refusal = Refusal::of_fault(local, &fault);
            return Err(refusal.map_or(Rejection::Drop("malformed SCCRQ"), Rejection::Refused));
        }
    };
    match known.filter(|profile| profile.allowed) {
        Some(profile) => Ok(Candidate {
            sccrq,
            profile,
            hash: hash(datagram),
        }),
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
