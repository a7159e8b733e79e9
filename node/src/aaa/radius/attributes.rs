//! Attributes: typed readers over a value, and the writer of a packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::authenticator;
use super::dictionary::{Code, attribute};
use super::error::{TooLong, WrongValue};
use super::packet::{ATTRIBUTE_HEADER, HEADER, LONGEST};

/// The longest value, octets.
pub const LONGEST_VALUE: usize = 253;
/// The highest octet that is a tag (RFC 2868 §3.1).
const LAST_TAG: u8 = 0x1f;

/// One attribute, or one of a vendor's inside a Vendor-Specific one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `None` for the standard's own.
    pub vendor: Option<u32>,
    /// Its number.
    pub kind: u8,
    /// Never empty in what a packet yields.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// One of the standard's own.
    pub fn new(kind: u8, value: &'a [u8]) -> Self {
        Self {
            vendor: None,
            kind,
            value,
        }
    }

    /// Four octets.
    pub fn u32(&self) -> Result<u32, WrongValue> {
        self.fixed("must have 4 octets").map(u32::from_be_bytes)
    }

    /// An IPv4 address.
    pub fn ipv4(&self) -> Result<Ipv4Addr, WrongValue> {
        self.fixed::<4>("must be an IPv4 address").map(Ipv4Addr::from)
    }

    /// An IPv6 address.
    pub fn ipv6(&self) -> Result<Ipv6Addr, WrongValue> {
        self.fixed::<16>("must be an IPv6 address").map(Ipv6Addr::from)
    }

    /// A prefix (RFC 3162 §2.3): a reserved octet, the length in bits, and as many octets as it needs. Bits beyond the length are
    /// to be zero.
    pub fn prefix(&self) -> Result<Ipv6Net, WrongValue> {
        let wrong = self.wrong("must be an IPv6 prefix");
        let (&[_, bits], octets) = self.value.split_first_chunk::<2>().ok_or(wrong)?;
        let mut address = [0; 16];
        let known = address.get_mut(..octets.len()).ok_or(wrong)?;
        known.copy_from_slice(octets);
        let net = Ipv6Net::new(address.into(), bits).map_err(|_| wrong)?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(self.wrong("has bits beyond its length"))
        }
    }

    /// Text: UTF-8 without control characters. Zeros at the end, which some servers append, are cut off.
    pub fn text(&self) -> Result<&'a str, WrongValue> {
        let end = self
            .value
            .iter()
            .rposition(|octet| *octet != 0)
            .map_or(0, |at| at + 1);
        std::str::from_utf8(&self.value[..end])
            .ok()
            .filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
            .ok_or(self.wrong("must be text"))
    }

    /// A number behind a tag (RFC 2868 §3.1): the tag, 0 for none, and three octets.
    pub fn tagged_u24(&self) -> Result<(u8, u32), WrongValue> {
        let [tag, a, b, c] = self.fixed("must be a tag and 3 octets")?;
        Ok((tag, u32::from_be_bytes([0, a, b, c])))
    }

    /// Octets that may follow a tag; 0 without one.
    pub fn tagged_octets(&self) -> (u8, &'a [u8]) {
        match self.value {
            [tag @ 0..=LAST_TAG, rest @ ..] => (*tag, rest),
            all => (0, all),
        }
    }

    /// The vendor's attributes inside a Vendor-Specific one (RFC 2865 §5.26). What is not in the usual form of type, length and value
    /// ends them: vendors may use other forms.
    pub fn of_vendor(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let inside =
            Some(self.value).filter(|_| self.vendor.is_none() && self.kind == attribute::VENDOR_SPECIFIC);
        let (vendor, mut rest) = match inside.and_then(|value| value.split_first_chunk()) {
            Some((vendor, rest)) => (u32::from_be_bytes(*vendor), rest),
            None => (0, &[][..]),
        };
        let next = move || {
            let [kind, length, ..] = rest else { return None };
            let whole = rest.get(..usize::from(*length))?;
            let value = whole.get(ATTRIBUTE_HEADER..)?;
            rest = &rest[whole.len()..];
            Some(Attribute {
                vendor: Some(vendor),
                kind: *kind,
                value,
            })
        };
        std::iter::from_fn(next).filter(|attribute| !attribute.value.is_empty())
    }

    /// The error of a value that is not what it should be.
    pub fn wrong(&self, expected: &'static str) -> WrongValue {
        WrongValue {
            vendor: self.vendor,
            kind: self.kind,
            expected,
        }
    }

    fn fixed<const N: usize>(&self, expected: &'static str) -> Result<[u8; N], WrongValue> {
        self.value.try_into().map_err(|_| self.wrong(expected))
    }
}

