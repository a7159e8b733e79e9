//! The subcommands that ask a running node: lists, and orders with a short answer.

use std::time::Duration;

use serde::Serialize;

use super::output::{self, Output};
use super::table::Align::{Left, Right};
use super::table::Table;
use super::{CliError, NodeArgs, connect, human};
use crate::api::{ReloadReport, Reply, Request, SessionInfo, Target, TunnelInfo};

/// How long `shutdown` waits for the process to end; ending 100,000 sessions properly takes a while.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(120);

/// `holdfast tunnels`
pub fn tunnels(node: &NodeArgs, json: bool) -> Result<(), CliError> {
    let table = Table::new([
        ("TUNNEL", Right),
        ("PEER", Left),
        ("HOST NAME", Left),
        ("PROFILE", Left),
        ("STATE", Left),
        ("SESSIONS", Right),
        ("SHARD", Right),
        ("NS", Right),
        ("NR", Right),
        ("UNACKED", Right),
        ("WINDOW", Right),
        ("AGE", Right),
    ]);
    let pick = |reply| match reply {
        Reply::Tunnel(info) => Some(info),
        _ => None,
    };
    list(node, Request::Tunnels, json, "tunnel", table, pick, tunnel_row)
}

fn tunnel_row(info: &TunnelInfo) -> [String; 12] {
    [
        info.tunnel_id.to_string(),
        info.peer.clone(),
        info.host_name.clone(),
        info.profile.clone(),
        info.state.clone(),
        info.sessions.to_string(),
        info.shard.to_string(),
        info.ns.to_string(),
        info.nr.to_string(),
        info.unacknowledged.to_string(),
        info.peer_window.to_string(),
        human::duration(info.age_seconds),
    ]
}

/// `holdfast sessions`
pub fn sessions(node: &NodeArgs, user: Option<String>, json: bool) -> Result<(), CliError> {
    let table = Table::new([
        ("SESSION", Left),
        ("USER", Left),
        ("ADDRESS", Left),
        ("STATE", Left),
        ("CONNECTED", Right),
        ("RX", Right),
        ("TX", Right),
        ("DROPS", Right),
        ("AUTH", Left),
        ("MRU", Right),
        ("DOWN/UP", Right),
        ("FILTERS", Left),
        ("CALLING", Left),
    ]);
    let pick = |reply| match reply {
        Reply::Session(info) => Some(info),
        _ => None,
    };
    list(
        node,
        Request::Sessions { user },
        json,
        "session",
        table,
        pick,
        session_row,
    )
}

fn session_row(info: &SessionInfo) -> [String; 13] {
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let rates = [info.rate_down_bits_per_second, info.rate_up_bits_per_second];
    let of_its_own = (!info.filter_rules.is_empty()).then_some("(rules)");
    let filters: Vec<&str> = info
        .filters
        .iter()
        .map(String::as_str)
        .chain(of_its_own)
        .collect();
    [
        format!("{}/{}", info.tunnel_id, info.session_id),
        or_dash(&info.user),
        or_dash(
            info.address
                .as_deref()
                .or(info.link_prefix.as_deref())
                .or(info.delegated_prefix.as_deref())
                .unwrap_or_default(),
        ),
        info.state.clone(),
        info.connected_seconds
            .map_or_else(|| "-".to_owned(), human::duration),
        human::octets(info.rx_octets),
        human::octets(info.tx_octets),
        info.drops.to_string(),
        or_dash(&info.auth_method),
        info.mru.to_string(),
        or_dash(&match rates {
            [0, 0] => String::new(),
            rates => rates.map(human::rate).join("/"),
        }),
        or_dash(&filters.join(",")),
        or_dash(&info.calling_number),
    ]
}

