//! Commands a second through a single node's replica, each made durable by fdatasync before its verdict; memory of
//! a large table; the time that taking an image keeps the table busy.
//!
//! `cargo run --release -p holdfast-cluster --example log_bench -- <folder on the disk to be measured>`

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_cluster::commands::{
    Acknowledge, ChangeTunnel, Command, CommandBatch, CreateTunnel, PutSession, Take, TunnelUpdate,
};
use holdfast_cluster::log::DiskLog;
use holdfast_cluster::records::{
    NcpRow, PppRow, Prefix, QueuedMessage, Service, SessionRow, SessionState, SocketAddress, TunnelRow,
    TunnelState,
};
use holdfast_cluster::{Output, Replica, ReplicaConfig, Table, Verdict, first_life};
use prost::Message;

const TUNNELS: u16 = 2_000;
const SESSIONS_PER_TUNNEL: u16 = 50;
const ROUND: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    measure_table()?;
    let folder = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    for outstanding in [1, 64, 1_024] {
        let folder = folder.join(format!("holdfast-log-bench-{}-{outstanding}", std::process::id()));
        let measured = measure_log(&folder, outstanding);
        std::fs::remove_dir_all(&folder)?;
        measured?;
    }
    Ok(())
}

/// Every tunnel receives a HELLO and answers nothing: the commonest change there is.
fn measure_log(folder: &Path, outstanding: usize) -> Result<(), Box<dyn Error>> {
    let (mut replica, _) = Replica::open(ReplicaConfig::single(1, 1), DiskLog::open(folder)?)?;
    replica.propose(0, take().into())?;
    for index in 0..TUNNELS {
        replica.propose(0, create(tunnel_id(index)).into())?;
    }
    while replica.has_work() {
        replica.advance()?;
    }
    let mut revisions = vec![1u64; usize::from(TUNNELS)];
    let (mut next, mut judged, mut slowest) = (0, 0u64, Duration::ZERO);
    let begin = Instant::now();
    while begin.elapsed() < ROUND {
        let round = Instant::now();
        for _ in 0..outstanding {
            revisions[next] += 1;
            let hello = ChangeTunnel {
                tunnel_id: tunnel_id(next as u16),
                life: first_life(1),
                revision: revisions[next],
                received: Some((revisions[next] % 0x1_0000) as u32),
                ..ChangeTunnel::default()
            };
            replica.propose(next as u64, hello.into())?;
            next = (next + 1) % usize::from(TUNNELS);
        }
        while replica.has_work() {
            replica.advance()?;
        }
        while let Some(output) = replica.poll_output() {
            judged += u64::from(matches!(output, Output::Verdict { .. }));
        }
        slowest = slowest.max(round.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let rate = judged as f64 / seconds;
    println!("{outstanding:5} outstanding: {rate:9.0} commands/s, slowest round {slowest:?}");
    Ok(())
}

fn measure_table() -> Result<(), Box<dyn Error>> {
    let before = resident_octets()?;
    let mut filled = Filled::default();
    filled.apply(take().into());
    for tunnel in 0..TUNNELS {
        filled.fill_tunnel(tunnel);
    }
    let table = filled.table;
    let octets = resident_octets()? - before;
    let sessions = table.session_count();
    println!(
        "{sessions} sessions in {TUNNELS} tunnels: {} octets each, all told",
        octets / sessions
    );

    let begin = Instant::now();
    let image = table.image();
    let imaged = begin.elapsed();
    let mut encoded = 0;
    image.encode(|part| {
        encoded += part.len();
        Ok::<(), std::convert::Infallible>(())
    })?;
    println!(
        "image taken in {imaged:?}; encoded to {encoded} octets in {:?}",
        begin.elapsed() - imaged
    );
    Ok(())
}

/// A table being filled, one command an entry.
#[derive(Default)]
struct Filled {
    table: Table,
    index: u64,
    accounting: u64,
}

impl Filled {
    /// Decoded as from the log, with whatever room that leaves; delivered accounting is not part of a session.
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let delivered = Acknowledge {
            sequences: vec![self.accounting],
        }
        .into();
        let batch = CommandBatch {
            commands: vec![command, delivered],
            ..CommandBatch::default()
        };
        let batch = CommandBatch::decode(batch.encode_to_vec().as_slice()).expect("encoded above");
        let verdicts = self.table.apply(self.index, batch, &mut Vec::new());
        assert!(
            verdicts.iter().all(Verdict::is_accepted),
            "the bench's own commands are accepted"
        );
        self.accounting = self
            .table
            .outbox()
            .last()
            .map_or(self.accounting, |owed| owed.sequence);
    }

    fn fill_tunnel(&mut self, tunnel: u16) {
        self.apply(create(tunnel_id(tunnel)).into());
        let state = Some(TunnelState::Established as i32);
        let update = Some(TunnelUpdate {
            state,
            ..TunnelUpdate::default()
        });
        self.apply(
            ChangeTunnel {
                revision: 2,
                update,
                ..change(tunnel)
            }
            .into(),
        );
        for session in 0..SESSIONS_PER_TUNNEL {
            let put = PutSession {
                row: Some(session_row(tunnel, session)),
                replaces: None,
            };
            let (revision, sessions) = (u64::from(session) + 3, vec![put.into()]);
            self.apply(
                ChangeTunnel {
                    revision,
                    sessions,
                    ..change(tunnel)
                }
                .into(),
            );
        }
    }
}

fn resident_octets() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn tunnel_id(index: u16) -> u32 {
    u32::from(index) + 1
}

fn take() -> Take {
    Take {
        groups: (0..256).collect(),
        node: 1,
        incarnation: 1,
    }
}

fn change(tunnel: u16) -> ChangeTunnel {
    ChangeTunnel {
        tunnel_id: tunnel_id(tunnel),
        life: first_life(1),
        ..ChangeTunnel::default()
    }
}

fn create(tunnel_id: u32) -> CreateTunnel {
    let address = |octets: [u8; 4]| {
        Some(SocketAddress {
            ip: octets.to_vec(),
            port: 1701,
        })
    };
    let row = TunnelRow {
        tunnel_id,
        local: address([192, 0, 2, 1]),
        peer: address([198, 51, 100, 7]),
        peer_tunnel_id: tunnel_id,
        profile: "default".to_owned(),
        host_name: b"lac.example.net".to_vec(),
        sccrq_hash: vec![0; 16],
        ns: 1,
        nr: 1,
        unacknowledged: vec![QueuedMessage {
            ns: 0,
            octets: vec![0; 120],
        }],
        ..TunnelRow::default()
    };
    CreateTunnel {
        life: first_life(1),
        row: Some(row),
    }
}

fn session_row(tunnel: u16, session: u16) -> SessionRow {
    let number = u32::from(tunnel) * u32::from(SESSIONS_PER_TUNNEL) + u32::from(session);
    let address = Ipv4Addr::from(0x6440_0000 + number);
    let ncp = NcpRow {
        protocol: 0x8021,
        open: true,
        request_id: 1,
        request_hash: vec![0; 16],
        local: vec![192, 0, 2, 1],
        peer: address.octets().to_vec(),
        dns: vec![vec![192, 0, 2, 53], vec![192, 0, 2, 54]],
        ..NcpRow::default()
    };
    let ppp = PppRow {
        local_magic: number,
        peer_magic: !number,
        local_mru: 1492,
        peer_mru: 1492,
        auth_method: 0xc22305,
        user: format!("subscriber{number}@isp.example.net").into_bytes(),
        ncps: vec![ncp],
        addresses: vec![Prefix::host(address.into())],
        classes: vec![vec![0; 16]],
        service: Some(Service {
            policy: "residential".to_owned(),
            ..Service::default()
        }),
        ..PppRow::default()
    };
    SessionRow {
        session_id: u32::from(session) + 1,
        peer_session_id: u32::from(session) + 1,
        state: SessionState::Connected as i32,
        call_serial: number,
        calling_number: b"DSLAM-17 atm 1/1/04:7.35".to_vec(),
        called_number: b"08001234567".to_vec(),
        tx_speed: 100_000_000,
        rx_speed: 40_000_000,
        acct_session_id: format!("{number:016x}"),
        ppp: Some(ppp),
        ..SessionRow::default()
    }
}
