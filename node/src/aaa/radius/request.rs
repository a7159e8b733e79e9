//! What a server is told of a subscriber: the attributes of a session (RFC 2865, 2868, 2869), with his credentials in an
//! Access-Request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holdfast_cluster::records::SessionRow;
use holdfast_ppp::{AuthRequest, Credential, Secret};
use holdfast_protocol::TunnelId;

use super::access_line;
use super::attributes::Builder;
use super::authenticator;
use super::dictionary::vendor::{self, microsoft};
use super::dictionary::{
    Code, FRAMED_PROTOCOL_PPP, NAS_PORT_TYPE_VIRTUAL, TUNNEL_MEDIUM_IPV4, TUNNEL_MEDIUM_IPV6,
    TUNNEL_TYPE_L2TP, attribute, service_type,
};
use super::error::TooLong;

/// The tag of the one tunnel that a session came in on (RFC 2868 §3): none.
const NO_TAG: u8 = 0;

/// Who we are to a server: the same from every node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NasIdentity {
    /// NAS-Identifier.
    pub identifier: String,
    /// NAS-IP-Address.
    pub ipv4: Option<Ipv4Addr>,
    /// NAS-IPv6-Address.
    pub ipv6: Option<Ipv6Addr>,
}

/// A session and the tunnel it came in on.
#[derive(Clone, Copy, Debug)]
pub struct SessionFacts<'a> {
    /// Ours.
    pub tunnel: TunnelId,
    /// As the table has it.
    pub row: &'a SessionRow,
    /// The LAC's address.
    pub lac: Option<SocketAddr>,
    /// Ours, where the LAC sends to.
    pub local: Option<SocketAddr>,
    /// The LAC's host name.
    pub lac_name: &'a [u8],
    /// Our own.
    pub own_name: &'a str,
}

/// The attributes by which a server knows the NAS.
pub fn nas_attributes(packet: &mut Builder, nas: &NasIdentity) {
    if let Some(address) = nas.ipv4 {
        packet.ipv4(attribute::NAS_IP_ADDRESS, address);
    }
    if let Some(address) = nas.ipv6 {
        packet.ipv6(attribute::NAS_IPV6_ADDRESS, address);
    }
    packet.text(attribute::NAS_IDENTIFIER, &nas.identifier);
}

/// What Access-Requests and accounting say alike of a session and its tunnel.
pub fn session_attributes(packet: &mut Builder, nas: &NasIdentity, facts: &SessionFacts<'_>) {
    let row = facts.row;
    nas_attributes(packet, nas);
    packet
        .u32(attribute::NAS_PORT, row.nas_port)
        .text(
            attribute::NAS_PORT_ID,
            &format!("{}/{}", facts.tunnel, row.session_id),
        )
        .u32(attribute::NAS_PORT_TYPE, NAS_PORT_TYPE_VIRTUAL)
        .u32(attribute::SERVICE_TYPE, service_type::FRAMED)
        .u32(attribute::FRAMED_PROTOCOL, FRAMED_PROTOCOL_PPP)
        .clipped(attribute::CALLED_STATION_ID, &row.called_number)
        .clipped(attribute::CALLING_STATION_ID, &row.calling_number)
        .text(attribute::ACCT_SESSION_ID, &row.acct_session_id);
    if row.tx_speed > 0 {
        packet.text(
            attribute::CONNECT_INFO,
            &format!("{}/{}", row.tx_speed, row.rx_speed),
        );
    }
    access_line::attributes(packet, &row.line);
    tunnel_attributes(packet, facts);
}

