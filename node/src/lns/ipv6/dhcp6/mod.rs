//! A DHCPv6 server on one link (RFC 8415): prefix delegation and name servers.
//!
//! ```text
//!  | message type | transaction id (3) |  then options:  | code (2) | length (2) | value |
//! ```
//!
//! The server has no leases of its own. The session has one prefix for as long as it lasts, it stands in the session's row, and so
//! every node of the cluster gives the same answers: to a Renew after a takeover as well. Hence the rules:
//!
//! | message | what the first IA_PD that names the session's prefix, or else the first, gets | what the others get |
//! |---|---|---|
//! | Solicit, Request | the prefix | status NoPrefixAvail |
//! | Renew, Rebind | the prefix | status NoBinding |
//! | Release, Decline | nothing: the prefix stays the session's | nothing |
//!
//! A prefix in an IA_PD that is not the session's is taken back with lifetimes of zero. Addresses are not given (IA_NA, IA_TA:
//! NoAddrsAvail); they are made by autoconfiguration. What a message must carry and must not is RFC 8415 §16.

mod options;

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use self::options::{Options, Writer, code, status};
use super::ra::{PREFERRED_S, VALID_S};

/// Octets of an answer at most: what is left of the least MTU behind the IPv6 and UDP headers. Of more IAs than have room the
/// last are not mentioned.
pub const ANSWER_MAX: usize = 1280 - 48;

/// Octets of a client's identifier (RFC 8415 §11.1).
const DUID_LENGTH: std::ops::RangeInclusive<usize> = 3..=130;

mod message {
    pub(super) const SOLICIT: u8 = 1;
    pub(super) const ADVERTISE: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const RENEW: u8 = 5;
    pub(super) const REBIND: u8 = 6;
    pub(super) const REPLY: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const DECLINE: u8 = 9;
    pub(super) const INFORMATION_REQUEST: u8 = 11;
}

/// The identifier of the server: a UUID (RFC 6355).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duid([u8; 18]);

impl Duid {
    /// That of all nodes of a cluster, from its id.
    pub fn of_cluster(id: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
        let mut duid = [0; 18];
        duid[1] = 4;
        duid[2..].copy_from_slice(&digest.as_ref()[..16]);
        Self(duid)
    }
}

/// What the server answers with.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Who it is.
    pub duid: Duid,
    /// What the session delegates.
    pub delegated: Option<Ipv6Net>,
    /// The prefix of the link.
    pub link: Option<Ipv6Net>,
    /// Name servers.
    pub dns: &'a [Ipv6Addr],
}

/// A message that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It does not parse.
    Malformed,
    /// It is another server's, a server's, lacks or has an identifier that it must have or must not, or asks for nothing.
    NotForUs,
}

/// An identity association of a request.
#[derive(Clone, Copy, Debug)]
struct Association<'a> {
    code: u16,
    id: [u8; 4],
    options: Options<'a>,
}

/// A request, taken apart.
#[derive(Debug)]
struct Request<'a> {
    kind: u8,
    transaction: [u8; 3],
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    options: Options<'a>,
}

/// The answer to a message of the subscriber.
///
/// # Errors
/// It gets none.
pub fn answer(server: &Server<'_>, octets: &[u8]) -> Result<Vec<u8>, Discard> {
    let request = Request::parse(octets).ok_or(Discard::Malformed)?;
    request.check(server)?;
    let rapid = request.kind == message::SOLICIT && request.options.find(code::RAPID_COMMIT).is_some();
    let kind = match request.kind {
        message::SOLICIT if !rapid => message::ADVERTISE,
        _ => message::REPLY,
    };
    let mut reply = Writer::new(kind, request.transaction);
    if let Some(client) = request.client {
        reply.option(code::CLIENT_ID, client);
    }
    reply.option(code::SERVER_ID, &server.duid.0);
    if rapid {
        reply.option(code::RAPID_COMMIT, &[]);
    }
    match request.kind {
        message::SOLICIT | message::REQUEST | message::RENEW | message::REBIND => {
            if kind == message::ADVERTISE {
                // There is no other server on the link to wait for.
                reply.option(code::PREFERENCE, &[255]);
            }
            name_servers(server, &request, &mut reply);
            associations(server, &request, &mut reply);
        }
        message::INFORMATION_REQUEST => name_servers(server, &request, &mut reply),
        message::CONFIRM => {
            let on_link = request.confirms(server.link).ok_or(Discard::NotForUs)?;
            reply.status(if on_link {
                status::SUCCESS
            } else {
                status::NOT_ON_LINK
            });
        }
        _ => reply.status(status::SUCCESS),
    }
    Ok(reply.finish())
}

impl<'a> Request<'a> {
    fn parse(octets: &'a [u8]) -> Option<Self> {
        let ([kind, transaction @ ..], rest) = octets.split_first_chunk::<4>()?;
        let options = Options::parse(rest)?;
        let request = Self {
            kind: *kind,
            transaction: *transaction,
            client: options.find(code::CLIENT_ID),
            server: options.find(code::SERVER_ID),
            options,
        };
        let client = request
            .client
            .is_none_or(|duid| DUID_LENGTH.contains(&duid.len()));
        let associations = options
            .all()
            .filter(|(code, _)| code::is_association(*code))
            .all(|(code, value)| Association::parse(code, value).is_some());
        (client && associations).then_some(request)
    }

