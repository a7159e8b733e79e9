//! The configuration of BIRD 2 beside a node, and a look whether BIRD is there.
//!
//! What it says: announce what the kernel's table holds that [`announcer`](super::announcer) keeps, with a longer AS path what is
//! there as a last resort; notice a dead router by BFD; never restart gracefully, which would keep a dead node's routes
//! alive (seen for 123 s). Packets that still come for an address or a pool that the node does not serve any more go
//! into a blackhole: they neither loop nor raise ICMP.

use std::fmt::{self, Write};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::announcer::{METRIC_FALLBACK, METRIC_LAST_RESORT, ROUTE_PROTOCOL};
use crate::config::{AnycastConfig, Config};

/// How often our AS is in the path of a last resort besides the once that every path has it.
const PREPENDED: usize = 3;
/// BIRD greets at once.
const GREETING_PATIENCE: Duration = Duration::from_secs(1);

/// Why there is nothing to print.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BirdConfigError {
    /// The node has an address of its own.
    #[error("the configuration has no section [anycast]")]
    NoAnycast,
    /// Nobody to announce an address to.
    #[error(
        "anycast.neighbours has no {family} router to announce {address} to; add the router's {family} address, or leave \
         out {address}"
    )]
    NoNeighbour {
        /// What cannot be announced.
        address: IpAddr,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// BIRD's name of the channel.
    fn channel(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "4",
            Self::V6 => "6",
        })
    }
}

/// The complete configuration.
///
/// # Errors
/// What is missing for one.
pub fn configuration(config: &Config) -> Result<String, BirdConfigError> {
    let anycast = config.anycast.as_ref().ok_or(BirdConfigError::NoAnycast)?;
    for address in &anycast.addresses {
        let family = Family::of(*address);
        if !anycast.neighbours.iter().any(|n| Family::of(*n) == family) {
            return Err(BirdConfigError::NoNeighbour {
                address: *address,
                family: family.name(),
            });
        }
    }
    let families: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| anycast.neighbours.iter().any(|n| Family::of(*n) == *family))
        .collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, config, anycast, &families);
    Ok(text)
}

/// The addresses that LACs dial.
pub fn addresses(config: &Config) -> Vec<IpNet> {
    let addresses = config.anycast.iter().flat_map(|anycast| &anycast.addresses);
    addresses.map(|address| IpNet::from(*address)).collect()
}

/// What a ready node announces with no session: the addresses that LACs dial, then the whole pool.
fn always(config: &Config) -> Vec<IpNet> {
    let mut always = addresses(config);
    always.extend(config.networks());
    always
}

fn write(to: &mut String, config: &Config, anycast: &AnycastConfig, families: &[Family]) -> fmt::Result {
    writeln!(
        to,
        "# BIRD 2 beside the Holdfast node \"{}\"; made by `holdfast anycast bird-config`.\n\
         # What is announced is in the kernel's table {table}: ip route show table {table}\n",
        config.node.name.escape_default(),
        table = anycast.table
    )?;
    writeln!(to, "log syslog all;")?;
    if let Some(id) = anycast.router_id {
        writeln!(to, "router id {id};")?;
    }
    writeln!(to, "\nprotocol device {{\n\tscan time 10;\n}}\n")?;
    let bfd = !anycast.bfd_interval.is_zero();
    if bfd {
        writeln!(
            to,
            "protocol bfd {{\n\tinterface \"*\" {{\n\t\tinterval {} us;\n\t\tmultiplier {};\n\t}};\n}}\n",
            anycast.bfd_interval.as_micros(),
            anycast.bfd_multiplier
        )?;
    }
    for family in families {
        write_tables(to, config, anycast, *family)?;
    }
    write_filter(to, anycast, families)?;
    write_routers(to, anycast, bfd)
}

/// From the kernel's table to BIRD's, and from there, with what the routers say, to the kernel's main one.
fn write_tables(to: &mut String, config: &Config, anycast: &AnycastConfig, family: Family) -> fmt::Result {
    let (channel, table) = (family.channel(), anycast.table);
    writeln!(to, "# {}: what the node wants announced.", family.name())?;
    writeln!(
        to,
        "{channel} table holdfast{family};\n\n\
         protocol kernel holdfast_learn{family} {{\n\tkernel table {table};\n\tlearn;\n\tscan time 10;\n\
         \t{channel} {{\n\t\ttable holdfast{family};\n\t\timport where krt_source = {ROUTE_PROTOCOL};\n\
         \t\texport none;\n\t}};\n}}\n\n\
         protocol pipe holdfast_pipe{family} {{\n\ttable master{family};\n\tpeer table holdfast{family};\n\
         \timport all;\n\texport none;\n}}\n"
    )?;
    let ours: Vec<IpNet> = always(config)
        .into_iter()
        .filter(|net| Family::of(net.addr()) == family)
        .collect();
    if !ours.is_empty() {
        writeln!(
            to,
            "# For packets that come although the node serves no more.\n\
             protocol static holdfast_drop{family} {{\n\t{channel} {{ preference 1; }};"
        )?;
        for net in &ours {
            writeln!(to, "\troute {} blackhole;", net.trunc())?;
        }
        writeln!(to, "}}\n")?;
    }
    writeln!(
        to,
        "protocol kernel holdfast_main{family} {{\n\tscan time 10;\n\tmerge paths on limit 16;\n\
         \t{channel} {{\n\t\timport none;\n\t\texport where source = RTS_BGP || proto = \"holdfast_drop{family}\";\n\
         \t}};\n}}\n"
    )
}

