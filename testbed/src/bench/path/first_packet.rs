//! The first packet each way is looked at in full, before any are only counted.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::bed::{Bed, CORE, SERVER};
use super::lanes::{CORE_PORT, SUBSCRIBER_PORT};
use super::packet::{HEADERS, data_message, udp};
use super::sessions::Sessions;
use crate::lab::error::{LabError, Result, expect_that};

const PAYLOAD: &[u8] = b"one packet that is looked at in full";

/// Sends one packet each way and sees that it arrives unharmed; the octets that the server puts before a packet on its way
/// down.
pub fn overhead(bed: &Bed, sessions: &Sessions) -> Result<usize> {
    let io = |source| LabError::io("the packet that is looked at", source);
    let subscriber = sessions
        .subscribers
        .first()
        .ok_or_else(|| LabError::unmet("no session is up"))?;
    let lac = &sessions.sockets[usize::from(subscriber.ids.lac)];
    let core = bed
        .core
        .enter(|| UdpSocket::bind((CORE, CORE_PORT)))?
        .map_err(io)?;
    core.set_read_timeout(Some(Duration::from_secs(2))).map_err(io)?;
    let (inside, outside) = (
        SocketAddrV4::new(subscriber.address, SUBSCRIBER_PORT),
        SocketAddrV4::new(CORE, CORE_PORT),
    );
    let packet = udp(inside, outside, 0, 0, PAYLOAD);
    lac.load
        .send_to(&data_message(&subscriber.ids, &packet), SERVER)
        .map_err(io)?;
    let mut buffer = [0; 2048];
    let (length, from) = core.recv_from(&mut buffer).map_err(io)?;
    expect_that(
        &buffer[..length] == PAYLOAD && from == SocketAddr::V4(inside),
        || format!("the core got {:02x?} from {from}", &buffer[..length]),
    )?;

    lac.receive_load().map_err(io)?;
    core.send_to(PAYLOAD, inside).map_err(io)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    let length = loop {
        match lac.load.recv(&mut buffer) {
            Ok(length) => break length,
            Err(error) if Instant::now() > deadline => return Err(io(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    lac.drop_load().map_err(io)?;
    expect_that(buffer[..length].ends_with(PAYLOAD), || {
        format!("the LAC got {:02x?}", &buffer[..length])
    })?;
    length
        .checked_sub(HEADERS + PAYLOAD.len())
        .ok_or_else(|| LabError::unmet("the LAC got a packet without headers"))
}
