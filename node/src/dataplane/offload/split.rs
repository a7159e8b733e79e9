//! From a large packet back to the packets that it stands for (RFC 9293 §3.1; RFC 768; RFC 791; RFC 8200 §3).
//!
//! Each packet gets headers of its own, written where the caller likes; its payload stays where it is. The TCP or UDP
//! checksum reads the payload once: nothing else touches it.
//!
//! The large packet's checksum field holds the sum of the pseudo-header. Only the length in it differs from packet to
//! packet, so that the addresses are not looked at again, and a routing header changes nothing.

use std::ops::Range;

use super::vnet::{Kind, VnetHeader};
use crate::dataplane::checksum;
use crate::dataplane::counters::DropReason;
use crate::dataplane::ip::{self, IPV6_HEADER, TCP, UDP, View};

/// Octets of the UDP header, and of a TCP header without options.
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// Where in them the checksum is.
const UDP_CHECKSUM: usize = 6;
const TCP_CHECKSUM: usize = 16;
/// Where the flags of TCP are, and those that not all packets carry.
const TCP_FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// How a large packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    ipv4: bool,
    udp: bool,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Octets of all headers.
    headers: usize,
    /// Where the large packet ends.
    end: usize,
    /// Octets of payload in each packet but the last.
    segment: usize,
}

impl Split {
    /// How `packet` is to be cut, as `header` says.
    ///
    /// # Errors
    /// [`DropReason::MalformedIp`] if the two do not fit each other.
    pub fn new(header: &VnetHeader, packet: &[u8]) -> Result<Self, DropReason> {
        let view = View::parse(packet)?;
        shape(header, &packet[..view.length], &view).ok_or(DropReason::MalformedIp)
    }

    /// For how many packets it stands.
    pub fn packets(&self) -> usize {
        (self.end - self.headers).div_ceil(self.segment).max(1)
    }

    /// Octets of all of them.
    pub fn octets(&self) -> usize {
        self.end - self.headers + self.packets() * self.headers
    }

    /// Octets of the headers of each.
    pub fn headers(&self) -> usize {
        self.headers
    }

    /// Octets of the largest.
    pub fn largest(&self) -> usize {
        self.end.min(self.headers + self.segment)
    }

    /// Writes the headers of packet `number`, counted from 0, to the start of `out`, and returns where in the large packet
    /// its payload lies.
    pub fn write_headers(&self, packet: &[u8], number: usize, out: &mut [u8]) -> Range<usize> {
        let start = self.headers + number * self.segment;
        let payload = start..self.end.min(start + self.segment);
        let out = &mut out[..self.headers];
        out.copy_from_slice(&packet[..self.headers]);
        let length = self.headers + payload.len();
        let (network, transport) = out.split_at_mut(self.transport);
        if self.ipv4 {
            network[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            let identification = u16::from_be_bytes([network[4], network[5]]).wrapping_add(number as u16);
            network[4..6].copy_from_slice(&identification.to_be_bytes());
            ip::set_checksum(network);
        } else {
            network[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
        }
        let pseudo = self.pseudo_header(transport, length);
        if self.udp {
            transport[4..6].copy_from_slice(&((length - self.transport) as u16).to_be_bytes());
        } else {
            self.set_tcp_fields(transport, number, payload.end == self.end);
        }
        let at = self.checksum_at();
        transport[at..at + 2].copy_from_slice(&[0, 0]);
        let sum = pseudo + checksum::sum(transport) + checksum::sum(&packet[payload.clone()]);
        transport[at..at + 2].copy_from_slice(&inverted(sum, self.udp).to_be_bytes());
        payload
    }

    /// The sum of the pseudo-header of a packet of `length` octets. `transport` still has that of the large one.
    fn pseudo_header(&self, transport: &[u8], length: usize) -> u32 {
        let at = self.checksum_at();
        let of_all = u16::from_be_bytes([transport[at], transport[at + 1]]);
        let less = !((self.end - self.transport) as u16);
        let more = (length - self.transport) as u16;
        u32::from(of_all) + u32::from(less) + u32::from(more)
    }

    /// CWR is for the first packet alone (RFC 3168 §6.1.2), FIN and PSH for the last.
    fn set_tcp_fields(&self, transport: &mut [u8], number: usize, last: bool) {
        let [a, b, c, d] = [transport[4], transport[5], transport[6], transport[7]];
        let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add((number * self.segment) as u32);
        transport[4..8].copy_from_slice(&sequence.to_be_bytes());
        if number > 0 {
            transport[TCP_FLAGS] &= !CWR;
        }
        if !last {
            transport[TCP_FLAGS] &= !(FIN | PSH);
        }
    }

    fn checksum_at(&self) -> usize {
        if self.udp { UDP_CHECKSUM } else { TCP_CHECKSUM }
    }
}

fn shape(header: &VnetHeader, packet: &[u8], view: &View) -> Option<Split> {
    let ipv4 = view.source.is_ipv4();
    let udp = match header.kind {
        Kind::Whole => return None,
        Kind::Tcp4 if !ipv4 => return None,
        Kind::Tcp6 if ipv4 => return None,
        Kind::Tcp4 | Kind::Tcp6 => false,
        Kind::Udp => true,
    };
    let transport = usize::from(header.checksum_start);
    // Extension headers of IPv6 may lie in between; where they end is the kernel's word.
    let follows = if transport == view.header {
        view.protocol == if udp { UDP } else { TCP }
    } else {
        !ipv4 && transport > view.header
    };
    let fragment = ipv4 && ip::fragment_word(packet) != (false, 0);
    let checksum = usize::from(header.checksum_offset);
    if !header.needs_checksum || header.segment == 0 || !follows || fragment {
        return None;
    }
    let length = if udp {
        (checksum == UDP_CHECKSUM).then_some(UDP_HEADER)?
    } else {
        let length = usize::from(packet.get(transport + 12)? >> 4) * 4;
        (checksum == TCP_CHECKSUM && length >= TCP_HEADER).then_some(length)?
    };
    let headers = transport + length;
    (headers <= packet.len()).then_some(Split {
        ipv4,
        udp,
        transport,
        headers,
        end: packet.len(),
        segment: usize::from(header.segment),
    })
}

/// Finishes the checksum of a packet that stands for itself, if it needs that. `packet` is the IP packet without padding.
///
/// # Errors
/// [`DropReason::MalformedIp`] if the checksum's place is not in it.
pub fn finish_checksum(header: &VnetHeader, packet: &mut [u8]) -> Result<(), DropReason> {
    if !header.needs_checksum {
        return Ok(());
    }
    let start = usize::from(header.checksum_start);
    let offset = usize::from(header.checksum_offset);
    let summed = packet.get_mut(start..).ok_or(DropReason::MalformedIp)?;
    let sum = checksum::sum(summed);
    let place = summed
        .get_mut(offset..offset + 2)
        .ok_or(DropReason::MalformedIp)?;
    place.copy_from_slice(&inverted(sum, offset == UDP_CHECKSUM).to_be_bytes());
    Ok(())
}

/// The checksum of a sum that is not folded yet. In UDP 0 would say that there is none (RFC 768).
fn inverted(sum: u32, udp: bool) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    if udp && checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
pub(crate) mod tests;