/// The tunnel that the session came in on (RFC 2868, RFC 2867 §4).
fn tunnel_attributes(packet: &mut Builder, facts: &SessionFacts<'_>) {
    packet.tagged_u24(attribute::TUNNEL_TYPE, NO_TAG, TUNNEL_TYPE_L2TP);
    let address = |of: Option<SocketAddr>| of.map(|address| address.ip().to_canonical());
    let (lac, local) = (address(facts.lac), address(facts.local));
    if let Some(address) = lac {
        let medium = match address {
            IpAddr::V4(_) => TUNNEL_MEDIUM_IPV4,
            IpAddr::V6(_) => TUNNEL_MEDIUM_IPV6,
        };
        packet.tagged_u24(attribute::TUNNEL_MEDIUM_TYPE, NO_TAG, medium);
    }
    for (kind, address) in [
        (attribute::TUNNEL_CLIENT_ENDPOINT, lac),
        (attribute::TUNNEL_SERVER_ENDPOINT, local),
    ] {
        let text = address.map(|address| address.to_string()).unwrap_or_default();
        packet.tagged_octets(kind, NO_TAG, text.as_bytes());
    }
    packet
        .text(
            attribute::ACCT_TUNNEL_CONNECTION,
            &facts.row.call_serial.to_string(),
        )
        .tagged_octets(
            attribute::TUNNEL_ASSIGNMENT_ID,
            NO_TAG,
            facts.tunnel.to_string().as_bytes(),
        )
        .tagged_octets(
            attribute::TUNNEL_CLIENT_AUTH_ID,
            NO_TAG,
            clipped_tagged(facts.lac_name),
        )
        .tagged_octets(
            attribute::TUNNEL_SERVER_AUTH_ID,
            NO_TAG,
            clipped_tagged(facts.own_name.as_bytes()),
        );
}

/// One octet less than a value may have: a tag may come before it.
fn clipped_tagged(octets: &[u8]) -> &[u8] {
    &octets[..octets.len().min(super::attributes::LONGEST_VALUE - 1)]
}

/// A request without what belongs to one server: identifier, authenticator, secret. The same goes to one server after the other.
#[derive(Clone, Debug)]
pub struct Content {
    packet: Builder,
    /// Hidden anew for each server.
    password: Option<Secret>,
}

/// Why nobody can be asked about a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// Without a name and a proof there is nothing to ask.
    #[error("no credentials")]
    NoCredentials,
    /// User-Password holds no more (RFC 2865 §5.2).
    #[error("the password is longer than {} octets", authenticator::LONGEST_PASSWORD)]
    Password,
    /// The name or something else does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Content {
    /// An Access-Request (RFC 2865 §4.1): Message-Authenticator first (CVE-2024-3596), the name, the proof, the session.
    pub fn access(
        request: &AuthRequest,
        nas: &NasIdentity,
        facts: &SessionFacts<'_>,
    ) -> Result<Self, Unaskable> {
        let mut packet = Builder::new(Code::ACCESS_REQUEST, 0);
        packet
            .message_authenticator()
            .octets(attribute::USER_NAME, &request.name);
        let password = credentials(&mut packet, &request.credential)?;
        if let Some(address) = last_address(facts.row) {
            packet.ipv4(attribute::FRAMED_IP_ADDRESS, address);
        }
        session_attributes(&mut packet, nas, facts);
        packet.fits()?;
        Ok(Self { packet, password })
    }

    /// A Status-Server packet (RFC 5997 §3).
    pub fn status(nas: &NasIdentity) -> Self {
        let mut packet = Builder::new(Code::STATUS_SERVER, 0);
        packet.message_authenticator();
        nas_attributes(&mut packet, nas);
        Self {
            packet,
            password: None,
        }
    }

    /// An Accounting-Request (RFC 2866 §4.1) with these attributes.
    pub fn accounting(packet: Builder) -> Self {
        Self {
            packet,
            password: None,
        }
    }

    /// The packet for one server. `random` becomes the authenticator of what is not signed itself; the other result is the authenticator that
    /// the reply is checked with.
    pub fn encode(&self, id: u8, secret: &[u8], random: [u8; 16]) -> Result<(Vec<u8>, [u8; 16]), TooLong> {
        let mut packet = self.packet.clone();
        packet.set_id(id);
        if let Some(password) = &self.password {
            let hidden = authenticator::hide_password(password.expose(), secret, &random);
            packet.octets(
                attribute::USER_PASSWORD,
                &hidden.ok_or(TooLong(attribute::USER_PASSWORD))?,
            );
        }
        if packet.code() != Code::ACCOUNTING_REQUEST {
            return Ok((packet.finish_access(secret, random)?, random));
        }
        let octets = packet.finish_request(secret)?;
        let field = octets[4..]
            .first_chunk()
            .copied()
            .expect("a packet is not shorter than its header");
        Ok((octets, field))
    }

    /// What it is.
    pub fn code(&self) -> Code {
        self.packet.code()
    }

    /// Whether both ask the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.packet.is_same(&other.packet) && self.password == other.password
    }
}

