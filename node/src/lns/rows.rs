//! Rows of the session table from and to the plain structures of `protocol` and `ppp`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::records::{
    CloseReason as CloseReasonRow, NcpRow, PppRow, QueuedMessage, SessionRow, SessionState, TunnelRow,
    TunnelState,
};
use holdfast_ppp::{AuthMethod, Cause, Ncp, NcpConfig, OpenLink, OpenNcp};
use holdfast_protocol::avp::{DisconnectCause, ResultCode};
use holdfast_protocol::message::{Cdn, Iccn, Icrq};
use holdfast_protocol::{
    CallRole, CallSnapshot, CallState, CloseReason, Connection, Peer, SessionId, Snapshot, State, TunnelId,
};

use super::session::{Grant, SEQUENCE_BLOCK};
use super::{Now, access_line, granted, terminate_cause};

/// What a tunnel's connection is born from.
///
/// # Panics
/// If the row has no ids; rows in the table have.
pub fn snapshot(
    row: &TunnelRow,
    sessions: &[Arc<SessionRow>],
    now: Now,
    connect_timeout: Duration,
) -> Snapshot {
    let left =
        |deadline_ms: u64| now.monotonic + Duration::from_millis(deadline_ms.saturating_sub(now.table_ms));
    Snapshot {
        local: row.id().expect("a row in the table has a tunnel id"),
        peer: Peer {
            tunnel: u16::try_from(row.peer_tunnel_id).ok().and_then(TunnelId::new),
            host_name: row.host_name.clone(),
            vendor_name: (!row.vendor_name.is_empty()).then(|| row.vendor_name.clone()),
            firmware: u16::try_from(row.firmware).ok(),
            framing: row.framing,
            bearer: Some(row.bearer),
            receive_window: low16(row.peer_window),
        },
        state: connection_state(row.state()),
        deadline: (row.deadline_ms > 0).then(|| left(row.deadline_ms)),
        challenge: row.challenge.as_slice().try_into().ok(),
        ns: row.ns as u16,
        nr: row.nr as u16,
        unacknowledged: row
            .unacknowledged
            .iter()
            .map(|message| (message.ns as u16, message.octets.clone()))
            .collect(),
        calls: sessions
            .iter()
            .filter_map(|row| call_snapshot(row, now, connect_timeout))
            .collect(),
    }
}

fn call_snapshot(row: &SessionRow, now: Now, connect_timeout: Duration) -> Option<CallSnapshot> {
    let waits = row.state() == SessionState::WaitConnect;
    let age = Duration::from_millis(now.table_ms.saturating_sub(row.created_ms));
    Some(CallSnapshot {
        local: row.id()?,
        peer: u16::try_from(row.peer_session_id).ok().and_then(SessionId::new),
        role: CallRole::Lns,
        state: if waits {
            CallState::WaitConnect
        } else {
            CallState::Established
        },
        deadline: waits.then(|| now.monotonic + connect_timeout.saturating_sub(age)),
        dial: None,
    })
}

/// A tunnel's first row, from a connection that has just queued its SCCRP.
pub fn first_tunnel_row(connection: &Connection, now: Now) -> TunnelRow {
    let snapshot = connection.snapshot();
    let left = snapshot.deadline.map_or(0, |deadline| {
        u64::try_from(deadline.saturating_sub(now.monotonic).as_millis()).unwrap_or(u64::MAX)
    });
    TunnelRow {
        tunnel_id: u32::from(snapshot.local.get()),
        state: TunnelState::HalfOpen.into(),
        created_ms: now.table_ms,
        deadline_ms: now.table_ms + left,
        peer_tunnel_id: snapshot.peer.tunnel.map_or(0, |id| u32::from(id.get())),
        host_name: snapshot.peer.host_name,
        vendor_name: snapshot.peer.vendor_name.unwrap_or_default(),
        firmware: snapshot.peer.firmware.map_or(0, u32::from),
        protocol_version: 0x0100,
        framing: snapshot.peer.framing,
        bearer: snapshot.peer.bearer.unwrap_or_default(),
        peer_window: u32::from(snapshot.peer.receive_window),
        challenge: snapshot
            .challenge
            .map(|challenge| challenge.to_vec())
            .unwrap_or_default(),
        ns: u32::from(snapshot.ns),
        nr: u32::from(snapshot.nr),
        unacknowledged: snapshot
            .unacknowledged
            .into_iter()
            .map(|(ns, octets)| QueuedMessage {
                ns: u32::from(ns),
                octets,
            })
            .collect(),
        ..TunnelRow::default()
    }
}

/// The row's state for a connection's.
pub fn tunnel_state(state: State) -> TunnelState {
    match state {
        State::WaitCtlReply | State::WaitCtlConn => TunnelState::HalfOpen,
        State::Established => TunnelState::Established,
        State::Closing => TunnelState::Closing,
        State::Closed | State::Idle => TunnelState::Closed,
    }
}

