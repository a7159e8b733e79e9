//! Rows and commands for tests.

use std::net::Ipv4Addr;

use holdfast_protocol::{SessionId, TunnelId};

use crate::commands::{
    ChangeTunnel, Command, CommandBatch, CreateTunnel, PutSession, RemoveSession, Take, Tick,
};
use crate::ids::first_life;
use crate::records::{
    NcpRow, PppRow, Prefix, QueuedMessage, SessionRow, SessionState, SocketAddress, TunnelRow, TunnelState,
};
use crate::table::{Effect, Table, Verdict};

pub(crate) const IPCP: u32 = 0x8021;

/// A table and the next index of its log.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) table: Table,
    pub(crate) effects: Vec<Effect>,
    pub(crate) index: u64,
}

impl Bench {
    /// All groups belong to node 1.
    pub(crate) fn new() -> Self {
        let mut bench = Self {
            table: Table::new(),
            effects: Vec::new(),
            index: 0,
        };
        assert!(bench.run(take(0..256, 1, 1)).is_accepted());
        bench
    }

    /// With an established tunnel.
    pub(crate) fn with_tunnel(id: u16) -> Self {
        let mut bench = Self::new();
        assert!(bench.run(create(id)).is_accepted());
        bench.establish(id);
        bench
    }

    pub(crate) fn establish(&mut self, id: u16) {
        let mut change = self.next(id);
        change.update = Some(crate::commands::TunnelUpdate {
            state: Some(TunnelState::Established as i32),
            ..Default::default()
        });
        assert!(self.run(change).is_accepted());
    }

    /// One command as an entry of its own.
    pub(crate) fn run(&mut self, command: impl Into<Command>) -> Verdict {
        self.run_from(1, command)
    }

    /// The same, proposed by another node than the first.
    pub(crate) fn run_from(&mut self, origin: u64, command: impl Into<Command>) -> Verdict {
        self.index += 1;
        self.effects.clear();
        let batch = CommandBatch {
            origin,
            commands: vec![command.into()],
            ..CommandBatch::default()
        };
        let verdicts = self.table.apply(self.index, batch, &mut self.effects);
        verdicts.into_iter().next().expect("one verdict a command")
    }

    /// The empty change that comes next in a tunnel.
    pub(crate) fn next(&self, tunnel: u16) -> ChangeTunnel {
        let id = TunnelId::new(tunnel).expect("not zero");
        let row = self.table.tunnel(id).expect("a tunnel").row();
        ChangeTunnel {
            tunnel_id: u32::from(tunnel),
            life: self.table.current_life(row),
            revision: row.revision + 1,
            ..ChangeTunnel::default()
        }
    }

    pub(crate) fn put(&mut self, tunnel: u16, row: SessionRow) -> Verdict {
        self.put_replacing(tunnel, row, None)
    }

    pub(crate) fn put_replacing(
        &mut self,
        tunnel: u16,
        row: SessionRow,
        replaces: Option<(u16, u16)>,
    ) -> Verdict {
        let replaces = replaces.map(|(tunnel_id, session_id)| crate::commands::SessionKey {
            tunnel_id: u32::from(tunnel_id),
            session_id: u32::from(session_id),
            any_user: false,
        });
        let change = ChangeTunnel {
            sessions: vec![
                PutSession {
                    row: Some(row),
                    replaces,
                }
                .into(),
            ],
            ..self.next(tunnel)
        };
        self.run(change)
    }

    pub(crate) fn remove(&mut self, tunnel: u16, session: u16) -> Verdict {
        let remove = RemoveSession {
            session_id: u32::from(session),
            terminate_cause: 1,
        };
        let change = ChangeTunnel {
            sessions: vec![remove.into()],
            ..self.next(tunnel)
        };
        self.run(change)
    }

    /// Moves table time on, in steps that it accepts.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let now_ms = self.table.now_ms() + 1_000;
            self.run(Tick {
                now_ms,
                unix_s: now_ms / 1_000,
            });
        }
    }

    pub(crate) fn session(&self, tunnel: u16, session: u16) -> Option<&SessionRow> {
        self.table
            .session(TunnelId::new(tunnel)?, SessionId::new(session)?)
            .map(|row| &**row)
    }
}

pub(crate) fn take(groups: impl IntoIterator<Item = u32>, node: u64, incarnation: u64) -> Take {
    Take {
        groups: groups.into_iter().collect(),
        node,
        incarnation,
    }
}

/// A half-open tunnel in epoch 1, whose peer's tunnel id is ours.
pub(crate) fn create(id: u16) -> CreateTunnel {
    CreateTunnel {
        life: first_life(1),
        row: Some(tunnel_row(id)),
    }
}

pub(crate) fn tunnel_row(id: u16) -> TunnelRow {
    let address = |text: &str| {
        Some(SocketAddress::from(
            text.parse::<std::net::SocketAddr>().expect("an address"),
        ))
    };
    TunnelRow {
        tunnel_id: u32::from(id),
        state: TunnelState::HalfOpen as i32,
        local: address("192.0.2.1:1701"),
        peer: address("198.51.100.7:1701"),
        peer_tunnel_id: u32::from(id),
        profile: "default".to_owned(),
        host_name: b"lac".to_vec(),
        peer_window: 4,
        sccrq_hash: vec![7; 16],
        ns: 1,
        nr: 1,
        unacknowledged: vec![QueuedMessage {
            ns: 0,
            octets: b"SCCRP".to_vec(),
        }],
        ..TunnelRow::default()
    }
}

pub(crate) fn connected(id: u16) -> SessionRow {
    SessionRow {
        session_id: u32::from(id),
        peer_session_id: u32::from(id),
        state: SessionState::Connected as i32,
        calling_number: b"0301234567".to_vec(),
        called_number: b"0800".to_vec(),
        tx_speed: 100_000_000,
        rx_speed: 40_000_000,
        acct_session_id: format!("acct-{id}"),
        ..SessionRow::default()
    }
}

/// A session with IPCP open.
pub(crate) fn open(id: u16, user: &str, address: Ipv4Addr) -> SessionRow {
    let ncp = NcpRow {
        protocol: IPCP,
        open: true,
        request_id: 1,
        request_hash: vec![1; 16],
        local: vec![192, 0, 2, 1],
        peer: address.octets().to_vec(),
        dns: vec![vec![192, 0, 2, 53]],
        ..NcpRow::default()
    };
    let ppp = PppRow {
        local_magic: 1,
        peer_magic: 2,
        local_mru: 1492,
        peer_mru: 1492,
        user: user.as_bytes().to_vec(),
        ncps: vec![ncp],
        addresses: vec![Prefix::host(address.into())],
        ..PppRow::default()
    };
    SessionRow {
        ppp: Some(ppp),
        ..connected(id)
    }
}

pub(crate) fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, last)
}