/// Writes the proof; a password is left for [`Content::encode`].
fn credentials(packet: &mut Builder, credential: &Credential) -> Result<Option<Secret>, Unaskable> {
    match credential {
        Credential::None => Err(Unaskable::NoCredentials),
        Credential::Pap { password } if password.expose().len() > authenticator::LONGEST_PASSWORD => {
            Err(Unaskable::Password)
        }
        Credential::Pap { password } => Ok(Some(password.clone())),
        Credential::ChapMd5 {
            id,
            challenge,
            response,
        } => {
            packet
                .octets(attribute::CHAP_PASSWORD, &[&[*id], &response[..]].concat())
                .octets(attribute::CHAP_CHALLENGE, challenge);
            Ok(None)
        }
        Credential::MsChapV2 {
            id,
            challenge,
            response,
        } => {
            // RFC 2548 §2.3.2: identifier, flags (zero), peer challenge, reserved, response; PPP's own flags come last and stay out.
            let (value, _flags) = response.split_at(48);
            packet
                .vendor(vendor::MICROSOFT, microsoft::MS_CHAP_CHALLENGE, challenge)
                .vendor(
                    vendor::MICROSOFT,
                    microsoft::MS_CHAP2_RESPONSE,
                    &[&[*id, 0], value].concat(),
                );
            Ok(None)
        }
    }
}

