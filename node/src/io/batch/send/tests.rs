use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::io::SocketGroup;

fn socket() -> ShardSocket {
    let any = "127.0.0.1:0".parse().expect("an address");
    let group = SocketGroup::open(&[any], 1).expect("a free port");
    let mut sockets = group.into_shards().into_iter().flatten();
    sockets.next().expect("one was asked for")
}

fn lac() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket
}

fn to(lac: &UdpSocket) -> Destination {
    Destination {
        socket: 0,
        to: lac.local_addr().expect("it is bound"),
        source: Some([127, 0, 0, 1].into()),
        tos: 0,
    }
}

/// Datagrams of these sizes, filled with their number.
fn push(batch: &mut SendBatch, lac: &UdpSocket, sizes: &[usize]) {
    for (number, size) in sizes.iter().enumerate() {
        batch.slot()[4..4 + size].fill(number as u8);
        batch.push(&to(lac), 4..4 + size, false);
    }
}

fn received(lac: &UdpSocket, sizes: &[usize]) {
    let mut buffer = [0; 2048];
    for (number, size) in sizes.iter().enumerate() {
        let length = lac.recv(&mut buffer).expect("it comes");
        assert_eq!(buffer[..length], vec![number as u8; *size]);
    }
}

#[test]
fn a_burst_arrives_as_the_datagrams_that_it_was_made_of() {
    let (socket, first, second) = ([socket()], lac(), lac());
    let mut batch = SendBatch::new(&socket);
    for sizes in [&[100][..], &[100, 100, 100, 7, 50, 50], &[1400; 46]] {
        push(&mut batch, &first, sizes);
        push(&mut batch, &second, sizes);
        let flushed = batch.flush(&socket);
        let sent = Flushed {
            sent: 2 * sizes.len() as u64,
            ..Flushed::default()
        };
        assert_eq!(flushed, sent);
        received(&first, sizes);
        received(&second, sizes);
    }
    assert_eq!(batch.flush(&socket), Flushed::default());
}

/// A socket without checksums takes no burst (EINVAL), as one whose device has no checksum offload (EIO) does not.
#[test]
fn what_is_refused_as_a_burst_is_sent_one_by_one_and_soon_without_asking() {
    let (socket, lac) = ([socket()], lac());
    let mut batch = SendBatch::new(&socket);
    let mut messages = || {
        push(&mut batch, &lac, &[100, 100, 100, 40]);
        let messages = batch.bursts.all().len();
        let flushed = batch.flush(&socket);
        assert_eq!((flushed.sent, flushed.failed), (4, 0));
        received(&lac, &[100, 100, 100, 40]);
        messages
    };
    without_checksums(&socket[0], true);
    for _ in 0..REFUSALS {
        assert_eq!(messages(), 1);
    }
    let rounds = TRY_AGAIN_AFTER.div_ceil(4);
    for _ in 0..rounds {
        assert_eq!(messages(), 4);
    }
    assert_eq!((messages(), messages()), (1, 4), "tried once more, and refused");
    without_checksums(&socket[0], false);
    for _ in 1..rounds {
        assert_eq!(messages(), 4);
    }
    assert_eq!((messages(), messages()), (1, 1), "tried once more, and taken");
}

fn without_checksums(socket: &ShardSocket, without: bool) {
    let value = c_int::from(without);
    // SAFETY: the pointer and the length describe `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const value).cast(),
            size_of::<c_int>() as _,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn each_datagram_of_a_burst_that_cannot_leave_is_counted() {
    let (socket, lac) = ([socket()], lac());
    let mut batch = SendBatch::new(&socket);
    let stranger = Destination {
        source: Some([192, 0, 2, 77].into()),
        ..to(&lac)
    };
    for at in 0..5 {
        batch.push(&stranger, 0..if at < 4 { 100 } else { 30 }, false);
    }
    push(&mut batch, &lac, &[60, 60]);
    let flushed = batch.flush(&socket);
    assert_eq!((flushed.sent, flushed.failed, flushed.too_big), (2, 5, 0));
    received(&lac, &[60, 60]);
    assert_eq!(batch.sockets[0].refusals, 0, "not because it was a burst");
}

#[test]
fn there_is_room_for_a_large_packet_and_its_parts_in_slots_behind_it() {
    let (socket, lac) = ([socket()], lac());
    let mut batch = SendBatch::new(&socket);
    while batch.has_room_to_read() {
        batch.push(&to(&lac), 0..9000, false);
        if batch.bursts.is_full() {
            batch.flush(&socket);
        }
    }
    assert!(batch.used > PACKETS, "the packets fill it, not the messages");
    batch.flush(&socket);
    batch.used = PACKETS;
    let at = batch.hold(65_535);
    assert_eq!((at, batch.is_full()), (PACKETS + VNET_HEADER, false));
    batch.push(&to(&lac), HEADROOM..SEND_SLOT, false);
    assert!(batch.is_full());
    batch.flush(&socket);
    assert_eq!((batch.used, batch.is_full()), (at + 65_535, false));
    batch.release();
    batch.flush(&socket);
    assert_eq!(batch.used, 0);
}
