//! What a simulator is told and what it tells: one JSON object a line, on standard input and output.
//!
//! Each line of input is a [`Command`] and is answered by one [`Answer`]. Events that nobody asked for
//! ([`Event`]) may come between. A [`Line`] of output is one or the other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::impairment::Impairment;

/// What a simulator is told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Dials idle subscribers (never dialled, failed, lost or hung up), the lowest number first.
    Dial {
        sessions: u32,
        /// Calls a second; absent: as fast as `concurrency` lets.
        #[serde(default)]
        rate: Option<f64>,
        /// Calls that may be on their way at once; absent: any.
        #[serde(default)]
        concurrency: Option<u32>,
    },
    /// Ends calls of subscribers from number `from` on, so many of them or all.
    HangUp {
        #[serde(default)]
        from: u32,
        #[serde(default)]
        sessions: Option<u32>,
        #[serde(default)]
        by: HangUp,
    },
    /// Ends every tunnel by StopCCN.
    Close,
    /// Tunnels, the first so many of them or all, fall silent without a word and forget everything.
    Vanish {
        #[serde(default)]
        tunnels: Option<u32>,
    },
    /// Sets the interval of pings (0: none) and the host (absent: the LNS itself).
    ///
    /// The first `fast_sessions` subscribers ping every `fast_interval_us` instead.
    Ping {
        interval_ms: u64,
        #[serde(default)]
        host: Option<Ipv4Addr>,
        #[serde(default)]
        fast_sessions: u32,
        #[serde(default)]
        fast_interval_us: u64,
    },
    /// Sends a fresh HELLO every `interval_ms`, on one tunnel after the other (0: none), and repeats whatever a LAC
    /// has sent every `repeat_ms` until it is acknowledged (0: as RFC 2661 has it).
    Probe {
        interval_ms: u64,
        #[serde(default)]
        repeat_ms: u64,
    },
    /// What follows is measured by itself ([`Report::since_mark`]): an event is about to happen.
    Mark,
    /// Changes what the network does.
    Impair {
        impairment: Impairment,
    },
    /// Holds the clients' Configure-Acks for IPCP back, or lets them go.
    Hold {
        on: bool,
    },
    /// Sends a HELLO on every tunnel.
    Hello,
    /// Asks every tunnel (HELLO) and every open session (LCP echo and ping) for a sign of life;
    /// [`Event::Checked`] follows.
    Check {
        within_ms: u64,
    },
    /// At the `count`th of such moments from now: an event, and SIGKILL to `kill` after `delay_us`, with a mark.
    Trigger {
        moment: Moment,
        count: u64,
        #[serde(default)]
        delay_us: u64,
        #[serde(default)]
        kill: Option<i32>,
    },
    /// Moments count on these tunnels alone, each named by its LAC and the LAC's own id of it; absent: on all.
    Watch {
        #[serde(default)]
        tunnels: Option<Vec<(u16, u16)>>,
    },
    /// Forgets the triggers that have not fired.
    Disarm,
    /// Sends octets (hexadecimal) from a LAC's socket to the LNS as they are.
    Inject {
        lac: u16,
        octets: String,
    },
    /// Sends `count` damaged or random datagrams from every LAC's socket.
    InjectGarbage {
        count: u32,
        seed: u64,
    },
    /// Forgets the latencies and gaps measured so far.
    ResetMeasurements,
    Report,
    /// One line per subscriber, in the answer.
    Sessions,
    Quit,
}

/// How a call is hung up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangUp {
    /// The client sends a Terminate-Request, the LAC a CDN once it is answered.
    Terminate,
    /// The LAC sends a CDN.
    #[default]
    Disconnect,
}

