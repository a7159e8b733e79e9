//! `holdfast status`: the node on one screen, or every counter and limit.

use super::output::{self, Output};
use super::query::{ask, unexpected};
use super::table::Align::{Left, Right};
use super::table::Table;
use super::{CliError, NodeArgs, human};
use crate::api::{PoolStatus, Reply, Request, StateCount, StatusReport};
use crate::metrics::CounterRow;

/// Asks and prints.
pub fn status(node: &NodeArgs, counters: bool, json: bool) -> Result<(), CliError> {
    let Reply::Status(report) = ask(node, Request::Status { counters })? else {
        return Err(unexpected());
    };
    if json {
        return output::print_json(&report);
    }
    let mut output = Output::new();
    head(&report, &mut output)?;
    pools(&report, &mut output)?;
    radius(&report, &mut output)?;
    prefix_pools(&report, &mut output)?;
    shards(&report, &mut output)?;
    limits(&report, counters, &mut output)?;
    if counters {
        counter_table(&report, &mut output)?;
    }
    output.finish()
}

fn head(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    let table = &report.table;
    let uptime = human::duration(report.uptime_seconds);
    output.line(format_args!(
        "holdfast {}, node {} (id {}, pid {}), up {uptime}",
        report.version, report.node, report.node_id, report.pid
    ))?;
    output.line(format_args!("listening  {}", report.listen.join(", ")))?;
    output.line(format_args!("data       {}", report.data_dir))?;
    output.line(format_args!(
        "table      {}, leader {}, term {}, applied {} of {}, log {}, snapshot {}",
        table.role,
        table.leader_id,
        table.term,
        table.applied_index,
        table.commit_index,
        human::octets(table.log_octets),
        human::octets(table.snapshot_octets)
    ))?;
    output.line(format_args!(
        "tun        {}: {}",
        report.tun.name, report.tun.text
    ))?;
    output.line(format_args!("tunnels    {}", states(&report.tunnels)))?;
    output.line(format_args!("sessions   {}", states(&report.sessions)))?;
    report
        .warnings
        .iter()
        .try_for_each(|warning| output.line(format_args!("WARNING    {warning}")))
}

/// `20: 19 established, 1 half_open`
fn states(counts: &[StateCount]) -> String {
    let total: u64 = counts.iter().map(|state| state.count).sum();
    let present = counts.iter().filter(|state| state.count > 0);
    let parts: Vec<String> = present
        .map(|state| format!("{} {}", state.count, state.state))
        .collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        format!("{total}: {}", parts.join(", "))
    }
}

fn pools(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    output.line("")?;
    let mut table = Table::new([
        ("POOL", Left),
        ("PREFIXES", Left),
        ("GATEWAY", Left),
        ("SIZE", Right),
        ("IN USE", Right),
        ("RESTING", Right),
        ("FIXED", Right),
        ("TIMES FULL", Right),
        ("", Left),
    ]);
    for pool in &report.pools {
        let row = [
            pool.name.clone(),
            pool.prefixes.join(", "),
            pool.gateway.clone(),
            pool.size.to_string(),
            pool.in_use.to_string(),
            pool.resting.to_string(),
            pool.fixed.to_string(),
            pool.exhausted.to_string(),
            pool_notes(pool),
        ];
        table.row(row, output)?;
    }
    table.finish(output)?;
    match report.outside_pools {
        0 => Ok(()),
        outside => output.line(format_args!("{outside} addresses in use lie in no pool")),
    }
}

/// `draining, 3 in use of prefixes that were removed`
fn pool_notes(pool: &PoolStatus) -> String {
    let draining = pool.draining.then(|| "draining".to_owned());
    let leaving =
        (pool.leaving > 0).then(|| format!("{} in use of prefixes that were removed", pool.leaving));
    let notes: Vec<String> = draining.into_iter().chain(leaving).collect();
    notes.join(", ")
}

fn radius(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    if report.radius.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new([
        ("RADIUS", Left),
        ("SERVER", Left),
        ("FOR", Left),
        ("STATE", Left),
        ("WAITING", Right),
        ("SENT", Right),
        ("AGAIN", Right),
        ("ACCEPTED", Right),
        ("REJECTED", Right),
        ("TIMEOUTS", Right),
        ("DROPPED", Right),
    ]);
    for server in &report.radius {
        let row = [
            server.group.clone(),
            server.address.clone(),
            server.purpose.clone(),
            server.state.clone(),
            server.outstanding.to_string(),
            server.sent.to_string(),
            server.retransmitted.to_string(),
            server.accepted.to_string(),
            server.rejected.to_string(),
            server.timeouts.to_string(),
            server.dropped.to_string(),
        ];
        table.row(row, output)?;
    }
    table.finish(output)
}

