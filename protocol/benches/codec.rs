//! What reading and writing one message costs: `cargo bench -p holdfast-protocol`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_protocol::avp::Context;
use holdfast_protocol::header::{CONTROL_HEADER_LEN, ControlHeader, DataHeader, decode};
use holdfast_protocol::message::{Icrq, Message};
use holdfast_protocol::{SessionId, TunnelId};

/// Octets of the data message: a full Ethernet frame's worth.
const PAYLOAD: usize = 1400;

fn tunnel() -> TunnelId {
    TunnelId::new(0x2002).expect("not zero")
}

fn session() -> SessionId {
    SessionId::new(0x4004).expect("not zero")
}

/// An ICRQ as a LAC sends it.
fn icrq() -> (ControlHeader, Message) {
    let header = ControlHeader {
        tunnel: Some(tunnel()),
        session: None,
        ns: 3,
        nr: 2,
    };
    let message = Message::Icrq(Icrq {
        assigned_session_id: session(),
        call_serial: 4711,
        bearer_type: Some(2),
        physical_channel: Some(17),
        calling_number: Some(b"0301234567".to_vec()),
        called_number: Some(b"0800".to_vec()),
        sub_address: None,
        vendor_avps: Vec::new(),
    });
    (header, message)
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    let data = DataHeader::short(tunnel(), session());
    let datagram = data.message(&[0; PAYLOAD]).expect("short enough");
    group.bench_function("data header, read", |b| b.iter(|| decode(black_box(&datagram))));
    group.bench_function("data header, write", |b| {
        let mut out = [0; 16];
        b.iter(|| data.write(black_box(PAYLOAD), &mut out));
    });
    let (header, message) = icrq();
    let datagram = message.encode(header, None);
    let context = Context {
        secret: None,
        permissive: false,
    };
    let body = &datagram[CONTROL_HEADER_LEN..];
    group.bench_function("ICRQ, read", |b| {
        b.iter(|| Message::decode(black_box(body), &context));
    });
    group.bench_function("ICRQ, write", |b| {
        b.iter_batched(
            || message.clone(),
            |message| message.encode(header, None),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
