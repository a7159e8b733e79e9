//! The packet that all control and authentication protocols share, and its options (RFC 1661 §5 and §6).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Code      |  Identifier   |            Length             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    Data ...
//!
//! option:  Type (1)  Length (1, with these two)  Value
//! ```

use thiserror::Error;

/// Octets of code, identifier and length.
pub const HEADER: usize = 4;

/// Longest control packet that is looked at, in octets: all fit the default MRU (RFC 1661 §6.1), and what the link keeps
/// of the peer is bounded.
pub const MAX_CONTROL: usize = 1500;

/// Most options that one packet may bring; more than any protocol defines, and it bounds what a packet can allocate.
pub const MAX_OPTIONS: usize = 64;

/// A packet that is dropped without an answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PacketError {
    #[error("{octets} octets are too few for a header")]
    Short { octets: usize },
    #[error("{octets} octets are too many for a control packet")]
    Long { octets: usize },
    #[error("length field {length} does not fit a packet of {octets} octets")]
    Length { length: usize, octets: usize },
    #[error("option {kind} has length {length} with {left} octets left")]
    Option { kind: u8, length: usize, left: usize },
    #[error("a lone octet {octet:#04x} after the last option")]
    Tail { octet: u8 },
    #[error("more than {MAX_OPTIONS} options")]
    TooManyOptions,
}

/// A control packet taken apart; what lies beyond its length field is padding and gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub code: u8,
    pub id: u8,
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a packet of a control protocol apart, which is no longer than such packets are.
    pub fn parse_control(octets: &'a [u8]) -> Result<Self, PacketError> {
        let packet = Self::parse(octets)?;
        if packet.data.len() > MAX_CONTROL - HEADER {
            return Err(PacketError::Long {
                octets: HEADER + packet.data.len(),
            });
        }
        Ok(packet)
    }

    /// Takes a packet apart.
    pub fn parse(octets: &'a [u8]) -> Result<Self, PacketError> {
        let [code, id, high, low, rest @ ..] = octets else {
            return Err(PacketError::Short { octets: octets.len() });
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match length.checked_sub(HEADER).and_then(|data| rest.get(..data)) {
            Some(data) => Ok(Self {
                code: *code,
                id: *id,
                data,
            }),
            None => Err(PacketError::Length {
                length,
                octets: octets.len(),
            }),
        }
    }

    /// Puts the packet together. Data beyond what the length field can say is cut.
    pub fn encode(&self) -> Vec<u8> {
        let data = &self.data[..self.data.len().min(usize::from(u16::MAX) - HEADER)];
        let length = (HEADER + data.len()) as u16;
        let mut octets = Vec::with_capacity(HEADER + data.len());
        octets.extend_from_slice(&[self.code, self.id]);
        octets.extend_from_slice(&length.to_be_bytes());
        octets.extend_from_slice(data);
        octets
    }
}

/// One configuration option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigOption {
    pub kind: u8,
    /// At most 253 octets.
    pub value: Vec<u8>,
}

impl ConfigOption {
    /// An option with this value.
    pub fn new(kind: u8, value: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            value: value.into(),
        }
    }

    /// The value as an array, if it has that length.
    pub fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.value.as_slice().try_into().ok()
    }
}

/// Reads the options that fill `octets`. One that is malformed spoils all (RFC 1661 §6).
pub fn parse_options(mut octets: &[u8]) -> Result<Vec<ConfigOption>, PacketError> {
    let mut options = Vec::new();
    loop {
        let (kind, length) = match octets {
            [] => return Ok(options),
            [octet] => return Err(PacketError::Tail { octet: *octet }),
            [kind, length, ..] => (*kind, usize::from(*length)),
        };
        if options.len() == MAX_OPTIONS {
            return Err(PacketError::TooManyOptions);
        }
        let Some(value) = octets.get(2..length) else {
            return Err(PacketError::Option {
                kind,
                length,
                left: octets.len(),
            });
        };
        options.push(ConfigOption::new(kind, value));
        octets = &octets[length..];
    }
}

