//! Datagrams that no LNS can make sense of, for a flood of them.
//!
//! None is addressed to a live tunnel: what a broken message does to its own tunnel is decided by the RFC, and
//! nobody's session may suffer from the rest.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The start of an SCCRQ: header and Message Type.
const SCCRQ: [u8; 20] = [
    0xc8, 0x02, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, // header, tunnel 0
    0x80, 8, 0, 0, 0, 0, 0, 1, // Message Type 1
];

/// Endless garbage from a seed.
pub fn datagrams(seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(seed);
    std::iter::from_fn(move || Some(datagram(&mut rng)))
}

fn datagram(rng: &mut StdRng) -> Vec<u8> {
    let mut octets = SCCRQ.to_vec();
    match rng.random_range(0..7) {
        // Too short for any header.
        0 => octets.truncate(rng.random_range(0..6)),
        // L2F, L2TPv3 or no version at all.
        1 => octets[1] = [0, 1, 3, 4, 15][rng.random_range(0..5)],
        // A length beyond the end.
        2 => octets[3] = rng.random_range(21..=255),
        // An AVP with an impossible length.
        3 => octets[13] = rng.random_range(0..6),
        // An SCCRQ that lacks everything it must have.
        4 => {}
        // A message that only a live tunnel may have, without one.
        5 => octets[19] = [2, 3, 6, 10, 12, 14, 200][rng.random_range(0..7)],
        // Noise behind a header that says data for nobody.
        _ => {
            octets = vec![0, 2, 0, 0, 0, 0];
            octets.extend((0..rng.random_range(0..64)).map(|_| rng.random::<u8>()));
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::header::{Packet, decode};

    use super::*;

    #[test]
    fn a_seed_gives_one_flood_and_nothing_in_it_names_a_tunnel() {
        let flood: Vec<_> = datagrams(3).take(1000).collect();
        assert_eq!(flood, datagrams(3).take(1000).collect::<Vec<_>>());
        for octets in &flood {
            let tunnel = match decode(octets) {
                Ok(Packet::Control(packet)) => packet.header.tunnel,
                Ok(Packet::Data(packet)) => packet.tunnel,
                Err(_) => None,
            };
            assert_eq!(tunnel, None);
        }
    }
}