/// What the session had before LCP began anew: a hint.
fn last_address(row: &SessionRow) -> Option<Ipv4Addr> {
    let mut addresses = row.ppp.as_ref()?.addresses.iter();
    addresses.find_map(|prefix| match prefix.ip() {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aaa::radius::{Packet, verify_request};

    const SECRET: &[u8] = b"radsecret";
    const RANDOM: [u8; 16] = [7; 16];

    fn nas() -> NasIdentity {
        NasIdentity {
            identifier: "isp-1".to_owned(),
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: None,
        }
    }

    fn row() -> SessionRow {
        SessionRow {
            session_id: 77,
            call_serial: 4711,
            calling_number: b"0301234".to_vec(),
            called_number: b"isp".to_vec(),
            tx_speed: 100_000_000,
            rx_speed: 40_000_000,
            acct_session_id: "0001-0002".to_owned(),
            nas_port: 513 << 16 | 77,
            ..SessionRow::default()
        }
    }

    fn facts(row: &SessionRow) -> SessionFacts<'_> {
        SessionFacts {
            tunnel: TunnelId::new(513).expect("not zero"),
            row,
            lac: Some(([198, 51, 100, 7], 1701).into()),
            local: Some(([192, 0, 2, 1], 1701).into()),
            lac_name: b"lac-7",
            own_name: "lns-1",
        }
    }

    fn access(credential: Credential) -> Vec<u8> {
        let request = AuthRequest {
            name: b"bob".to_vec(),
            credential,
        };
        let content = Content::access(&request, &nas(), &facts(&row())).expect("it fits");
        let (octets, field) = content.encode(9, SECRET, RANDOM).expect("it fits");
        assert_eq!(field, RANDOM);
        octets
    }

    fn pap() -> Credential {
        Credential::Pap {
            password: Secret::new(*b"hello"),
        }
    }

    #[test]
    fn everything_of_the_request_table_with_80_first() {
        let octets = access(pap());
        let packet = verify_request(&octets, SECRET).expect("signed");
        assert_eq!((packet.code(), packet.id()), (Code::ACCESS_REQUEST, 9));
        assert_eq!(packet.attributes().next().map(|a| a.kind), Some(80));
        let text = |kind: u8| {
            packet
                .first(kind)
                .and_then(|a| a.text().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let number = |kind: u8| packet.first(kind).and_then(|a| a.u32().ok());
        for (kind, expected) in [
            (1, "bob"),
            (30, "isp"),
            (31, "0301234"),
            (32, "isp-1"),
            (44, "0001-0002"),
            (66, "198.51.100.7"),
            (67, "192.0.2.1"),
            (68, "4711"),
            (77, "100000000/40000000"),
            (82, "513"),
            (87, "513/77"),
            (90, "lac-7"),
            (91, "lns-1"),
        ] {
            assert_eq!(text(kind), expected, "attribute {kind}");
        }
        for (kind, expected) in [(5, 513 << 16 | 77), (6, 2), (7, 1), (61, 5), (64, 3), (65, 1)] {
            assert_eq!(number(kind), Some(expected), "attribute {kind}");
        }
        assert_eq!(packet.first(4).map(|a| a.ipv4()), Some(Ok([192, 0, 2, 1].into())));
        assert_eq!(packet.first(8), None);
        let hidden = packet.first(2).expect("a password");
        let plain = authenticator::reveal_password(hidden.value, SECRET, &RANDOM).expect("one");
        assert_eq!(plain.as_slice(), b"hello");
    }

    #[test]
    fn chap_and_ms_chap() {
        let octets = access(Credential::ChapMd5 {
            id: 5,
            challenge: vec![1; 16],
            response: [2; 16],
        });
        let packet = Packet::parse(&octets).expect("well-formed");
        let value = |kind: u8| packet.first(kind).map(|a| a.value.to_vec());
        assert_eq!(value(3), Some([&[5][..], &[2; 16]].concat()));
        assert_eq!(value(60), Some(vec![1; 16]));
        assert_eq!(value(2), None);
        let mut response = [3; 49];
        response[48] = 9;
        let octets = access(Credential::MsChapV2 {
            id: 6,
            challenge: [4; 16],
            response,
        });
        let packet = Packet::parse(&octets).expect("well-formed");
        let of_vendor: Vec<_> = packet.all(26).flat_map(|a| a.of_vendor()).collect();
        assert_eq!((of_vendor[0].kind, of_vendor[0].value), (11, &[4; 16][..]));
        assert_eq!(of_vendor[1].kind, 25);
        assert_eq!(of_vendor[1].value, [&[6, 0][..], &[3; 48]].concat());
    }

    #[test]
    fn what_cannot_be_asked() {
        let ask = |name: Vec<u8>, credential| {
            let request = AuthRequest { name, credential };
            Content::access(&request, &nas(), &facts(&row())).map(|_| ())
        };
        assert_eq!(ask(Vec::new(), Credential::None), Err(Unaskable::NoCredentials));
        let long = Credential::Pap {
            password: Secret::new([b'x'; 129]),
        };
        assert_eq!(ask(b"bob".to_vec(), long), Err(Unaskable::Password));
        assert_eq!(ask(vec![b'x'; 254], pap()), Err(TooLong(1).into()));
    }

    #[test]
    fn long_numbers_of_a_lac_are_clipped() {
        let mut row = row();
        row.calling_number = vec![b'1'; 1000];
        let long_name = vec![b'l'; 1000];
        let facts = SessionFacts {
            lac_name: &long_name,
            ..facts(&row)
        };
        let request = AuthRequest {
            name: b"bob".to_vec(),
            credential: pap(),
        };
        let content = Content::access(&request, &nas(), &facts).expect("it fits");
        let (octets, _) = content.encode(1, SECRET, RANDOM).expect("it fits");
        let packet = Packet::parse(&octets).expect("well-formed");
        assert_eq!(packet.first(31).map(|a| a.value.len()), Some(253));
        assert_eq!(packet.first(90).map(|a| a.value.len()), Some(252));
    }

    #[test]
    fn no_password_in_debug() {
        let request = AuthRequest {
            name: b"bob".to_vec(),
            credential: pap(),
        };
        let content = Content::access(&request, &nas(), &facts(&row())).expect("it fits");
        assert!(!format!("{content:?}").contains("hello"));
        assert!(content.is_same(&content.clone()));
    }

    #[test]
    fn status_server() {
        let content = Content::status(&nas());
        let (octets, _) = content.encode(3, SECRET, RANDOM).expect("it fits");
        let packet = verify_request(&octets, SECRET).expect("signed");
        assert_eq!(packet.code(), Code::STATUS_SERVER);
        assert_eq!(packet.first(32).map(|a| a.value), Some(&b"isp-1"[..]));
    }
}