/// Writes a packet. An attribute that does not fit is remembered, and the finish refuses; empty values are left out (RFC 2865 §5).
#[derive(Clone)]
pub struct Builder {
    octets: Vec<u8>,
    /// Where the value of Message-Authenticator lies.
    message_authenticator: Option<usize>,
    too_long: Option<TooLong>,
}

/// Shows no attribute: there are passwords among them.
impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Builder({} octets)", self.octets.len())
    }
}

impl Builder {
    /// Without attributes yet.
    pub fn new(code: Code, id: u8) -> Self {
        let mut octets = Vec::with_capacity(256);
        octets.extend([code.0, id]);
        octets.resize(HEADER, 0);
        Self {
            octets,
            message_authenticator: None,
            too_long: None,
        }
    }

    /// The same attributes in another packet.
    pub fn set_id(&mut self, id: u8) -> &mut Self {
        self.octets[1] = id;
        self
    }

    /// What it will be.
    pub fn code(&self) -> Code {
        Code(self.octets[0])
    }

    /// Whether all that was written so far fits.
    pub fn fits(&self) -> Result<(), TooLong> {
        self.too_long.map_or(Ok(()), Err)
    }

    /// Whether both hold the same octets.
    pub fn is_same(&self, other: &Self) -> bool {
        self.octets == other.octets
    }

    /// A number.
    pub fn u32(&mut self, kind: u8, value: u32) -> &mut Self {
        self.octets(kind, &value.to_be_bytes())
    }

    /// Text.
    pub fn text(&mut self, kind: u8, value: &str) -> &mut Self {
        self.octets(kind, value.as_bytes())
    }

    /// An IPv4 address.
    pub fn ipv4(&mut self, kind: u8, value: Ipv4Addr) -> &mut Self {
        self.octets(kind, &value.octets())
    }

    /// An IPv6 address.
    pub fn ipv6(&mut self, kind: u8, value: Ipv6Addr) -> &mut Self {
        self.octets(kind, &value.octets())
    }

    /// A prefix: as many octets as its length needs.
    pub fn prefix(&mut self, kind: u8, value: Ipv6Net) -> &mut Self {
        let bits = value.prefix_len();
        let octets = value.trunc().addr().octets();
        let mut written = vec![0, bits];
        written.extend(&octets[..usize::from(bits).div_ceil(8)]);
        self.octets(kind, &written)
    }

    /// A number of three octets behind a tag.
    pub fn tagged_u24(&mut self, kind: u8, tag: u8, value: u32) -> &mut Self {
        let [_, a, b, c] = value.to_be_bytes();
        self.octets(kind, &[tag, a, b, c])
    }

    /// Octets behind a tag, which is left out if it is 0 and the octets do not look like one.
    pub fn tagged_octets(&mut self, kind: u8, tag: u8, value: &[u8]) -> &mut Self {
        match value.first() {
            None => self,
            Some(first) if tag == 0 && *first > LAST_TAG => self.octets(kind, value),
            Some(_) => self.octets(kind, &[&[tag], value].concat()),
        }
    }

    /// One attribute of a vendor in a Vendor-Specific one.
    pub fn vendor(&mut self, vendor: u32, kind: u8, value: &[u8]) -> &mut Self {
        let Ok(length) = u8::try_from(value.len() + ATTRIBUTE_HEADER) else {
            self.too_long.get_or_insert(TooLong(attribute::VENDOR_SPECIFIC));
            return self;
        };
        let written = [&vendor.to_be_bytes()[..], &[kind, length], value].concat();
        self.octets(attribute::VENDOR_SPECIFIC, &written)
    }

    /// As much of a value as fits into an attribute: for what comes from elsewhere and may be longer.
    pub fn clipped(&mut self, kind: u8, value: &[u8]) -> &mut Self {
        self.octets(kind, &value[..value.len().min(LONGEST_VALUE)])
    }

    /// Any value.
    pub fn octets(&mut self, kind: u8, value: &[u8]) -> &mut Self {
        let fits =
            value.len() <= LONGEST_VALUE && self.octets.len() + ATTRIBUTE_HEADER + value.len() <= LONGEST;
        match u8::try_from(value.len() + ATTRIBUTE_HEADER) {
            Ok(_) if value.is_empty() => {}
            Ok(length) if fits => {
                self.octets.extend([kind, length]);
                self.octets.extend(value);
            }
            Ok(_) | Err(_) => {
                self.too_long.get_or_insert(TooLong(kind));
            }
        }
        self
    }