fn prefix_pools(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    if report.prefix_pools.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new([
        ("POOL", Left),
        ("IPV6 FOR", Left),
        ("PREFIXES", Left),
        ("LENGTH", Right),
        ("SIZE", Right),
        ("IN USE", Right),
        ("RESTING", Right),
        ("TIMES FULL", Right),
    ]);
    for pool in &report.prefix_pools {
        let row = [
            pool.pool.clone(),
            if pool.delegated { "delegation" } else { "link" }.to_owned(),
            pool.prefixes.join(", "),
            pool.length.to_string(),
            pool.size.to_string(),
            pool.in_use.to_string(),
            pool.resting.to_string(),
            pool.exhausted.to_string(),
        ];
        table.row(row, output)?;
    }
    table.finish(output)
}

fn shards(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    output.line("")?;
    let mut table = Table::new([
        ("SHARD", Right),
        ("TUNNELS", Right),
        ("SESSIONS", Right),
        ("RX PACKETS", Right),
        ("TX PACKETS", Right),
        ("DROPS", Right),
    ]);
    for shard in &report.shards {
        let row = [
            shard.index.to_string(),
            shard.tunnels.to_string(),
            shard.sessions.to_string(),
            shard.rx_packets.to_string(),
            shard.tx_packets.to_string(),
            shard.drops.to_string(),
        ];
        table.row(row, output)?;
    }
    table.finish(output)
}

/// All limits, or only those that were hit.
fn limits(report: &StatusReport, all: bool, output: &mut Output) -> Result<(), CliError> {
    let shown: Vec<_> = report
        .limits
        .iter()
        .filter(|limit| all || limit.hits > 0)
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new([
        ("LIMIT", Left),
        ("VALUE", Right),
        ("NOW", Right),
        ("UNIT", Left),
        ("HITS", Right),
        ("", Left),
    ]);
    let figure = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    for limit in shown {
        let row = [
            limit.name.clone(),
            figure(limit.value),
            figure(limit.current),
            limit.unit.clone(),
            limit.hits.to_string(),
            limit.help.clone(),
        ];
        table.row(row, output)?;
    }
    table.finish(output)
}

fn counter_table(report: &StatusReport, output: &mut Output) -> Result<(), CliError> {
    output.line("")?;
    let mut table = Table::new([("COUNTER", Left), ("VALUE", Right), ("", Left)]);
    for counter in &report.counters {
        table.row(
            [
                counter_name(counter),
                counter.value.to_string(),
                counter.help.clone(),
            ],
            output,
        )?;
    }
    table.finish(output)
}

/// `name{shard="3"}`
fn counter_name(counter: &CounterRow) -> String {
    let labels: Vec<String> = counter
        .labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    match labels.is_empty() {
        true => counter.name.clone(),
        false => format!("{}{{{}}}", counter.name, labels.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_summed() {
        let state = |state: &str, count| StateCount {
            state: state.to_owned(),
            count,
        };
        assert_eq!(states(&[]), "none");
        let counts = [
            state("established", 19),
            state("half_open", 1),
            state("closing", 0),
        ];
        assert_eq!(states(&counts), "20: 19 established, 1 half_open");
    }

    #[test]
    fn what_a_pool_loses_is_said() {
        let pool = PoolStatus {
            draining: true,
            leaving: 3,
            ..PoolStatus::default()
        };
        assert_eq!(
            pool_notes(&pool),
            "draining, 3 in use of prefixes that were removed"
        );
        assert_eq!(pool_notes(&PoolStatus::default()), "");
    }

    #[test]
    fn labels_are_shown() {
        assert_eq!(counter_name(&CounterRow::new("a_total", &[], 1, "")), "a_total");
        let labelled = CounterRow::new("a_total", &[("shard", "3".to_owned())], 1, "");
        assert_eq!(counter_name(&labelled), "a_total{shard=\"3\"}");
    }
}
