//! A node's own view of itself, through the operator's socket.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast::api::{
    Client, ClientError, Fault, Reply, Request, SessionInfo, StatusReport, Target, TunnelInfo,
};
use holdfast_protocol::{SessionId, TunnelId};

/// Asks `request`; the replies.
fn ask(socket: &Path, request: Request) -> Result<Vec<Reply>, ClientError> {
    let mut replies = Vec::new();
    Client::connect(socket)?.request::<ClientError>(request, |reply| {
        replies.push(reply);
        Ok(())
    })?;
    Ok(replies)
}

/// The whole report, counters included.
pub fn status(socket: &Path) -> Result<StatusReport, ClientError> {
    let replies = ask(socket, Request::Status { counters: true })?;
    let report = replies.into_iter().find_map(|reply| match reply {
        Reply::Status(report) => Some(*report),
        _ => None,
    });
    Ok(report.unwrap_or_default())
}

/// Every tunnel.
pub fn tunnels(socket: &Path) -> Result<Vec<TunnelInfo>, ClientError> {
    let replies = ask(socket, Request::Tunnels)?;
    let tunnels = replies.into_iter().filter_map(|reply| match reply {
        Reply::Tunnel(tunnel) => Some(tunnel),
        _ => None,
    });
    Ok(tunnels.collect())
}

/// Every session.
pub fn sessions(socket: &Path) -> Result<Vec<SessionInfo>, ClientError> {
    let replies = ask(socket, Request::Sessions { user: None })?;
    let sessions = replies.into_iter().filter_map(|reply| match reply {
        Reply::Session(session) => Some(*session),
        _ => None,
    });
    Ok(sessions.collect())
}

/// Makes something go wrong inside the node.
pub fn inject(socket: &Path, fault: Fault) -> Result<(), ClientError> {
    ask(socket, Request::Inject { fault }).map(drop)
}

/// The tunnel as a target.
pub fn tunnel_target(tunnel: u16) -> Fault {
    Fault::ActorPanic(Target::Tunnel(tunnel_id(tunnel)))
}

/// The session as a target.
pub fn session_target(session: &SessionInfo) -> Fault {
    let id = SessionId::new(session.session_id).expect("a session's id is not zero");
    Fault::ActorPanic(Target::Session(tunnel_id(session.tunnel_id), id))
}

fn tunnel_id(tunnel: u16) -> TunnelId {
    TunnelId::new(tunnel).expect("a tunnel's id is not zero")
}

/// What went amiss or was bounded, by its name: counters of that kind and limits that were reached, those above zero.
pub fn troubles(status: &StatusReport) -> BTreeMap<String, u64> {
    const KINDS: [&str; 7] = [
        "dropped",
        "refused",
        "repeated",
        "retransmitted",
        "duplicate",
        "timeout",
        "unknown",
    ];
    let mut troubles = BTreeMap::new();
    let counters = status.counters.iter();
    for row in counters.filter(|row| KINDS.iter().any(|kind| row.name.contains(kind))) {
        let reason = row.labels.get("reason");
        let name = reason.map_or_else(|| row.name.clone(), |reason| format!("{} {reason}", row.name));
        *troubles.entry(name).or_default() += row.value;
    }
    for limit in &status.limits {
        *troubles.entry(format!("limit {}", limit.name)).or_default() += limit.hits;
    }
    troubles.retain(|_, count| *count > 0);
    troubles
}

/// The counter, summed over its labels.
pub fn counter(status: &StatusReport, name: &str) -> u64 {
    let rows = status.counters.iter().filter(|row| row.name == name);
    rows.map(|row| row.value).sum()
}