    /// Room for Message-Authenticator here; the finish computes it. The first place is the best (CVE-2024-3596).
    pub fn message_authenticator(&mut self) -> &mut Self {
        if self.message_authenticator.is_none() {
            self.message_authenticator = Some(self.octets.len() + ATTRIBUTE_HEADER);
            self.octets(attribute::MESSAGE_AUTHENTICATOR, &[0; 16]);
        }
        self
    }

    /// An Access-Request or a Status-Server packet with its random authenticator, and always with Message-Authenticator: last unless it was
    /// given a place.
    pub fn finish_access(
        &mut self,
        secret: &[u8],
        random_authenticator: [u8; 16],
    ) -> Result<Vec<u8>, TooLong> {
        self.message_authenticator();
        let mut octets = self.sealed(secret, random_authenticator)?;
        octets[4..HEADER].copy_from_slice(&random_authenticator);
        Ok(octets)
    }

    /// A request that is signed itself: accounting, CoA, Disconnect (RFC 2866 §3, RFC 5176 §2.3).
    pub fn finish_request(&mut self, secret: &[u8]) -> Result<Vec<u8>, TooLong> {
        self.finish_signed(secret, [0; 16])
    }

    /// A reply to the request with this authenticator.
    pub fn finish_reply(
        &mut self,
        secret: &[u8],
        request_authenticator: &[u8; 16],
    ) -> Result<Vec<u8>, TooLong> {
        self.finish_signed(secret, *request_authenticator)
    }

    fn finish_signed(&mut self, secret: &[u8], authenticator: [u8; 16]) -> Result<Vec<u8>, TooLong> {
        let mut octets = self.sealed(secret, authenticator)?;
        let signature = authenticator::signature(&octets, &authenticator, secret);
        octets[4..HEADER].copy_from_slice(&signature);
        Ok(octets)
    }

    /// The octets with length and Message-Authenticator.
    fn sealed(&mut self, secret: &[u8], authenticator: [u8; 16]) -> Result<Vec<u8>, TooLong> {
        if let Some(too_long) = self.too_long {
            return Err(too_long);
        }
        let mut octets = std::mem::take(&mut self.octets);
        let length = u16::try_from(octets.len()).expect("a packet is bounded");
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        if let Some(at) = self.message_authenticator.take() {
            let digest = authenticator::message_authenticator(&octets, at, &authenticator, secret);
            octets[at..at + digest.len()].copy_from_slice(&digest);
        }
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aaa::radius::Packet;

    fn attribute(value: &[u8]) -> Attribute<'_> {
        Attribute::new(97, value)
    }

    #[test]
    fn values_of_each_type() {
        let secret = b"s";
        let net: Ipv6Net = "2001:db8:40::/44".parse().expect("a prefix");
        let octets = Builder::new(Code::ACCESS_ACCEPT, 1)
            .u32(27, 0x0102_0304)
            .text(18, "hello")
            .ipv4(8, [10, 0, 0, 1].into())
            .ipv6(95, Ipv6Addr::LOCALHOST)
            .prefix(97, net)
            .tagged_u24(64, 1, 3)
            .tagged_octets(66, 1, b"192.0.2.1")
            .tagged_octets(67, 0, b"192.0.2.2")
            .tagged_octets(90, 0, b"\x01x")
            .vendor(311, 28, &[10, 0, 0, 53])
            .octets(25, b"")
            .finish_reply(secret, &[0; 16])
            .expect("it fits");
        let packet = Packet::parse(&octets).expect("well-formed");
        let a: Vec<_> = packet.attributes().collect();
        assert_eq!(a.len(), 10, "the empty one is left out");
        assert_eq!(a[0].u32(), Ok(0x0102_0304));
        assert_eq!(a[1].text(), Ok("hello"));
        assert_eq!(a[2].ipv4(), Ok([10, 0, 0, 1].into()));
        assert_eq!(a[3].ipv6(), Ok(Ipv6Addr::LOCALHOST));
        assert_eq!((a[4].prefix(), a[4].value.len()), (Ok(net), 8));
        assert_eq!(a[5].tagged_u24(), Ok((1, 3)));
        assert_eq!(a[6].tagged_octets(), (1, &b"192.0.2.1"[..]));
        assert_eq!(a[7].tagged_octets(), (0, &b"192.0.2.2"[..]));
        assert_eq!(a[8].tagged_octets(), (0, &b"\x01x"[..]));
        let inside: Vec<_> = a[9].of_vendor().collect();
        assert_eq!(inside.len(), 1);
        assert_eq!((inside[0].vendor, inside[0].kind), (Some(311), 28));
        assert_eq!(inside[0].ipv4(), Ok([10, 0, 0, 53].into()));
    }