fn write_filter(to: &mut String, anycast: &AnycastConfig, families: &[Family]) -> fmt::Result {
    let ours = families
        .iter()
        .map(|family| format!("proto = \"holdfast_learn{family}\""))
        .collect::<Vec<_>>()
        .join(" || ");
    writeln!(
        to,
        "# A node without a quorum, or without a way to the LACs, is the last resort: its path is longer than the others'.\n\
         # What another node's sessions have outside the pools is announced by a path a little longer than that node's.\n\
         filter holdfast_export {{\n\tif !({ours}) then reject;\n\tif krt_metric >= {METRIC_LAST_RESORT} then {{"
    )?;
    for _ in 0..PREPENDED {
        writeln!(to, "\t\tbgp_path.prepend({});", anycast.local_as)?;
    }
    write!(
        to,
        "\t}} else if krt_metric >= {METRIC_FALLBACK} then {{\n\t\tbgp_path.prepend({});\n",
        anycast.local_as
    )?;
    writeln!(to, "\t}}\n\taccept;\n}}\n")
}

fn write_routers(to: &mut String, anycast: &AnycastConfig, bfd: bool) -> fmt::Result {
    writeln!(
        to,
        "template bgp holdfast_router {{\n\tlocal as {};\n\thold time 9;\n\tkeepalive time 3;\n\
         \tconnect delay time 1;\n\tconnect retry time 1;\n\terror wait time 1, 2;\n\
         \tgraceful restart off;\n\tlong lived graceful restart off;",
        anycast.local_as
    )?;
    if bfd {
        writeln!(to, "\tbfd on;")?;
    }
    writeln!(to, "}}")?;
    for (index, neighbour) in anycast.neighbours.iter().enumerate() {
        let channel = Family::of(*neighbour).channel();
        writeln!(
            to,
            "\nprotocol bgp holdfast_router{} from holdfast_router {{\n\tneighbor {neighbour} as {};\n\
             \t{channel} {{\n\t\timport all;\n\t\texport filter holdfast_export;\n\t\tnext hop self;\n\t}};\n}}",
            index + 1,
            anycast.neighbour_as
        )?;
    }
    Ok(())
}

/// BIRD's greeting at its control socket, such as "BIRD 2.0.12 ready.".
///
/// # Errors
/// It does not run, or may not be spoken to.
pub fn greeting(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(GREETING_PATIENCE))?;
    let mut text = [0; 128];
    let length = stream.read(&mut text)?;
    // "0001 BIRD 2.0.12 ready.": a code, then the text.
    let text = String::from_utf8_lossy(&text[..length]);
    Ok(text.trim_start_matches("0001 ").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(anycast: &str) -> Config {
        let text = format!(
            "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/16\"]\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n{anycast}"
        );
        Config::parse(Path::new("h.toml"), &text, []).expect("a good configuration")
    }

    #[test]
    fn without_anycast_or_its_routers_there_is_nothing_to_print() {
        assert_eq!(configuration(&config("")), Err(BirdConfigError::NoAnycast));
        let lonely =
            config("[anycast]\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\nneighbours = [\"10.1.1.1\"]\n");
        let error = configuration(&lonely).expect_err("no IPv6 router");
        assert_eq!(
            error.to_string(),
            "anycast.neighbours has no IPv6 router to announce 2001:db8::1 to; add the router's IPv6 address, or leave \
             out 2001:db8::1"
        );
    }

    #[test]
    fn says_what_is_configured_and_no_more() {
        let text = configuration(&config(
            "[anycast]\naddresses = [\"192.0.2.1\"]\nneighbours = [\"10.1.1.1\", \"10.2.1.1\"]\nlocal_as = 64600\n\
             bfd_interval = \"100ms\"\n",
        ))
        .expect("complete");
        for line in [
            "interval 100000 us;",
            "multiplier 3;",
            "kernel table 1701;",
            "route 192.0.2.1/32 blackhole;",
            "route 100.64.0.0/16 blackhole;",
            "bgp_path.prepend(64600);",
            "neighbor 10.2.1.1 as 65000;",
            "graceful restart off;",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains("ipv6"));
        let without = configuration(&config(
            "[anycast]\naddresses = [\"192.0.2.1\"]\nneighbours = [\"10.1.1.1\"]\nbfd_interval = \"0s\"\n",
        ))
        .expect("complete");
        assert!(!without.contains("bfd"));
    }
}
