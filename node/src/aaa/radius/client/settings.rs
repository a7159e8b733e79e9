//! What the client is told of the servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::aaa::radius::request::NasIdentity;
use crate::config::Secret;

/// Everything; a reload brings another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who we are, for probes.
    pub nas: NasIdentity,
    /// All servers of all groups, each for each purpose.
    pub endpoints: Vec<EndpointSettings>,
}

/// What a server is asked for. It may answer for one and not for the other, so each has a state of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Authentication.
    Access,
    /// Accounting.
    Accounting,
}

/// One server for one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// The group's name.
    pub group: String,
    /// What it is asked for.
    pub purpose: Purpose,
    /// Where.
    pub address: SocketAddr,
    /// Shared with it.
    pub secret: Secret,
    /// Lower ones first; servers of one priority take turns.
    pub priority: u32,
    /// Whether replies to Access-Requests need a Message-Authenticator.
    pub message_authenticator: Requirement,
    /// Between two Status-Server packets to a server that does not answer; `None` sends a real request now and then.
    pub status_interval: Option<Duration>,
    /// Before the first retransmission; doubles with each one.
    pub timeout: Duration,
    /// Transmissions before the next server's turn; 1 at least.
    pub tries: u32,
    /// How long a dead server is left alone.
    pub dead_time: Duration,
    /// How it is reached.
    pub transport: Transport,
}

/// Whether something is demanded of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Always.
    Yes,
    /// From its first use on.
    Auto,
    /// Never.
    No,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 2865.
    Udp,
    /// RFC 6614.
    Tls(TlsSettings),
}

/// Files of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Who signs servers' certificates (PEM).
    pub ca: PathBuf,
    /// Ours (PEM), and its key.
    pub certificate: PathBuf,
    /// See there.
    pub key: PathBuf,
    /// The name in the server's certificate; `None`: its address.
    pub server_name: Option<String>,
}

impl Purpose {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Accounting => "accounting",
        }
    }
}