    #[test]
    fn values_that_make_no_sense() {
        let wrong = |value: &[u8]| attribute(value).prefix().unwrap_err().expected;
        assert_eq!(wrong(&[0]), "must be an IPv6 prefix");
        assert_eq!(wrong(&[0, 129]), "must be an IPv6 prefix");
        assert_eq!(wrong(&[0; 19]), "must be an IPv6 prefix");
        assert_eq!(wrong(&[0, 8, 0x20, 0x01]), "has bits beyond its length");
        assert_eq!(attribute(&[0, 0]).prefix(), Ok(Ipv6Net::default()));
        assert_eq!(
            Attribute::new(27, &[1]).u32().unwrap_err().to_string(),
            "Session-Timeout (27): must have 4 octets"
        );
        let of_vendor = Attribute {
            vendor: Some(14988),
            ..Attribute::new(8, b"\xff")
        };
        assert_eq!(
            of_vendor.text().unwrap_err().to_string(),
            "Mikrotik attribute 8 (vendor 14988): must be text"
        );
        assert_eq!(Attribute::new(18, b"ok\0\0").text(), Ok("ok"));
        assert!(Attribute::new(18, b"\0").text().is_err());
        assert!(
            Attribute::new(18, b"a\x1b[2J").text().is_err(),
            "no control characters"
        );
    }

    #[test]
    fn vendors_in_other_forms_end_quietly() {
        let of = |value: &[u8]| -> Vec<(u8, usize)> {
            let outer = Attribute::new(attribute::VENDOR_SPECIFIC, value);
            outer.of_vendor().map(|a| (a.kind, a.value.len())).collect()
        };
        assert_eq!(of(&[0, 0, 1, 55, 1, 3, 7, 2, 4, 0, 0]), [(1, 1), (2, 2)]);
        assert_eq!(of(&[0, 0, 1, 55, 1, 3, 7, 2, 9]), [(1, 1)]);
        assert_eq!(of(&[0, 0, 1, 55, 1, 0]), []);
        assert_eq!(of(&[0, 0, 1, 55, 1, 1]), []);
        assert_eq!(of(&[0, 0, 1, 55, 1, 2, 2, 3, 9]), [(2, 1)]);
        assert_eq!(of(&[0, 0, 1]), []);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut long = Builder::new(Code::ACCESS_REQUEST, 0);
        assert_eq!(
            long.text(1, &"x".repeat(254)).finish_request(b"s"),
            Err(TooLong(1))
        );
        let mut many = Builder::new(Code::ACCESS_REQUEST, 0);
        for _ in 0..17 {
            many.octets(25, &[0; LONGEST_VALUE]);
        }
        assert_eq!(many.finish_request(b"s"), Err(TooLong(25)));
        let mut vendor = Builder::new(Code::ACCESS_REQUEST, 0);
        assert_eq!(
            vendor.vendor(9, 1, &[0; 300]).finish_request(b"s"),
            Err(TooLong(26))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            attributes in prop::collection::vec((1..=255_u8, prop::collection::vec(any::<u8>(), 1..=253)), 0..12),
            id: u8,
        ) {
            let mut builder = Builder::new(Code::ACCOUNTING_REQUEST, id);
            for (kind, value) in &attributes {
                builder.octets(*kind, value);
            }
            let octets = builder.finish_request(b"secret").expect("it fits");
            let packet = Packet::parse(&octets).expect("well-formed");
            prop_assert_eq!(packet.id(), id);
            let read: Vec<_> = packet.attributes().map(|a| (a.kind, a.value.to_vec())).collect();
            prop_assert_eq!(read, attributes);
        }

        #[test]
        fn prefixes_come_back(address: u128, bits in 0..=128_u8) {
            let net = Ipv6Net::new(address.into(), bits).expect("a length").trunc();
            let octets = Builder::new(Code::ACCESS_ACCEPT, 0).prefix(97, net).finish_request(b"s").expect("it fits");
            let read = Packet::parse(&octets).expect("well-formed").first(97).expect("one").prefix();
            prop_assert_eq!(read, Ok(net));
        }
    }
}
