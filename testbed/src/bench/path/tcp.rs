//! Bulk TCP through the tunnel, by iperf3: the kernel behind a pump in the LACs' namespace, and a host in the core.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

use super::bed::{Bed, CORE, FIRST_SUBSCRIBER, POOL, SERVER, lac_address};
use super::cell::Direction;
use super::cores::Cores;
use super::cpu;
use super::packet::data_header;
use super::pump::{Ends, Pump};
use super::sessions::{Sessions, Subscriber};
use super::steering::LacSockets;
use crate::lab::error::{LabError, Result};
use crate::lab::process::{ProcessGroup, run};
use crate::simulator::CallIds;

/// The subscriber's device, and the bare forwarder's.
const DEVICE: &str = "sub0";
const BARE_DEVICE: &str = "bare0";
const PORT: &str = "5201";
/// Seconds at the beginning that do not count.
const WARM_UP: u64 = 1;
/// Seconds that a transfer may take longer than it should.
const PATIENCE: u64 = 20;
/// How long the iperf3 server may take to listen.
const LISTEN: Duration = Duration::from_millis(300);

/// What one transfer showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// That arrived.
    pub bits_per_second: f64,
    /// Percent of the time that the server's cores were busy, and the others.
    pub server_busy: f64,
    pub others_busy: f64,
}

/// A subscriber whose packets come from the kernel.
#[derive(Debug)]
pub struct Endpoint<'a> {
    bed: &'a Bed,
    cores: &'a Cores,
    address: Ipv4Addr,
    pump: Pump,
}

impl<'a> Endpoint<'a> {
    /// Puts the kernel into this subscriber's place.
    pub fn start(bed: &'a Bed, cores: &'a Cores, lac: &LacSockets, subscriber: &Subscriber) -> Result<Self> {
        let io = |source| LabError::io("a LAC's socket", source);
        lac.receive_load().map_err(io)?;
        let ends = Ends {
            socket: lac.load.try_clone().map_err(io)?,
            peer: SERVER,
            header: data_header(&subscriber.ids),
        };
        let count = cores.others.len();
        // The first of the others has more to do than the last.
        let places = [cores.others[count - 1], cores.others[count.saturating_sub(2)]];
        let pump = Pump::start(&bed.lac, DEVICE, ends, places)?;
        bed.lac
            .ip(&format!("addr add {}/32 dev {DEVICE}", subscriber.address))?;
        bed.lac.ip(&format!("link set {DEVICE} up"))?;
        bed.lac.ip(&format!(
            "route replace {CORE}/32 dev {DEVICE} src {}",
            subscriber.address
        ))?;
        bed.set_far_offload(true)?;
        bed.set_sender_segmentation(true)?;
        Ok(Self {
            bed,
            cores,
            address: subscriber.address,
            pump,
        })
    }

    fn transfer(&mut self, direction: Direction, flows: u32, seconds: u64) -> Result<Transfer> {
        let mut server = self.bed.core.command("iperf3");
        server.args(["--server", "--one-off", "--port", PORT]);
        let _server = ProcessGroup::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()))?;
        std::thread::sleep(LISTEN);
        // By itself it would wait for ever for a server that forwards no more.
        let mut client = self.bed.lac.command("timeout");
        client
            .args([&(seconds + WARM_UP + PATIENCE).to_string(), "iperf3"])
            .args(["--client", &CORE.to_string(), "--port", PORT])
            .args(["--bind", &self.address.to_string(), "--json"])
            .args(["--time", &seconds.to_string(), "--omit", &WARM_UP.to_string()])
            .args(["--parallel", &flows.to_string()]);
        if direction == Direction::Down {
            client.arg("--reverse");
        }
        let before = (
            cpu::Cores::now(&self.cores.server)?,
            cpu::Cores::now(&self.cores.others)?,
        );
        let text = run(&mut client)?;
        let server_busy = cpu::Cores::now(&self.cores.server)?.busy_since(before.0);
        let others_busy = cpu::Cores::now(&self.cores.others)?.busy_since(before.1);
        self.pump.check()?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| LabError::unmet(format!("iperf3: {error}: {text}")))?;
        Ok(Transfer {
            bits_per_second: report.end.sum_received.bits_per_second,
            server_busy,
            others_busy,
        })
    }

    /// Back to counted UDP.
    pub fn stop(self, lac: &LacSockets) -> Result<()> {
        drop(self.pump);
        lac.drop_load()
            .map_err(|source| LabError::io("a LAC's socket", source))?;
        self.bed.set_far_offload(false)
    }
}

/// What iperf3 says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Report {
    end: End,
}

#[derive(Debug, Deserialize)]
struct End {
    sum_received: Sum,
}

#[derive(Debug, Deserialize)]
struct Sum {
    bits_per_second: f64,
}

/// One transfer through a server that runs.
pub fn through(
    bed: &Bed,
    cores: &Cores,
    sessions: &Sessions,
    direction: Direction,
    flows: u32,
    seconds: u64,
) -> Result<Transfer> {
    let subscriber = sessions
        .subscribers
        .first()
        .ok_or_else(|| LabError::unmet("no session is up"))?;
    let lac = &sessions.sockets[usize::from(subscriber.ids.lac)];
    let mut endpoint = Endpoint::start(bed, cores, lac, subscriber)?;
    let rate = endpoint.transfer(direction, flows, seconds);
    endpoint.stop(lac)?;
    rate
}

/// One transfer with the bare forwarder in the server's place, both of its threads on the server's first core.
pub fn bare(bed: &Bed, cores: &Cores, direction: Direction, flows: u32, seconds: u64) -> Result<Transfer> {
    let io = |source| LabError::io("the bare forwarder", source);
    let ids = CallIds {
        lac: 0,
        tunnel: 1,
        session: 1,
        peer_tunnel: 1,
        peer_session: 1,
    };
    let subscriber = Subscriber {
        ids,
        address: FIRST_SUBSCRIBER,
    };
    let lac = bed.lac.enter(|| LacSockets::bind(lac_address(0)))?.map_err(io)?;
    let server = bed
        .server
        .enter(|| LacSockets::bind(SERVER.into()))?
        .map_err(io)?;
    server.receive_load().map_err(io)?;
    let std::net::SocketAddr::V4(peer) = lac_address(0) else {
        return Err(LabError::unmet("the LACs have IPv4 addresses"));
    };
    let ends = Ends {
        socket: server.load.try_clone().map_err(io)?,
        peer,
        header: data_header(&ids),
    };
    let _forwarder = Pump::start(&bed.server, BARE_DEVICE, ends, [cores.server[0]; 2])?;
    bed.server.ip(&format!("link set {BARE_DEVICE} up"))?;
    bed.server
        .ip(&format!("route replace {POOL} dev {BARE_DEVICE}"))?;
    let mut endpoint = Endpoint::start(bed, cores, &lac, &subscriber)?;
    let rate = endpoint.transfer(direction, flows, seconds);
    endpoint.stop(&lac)?;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_read_from_iperf3s_report() {
        let text = r#"{"start": {}, "end": {"sum_sent": {"bits_per_second": 9}, "sum_received": {"bits_per_second": 8.5e9}}}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(report.end.sum_received.bits_per_second, 8.5e9);
    }
}