fn connection_state(state: TunnelState) -> State {
    match state {
        TunnelState::HalfOpen => State::WaitCtlConn,
        TunnelState::Established => State::Established,
        TunnelState::Closing => State::Closing,
        TunnelState::Closed => State::Closed,
    }
}

/// Why a tunnel ended, for its row.
pub fn close_reason(reason: &CloseReason) -> CloseReasonRow {
    let (result, by_peer) = match reason {
        CloseReason::Peer(result) => (result.as_ref(), true),
        CloseReason::Local(result) => (Some(result), false),
        CloseReason::NoAnswer | CloseReason::TieLost => (None, false),
    };
    CloseReasonRow {
        result_code: result.map_or(0, |result| u32::from(result.result)),
        error_code: result.and_then(|result| result.error).map_or(0, u32::from),
        message: result.map(|result| result.text.clone()).unwrap_or_default(),
        by_peer,
    }
}

/// A session's first row: what the ICRQ brought.
pub fn session_from_icrq(
    tunnel: TunnelId,
    session: SessionId,
    icrq: &Icrq,
    acct_session_id: String,
    now_ms: u64,
) -> SessionRow {
    SessionRow {
        session_id: u32::from(session.get()),
        peer_session_id: u32::from(icrq.assigned_session_id.get()),
        state: SessionState::WaitConnect.into(),
        created_ms: now_ms,
        call_serial: icrq.call_serial,
        calling_number: icrq.calling_number.clone().unwrap_or_default(),
        called_number: icrq.called_number.clone().unwrap_or_default(),
        sub_address: icrq.sub_address.clone().unwrap_or_default(),
        bearer_type: icrq.bearer_type.unwrap_or_default(),
        physical_channel: icrq.physical_channel,
        line: access_line::of_icrq(icrq),
        acct_session_id,
        nas_port: u32::from(tunnel.get()) << 16 | u32::from(session.get()),
        ..SessionRow::default()
    }
}

/// What the ICCN adds. It is acknowledged and never resent, so all of it is kept, but for the proxy AVPs: they hold passwords.
pub fn add_iccn(row: &mut SessionRow, iccn: &Iccn) {
    row.state = SessionState::Connected.into();
    row.tx_speed = u64::from(iccn.tx_speed);
    row.rx_speed = u64::from(iccn.rx_speed.unwrap_or(iccn.tx_speed));
    row.framing_type = iccn.framing_type;
    row.private_group = iccn.private_group.clone().unwrap_or_default();
    row.sequencing_required = iccn.sequencing_required;
    if iccn.sequencing_required {
        row.sequence_reserved = SEQUENCE_BLOCK;
    }
}

/// The row's PPP part when a link opens.
pub fn ppp_row(link: &OpenLink, grant: Option<&Grant>, before: Option<&PppRow>, opened_ms: u64) -> PppRow {
    let mut row = PppRow {
        local_magic: link.local_magic,
        peer_magic: link.peer_magic,
        local_mru: u32::from(link.local_mru),
        peer_mru: u32::from(link.peer_mru),
        peer_pfc: link.peer_pfc,
        peer_acfc: link.peer_acfc,
        auth_method: link.auth.map_or(0, auth_number),
        user: link.user.clone(),
        ncps: link
            .ncps
            .iter()
            .map(ncp_row)
            .chain(link.granted.iter().map(granted_row))
            .collect(),
        opened_ms,
        ..PppRow::default()
    };
    match (grant, before) {
        (Some(grant), _) => granted::write(&mut row, grant),
        (None, Some(before)) => granted::keep(&mut row, before),
        (None, None) => {}
    }
    row
}

/// The link is no longer open; user and addresses stay, for the same user will most likely be back in a second.
pub fn leave_open(row: &mut SessionRow) {
    if let Some(ppp) = &mut row.ppp {
        for ncp in &mut ppp.ncps {
            ncp.open = false;
        }
    }
}

/// What an open link is born from.
pub fn open_link(ppp: &PppRow) -> OpenLink {
    OpenLink {
        local_magic: ppp.local_magic,
        peer_magic: ppp.peer_magic,
        local_mru: low16(ppp.local_mru),
        peer_mru: low16(ppp.peer_mru),
        peer_pfc: ppp.peer_pfc,
        peer_acfc: ppp.peer_acfc,
        auth: auth_method(ppp.auth_method),
        user: ppp.user.clone(),
        ncps: ppp
            .ncps
            .iter()
            .filter(|ncp| ncp.open)
            .filter_map(open_ncp)
            .collect(),
        granted: ppp
            .ncps
            .iter()
            .filter(|ncp| !ncp.open)
            .filter_map(ncp_config)
            .collect(),
    }
}

fn ncp_row(ncp: &OpenNcp) -> NcpRow {
    NcpRow {
        open: true,
        request_id: u32::from(ncp.request_id),
        request_hash: ncp.request_hash.to_be_bytes().to_vec(),
        ..granted_row(&ncp.config)
    }
}

