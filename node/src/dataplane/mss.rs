//! Clamping of the TCP maximum segment size (RFC 9293 §3.7.1) to what the session's MTU carries.
//!
//! Done on SYN segments in both directions, in place; the MSS is lowered, never raised, and no option is added. IPv6
//! segments behind extension headers are left alone: no host sends a SYN that way.

use super::checksum;
use super::ip::{IPV4_HEADER, IPV6_HEADER, TCP, View};

/// Octets of a TCP header without options; where the checksum and the flags lie in it.
const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: usize = 16;
const TCP_FLAGS: usize = 13;
const SYN: u8 = 0x02;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LENGTH: usize = 4;

/// Lowers the MSS option of a SYN to what fits into `mtu` octets. `view` is that of `packet`. Tells whether it did.
pub fn clamp(packet: &mut [u8], view: &View, mtu: u16) -> bool {
    if view.protocol != TCP || view.later_fragment {
        return false;
    }
    let ip_header = if view.source.is_ipv4() {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    };
    let Some(limit) = usize::from(mtu).checked_sub(ip_header + TCP_HEADER) else {
        return false;
    };
    let Some(segment) = packet.get_mut(view.header..view.length) else {
        return false;
    };
    clamp_segment(segment, limit as u16).is_some()
}

fn clamp_segment(segment: &mut [u8], limit: u16) -> Option<()> {
    if segment.get(TCP_FLAGS)? & SYN == 0 {
        return None;
    }
    let header = usize::from(segment.get(12)? >> 4) * 4;
    let at = find_mss(segment.get(..header)?)?;
    let mss = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if mss <= limit {
        return None;
    }
    segment[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    let before = u16::from_be_bytes([segment[TCP_CHECKSUM], segment[TCP_CHECKSUM + 1]]);
    let after = checksum::update(before, mss, limit, at % 2 == 1);
    segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&after.to_be_bytes());
    Some(())
}

/// Where the value of the MSS option lies in a TCP header.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    loop {
        match *header.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let length = usize::from(*header.get(at + 1)?);
                if length < 2 || at + length > header.len() {
                    return None;
                }
                if kind == OPTION_MSS && length == OPTION_MSS_LENGTH {
                    return Some(at + 2);
                }
                at += length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};

    /// A SYN with NOPs before the MSS, so that it may lie at an odd offset.
    fn syn(v6: bool, nops: usize, mss: u16) -> Vec<u8> {
        let mut options = vec![TcpOptionElement::Noop; nops];
        options.push(TcpOptionElement::MaximumSegmentSize(mss));
        let mut packet = Vec::new();
        let written = if v6 {
            let tcp = PacketBuilder::ipv6([0x20; 16], [0x21; 16], 64)
                .tcp(4000, 80, 1, 65000)
                .syn();
            tcp.options(&options).expect("they fit").write(&mut packet, &[9])
        } else {
            let tcp = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(4000, 80, 1, 65000)
                .syn();
            tcp.options(&options).expect("they fit").write(&mut packet, &[9])
        };
        written.expect("a vector takes it");
        packet
    }

    fn clamped(packet: &mut [u8], mtu: u16) -> bool {
        let view = View::parse(packet).expect("well formed");
        clamp(packet, &view, mtu)
    }

    /// The MSS, after etherparse has checked the checksum.
    fn mss_of(packet: &[u8]) -> u16 {
        let sliced = SlicedPacket::from_ip(packet).expect("well formed");
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("not TCP")
        };
        let expected = match sliced.net.expect("an IP packet") {
            etherparse::NetSlice::Ipv4(ip) => tcp
                .to_header()
                .calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()),
            etherparse::NetSlice::Ipv6(ip) => tcp
                .to_header()
                .calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()),
            etherparse::NetSlice::Arp(_) => panic!("not IP"),
        };
        assert_eq!(tcp.checksum(), expected.expect("short packet"));
        let mss = tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        });
        mss.expect("an MSS option")
    }

    #[test]
    fn a_larger_mss_is_lowered_and_the_checksum_stays_right() {
        for nops in 0..4 {
            for (v6, expected) in [(false, 1360), (true, 1340)] {
                let mut packet = syn(v6, nops, 1460);
                assert!(clamped(&mut packet, 1400));
                assert_eq!(mss_of(&packet), expected);
                assert!(!clamped(&mut packet, 1400), "nothing is left to lower");
            }
        }
    }

    #[test]
    fn a_smaller_mss_and_other_segments_stay() {
        let mut small = syn(false, 0, 536);
        assert!(!clamped(&mut small, 1400));
        assert_eq!(mss_of(&small), 536);
        let mut ack = syn(false, 0, 1460);
        ack[20 + TCP_FLAGS] = 0x10;
        assert!(!clamped(&mut ack, 1400));
        let mut later_fragment = syn(false, 0, 1460);
        later_fragment[7] = 1;
        assert!(!clamped(&mut later_fragment, 1400));
    }

    #[test]
    fn broken_options_change_nothing() {
        let whole = syn(false, 1, 1460);
        for (at, value) in [(41, 0), (42, 1), (42, 200), (32, 0xf0), (32, 0x40)] {
            let mut packet = whole.clone();
            packet[at] = value;
            let before = packet.clone();
            assert!(!clamped(&mut packet, 1400), "octet {at} = {value}");
            assert_eq!(packet, before);
        }
        let mut cut = whole;
        cut.truncate(30);
        cut[2..4].copy_from_slice(&30u16.to_be_bytes());
        assert!(!clamped(&mut cut, 1400));
    }
}