    /// RFC 8415 §16: who must name whom.
    fn check(&self, server: &Server<'_>) -> Result<(), Discard> {
        let ours = self.server == Some(&server.duid.0);
        let right = match self.kind {
            message::SOLICIT | message::CONFIRM | message::REBIND => {
                self.client.is_some() && self.server.is_none()
            }
            message::REQUEST | message::RENEW | message::RELEASE | message::DECLINE => {
                self.client.is_some() && ours
            }
            message::INFORMATION_REQUEST => {
                (ours || self.server.is_none()) && self.associations().next().is_none()
            }
            _ => false,
        };
        if right { Ok(()) } else { Err(Discard::NotForUs) }
    }

    fn associations(&self) -> impl Iterator<Item = Association<'a>> {
        self.options
            .all()
            .filter_map(|(code, value)| Association::parse(code, value))
    }

    /// Which of its IA_PDs gets the prefix.
    fn chosen(&self, delegated: Ipv6Net) -> Option<[u8; 4]> {
        let mut prefixes = self.associations().filter(|ia| ia.code == code::IA_PD);
        let names = |ia: &Association<'_>| ia.prefixes().any(|prefix| prefix == delegated);
        let first = self.associations().find(|ia| ia.code == code::IA_PD);
        prefixes.find(names).or(first).map(|ia| ia.id)
    }

    /// Whether all addresses that the client has are of this link; `None` if it names none.
    fn confirms(&self, link: Option<Ipv6Net>) -> Option<bool> {
        let mut any = false;
        let mut all = true;
        for address in self.associations().flat_map(|ia| ia.addresses()) {
            any = true;
            all &= link.is_some_and(|link| link.contains(&address));
        }
        any.then_some(all)
    }
}

impl<'a> Association<'a> {
    /// `None` for another option, and for one that is malformed.
    fn parse(code: u16, value: &'a [u8]) -> Option<Self> {
        let (id, rest) = value.split_first_chunk::<4>()?;
        let options = match code {
            code::IA_NA | code::IA_PD => rest.get(8..)?,
            code::IA_TA => rest,
            _ => return None,
        };
        Some(Self {
            code,
            id: *id,
            options: Options::parse(options)?,
        })
    }

    /// The prefixes that it names; a malformed one is passed over, for it is a hint at best.
    fn prefixes(self) -> impl Iterator<Item = Ipv6Net> + use<'a> {
        let prefixes = self.options.all().filter(|(code, _)| *code == code::IA_PREFIX);
        prefixes.filter_map(|(_, value)| {
            let (fixed, _) = value.split_first_chunk::<25>()?;
            let address = <[u8; 16]>::try_from(&fixed[9..]).ok()?;
            Ipv6Net::new(address.into(), fixed[8]).ok()
        })
    }

    fn addresses(self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        let addresses = self.options.all().filter(|(code, _)| *code == code::IA_ADDRESS);
        addresses.filter_map(|(_, value)| Some(Ipv6Addr::from(*value.first_chunk::<16>()?)))
    }
}

/// Name servers, unless the client says what it wants and they are not among it.
fn name_servers(server: &Server<'_>, request: &Request<'_>, reply: &mut Writer) {
    let wants = request.options.find(code::REQUESTED).is_none_or(|codes| {
        codes
            .chunks_exact(2)
            .any(|code| code == code::NAME_SERVERS.to_be_bytes())
    });
    if wants && !server.dns.is_empty() {
        let addresses: Vec<u8> = server.dns.iter().flat_map(|dns| dns.octets()).collect();
        reply.option(code::NAME_SERVERS, &addresses);
    }
}

/// What each IA gets.
fn associations(server: &Server<'_>, request: &Request<'_>, reply: &mut Writer) {
    let mut chosen = server.delegated.and_then(|delegated| request.chosen(delegated));
    let renews = matches!(request.kind, message::RENEW | message::REBIND);
    for ia in request.associations() {
        let mut value = ia.id.to_vec();
        if ia.code != code::IA_PD {
            if ia.code == code::IA_NA {
                value.extend_from_slice(&[0; 8]);
            }
            options::put_status(&mut value, status::NO_ADDRESSES);
        } else if let Some(delegated) = server.delegated.filter(|_| chosen == Some(ia.id)) {
            // Two of the same id are one.
            chosen = None;
            for lifetime in [PREFERRED_S / 2, PREFERRED_S / 5 * 4] {
                value.extend_from_slice(&lifetime.to_be_bytes());
            }
            options::put_prefix(&mut value, delegated, PREFERRED_S, VALID_S);
            take_back(&mut value, ia, Some(delegated), renews);
        } else {
            value.extend_from_slice(&[0; 8]);
            take_back(&mut value, ia, None, renews);
            options::put_status(
                &mut value,
                if renews {
                    status::NO_BINDING
                } else {
                    status::NO_PREFIX
                },
            );
        }
        if reply.length() + 4 + value.len() > ANSWER_MAX {
            return;
        }
        reply.option(ia.code, &value);
    }
}

/// Prefixes that the client believes to have, and has not. In what is only asked for they are hints, and ignored.
fn take_back(value: &mut Vec<u8>, ia: Association<'_>, keeps: Option<Ipv6Net>, renews: bool) {
    /// Of one IA; a client has a few.
    const TAKEN_BACK_MAX: usize = 8;
    let others = ia.prefixes().filter(|prefix| Some(*prefix) != keeps);
    for prefix in others.take(if renews { TAKEN_BACK_MAX } else { 0 }) {
        options::put_prefix(value, prefix, 0, 0);
    }
}

#[cfg(test)]
mod tests;
