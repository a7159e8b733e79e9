//! What to simulate: who dials where, how, and over what network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::impairment::Impairment;
use super::ppp::{Authentication, Login};

/// The whole cast, fixed when the simulator starts. Nothing dials before it is told to.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The LNS.
    #[arg(long, default_value = "127.0.0.1:1701")]
    pub target: SocketAddr,
    /// LACs, each with a socket of its own.
    #[arg(long, default_value_t = 1)]
    pub lacs: u16,
    /// Source address of the first LAC.
    #[arg(long, default_value = "127.0.0.1")]
    pub source: IpAddr,
    /// Gives each LAC the address after that of the one before.
    #[arg(long)]
    pub many_sources: bool,
    /// Source port of every LAC; 0 takes any.
    #[arg(long, default_value_t = 0)]
    pub source_port: u16,
    /// Tunnels, spread evenly over the LACs.
    #[arg(long, default_value_t = 1)]
    pub tunnels: u32,
    /// Subscribers, spread evenly over the tunnels.
    #[arg(long, default_value_t = 1)]
    pub sessions: u32,
    /// User name; `%` stands for the subscriber's number.
    #[arg(long, default_value = "demo")]
    pub user: String,
    /// Password; `%` stands for the subscriber's number.
    #[arg(long, default_value = "demo")]
    pub password: String,
    /// The authentication that subscribers agree to.
    #[arg(long, value_enum, default_value_t)]
    pub authentication: Authentication,
    /// Tunnel secret: challenges the LNS and answers its challenge.
    #[arg(long)]
    pub secret: Option<String>,
    /// The LACs answer the LNS's challenge and do not challenge it: a wrong secret is for it to find out.
    #[arg(long)]
    pub trusting: bool,
    /// Host Name of the LACs; `%` stands for the LAC's number.
    #[arg(long, default_value = "lac%")]
    pub host_name: String,
    /// The LAC negotiates LCP and authenticates on the client's behalf and passes that on in the ICCN.
    #[arg(long)]
    pub proxy: bool,
    /// The LAC requires sequence numbers in data messages.
    #[arg(long)]
    pub sequencing: bool,
    /// The clients speak first, as soon as the call is up; else they leave the LNS a second to do so.
    #[arg(long)]
    pub eager: bool,
    /// MRU that the clients ask for.
    #[arg(long)]
    pub mru: Option<u16>,
    /// Receive window of the LACs.
    #[arg(long, default_value_t = 32)]
    pub receive_window: u16,
    /// Seconds of silence on a tunnel before a LAC sends a HELLO; 0 for none.
    #[arg(long, default_value_t = 60)]
    pub hello_interval: u64,
    /// Milliseconds between pings inside each session; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub ping_interval_ms: u64,
    /// Host to ping; the LNS's own address inside the session if absent.
    #[arg(long)]
    pub ping_host: Option<Ipv4Addr>,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What the network does.
    #[command(flatten)]
    pub impairment: Impairment,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, 1701)),
            lacs: 1,
            source: Ipv4Addr::LOCALHOST.into(),
            many_sources: false,
            source_port: 0,
            tunnels: 1,
            sessions: 1,
            user: "demo".into(),
            password: "demo".into(),
            authentication: Authentication::Any,
            secret: None,
            trusting: false,
            host_name: "lac%".into(),
            proxy: false,
            sequencing: false,
            eager: false,
            mru: None,
            receive_window: 32,
            hello_interval: 60,
            ping_interval_ms: 0,
            ping_host: None,
            seed: 1,
            impairment: Impairment::default(),
        }
    }
}

impl Plan {
    /// The credentials and wishes of one subscriber.
    pub fn login(&self, subscriber: u32) -> Login {
        let number = subscriber.to_string();
        Login {
            user: self.user.replace('%', &number),
            password: self.password.replace('%', &number),
            authentication: self.authentication,
            mru: self.mru,
        }
    }

    /// The Host Name of one LAC.
    pub fn host_name(&self, lac: u16) -> Vec<u8> {
        self.host_name.replace('%', &lac.to_string()).into_bytes()
    }

    /// The address and port that one LAC binds.
    pub fn source(&self, lac: u16) -> SocketAddr {
        let step = if self.many_sources { lac } else { 0 };
        let address = match self.source {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first) + u32::from(step)).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first) + u128::from(step)).into()),
        };
        SocketAddr::new(address, self.source_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_place_of_the_percent_sign() {
        let plan = Plan {
            user: "user%@isp".into(),
            many_sources: true,
            ..Plan::default()
        };
        assert_eq!(plan.login(7).user, "user7@isp");
        assert_eq!(plan.host_name(2), b"lac2");
        assert_eq!(plan.source(3), "127.0.0.4:0".parse().unwrap());
    }

    #[test]
    fn a_plan_needs_to_name_only_what_differs() {
        let plan: Plan = serde_json::from_str(r#"{"sessions": 20, "impairment": {"loss": 5}}"#).unwrap();
        assert_eq!((plan.sessions, plan.tunnels, plan.impairment.loss), (20, 1, 5.0));
        assert!(serde_json::from_str::<Plan>(r#"{"session": 20}"#).is_err());
    }
}
