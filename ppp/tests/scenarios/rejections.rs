//! The bound on Protocol-Reject and Code-Reject (RFC 1661 §5.6, §5.7).

use holdfast_ppp::Counter;

use crate::bench::*;

/// How many of these frames, all at once, are answered with this code.
fn rejections(bench: &mut Bench, protocol: u16, code: u8, frames: u32, answer: u8) -> usize {
    let mut rejections = 0;
    for _ in 0..frames {
        let said = bench.input(protocol, code, 1, &[1, 2]);
        assert!(said.len() <= 1, "{said:?}");
        rejections += usize::from(matches!(said[..], [Said::Packet(_, with, ..)] if with == answer));
    }
    rejections
}

#[test]
fn garbage_is_rejected_at_a_bounded_rate() {
    for (protocol, code, answer) in [
        (0x8281, REQUEST, PROTOCOL_REJECT),
        (LCP, 99, CODE_REJECT),
        (IPCP, 99, CODE_REJECT),
    ] {
        let (mut bench, _) = Bench::open(open_door());
        assert_eq!(rejections(&mut bench, protocol, code, 100, answer), 8);
        assert_eq!(rejections(&mut bench, protocol, code, 100, answer), 0);
        let discarded = bench.counts.iter().filter(|count| **count == Counter::Discarded);
        assert_eq!(discarded.count(), 192);
        // One a second from then on, and after a pause as many at once as before.
        for _ in 0..3 {
            bench.now += seconds(1);
            assert_eq!(rejections(&mut bench, protocol, code, 5, answer), 1);
        }
        bench.now += seconds(60);
        assert_eq!(rejections(&mut bench, protocol, code, 20, answer), 8);
        assert!(bench.link.row().is_some());
    }
}

#[test]
fn protocol_rejects_and_code_rejects_share_one_allowance() {
    let (mut bench, _) = Bench::open(open_door());
    assert_eq!(rejections(&mut bench, 0x8281, REQUEST, 5, PROTOCOL_REJECT), 5);
    assert_eq!(rejections(&mut bench, IPCP, 99, 5, CODE_REJECT), 3);
    // Everything else is answered as ever.
    assert_eq!(bench.input(LCP, ECHO, 1, &[0; 4]).len(), 1);
}