fn granted_row(config: &NcpConfig) -> NcpRow {
    let protocol = u32::from(config.ncp().protocol());
    match config {
        NcpConfig::Ipcp(config) => NcpRow {
            protocol,
            local: config.local.octets().to_vec(),
            peer: config.peer.octets().to_vec(),
            dns: config
                .dns
                .iter()
                .map(|dns| dns.map_or_else(Vec::new, |dns| dns.octets().to_vec()))
                .collect(),
            ..NcpRow::default()
        },
        NcpConfig::Ipv6cp(config) => NcpRow {
            protocol,
            local: config.local.to_vec(),
            peer: config.peer.to_vec(),
            fixed: config.fixed,
            ..NcpRow::default()
        },
    }
}

fn ncp_config(row: &NcpRow) -> Option<NcpConfig> {
    let protocol = u16::try_from(row.protocol).ok()?;
    match Ncp::from_protocol(protocol)? {
        Ncp::Ipcp => {
            let dns = |index: usize| row.dns.get(index).and_then(|octets| ipv4(octets));
            Some(NcpConfig::Ipcp(holdfast_ppp::IpcpConfig {
                local: ipv4(&row.local)?,
                peer: ipv4(&row.peer)?,
                dns: [dns(0), dns(1)],
            }))
        }
        Ncp::Ipv6cp => Some(NcpConfig::Ipv6cp(holdfast_ppp::Ipv6cpConfig {
            local: row.local.as_slice().try_into().ok()?,
            peer: row.peer.as_slice().try_into().ok()?,
            fixed: row.fixed,
        })),
    }
}

/// Whether a protocol is open in the row.
pub fn has_open(row: &SessionRow, ncp: Ncp) -> bool {
    let protocol = u32::from(ncp.protocol());
    let ncps = row.ppp.iter().flat_map(|ppp| &ppp.ncps);
    ncps.into_iter().any(|row| row.open && row.protocol == protocol)
}

fn open_ncp(row: &NcpRow) -> Option<OpenNcp> {
    Some(OpenNcp {
        config: ncp_config(row)?,
        request_id: row.request_id as u8,
        request_hash: row
            .request_hash
            .as_slice()
            .try_into()
            .map_or(0, u64::from_be_bytes),
    })
}

fn ipv4(octets: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from)
}

/// The row's number for a method: PPP protocol << 8 | algorithm.
fn auth_number(method: AuthMethod) -> u32 {
    let algorithm: u32 = match method {
        AuthMethod::Pap => 0,
        AuthMethod::ChapMd5 => 0x05,
        AuthMethod::MsChapV2 => 0x81,
    };
    u32::from(method.protocol()) << 8 | algorithm
}

/// The inverse of [`auth_number`].
pub fn auth_method(number: u32) -> Option<AuthMethod> {
    [AuthMethod::Pap, AuthMethod::ChapMd5, AuthMethod::MsChapV2]
        .into_iter()
        .find(|method| auth_number(*method) == number)
}

/// What the ICCN brought of the LAC's own negotiation, as PPP knows it.
pub fn ppp_proxy(proxy: &holdfast_protocol::message::Proxy) -> holdfast_ppp::Proxy {
    holdfast_ppp::Proxy {
        initial_received: proxy.initial_received_confreq.clone(),
        last_sent: proxy.last_sent_confreq.clone(),
        last_received: proxy.last_received_confreq.clone(),
        authen_type: proxy.authen_type,
        authen_name: proxy.authen_name.clone(),
        authen_challenge: proxy.authen_challenge.clone(),
        authen_id: proxy.authen_id.map(|id| id as u8),
        authen_response: proxy.authen_response.clone().map(holdfast_ppp::Secret::new),
    }
}

/// How the LAC is told that a link ended, and how accounting is (RFC 2866 §5.10).
pub fn cdn(cause: Cause) -> (Cdn, u32) {
    let mut cdn = Cdn::new(ResultCode::new(cause.cdn_result()));
    cdn.disconnect.push(DisconnectCause {
        code: cause.code(),
        protocol: cause.protocol(),
        direction: cause.direction() as u8,
        text: Vec::new(),
    });
    let terminate_cause = match cause {
        Cause::Terminated(_) => terminate_cause::USER_REQUEST,
        Cause::Administrative => terminate_cause::ADMIN_RESET,
        Cause::SessionTimeout => terminate_cause::SESSION_TIMEOUT,
        Cause::IdleTimeout => terminate_cause::IDLE_TIMEOUT,
        Cause::EchoTimeout | Cause::LcpTimeout | Cause::NoLcp => terminate_cause::LOST_CARRIER,
        Cause::Loop => terminate_cause::PORT_ERROR,
        Cause::AuthTimeout(_)
        | Cause::AuthUnacceptable(_)
        | Cause::AuthFailed(_)
        | Cause::NcpTimeout(_)
        | Cause::NoAgreement(..)
        | Cause::AddressRefused(_) => terminate_cause::USER_ERROR,
        _ => terminate_cause::SERVICE_UNAVAILABLE,
    };
    (cdn, terminate_cause)
}

const fn low16(value: u32) -> u16 {
    if value > u16::MAX as u32 {
        u16::MAX
    } else {
        value as u16
    }
}