/// Writes options one after the other.
pub fn encode_options(options: &[ConfigOption]) -> Vec<u8> {
    let mut octets = Vec::new();
    for option in options {
        let value = &option.value[..option.value.len().min(253)];
        octets.extend_from_slice(&[option.kind, value.len() as u8 + 2]);
        octets.extend_from_slice(value);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn s_110_length_below_four_or_beyond_the_payload_is_refused() {
        assert_eq!(Packet::parse(&[1, 7, 0]), Err(PacketError::Short { octets: 3 }));
        for length in [0, 3, 6] {
            assert_eq!(
                Packet::parse(&[1, 7, 0, length, 0xaa]),
                Err(PacketError::Length {
                    length: usize::from(length),
                    octets: 5
                })
            );
        }
    }

    #[test]
    fn a_control_packet_longer_than_the_default_mru_is_refused() {
        let mut octets = vec![5, 1, 0x05, 0xdc];
        octets.resize(1501, 0);
        assert!(Packet::parse_control(&octets).is_ok());
        octets[3] += 1;
        assert_eq!(
            Packet::parse_control(&octets),
            Err(PacketError::Long { octets: 1501 })
        );
    }

    #[test]
    fn octets_beyond_the_length_are_padding() {
        assert_eq!(
            Packet::parse(&[9, 7, 0, 5, 0xaa, 0, 0]),
            Ok(Packet {
                code: 9,
                id: 7,
                data: &[0xaa]
            })
        );
    }

    #[test]
    fn a_packet_is_written_and_read_back() {
        let packet = Packet {
            code: 5,
            id: 200,
            data: b"bye",
        };
        let octets = [5, 200, 0, 7, b'b', b'y', b'e'];
        assert_eq!(packet.encode(), octets);
        assert_eq!(Packet::parse(&octets), Ok(packet));
    }

    #[test]
    fn s_111_option_of_length_zero_or_one_or_beyond_the_packet_spoils_the_packet() {
        for (octets, want) in [
            (
                &[1, 0, 5, 6][..],
                PacketError::Option {
                    kind: 1,
                    length: 0,
                    left: 4,
                },
            ),
            (
                &[1, 1, 5, 6],
                PacketError::Option {
                    kind: 1,
                    length: 1,
                    left: 4,
                },
            ),
            (
                &[1, 4, 5, 0xdc, 5, 6, 1, 2],
                PacketError::Option {
                    kind: 5,
                    length: 6,
                    left: 4,
                },
            ),
            (&[7, 2, 8], PacketError::Tail { octet: 8 }),
        ] {
            assert_eq!(parse_options(octets), Err(want), "{octets:02x?}");
        }
    }

    #[test]
    fn too_many_options_spoil_the_packet() {
        assert_eq!(
            parse_options(&[7, 2].repeat(MAX_OPTIONS)).map(|all| all.len()),
            Ok(MAX_OPTIONS)
        );
        assert_eq!(
            parse_options(&[7, 2].repeat(MAX_OPTIONS + 1)),
            Err(PacketError::TooManyOptions)
        );
    }

    #[test]
    fn options_are_read() {
        let octets = [1, 4, 0x05, 0xd4, 7, 2];
        let options = [ConfigOption::new(1, [0x05, 0xd4]), ConfigOption::new(7, [])];
        assert_eq!(parse_options(&octets).unwrap(), options);
        assert_eq!(encode_options(&options), octets);
    }

    proptest! {
        #[test]
        fn options_survive_a_round_trip(
            pairs in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..=253)), 0..20)
        ) {
            let options: Vec<_> = pairs.into_iter().map(|(kind, value)| ConfigOption::new(kind, value)).collect();
            prop_assert_eq!(parse_options(&encode_options(&options)), Ok(options));
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(packet) = Packet::parse(&octets) {
                let again = packet.encode();
                prop_assert_eq!(Packet::parse(&again), Ok(packet));
                let _ = parse_options(packet.data);
            }
            if let Ok(options) = parse_options(&octets) {
                prop_assert_eq!(encode_options(&options), octets);
            }
        }
    }
}
