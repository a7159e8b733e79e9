//! Ns, Nr and the unacknowledged messages of a tunnel row (RFC 2661 §5.8). Numbers are modulo 65536.

use super::verdict::Refusal;
use crate::commands::ChangeTunnel;
use crate::limits::{UNACKNOWLEDGED_MAX, UNACKNOWLEDGED_OCTETS_MAX};
use crate::records::TunnelRow;

/// Checks a row that is new in the table.
pub(super) fn check(row: &TunnelRow) -> Result<(), Refusal> {
    let ns = number(row.ns)?;
    number(row.nr)?;
    let count = row.unacknowledged.len();
    if count > UNACKNOWLEDGED_MAX {
        return Err(Refusal::Full("unacknowledged messages"));
    }
    for (position, message) in row.unacknowledged.iter().enumerate() {
        if number(message.ns)? != ns.wrapping_sub((count - position) as u16) {
            return Err(Refusal::Malformed("queued messages have gaps"));
        }
    }
    check_octets(row)
}

/// Moves a row's numbers on as the change says.
pub(super) fn advance(row: &mut TunnelRow, change: &mut ChangeTunnel) -> Result<(), Refusal> {
    if let Some(received) = change.received {
        let step = number(received)?.wrapping_sub(number(row.nr)?);
        if step >= 0x8000 {
            return Err(Refusal::Malformed("Nr goes backwards"));
        }
        row.nr = received;
    }
    if let Some(acknowledged) = change.acknowledged {
        acknowledge(row, number(acknowledged)?)?;
    }
    if change.messages.is_empty() {
        return Ok(());
    }
    for message in change.messages.drain(..) {
        let ns = number(row.ns)?;
        if number(message.ns)? != ns {
            return Err(Refusal::Malformed("queued messages have gaps"));
        }
        if row.unacknowledged.len() >= UNACKNOWLEDGED_MAX {
            return Err(Refusal::Full("unacknowledged messages"));
        }
        row.ns = u32::from(ns.wrapping_add(1));
        row.unacknowledged.push(message);
    }
    check_octets(row)
}

/// Drops the messages below `acknowledged`, which names the oldest one that is kept, or the next one.
fn acknowledge(row: &mut TunnelRow, acknowledged: u16) -> Result<(), Refusal> {
    let count = row.unacknowledged.len();
    let oldest = number(row.ns)?.wrapping_sub(count as u16);
    let dropped = usize::from(acknowledged.wrapping_sub(oldest));
    if dropped > count {
        return Err(Refusal::Malformed("acknowledges what is not queued"));
    }
    row.unacknowledged.drain(..dropped);
    Ok(())
}

fn check_octets(row: &TunnelRow) -> Result<(), Refusal> {
    let octets: usize = row
        .unacknowledged
        .iter()
        .map(|message| message.octets.len())
        .sum();
    match octets > UNACKNOWLEDGED_OCTETS_MAX {
        true => Err(Refusal::Full("octets of unacknowledged messages")),
        false => Ok(()),
    }
}

fn number(value: u32) -> Result<u16, Refusal> {
    u16::try_from(value).map_err(|_| Refusal::Malformed("a sequence number has 16 bits"))
}
