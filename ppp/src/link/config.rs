//! What the links of one profile have in common.

use std::time::Duration;

use crate::auth::AuthMethod;

/// The settings of a link; shared by all links of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// The MRU that we ask for, in octets.
    pub mru: u16,
    /// How the peer may authenticate, the most wanted first. Empty: it need not.
    pub auth: Vec<AuthMethod>,
    /// Our name in CHAP challenges.
    pub local_name: Vec<u8>,
    /// The first restart period; it doubles up to 3 s (RFC 1661 §4.6, whose default is 3 s from the start).
    pub restart: Duration,
    /// Configure-Requests sent without a valid answer; CHAP challenges likewise.
    pub max_configure: u32,
    /// Terminate-Requests sent without an answer.
    pub max_terminate: u32,
    /// Configure-Naks sent before they become Rejects, and taken before the option is given up.
    pub max_failure: u32,
    /// Between LCP echoes on an open link; zero sends none.
    pub echo_interval: Duration,
    /// Echoes without a sign of life after which the peer is dead.
    pub echo_failures: u32,
    /// From the start, or from the end of an open phase, until a network protocol is open.
    pub setup_timeout: Duration,
    /// Whether what the LAC negotiated for us may stand (RFC 2661 §4.4.5).
    pub accept_proxy: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            mru: 1456,
            auth: vec![AuthMethod::ChapMd5, AuthMethod::MsChapV2, AuthMethod::Pap],
            local_name: b"holdfast".to_vec(),
            restart: Duration::from_secs(1),
            max_configure: 10,
            max_terminate: 2,
            max_failure: 5,
            echo_interval: Duration::from_secs(20),
            echo_failures: 3,
            setup_timeout: Duration::from_secs(60),
            accept_proxy: true,
        }
    }
}
