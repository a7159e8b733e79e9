//! The options of a message (RFC 8415 §21): code, length, value.

use ipnet::Ipv6Net;

/// Codes (IANA "DHCPv6 Option Codes").
pub(super) mod code {
    pub(in super::super) const CLIENT_ID: u16 = 1;
    pub(in super::super) const SERVER_ID: u16 = 2;
    pub(in super::super) const IA_NA: u16 = 3;
    pub(in super::super) const IA_TA: u16 = 4;
    pub(in super::super) const IA_ADDRESS: u16 = 5;
    pub(in super::super) const REQUESTED: u16 = 6;
    pub(in super::super) const PREFERENCE: u16 = 7;
    pub(in super::super) const STATUS: u16 = 13;
    pub(in super::super) const RAPID_COMMIT: u16 = 14;
    pub(in super::super) const NAME_SERVERS: u16 = 23;
    pub(in super::super) const IA_PD: u16 = 25;
    pub(in super::super) const IA_PREFIX: u16 = 26;

    /// Whether it is an identity association.
    pub(in super::super) const fn is_association(code: u16) -> bool {
        matches!(code, IA_NA | IA_TA | IA_PD)
    }
}

/// Status codes (RFC 8415 §21.13).
pub(super) mod status {
    pub(in super::super) const SUCCESS: u16 = 0;
    pub(in super::super) const NO_ADDRESSES: u16 = 2;
    pub(in super::super) const NO_BINDING: u16 = 3;
    pub(in super::super) const NOT_ON_LINK: u16 = 4;
    pub(in super::super) const NO_PREFIX: u16 = 6;
}

/// Options that fill a field to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// `None` if they do not fit.
    pub(super) fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        while !rest.is_empty() {
            rest = split(rest)?.2;
        }
        Some(Self(octets))
    }

    /// All of them, in order.
    pub(super) fn all(self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (code, value, behind) = split(rest)?;
            rest = behind;
            Some((code, value))
        })
    }

    /// The first with this code.
    pub(super) fn find(self, code: u16) -> Option<&'a [u8]> {
        self.all()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value)
    }
}

fn split(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([a, b, high, low], rest) = octets.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, behind) = rest.split_at_checked(length)?;
    Some((u16::from_be_bytes([*a, *b]), value, behind))
}

/// A message that is being written.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8, transaction: [u8; 3]) -> Self {
        let [a, b, c] = transaction;
        Self(vec![kind, a, b, c])
    }

    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        put(&mut self.0, code, value);
    }

    pub(super) fn status(&mut self, status: u16) {
        put_status(&mut self.0, status);
    }

    pub(super) fn length(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn put(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend_from_slice(&code.to_be_bytes());
    to.extend_from_slice(&(value.len() as u16).to_be_bytes());
    to.extend_from_slice(value);
}

/// A status without a text.
pub(super) fn put_status(to: &mut Vec<u8>, status: u16) {
    put(to, code::STATUS, &status.to_be_bytes());
}

/// A prefix with its lifetimes in seconds.
pub(super) fn put_prefix(to: &mut Vec<u8>, prefix: Ipv6Net, preferred: u32, valid: u32) {
    let mut value = Vec::with_capacity(25);
    value.extend_from_slice(&preferred.to_be_bytes());
    value.extend_from_slice(&valid.to_be_bytes());
    value.push(prefix.prefix_len());
    value.extend_from_slice(&prefix.network().octets());
    put(to, code::IA_PREFIX, &value);
}
