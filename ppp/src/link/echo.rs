//! Echo-Request, Echo-Reply and Discard-Request (RFC 1661 §5.8, §5.9), which need no machine: the row suffices.

use std::time::Duration;

use super::{Counter, Link, OpenLink};
use crate::cause::Cause;
use crate::iana::{code, protocol};
use crate::lcp::keepalive::{Due, Reply};
use crate::lcp::options::Side;
use crate::packet::{HEADER, Packet};

/// Octets of magic number before the data of an echo.
const MAGIC: usize = 4;

/// An Echo-Request taken apart.
struct Echo<'a> {
    id: u8,
    magic: u32,
    data: &'a [u8],
}

impl Link {
    pub(super) fn handle_echo(&mut self, now: Duration, packet: &Packet<'_>) {
        let Some((ours, peer)) = self.agreed() else {
            return self.shared.outputs.count(Counter::WrongPhase);
        };
        let Some((magic, data)) = packet.data.split_first_chunk::<MAGIC>() else {
            return self.shared.outputs.count(Counter::MalformedPacket);
        };
        let magic = u32::from_be_bytes(*magic);
        match packet.code {
            code::ECHO_REQUEST => self.answer_echo(
                now,
                Echo {
                    id: packet.id,
                    magic,
                    data,
                },
                ours,
                peer,
            ),
            code::ECHO_REPLY => self.note_reply(now, magic, peer),
            _ => self.shared.keepalive.note_received(now),
        }
    }

    /// A request with our own magic number is our own, come back. One with a number that is neither the peer's nor
    /// none is not for this link.
    fn answer_echo(&mut self, now: Duration, echo: Echo<'_>, ours: Side, peer: Side) {
        let Echo { id, magic, data } = echo;
        if magic != 0 && magic == ours.magic {
            return self.shared.outputs.count(Counter::LoopedEcho);
        }
        if magic != 0 && peer.magic != 0 && magic != peer.magic {
            return self.shared.outputs.count(Counter::ForeignMagic);
        }
        self.shared.keepalive.note_received(now);
        let room = usize::from(peer.mru).saturating_sub(HEADER + MAGIC);
        let reply = [&ours.magic.to_be_bytes(), &data[..data.len().min(room)]].concat();
        let packet = Packet {
            code: code::ECHO_REPLY,
            id,
            data: &reply,
        }
        .encode();
        self.shared.outputs.send(protocol::LCP, &packet);
    }

    fn note_reply(&mut self, now: Duration, magic: u32, peer: Side) {
        match self.shared.keepalive.note_reply(now, magic, peer.magic) {
            Reply::Alive => {}
            Reply::WrongMagic => self.shared.outputs.count(Counter::ForeignMagic),
            Reply::Stranger => {
                self.shared.outputs.count(Counter::ForeignMagic);
                self.with_machine(now, |machine, _| machine.restart_lcp());
            }
        }
    }

    /// A dead peer hears nothing, so nothing is said and nothing needs a commit but the end of the session itself.
    pub(super) fn handle_echo_timeout(&mut self, now: Duration) {
        match self.shared.keepalive.handle_timeout(now, &self.shared.config) {
            Due::Nothing => {}
            Due::SendEcho => {
                let magic = self.agreed().map_or(0, |(ours, _)| ours.magic);
                self.shared.send_lcp(code::ECHO_REQUEST, &magic.to_be_bytes());
            }
            Due::Dead => {
                self.with_machine(now, |machine, shared| machine.abandon(Cause::EchoTimeout, shared))
            }
        }
    }

    /// Both sides of LCP, if it is open.
    fn agreed(&self) -> Option<(Side, Side)> {
        match (&self.machine, &self.shared.row) {
            (Some(machine), _) => machine.agreed(),
            (None, Some(row)) if !self.shared.finished => Some(row.sides()),
            (None, Some(_) | None) => None,
        }
    }
}

impl OpenLink {
    /// Our side of LCP and the peer's.
    pub(super) fn sides(&self) -> (Side, Side) {
        let ours = Side {
            mru: self.local_mru,
            magic: self.local_magic,
            ..Side::default()
        };
        let peer = Side {
            mru: self.peer_mru,
            magic: self.peer_magic,
            pfc: self.peer_pfc,
            acfc: self.peer_acfc,
        };
        (ours, peer)
    }
}
