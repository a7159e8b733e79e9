//! Nothing that a peer could rely on leaves before it is in the table (design invariant 1): checked for all that leaves, in every
//! test.

use holdfast_ppp::frame::Frame;

use super::*;

const LCP: u16 = 0xc021;
const IPCP: u16 = 0x8021;
const CONFIGURE_ACK: u8 = 2;
const TERMINATE_ACK: u8 = 6;

impl World {
    /// Nr acknowledges nothing that the row does not hold as received, and no Ns is used that the row has not given out.
    pub(super) fn check_control(&self, tunnel: TunnelId, datagram: &[u8]) {
        let Ok(Packet::Control(packet)) = header::decode(datagram) else {
            panic!("the LNS sent no control message");
        };
        let row = self
            .table
            .tunnel(tunnel)
            .expect("a tunnel that speaks is in the table")
            .row();
        let reached = |number: u16, limit: u32| (limit as u16).wrapping_sub(number) < 0x8000;
        assert!(
            reached(packet.header.nr, row.nr),
            "Nr {} before the row's {}",
            packet.header.nr,
            row.nr
        );
        if !packet.is_zlb() {
            let next = packet.header.ns.wrapping_add(1);
            assert!(
                reached(next, row.ns),
                "Ns {} before the row's {}",
                packet.header.ns,
                row.ns
            );
        }
    }

    /// The subscriber is not told that the link is open before the row is, and nothing that ends or renegotiates it is said
    /// while the row is.
    pub(super) fn check_frame(&self, tunnel: TunnelId, session: SessionId, octets: &[u8]) {
        let row = self.table.session(tunnel, session);
        let open = row.is_some_and(|row| row.is_open());
        let frame = Frame::parse(octets).expect("the LNS sends frames");
        let code = frame.information[0];
        match frame.protocol {
            IPCP if code == CONFIGURE_ACK => assert!(open, "IPCP acknowledged before the row is open"),
            IPCP => assert!(!open, "IPCP code {code} although the row is open"),
            LCP if code <= TERMINATE_ACK => assert!(!open, "LCP code {code} although the row is open"),
            _ => {}
        }
    }
}
