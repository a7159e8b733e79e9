//! While a row is open nothing is said that ends or renegotiates the link, and what lets the subscriber's interface come up is
//! said of an open row alone.

use holdfast_ppp::frame::Frame;

use super::Invariant;
use crate::sim::{Fact, World};

const LCP: u16 = 0xc021;
const IPCP: u16 = 0x8021;
const CONFIGURE_ACK: u8 = 2;
const TERMINATE_ACK: u8 = 6;

#[derive(Debug, Default)]
pub(super) struct Negotiated;

impl Invariant for Negotiated {
    const NAME: &'static str = "negotiated";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Frame {
            node,
            tunnel,
            session,
            row,
            settled,
            octets,
        } = fact
        else {
            return Ok(());
        };
        let Ok(frame) = Frame::parse(octets) else {
            return Err(format!("node {node} sent what is no PPP frame"));
        };
        let code = frame.information.first().copied().unwrap_or_default();
        let right = match frame.protocol {
            IPCP if code == CONFIGURE_ACK => row.is_open(),
            IPCP => !row.is_open() || !settled,
            LCP if code <= TERMINATE_ACK => !row.is_open() || !settled,
            _ => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "node {node} says {:#06x} code {code} in {tunnel}/{session}, whose row is {}open",
                frame.protocol,
                if row.is_open() { "" } else { "not " }
            )),
        }
    }
}
