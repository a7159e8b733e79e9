//! `holdfast cluster status`, `drain`, `undrain`, `rebalance`, `add`, `remove`.

use super::output::{self, Output};
use super::query::{ask, unexpected};
use super::table::Align::{Left, Right};
use super::table::Table;
use super::{CliError, NodeArgs};
use crate::api::{ClusterOrder, ClusterStatus, NodeStatus, Reply, Request};

/// Orders, and prints how the cluster is then.
pub fn order(node: &NodeArgs, order: ClusterOrder, json: bool) -> Result<(), CliError> {
    let Reply::Cluster(status) = ask(node, Request::Cluster { order })? else {
        return Err(unexpected());
    };
    if json {
        return output::print_json(&status);
    }
    let mut output = Output::new();
    head(&status, &mut output)?;
    let mut table = Table::new([
        ("NODE", Right),
        ("ADDRESS", Left),
        ("STATE", Left),
        ("ROLE", Left),
        ("GROUPS", Right),
        ("TUNNELS", Right),
        ("SESSIONS", Right),
        ("APPLIED", Right),
        ("BEHIND", Right),
        ("VERSION", Left),
        ("LAST ERROR", Left),
    ]);
    for node in &status.nodes {
        table.row(row(node), &mut output)?;
    }
    table.finish(&mut output)?;
    let disagreements = status.nodes.iter().flat_map(|node| &node.disagreements);
    for warning in status.warnings.iter().chain(disagreements) {
        output.line(format_args!("WARNING: {warning}"))?;
    }
    output.finish()
}

fn head(status: &ClusterStatus, output: &mut Output) -> Result<(), CliError> {
    let leader = match status.leader {
        0 => "NO LEADER: sessions go on, but nothing can be set up, closed or acknowledged".to_owned(),
        leader => format!("leader {leader}, term {}", status.term),
    };
    output.line(format_args!(
        "cluster {}, seen by node {}: {leader}",
        status.cluster_id, status.node
    ))?;
    if status.groups_moved > 0 {
        output.line(format_args!("{} groups moved", status.groups_moved))?;
    }
    if status.groups_without_owner > 0 {
        output.line(format_args!(
            "WARNING: {} groups have no owner yet",
            status.groups_without_owner
        ))?;
    }
    Ok(())
}

fn row(node: &NodeStatus) -> [String; 11] {
    let role = match (node.membership.as_str(), node.leader, node.witness) {
        ("none", _, _) => "no member",
        ("learner", _, _) => "learner",
        (_, true, true) => "leader, witness",
        (_, true, false) => "leader",
        (_, false, true) => "witness",
        (_, false, false) => "",
    };
    [
        node.id.to_string(),
        node.address.clone(),
        match node.no_way_to_lacs {
            true => format!("{}, no way to LACs", node.state),
            false => node.state.clone(),
        },
        role.to_owned(),
        node.groups.to_string(),
        node.tunnels.to_string(),
        node.sessions.to_string(),
        entries(node.applied),
        entries(node.behind),
        node.program.clone(),
        node.last_error.clone(),
    ]
}

/// Log entries; `-` of a node that was never heard.
fn entries(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