/// Streams a list as it comes: as a table with a closing count, or as a JSON array with an element a line.
fn list<T: Serialize, const N: usize>(
    node: &NodeArgs,
    request: Request,
    json: bool,
    noun: &str,
    mut table: Table<N>,
    pick: impl Fn(Reply) -> Option<T>,
    row: impl Fn(&T) -> [String; N],
) -> Result<(), CliError> {
    let mut client = connect::connect(node)?;
    let mut output = Output::new();
    let mut count = 0;
    client.request(request, |reply| {
        let item = pick(reply)
            .ok_or_else(|| CliError::Failure(format!("the node sent something else than a {noun}")))?;
        count += 1;
        if !json {
            return table.row(row(&item), &mut output);
        }
        let item = serde_json::to_string(&item).map_err(|error| CliError::Failure(error.to_string()))?;
        output.text(if count == 1 { "[\n" } else { ",\n" })?;
        output.text(item)
    })?;
    if json {
        output.line(if count == 0 { "[]" } else { "\n]" })?;
    } else {
        table.finish(&mut output)?;
        output.line(human::count(count, noun))?;
    }
    output.finish()
}

/// `holdfast disconnect`
pub fn disconnect(node: &NodeArgs, id: Target, json: bool) -> Result<(), CliError> {
    let Reply::Disconnected { sessions } = ask(node, Request::Disconnect { id })? else {
        return Err(unexpected());
    };
    match (json, id) {
        (true, _) => output::print_json(&serde_json::json!({ "sessions": sessions })),
        (false, Target::Session(..)) => output::print(format_args!("session {id} is being ended")),
        (false, Target::Tunnel(_)) => output::print(format_args!(
            "tunnel {id} is being ended, with {}",
            human::count(sessions, "session")
        )),
    }
}

/// `holdfast reload`
pub fn reload(node: &NodeArgs, json: bool) -> Result<(), CliError> {
    let Reply::Reloaded(report) = ask(node, Request::Reload)? else {
        return Err(unexpected());
    };
    if json {
        return output::print_json(&report);
    }
    let ReloadReport {
        applied,
        needs_restart,
    } = report;
    let mut output = Output::new();
    if applied.is_empty() && needs_restart.is_empty() {
        output.line("nothing has changed")?;
    }
    for (title, texts) in [
        ("in effect:", applied),
        ("waits for the next start:", needs_restart),
    ] {
        if !texts.is_empty() {
            output.line(title)?;
        }
        for text in texts {
            output.line(format_args!("  {text}"))?;
        }
    }
    output.finish()
}

/// `holdfast shutdown`
pub fn shutdown(node: &NodeArgs, disconnect: bool, json: bool) -> Result<(), CliError> {
    let mut client = connect::connect(node)?;
    let mut sessions = None;
    client.request(Request::Shutdown { disconnect }, |reply| match reply {
        Reply::ShuttingDown { sessions: number } => {
            sessions = Some(number);
            Ok(())
        }
        _ => Err(unexpected()),
    })?;
    let sessions = sessions.ok_or_else(unexpected)?;
    if !client.wait_for_end(SHUTDOWN_PATIENCE) {
        let waited = SHUTDOWN_PATIENCE.as_secs();
        return Err(CliError::Failure(format!(
            "the node has not ended after {waited} s; see its log"
        )));
    }
    if json {
        return output::print_json(&serde_json::json!({ "sessions": sessions, "disconnected": disconnect }));
    }
    let fate = if disconnect {
        "ended"
    } else {
        "kept for the next start"
    };
    output::print(format_args!(
        "stopped; {} {fate}",
        human::count(sessions, "session")
    ))
}

/// The single reply to a request.
pub fn ask(node: &NodeArgs, request: Request) -> Result<Reply, CliError> {
    let mut answer = None;
    connect::connect(node)?.request::<CliError>(request, |reply| {
        answer = Some(reply);
        Ok(())
    })?;
    answer.ok_or_else(unexpected)
}

/// Another release's node, most likely.
pub fn unexpected() -> CliError {
    CliError::Failure("the node gave an answer to another question; is it of another release?".to_owned())
}