/// Moments at which a kill hurts most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// A control message left a LAC (for the first time).
    ControlSent,
    /// The LNS acknowledged a control message.
    ControlAcknowledged,
    /// The LNS acknowledged a HELLO.
    HelloAcknowledged,
    /// The LNS took a call: its ICRP has arrived.
    CallTaken,
    /// The LNS acknowledged an ICCN.
    CallConnected,
    /// The LNS acknowledged a CDN.
    CallCleared,
    /// A client was let in: IPCP comes next.
    Authenticated,
    /// A client acknowledged the server's IPCP request: the server's own Configure-Ack is on its way or held.
    AddressAcknowledged,
    /// A client saw IPCP open.
    Opened,
    /// A client holds its Configure-Ack for IPCP back.
    Held,
}

impl Moment {
    pub const ALL: [Self; 10] = [
        Self::ControlSent,
        Self::ControlAcknowledged,
        Self::HelloAcknowledged,
        Self::CallTaken,
        Self::CallConnected,
        Self::CallCleared,
        Self::Authenticated,
        Self::AddressAcknowledged,
        Self::Opened,
        Self::Held,
    ];
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Done,
    Report(Box<Report>),
    Sessions { sessions: Vec<Session> },
    Error { text: String },
}

/// What a simulator tells unasked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The sockets are open; the LACs' own addresses.
    Ready {
        sources: Vec<SocketAddr>,
    },
    Triggered {
        moment: Moment,
        at_ms: u64,
    },
    Checked(Checked),
    /// An established session ended without our asking.
    Lost {
        subscriber: u32,
        reason: String,
        at_ms: u64,
    },
    /// The server began anew on an open session.
    Renegotiated {
        subscriber: u32,
        at_ms: u64,
    },
}

/// What came back within the time given to [`Command::Check`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    pub tunnels_asked: u64,
    pub tunnels_answered: u64,
    pub sessions_asked: u64,
    /// Sessions whose LCP echo was answered.
    pub echoes_answered: u64,
    /// Sessions whose ping was answered.
    pub pings_answered: u64,
}

impl Checked {
    pub fn tunnels_stuck(&self) -> u64 {
        self.tunnels_asked - self.tunnels_answered
    }

    /// Tunnels that died unanswered so far, or did not answer the check; one may be both and counts once.
    pub fn control_channels_stuck(&self, report: &Report) -> u64 {
        report.control_channels_stuck.max(self.tunnels_stuck())
    }

    /// Sessions whose PPP or whose data is dead.
    pub fn sessions_silent(&self) -> u64 {
        self.sessions_asked - self.echoes_answered.min(self.pings_answered)
    }
}

/// One line of a simulator's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Event(Event),
    Answer(Answer),
}

/// Everything counted since the start, and the measurements since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub at_ms: u64,
    /// Calls placed.
    pub sessions_asked: u64,
    /// Calls that reached IPCP open.
    pub sessions_established: u64,
    /// Calls that the dialler has yet to place.
    #[serde(default)]
    pub calls_to_place: u64,
    /// Calls on their way now.
    pub sessions_pending: u64,
    /// Sessions open now.
    pub sessions_open: u64,
    /// Calls that ended before IPCP open, not by us.
    pub sessions_failed: u64,
    pub failures: BTreeMap<String, u64>,
    /// Established sessions that ended without our asking.
    pub sessions_lost: u64,
    pub losses: BTreeMap<String, u64>,
    /// Established sessions on which the server negotiated anew.
    pub sessions_renegotiated: u64,
    /// Calls that we ended.
    pub sessions_hung_up: u64,
    pub tunnels_open: u64,
    pub tunnels_failed: u64,
    pub tunnels_lost: u64,
    /// Tunnels on which a message went unacknowledged for the full cycle of retransmissions.
    pub control_channels_stuck: u64,
    /// How long the LNS has owed an acknowledgement, where it has owed one longest. At 31 s a LAC gives up.
    pub longest_unacknowledged_ms: u64,
    /// Sessions given an address that another open session had.
    pub addresses_duplicated: u64,
    pub pings_sent: u64,
    pub pings_answered: u64,
    /// The longest time that an open session with pings under way went without an answer.
    pub longest_gap_ms: u64,
    /// Sessions measured, and how many of them came up a second, from the first ICRQ to the last IPCP open.
    pub setups_measured: u64,
    pub setup_rate: f64,
    /// From the first SCCRQ or ICRQ to the last IPCP open, milliseconds.
    #[serde(default)]
    pub bring_up_ms: f64,
    /// From ICRQ to IPCP open, milliseconds.
    pub setup_p50_ms: f64,
    pub setup_p99_ms: f64,
    pub datagrams_sent: u64,
    pub datagrams_received: u64,
    /// Control messages sent again.
    pub retransmitted: u64,
    /// Datagrams that the simulated network lost.
    pub datagrams_dropped: u64,
    /// Datagrams from the LNS that made no sense.
    pub datagrams_undecodable: u64,
    /// Datagrams for tunnels or sessions that are not (or no longer) ours.
    pub datagrams_stray: u64,
    /// Data messages from the LNS, where numbers are required, with the Ns of an earlier one; those that the simulated network
    /// doubled among them.
    #[serde(default)]
    pub data_numbers_repeated: u64,
    /// Data messages from the LNS without an Ns where one is required.
    #[serde(default)]
    pub data_numbers_missing: u64,
    /// Of the lost and renegotiated sessions those that were established before the mark of their time.
    pub marked_lost: u64,
    pub marked_renegotiated: u64,
    /// Present once there has been a mark.
    #[serde(default)]
    pub since_mark: Option<SinceMark>,
}

