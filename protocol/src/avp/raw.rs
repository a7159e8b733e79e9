//! One AVP as the wire carries it, and the walk over a message's body (RFC 2661 §4.1).

const MANDATORY: u16 = 0x8000;
const HIDDEN: u16 = 0x4000;
const RESERVED: u16 = 0x3c00;
const LENGTH: u16 = 0x03ff;

/// Octets of an AVP before its value.
pub(crate) const AVP_HEADER_LEN: usize = 6;
/// Octets of the longest value that the 10-bit length allows.
pub const MAX_VALUE_LEN: usize = LENGTH as usize - AVP_HEADER_LEN;

/// An AVP with its value still raw, perhaps hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avp<'a> {
    /// M: the session or tunnel must go if the AVP is not recognised.
    pub mandatory: bool,
    /// H: the value is hidden.
    pub hidden: bool,
    /// A reserved bit is set, for which the AVP counts as not recognised.
    pub reserved: bool,
    /// Vendor id, 0 for the IETF.
    pub vendor: u16,
    /// Attribute type within the vendor's space.
    pub attribute: u16,
    /// The value's octets.
    pub value: &'a [u8],
}

/// The rest of a body is no AVP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// An AVP's length is below 6 or runs past the message's end.
    Length,
    /// One to five octets are left over.
    Leftover,
}

/// The AVPs of a body in order. After [`Truncated`] it ends.
#[derive(Clone, Debug)]
pub struct Avps<'a> {
    rest: &'a [u8],
}

impl<'a> Avps<'a> {
    /// Walks over `body`, the octets after the control header.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Avps<'a> {
    type Item = Result<Avp<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((avp, rest)) = split(self.rest) else {
            let leftover = self.rest.len() < AVP_HEADER_LEN;
            self.rest = &[];
            return Some(Err(if leftover {
                Truncated::Leftover
            } else {
                Truncated::Length
            }));
        };
        self.rest = rest;
        Some(Ok(avp))
    }
}

fn split(octets: &[u8]) -> Option<(Avp<'_>, &[u8])> {
    let (header, _) = octets.split_first_chunk::<AVP_HEADER_LEN>()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let first = word(0);
    let (whole, rest) = octets.split_at_checked(usize::from(first & LENGTH))?;
    let value = whole.get(AVP_HEADER_LEN..)?;
    let avp = Avp {
        mandatory: first & MANDATORY != 0,
        hidden: first & HIDDEN != 0,
        reserved: first & RESERVED != 0,
        vendor: word(2),
        attribute: word(4),
        value,
    };
    Some((avp, rest))
}

impl Avp<'_> {
    /// Appends the AVP's octets.
    ///
    /// # Panics
    /// If the value exceeds [`MAX_VALUE_LEN`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(
            self.value.len() <= MAX_VALUE_LEN,
            "an AVP's value is cut before it is encoded"
        );
        let mut first = (AVP_HEADER_LEN + self.value.len()) as u16;
        for (set, flag) in [
            (self.mandatory, MANDATORY),
            (self.hidden, HIDDEN),
            (self.reserved, RESERVED),
        ] {
            if set {
                first |= flag;
            }
        }
        for word in [first, self.vendor, self.attribute] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value_both_ways() {
        let octets = [0x80, 0x08, 0x00, 0x00, 0x00, 0x09, 0x10, 0x01];
        let avp = Avp {
            mandatory: true,
            hidden: false,
            reserved: false,
            vendor: 0,
            attribute: 9,
            value: &[0x10, 0x01],
        };
        assert_eq!(Avps::new(&octets).collect::<Vec<_>>(), [Ok(avp)]);
        let mut out = Vec::new();
        avp.encode(&mut out);
        assert_eq!(out, octets);
    }

    #[test]
    fn s_50_lengths_below_six_end_the_walk() {
        for length in 0..6 {
            let octets = [0x80, length, 0, 0, 0, 9, 0x10, 0x01, 0x80, 0x06, 0, 0, 0, 39];
            assert_eq!(Avps::new(&octets).collect::<Vec<_>>(), [Err(Truncated::Length)]);
        }
    }

    #[test]
    fn s_51_s_52_what_runs_past_the_end_or_is_left_over_ends_the_walk() {
        assert_eq!(
            Avps::new(&[0x80, 9, 0, 0, 0, 9, 0x10, 0x01]).collect::<Vec<_>>(),
            [Err(Truncated::Length)]
        );
        let leftover = [0x80, 6, 0, 0, 0, 39, 1, 2, 3, 4, 5];
        let walked: Vec<_> = Avps::new(&leftover).collect();
        assert_eq!(walked.len(), 2);
        assert!(walked[0].is_ok());
        assert_eq!(walked[1], Err(Truncated::Leftover));
    }
}
