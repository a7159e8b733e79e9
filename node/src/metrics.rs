//! Counters and limits by name: one flat table, so that nothing is counted that nobody can see.
//!
//! The control side counts here, with relaxed atomics. The packet threads count in tables of their own and hand in
//! [`CounterRow`]s when somebody asks. Names follow Prometheus' rules, for a metrics endpoint comes later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $help:literal;)*) => {
        /// A counter of the control side; it only ever rises.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter {
            $(#[doc = $help] $variant,)*
        }

        impl Counter {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As shown by `holdfast status --counters`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is counted.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

counters! {
    SccrqReceived => "sccrq_received_total", "SCCRQs that arrived, repeats included.";
    SccrqWaited => "sccrq_waited_total", "SCCRQs, repeats included, that had to wait for a place among the half-open tunnels.";
    SccrqRateDropped => "sccrq_rate_dropped_total", "SCCRQs dropped by the rate limit of their source.";
    SccrqHalfOpenDropped => "sccrq_half_open_dropped_total", "SCCRQs dropped for too many half-open tunnels.";
    LacRefused => "lac_refused_total", "Tunnels refused because no profile allows the LAC.";
    TunnelSecretWrong => "tunnel_secret_wrong_total", "Tunnels refused for a wrong or missing challenge response.";
    TunnelsOpened => "tunnels_opened_total", "Tunnels that became established.";
    TunnelsClosed => "tunnels_closed_total", "Tunnels that ended, for whatever reason.";
    TunnelsNoAnswer => "tunnels_no_answer_total", "Tunnels given up because the peer no longer answered.";
    TunnelsReplaced => "tunnels_replaced_total", "Stale tunnels replaced by a restarted LAC.";
    ControlReceived => "control_received_total", "Control messages received.";
    ControlSent => "control_sent_total", "Control datagrams sent, acknowledgements and repetitions included.";
    ControlRetransmitted => "control_retransmitted_total", "Control messages sent again.";
    ControlDuplicate => "control_duplicate_total", "Control messages received again and acknowledged only.";
    ControlMalformed => "control_malformed_total", "Control messages that could not be decoded.";
    ControlUnknownTunnel => "control_unknown_tunnel_total", "StopCCNs without our tunnel id for which no half-open tunnel was found.";
    ControlDropped => "control_dropped_total", "Control messages with a bad header, out of window, or for a tunnel that has ended.";
    PppEarly => "ppp_early_total", "PPP control frames that came before their session was born and were kept for it.";
    PppUnknownSession => "ppp_unknown_session_total", "PPP control frames dropped because too many others waited for their sessions to be born.";
    CallsReceived => "calls_received_total", "ICRQs that arrived.";
    CallsRefused => "calls_refused_total", "Calls refused: a limit reached, no resources, shutting down.";
    CallsHeld => "calls_held_total", "Calls that were kept waiting for at most a second, because their group was about to go to another node.";
    CallsAbandoned => "calls_abandoned_total", "Calls that ended before their ICCN.";
    SessionsOpened => "sessions_opened_total", "Sessions that entered PPP open.";
    SessionsClosed => "sessions_closed_total", "Sessions that ended, open or not.";
    SessionsReplaced => "sessions_replaced_total", "Stale sessions replaced by a redial of the same user.";
    SessionsSetupTimeout => "sessions_setup_timeout_total", "Sessions given up because PPP did not open in time.";
    SessionsEchoTimeout => "sessions_echo_timeout_total", "Sessions ended because Echo-Requests went unanswered.";
    SessionsTimedOut => "sessions_timed_out_total", "Sessions ended because they lasted as long as they may (Session-Timeout).";
    SessionsIdle => "sessions_idle_total", "Sessions ended because they had no user data for as long as they may idle (Idle-Timeout).";
    Renegotiations => "ppp_renegotiations_total", "Open links on which LCP began anew.";
    PppMalformedFrame => "ppp_malformed_frame_total", "PPP frames without a protocol or without information.";
    PppMalformedPacket => "ppp_malformed_packet_total", "PPP control packets or options that do not parse.";
    PppWrongPhase => "ppp_wrong_phase_total", "PPP frames of a protocol outside its phase.";
    PppDiscarded => "ppp_discarded_total", "PPP answers to something that was not said.";
    PppUnknownProtocol => "ppp_unknown_protocol_total", "PPP frames of a protocol that is not spoken here.";
    PppProtocolRejected => "ppp_protocol_rejected_total", "Protocol-Rejects received.";
    PppLoopedEcho => "ppp_looped_echo_total", "LCP echoes with our own magic number.";
    PppForeignMagic => "ppp_foreign_magic_total", "LCP echoes with a magic number that is not the peer's.";
    PppInformation => "ppp_information_total", "LCP Identification and Time-Remaining received.";
    PppAuthRepeated => "ppp_auth_repeated_total", "Repeated authentication requests.";
    PppWithheldDropped => "ppp_withheld_dropped_total", "Configure-Requests withheld for a commit for too long.";
    PppRequestRepeated => "ppp_request_repeated_total", "Repeats of the request that opened a protocol, acknowledged again.";
    ProxyLcpRefused => "ppp_proxy_lcp_refused_total", "Proxy LCP offered by a LAC and not used.";
    ProxyAuthRefused => "ppp_proxy_auth_refused_total", "Proxy authentication offered by a LAC and not used.";
    AuthAccepted => "auth_accepted_total", "Authentications accepted.";
    AuthRejected => "auth_rejected_total", "Authentications rejected: unknown user or wrong password.";
    AuthSessionLimit => "auth_session_limit_total", "Authentications rejected at the user's max_sessions.";
    AddressTaken => "auth_address_taken_total", "Authentications rejected because the fixed address is in use by a session that is not replaced.";
    GrantMisfit => "auth_grant_misfit_total", "Authentications rejected because what was granted cannot be: an address or a route of ours or of nobody, or too many of them.";
    AddressRefused => "auth_address_refused_total", "Sessions that began PPP anew because the session table knew their address to be in use or to rest.";
    PoolExhausted => "pool_exhausted_total", "Authentications rejected because the pool had no free address.";
    PoolWaiting => "pool_waiting_total", "Authentications rejected because a member may still forward for the last users of what the pool has left.";
    AccountingDelivered => "accounting_delivered_total", "Accounting Starts and Stops that a server has confirmed to this node.";
    AccountingInterims => "accounting_interims_total", "Interim-Updates that a server has confirmed to this node.";
    AccountingInterimsDropped => "accounting_interims_dropped_total", "Interim-Updates that were not sent, or not again: no server of their group answered, or the next one was due.";
    AccountingUnanswered => "accounting_unanswered_total", "Accounting requests that no server of their group confirmed, as often as they were sent; Starts and Stops are kept and tried again.";
    AccountingGivenUp => "accounting_given_up_total", "Accounting records given up after 24 hours in which servers answered others and never these.";
    AccountingImpossible => "accounting_impossible_total", "Accounting records passed over because they do not fit a packet.";
    AccountingDropped => "accounting_dropped_total", "Accounting records lost, as this node saw it, because more were owed than are kept.";
    AuthUnavailable => "auth_unavailable_total", "Authentications that nobody could judge: no RADIUS server answered, or too many were asked.";
    RadiusUnanswered => "radius_unanswered_total", "RADIUS requests that no server answered before their patience ended.";
    RadiusUnusable => "radius_unusable_total", "Access-Accepts with an attribute that makes no sense; the subscriber was refused.";
    RadiusDropped => "radius_dropped_total", "RADIUS replies dropped: a wrong authenticator, no Message-Authenticator, Proxy-State, an unexpected code, malformed.";
    RadiusServerLost => "radius_server_lost_total", "Times that a RADIUS server became suspect, dead or on trial.";
    RadiusNotSent => "radius_not_sent_total", "RADIUS packets that no socket took; they are sent again.";
    PolicyUnknown => "policy_unknown_total", "Authentications rejected, and changes refused, because they name a policy or a filter that the configuration does not have.";
    PrefixExhausted => "prefix_pool_exhausted_total", "Sessions that got no IPv6 prefix: none was free, the pool is not there, or the fixed one is another user's or nobody's to have.";
    RouterAdvertisements => "router_advertisements_total", "Router Advertisements sent.";
    RouterSolicitations => "router_solicitations_total", "Router Solicitations received.";
    Dhcp6Answered => "dhcp_answered_total", "DHCPv6 messages answered.";
    Dhcp6Malformed => "dhcp_malformed_total", "DHCPv6 messages that do not parse.";
    Dhcp6Ignored => "dhcp_ignored_total", "DHCPv6 messages for another server, of a server, or that ask for nothing that is answered.";
    Ipv6Malformed => "link_packets_malformed_total", "IPv6 packets for the LNS that are neither Router Solicitations nor DHCPv6 as they must be.";
    Proposals => "table_proposals_total", "Changes proposed to the session table.";
    ProposalsRefused => "table_proposals_refused_total", "Changes that the session table refused.";
    ProposalsDropped => "table_proposals_dropped_total", "Changes dropped because too many were waiting; their owners send them again.";
    ProposalsRepeated => "table_proposals_repeated_total", "Changes proposed again by their owners while the first copy still waited; they cost nothing more.";
    TunnelRebirths => "tunnel_rebirths_total", "Tunnels born again from their row because a change was refused.";
    Takeovers => "takeovers_total", "Proposals of this node, as the leader, to give the groups of a node that is down, or has lost its way to the LACs, to others.";
    WaysLost => "lac_ways_lost_total", "Times that this node lost its way to the LACs.";
    WayLooksFailed => "lac_way_looks_failed_total", "Looks at the routes to the LACs to which the kernel gave no answer; what was known of the way stays.";
    ProbesMalformed => "probes_malformed_total", "Probes of other members that were dropped: malformed, or from a node that is no member here.";
    RelaysSent => "relays_sent_total", "Control messages and PPP control frames sent to the node that owns their tunnel.";
    RelaysReceived => "relays_received_total", "Control messages and PPP control frames that another node relayed here.";
    RelaysHeld => "relays_held_total", "Control messages and PPP control frames held because their tunnel's owner was dead, not known or about to change.";
    RelaysReplayed => "relays_replayed_total", "Held messages handled here once this node owned their tunnel.";
    RelaysExpired => "relays_expired_total", "Held messages dropped after a second.";
    RelaysDropped => "relays_dropped_total", "Messages for another node's tunnel dropped: no connection, too many held, or the owner changed again.";
    GroupsHandedOver => "groups_handed_over_total", "Groups of tunnels that this node handed over to another one on purpose.";
    GroupsCut => "groups_cut_total", "Groups handed over although calls or PPP were under way, because that did not finish within three seconds.";
    GroupsKept => "groups_kept_total", "Groups that were to be handed over and stayed, because nobody took them in time.";
    PassedDropped => "passed_dropped_total", "Packets of sequenced sessions that another node passed here, dropped: the packet thread had too many waiting, or was not there yet.";
    OrdersDropped => "orders_dropped_total", "Orders of other nodes' operators dropped: too many waited.";
    OrdersLate => "orders_late_total", "Orders of other nodes' operators dropped: whoever gave them waited no longer when their turn came.";
    ReportsRefused => "reports_refused_total", "Sessions in other nodes' traffic reports that were passed over: an accounting id that can be none, or more sessions than a table has.";
    ReportsUnknown => "reports_unknown_total", "Sessions in other nodes' traffic reports that are forgotten because this node's table never had them.";
    GroupsTaken => "groups_taken_total", "Groups of tunnels that this node became the owner of while it ran.";
    Snapshots => "table_snapshots_total", "Snapshots of the session table written.";
    DiskFull => "disk_full_total", "Times that the disk became full and the reserve had to be used.";
    SessionActorRestarts => "session_actor_restarts_total", "Session actors born again after a panic.";
    TunnelActorRestarts => "tunnel_actor_restarts_total", "Tunnel actors born again after a panic.";
    ArbiterRestarts => "arbiter_restarts_total", "Control threads born again after a panic.";
    PanicLoops => "panic_loops_total", "Sessions and tunnels closed because their actor kept panicking.";
    PeersConnected => "peers_connected_total", "Streams to other members that became ready, each reconnection counted.";
    PeersLost => "peers_lost_total", "Ready streams to other members that ended.";
    PeersDialFailed => "peers_dial_failed_total", "Attempts to reach another member that failed.";
    PeersAccepted => "peers_accepted_total", "Streams from other members that became ready.";
    PeersRefusedCertificate => "peers_refused_certificate_total", "Streams refused for a certificate that is missing, expired, of another CA or without a node's name.";
    PeersRefusedCluster => "peers_refused_cluster_total", "Streams refused because the other side belongs to another cluster.";
    PeersRefusedNode => "peers_refused_node_total", "Streams refused because the other side is no member, not the member that was dialled, or says that it is us.";
    PeersRefusedProtocol => "peers_refused_protocol_total", "Streams ended for octets that are no TLS, a missing Hello, or a frame that does not parse or is too long.";
    PeersRefusedBusy => "peers_refused_busy_total", "Streams closed at once because too many others were still being set up.";
    PeersReplaced => "peers_replaced_total", "Streams that another process of the same member, at the same address, took over: it restarted in a hurry.";
    PeersFramesSent => "peers_frames_sent_total", "Frames handed to the streams of other members.";
    PeersFramesReceived => "peers_frames_received_total", "Frames received from other members.";
    PeersFramesUnreachable => "peers_frames_unreachable_total", "Frames not sent because the member was not connected.";
    PeersFramesDropped => "peers_frames_dropped_total", "Frames not sent because the member's queue was full or the frame was too long.";
    PeersDatagramsSent => "peers_datagrams_sent_total", "Sealed datagrams sent to other members.";
    PeersDatagramsReceived => "peers_datagrams_received_total", "Sealed datagrams received from other members.";
    PeersDatagramsDropped => "peers_datagrams_dropped_total", "Datagrams not sent: too long, no key yet, or the socket was full.";
    PeersDatagramsRefused => "peers_datagrams_refused_total", "Datagrams received that no connected member has sealed.";
    PeersDatagramsReplayed => "peers_datagrams_replayed_total", "Datagrams received a second time, or too late.";
    CoaReceived => "coa_received_total", "Datagrams that arrived at the CoA socket.";
    CoaDone => "coa_done_total", "CoA and Disconnect requests that were carried out.";
    CoaRefused => "coa_refused_total", "CoA and Disconnect requests answered with a NAK.";
    CoaRepeated => "coa_repeated_total", "CoA and Disconnect requests that came again: answered as before, or their first copy is being carried out.";
    CoaReplayed => "coa_replayed_total", "CoA and Disconnect requests refused as made before the session began or before what it has followed since: recorded and sent again, or clocks that differ.";
    CoaUnknownClient => "coa_unknown_client_total", "Datagrams at the CoA socket from who is no [[coa_client]], dropped.";
    CoaMalformed => "coa_malformed_total", "Datagrams at the CoA socket that are no CoA or Disconnect request, dropped.";
    CoaUnverified => "coa_unverified_total", "CoA and Disconnect requests dropped for a wrong authenticator, or without a Message-Authenticator where one is required.";
    CoaOutOfWindow => "coa_out_of_window_total", "CoA and Disconnect requests dropped because their Event-Timestamp is missing or too far from now.";
    Reloads => "reloads_total", "Configurations reloaded.";
    ReloadsFailed => "reloads_failed_total", "Reloads that changed nothing because of a mistake in the file.";
}

macro_rules! limits {
    ($($variant:ident => $name:literal, $unit:literal, $help:literal;)*) => {
        /// A bound on the control side: what it is now, and how often it was reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Limit {
            $(#[doc = $help] $variant,)*
        }

        impl Limit {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As shown by `holdfast status --counters`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Of the value and of the current figure.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }

            /// What happens at the bound.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

limits! {
    HalfOpen => "half_open", "tunnels", "Half-open tunnels of all peers; beyond it SCCRQs wait.";
    HalfOpenPerSource => "half_open_per_source", "tunnels", "Half-open tunnels of one address; beyond it its SCCRQs wait.";
    SccrqRate => "sccrq_rate", "messages/s", "SCCRQs of one address; beyond it they wait.";
    SccrqWaiting => "sccrq_waiting", "messages", "SCCRQs that wait for a place, in all and of one address (1,024); beyond it they are dropped and come again.";
    TableWaiting => "table_waiting", "changes", "Changes waiting for the session table; beyond it SCCRQs wait.";
    Tunnels => "max_tunnels", "tunnels", "Tunnels of all peers; beyond it SCCRQs are answered with StopCCN 4.";
    Sessions => "max_sessions", "sessions", "Sessions of all tunnels; beyond it ICRQs are answered with CDN 4.";
    SessionsPerTunnel => "max_sessions_per_tunnel", "sessions", "Sessions of one tunnel; beyond it ICRQs are answered with CDN 4.";
    LacTunnels => "lac_max_tunnels", "tunnels", "Tunnels of one LAC profile, where it sets a limit.";
    LacSessions => "lac_max_sessions", "sessions", "Sessions of one LAC profile, where it sets a limit.";
    UserSessions => "user_max_sessions", "sessions", "Sessions of one user, where he has a limit; beyond it he is rejected.";
    OutsideNetworks => "outside_networks", "networks", "Fixed addresses and routes of open sessions outside all pools; beyond it who brings a further one is rejected.";
    RadiusQueue => "radius_queue", "requests", "Questions waiting for the RADIUS client; beyond it they count as unanswered.";
    RadiusRequests => "radius_requests", "requests", "RADIUS requests under way; beyond it a new one counts as unanswered.";
    RadiusIdentifiers => "radius_identifiers", "identifiers", "Identifiers of one RADIUS server, 256 on each of 64 sockets; beyond it the next server is asked, or a request waits.";
    Mailbox => "mailbox", "messages", "Messages waiting for one tunnel (256) or session (32); beyond it they are dropped and come again.";
    Held => "held", "messages", "Messages of one tunnel (8), or in all, that wait for their owner; beyond it they are dropped and come again.";
    AccountingOutbox => "accounting_outbox", "records", "Accounting records that no server has confirmed yet; beyond it the oldest is lost.";
    PeerQueue => "peer_queue", "octets", "Frames waiting for one member; beyond it they are dropped.";
    PeerPassed => "peer_passed", "octets", "Octets waiting for one member beyond which no packets of sequenced sessions are passed to it; they are dropped.";
    PeerHandshakes => "peer_handshakes", "connections", "Connections from members' or from other addresses being set up; beyond it a new one is closed.";
    Isolation => "isolation_limit", "s", "How long this node forwards without following the cluster; beyond it all user data is dropped.";
    CoaRequests => "coa_requests", "requests", "CoA and Disconnect requests being carried out; beyond it they are refused with Error-Cause 506.";
    CoaRemembered => "coa_remembered", "requests", "CoA and Disconnect requests remembered so that none is carried out twice; beyond it new ones are refused with Error-Cause 506.";
    CoaSessions => "coa_sessions", "sessions", "Sessions that one Disconnect request may mean; beyond it, it is refused with Error-Cause 508.";
    FilterCombinations => "filter_combinations", "combinations", "Combinations of filters and rules that sessions have at once; one with a further combination passes nothing.";
    FreeSpace => "free_space_min", "MiB", "Free space of the data folder's volume; below it the log and `cluster status` warn.";
    ApiConnections => "api_connections", "connections", "Operators' connections; beyond it a new one is told so and closed.";
}

/// The counters and limits of one process. Its own value rather than a global, so that tests do not share one.
pub struct Metrics {
    counters: [AtomicU64; Counter::ALL.len()],
    limits: [LimitCell; Limit::ALL.len()],
}

#[derive(Default)]
struct LimitCell {
    value: AtomicU64,
    current: AtomicU64,
    hits: AtomicU64,
}

/// A counter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Ends in `_total`.
    pub name: String,
    /// Such as `shard` = `3`; empty for the control side.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Since the process started.
    pub value: u64,
    /// What is counted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

/// A limit as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Named as in the configuration where it is set there.
    pub name: String,
    /// Of `value` and `current`.
    pub unit: String,
    /// The bound; `None` where it is set for each profile or user.
    pub value: Option<u64>,
    /// Where we are now; `None` for rates and for what exists once for each source, tunnel, profile or user.
    pub current: Option<u64>,
    /// How often something was refused or dropped because of it, since the process started.
    pub hits: u64,
    /// What happens at the bound.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

/// Stands for "no figure" in a [`LimitCell`].
const NONE: u64 = u64::MAX;

impl Default for Metrics {
    fn default() -> Self {
        let limits = std::array::from_fn(|_| LimitCell {
            value: AtomicU64::new(NONE),
            current: AtomicU64::new(NONE),
            hits: AtomicU64::new(0),
        });
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            limits,
        }
    }
}

impl Metrics {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    pub fn add(&self, counter: Counter, by: u64) {
        self.counters[counter as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// Since the process started.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// The bound as configured.
    pub fn set_limit(&self, limit: Limit, value: u64) {
        self.limits[limit as usize].value.store(value, Ordering::Relaxed);
    }

    /// Where we are now.
    pub fn set_current(&self, limit: Limit, current: u64) {
        self.limits[limit as usize]
            .current
            .store(current, Ordering::Relaxed);
    }

    /// Counts that something was refused or dropped at the bound.
    pub fn hit(&self, limit: Limit) {
        self.limits[limit as usize].hits.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was hit.
    pub fn hits(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].hits.load(Ordering::Relaxed)
    }

    /// All counters, zeros included, in the order of the table.
    pub fn counters(&self) -> Vec<CounterRow> {
        let row = |counter: &Counter| CounterRow {
            name: counter.name().to_owned(),
            labels: BTreeMap::new(),
            value: self.get(*counter),
            help: counter.help().to_owned(),
        };
        Counter::ALL.iter().map(row).collect()
    }

    /// All limits, in the order of the table.
    pub fn limits(&self) -> Vec<LimitRow> {
        let figure = |cell: &AtomicU64| Some(cell.load(Ordering::Relaxed)).filter(|value| *value != NONE);
        let row = |limit: &Limit| {
            let cell = &self.limits[*limit as usize];
            LimitRow {
                name: limit.name().to_owned(),
                unit: limit.unit().to_owned(),
                value: figure(&cell.value),
                current: figure(&cell.current),
                hits: cell.hits.load(Ordering::Relaxed),
                help: limit.help().to_owned(),
            }
        };
        Limit::ALL.iter().map(row).collect()
    }
}

impl CounterRow {
    /// A row from elsewhere, such as a packet thread.
    pub fn new(name: &str, labels: &[(&str, String)], value: u64, help: &str) -> Self {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Self {
            name: name.to_owned(),
            labels,
            value,
            help: help.to_owned(),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moved = Counter::ALL
            .iter()
            .map(|c| (c.name(), self.get(*c)))
            .filter(|(_, value)| *value > 0);
        f.debug_map().entries(moved).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn counts_and_shows_all() {
        let metrics = Metrics::default();
        metrics.count(Counter::SccrqReceived);
        metrics.add(Counter::PoolExhausted, 3);
        let rows = metrics.counters();
        assert_eq!(rows.len(), Counter::ALL.len());
        let value = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.value);
        assert_eq!(value("sccrq_received_total"), Some(1));
        assert_eq!(value("pool_exhausted_total"), Some(3));
        assert_eq!(value("reloads_total"), Some(0));
    }

    #[test]
    fn limits_show_what_is_known() {
        let metrics = Metrics::default();
        metrics.set_limit(Limit::HalfOpen, 1000);
        metrics.set_current(Limit::HalfOpen, 7);
        metrics.hit(Limit::HalfOpen);
        let rows = metrics.limits();
        assert_eq!(
            (rows[0].value, rows[0].current, rows[0].hits),
            (Some(1000), Some(7), 1)
        );
        assert_eq!((rows[1].value, rows[1].current, rows[1].hits), (None, None, 0));
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        let names: BTreeSet<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        let fits = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(names.iter().all(|name| fits(name) && name.ends_with("_total")));
        let names: BTreeSet<_> = Limit::ALL.iter().map(|l| l.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        assert!(names.iter().all(fits));
    }
}