impl Report {
    /// Data messages from the LNS without the number of their own that is required.
    pub fn data_numbers_wrong(&self) -> u64 {
        self.data_numbers_repeated + self.data_numbers_missing
    }
}

/// What has been measured since the last [`Command::Mark`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceMark {
    pub at_ms: u64,
    /// Sessions established at the mark.
    pub sessions_before: u64,
    /// A tunnel each that was up: milliseconds from the mark to the next answer to a HELLO sent after it.
    pub control_gaps_ms: Vec<Option<f64>>,
    /// A tunnel each on which a call was placed after the mark: milliseconds from the mark to the first that was open.
    pub new_calls_ms: Vec<Option<f64>>,
    /// A session each that pings fast: the longest time without an answer, milliseconds.
    pub fast_gaps_ms: Vec<f64>,
    /// The same of the others.
    pub slow_gaps_ms: Vec<f64>,
}

/// One subscriber's story so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub subscriber: u32,
    pub state: SessionState,
    pub address: Option<Ipv4Addr>,
    /// Of the last call that ended without our asking.
    pub reason: Option<String>,
    pub setup_ms: Option<f64>,
    pub renegotiated: bool,
    pub pings_sent: u32,
    pub pings_answered: u32,
    pub longest_gap_ms: u64,
    /// While the session is open.
    #[serde(default)]
    pub ids: Option<CallIds>,
}

/// By what the two sides name a call in their data messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallIds {
    pub lac: u16,
    /// The LAC's own ids.
    pub tunnel: u16,
    pub session: u16,
    /// The LNS's.
    pub peer_tunnel: u16,
    pub peer_session: u16,
}

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    Idle,
    Pending,
    Open,
    Closing,
    Failed,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_lines_as_they_are_written() {
        let dial: Command = serde_json::from_str(r#"{"command":"dial","sessions":20}"#).unwrap();
        assert_eq!(
            dial,
            Command::Dial {
                sessions: 20,
                rate: None,
                concurrency: None
            }
        );
        let hang_up: Command = serde_json::from_str(r#"{"command":"hang_up","by":"terminate"}"#).unwrap();
        assert_eq!(
            hang_up,
            Command::HangUp {
                from: 0,
                sessions: None,
                by: HangUp::Terminate
            }
        );
        for line in [
            Line::Answer(Answer::Done),
            Line::Answer(Answer::Report(Box::default())),
            Line::Event(Event::Triggered {
                moment: Moment::Opened,
                at_ms: 5,
            }),
            Line::Event(Event::Checked(Checked::default())),
        ] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
