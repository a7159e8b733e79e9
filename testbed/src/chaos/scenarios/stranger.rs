//! Case 9: who does not belong to the cluster gets nowhere, is counted, and disturbs nobody.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rand::RngExt;

use super::super::bed::Bed;
use super::super::error::{Error, Result};
use super::super::intruder::Intruder;
use super::super::mesh;
use super::super::stage::Stage;

/// The stranger's number, which no member has.
const STRANGER: u8 = 99;
/// How long it keeps trying.
const PERSISTENCE: Duration = Duration::from_secs(5);
/// Datagrams and connections full of garbage, to each node.
const GARBAGE: u32 = 200;
const LONGEST_GARBAGE: usize = 1200;
/// A node that takes nothing is not waited for.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A node of another cluster, under a number of its own and under that of a member; then intruders with its certificates and
/// without any; then noise.
pub fn knock(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    let seed: u64 = stage.rng.random();
    let mut intruders = vec![Intruder::naked()?];
    for number in [STRANGER, victim] {
        let mut folder = None;
        stage.event(|bed| {
            folder = Some(bed.invite_stranger(number)?);
            Ok(())
        })?;
        std::thread::sleep(PERSISTENCE);
        stage.bed.dismiss_stranger();
        if let Some(folder) = folder {
            intruders.push(Intruder::foreign(&folder, number)?);
        }
    }
    let members: Vec<SocketAddr> = stage.bed.nodes.keys().map(|id| door(*id)).collect();
    let before = refusals(&stage.bed)?;
    let mut let_in = 0;
    stage.event(|bed| {
        bed.beside(|| {
            for intruder in &intruders {
                for member in &members {
                    let_in += u32::from(intruder.enter(*member)?);
                }
            }
            Ok(())
        })
    })?;
    let intrusions = refusals(&stage.bed)? - before;
    stage.event(|bed| bed.beside(|| members.iter().try_for_each(|member| shout(*member, seed))))?;
    let noise = refusals(&stage.bed)? - before - intrusions;
    let tried = intruders.len() * members.len();
    if let_in > 0 {
        stage.breach(format!("{let_in} of {tried} intruders were answered"));
    }
    if intrusions < tried as u64 || noise < u64::from(GARBAGE) {
        stage.breach("not everything was counted".into());
    }
    stage.note(format!(
        "{tried} intruders, {intrusions} refusals counted; {noise} for noise"
    ));
    stage.restore()
}

fn door(node: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(mesh::address(node)), mesh::PORT)
}

/// Everything that the nodes have refused from the network between them.
fn refusals(bed: &Bed) -> Result<u64> {
    let mut sum = 0;
    for node in bed.nodes.values() {
        let status = node.ask(&["status", "--counters"])?;
        let counters = status["counters"].as_array();
        let counters = counters.ok_or_else(|| Error::Unmet("status shows no counters".into()))?;
        let refused = counters.iter().filter(|row| {
            let name = row["name"].as_str().unwrap_or_default();
            name.starts_with("peers_") && name.contains("_refused")
        });
        sum += refused.filter_map(|row| row["value"].as_u64()).sum::<u64>();
    }
    Ok(sum)
}

/// Random octets to both of a node's ports for members.
fn shout(member: SocketAddr, seed: u64) -> io::Result<()> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for _ in 0..GARBAGE {
        let mut octets = vec![0; rng.random_range(1..LONGEST_GARBAGE)];
        rng.fill_bytes(&mut octets);
        // A full socket and a closed connection are the node's good right.
        let _ = socket.send_to(&octets, member);
        if let Ok(mut stream) = TcpStream::connect_timeout(&member, CONNECT_LIMIT) {
            let _ = stream.write_all(&octets);
        }
    }
    Ok(())
}
