//! What the members of a cluster must have alike, and who has it otherwise.
//!
//! Each node tells the others digests of its configuration: in its Hello, and again after a reload. Pools that differ would
//! give one address to two subscribers, so a node that starts with other pools than the cluster refuses to; one that runs
//! says so and goes on, for ending it would cost sessions. All else that differs is a warning, clocks among it: sessions do not
//! depend on them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use holdfast_cluster::limits::ISOLATION_LIMIT_S;
use ring::digest::{Context, SHA256};

use crate::config::{Config, PoolConfig, UserConfig, UserPrefixes};
use crate::peers::{Hello, Past};

/// Octets of one digest.
const DIGEST: usize = 16;

/// Clocks that differ by less, in seconds, are not worth a word.
const CLOCK_OFF_MIN_S: u64 = 60;

/// Of what is told to others; a node that says another number is compared by a later version.
const VERSION: u8 = 1;

/// Digests of the parts of a configuration. They are told to certified members alone and never logged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    pools: [u8; DIGEST],
    members: [u8; DIGEST],
    subscribers: [u8; DIGEST],
}

/// What a member has otherwise than this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// No version of commands and records is known to both.
    Versions {
        /// Its program.
        program: String,
        /// The oldest and the newest that it knows.
        theirs: (u32, u32),
        /// And we.
        ours: (u32, u32),
    },
    /// Names, prefixes and gateways of `[[pool]]`.
    Pools,
    /// `[[member]]`, or `[cluster] isolation_limit`
    Members,
    /// `[[lac]]` and `[[user]]`, secrets and passwords among them.
    Subscribers,
    /// Its wall clock, by so many seconds: ahead of ours if positive.
    Clock(i64),
}

/// This node's digests, and what the others last said.
#[derive(Debug)]
pub struct Agreements(Mutex<State>);

#[derive(Debug)]
struct State {
    ours: Agreement,
    versions: (u32, u32),
    heard: BTreeMap<u64, Heard>,
}

#[derive(Debug)]
struct Heard {
    program: String,
    versions: (u32, u32),
    agreement: Option<Agreement>,
    past: Past,
    /// By how many seconds its clock is ahead of ours, if that is worth a word.
    ahead: Option<i64>,
    /// As last logged.
    logged: Vec<Difference>,
}

impl Agreement {
    /// Of a configuration. The order of pools and members does not matter; that of LACs does.
    pub fn of(config: &Config) -> Self {
        let mut pools: Vec<_> = config.pools.iter().map(pool_text).collect();
        pools.sort_unstable();
        let mut members: Vec<_> = config
            .members
            .iter()
            .map(|member| format!("{member:?}"))
            .collect();
        members.sort_unstable();
        let limit = config.cluster.as_ref().map(|cluster| cluster.isolation_limit);
        // Where nobody sets it, nobody has to know it: nodes of a version without it agree.
        if let Some(limit) = limit.filter(|limit| limit.as_secs() != ISOLATION_LIMIT_S) {
            members.push(format!("{limit:?}"));
        }
        let mut subscribers = Digest::new();
        for lac in &config.lacs {
            // `Debug` passes the secret over.
            subscribers.add(&format!("{lac:?}"));
            subscribers.add_octets(lac.secret.as_ref().map_or(&[], |secret| secret.expose()));
        }
        for user in &config.users {
            subscribers.add(&user_text(user));
            subscribers.add_octets(user.password.expose());
        }
        for policy in &config.policies {
            subscribers.add(&format!("{policy:?}"));
        }
        for filter in &config.filters {
            subscribers.add(&format!("{filter:?}"));
        }
        Self {
            pools: Digest::of(&pools),
            members: Digest::of(&members),
            subscribers: subscribers.finish(),
        }
    }

    /// As it is told to others.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![VERSION];
        for digest in [&self.pools, &self.members, &self.subscribers] {
            octets.extend_from_slice(digest);
        }
        octets
    }

    /// As others told it; `None` if a version that is not known here did.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let (version, digests) = octets.split_first()?;
        let ([pools, members, subscribers], []) = digests.as_chunks::<DIGEST>() else {
            return None;
        };
        (*version == VERSION).then_some(Self {
            pools: *pools,
            members: *members,
            subscribers: *subscribers,
        })
    }
}

/// All of a pool that matters to the others: drained it may be at one node after the other. One without IPv6 says what a node of a
/// version without IPv6 says of it: they agree.
fn pool_text(pool: &PoolConfig) -> String {
    let PoolConfig {
        name,
        prefixes,
        gateway,
        drain: _,
        ipv6,
    } = pool;
    let ipv4 = format!("PoolConfig {{ name: {name:?}, prefixes: {prefixes:?}, gateway: {gateway} }}");
    match ipv6.is_empty() {
        true => ipv4,
        false => format!("{ipv4} {ipv6:?}"),
    }
}

/// All of a user but the password, which `Debug` passes over. One with nothing that a node of the version before knows not says
/// what that says.
fn user_text(user: &UserConfig) -> String {
    let UserConfig {
        name,
        password,
        address,
        pool,
        max_sessions,
        policy,
        routes,
        ipv4,
        ipv6,
    } = user;
    let mut text = format!(
        "UserConfig {{ name: {name:?}, password: {password:?}, address: {address:?}, pool: {pool:?}, max_sessions: {max_sessions:?} }}"
    );
    if let Some(policy) = policy {
        text += &format!(" policy {policy:?}");
    }
    if !routes.is_empty() {
        text += &format!(" {routes:?}");
    }
    if !*ipv4 || *ipv6 != UserPrefixes::default() {
        text += &format!(" {ipv4} {ipv6:?}");
    }
    text
}

impl Debug for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agreement").finish_non_exhaustive()
    }
}

/// Each part with its length, so that no two lists of parts look alike.
struct Digest(Context);

impl Digest {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn of(parts: &[String]) -> [u8; DIGEST] {
        let mut digest = Self::new();
        parts.iter().for_each(|part| digest.add(part));
        digest.finish()
    }

    fn add(&mut self, part: &str) {
        self.add_octets(part.as_bytes());
    }

    fn add_octets(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn finish(self) -> [u8; DIGEST] {
        let digest = self.0.finish();
        *digest.as_ref().first_chunk().expect("SHA-256 has 32 octets")
    }
}

impl Difference {
    /// Whether a node that differs so must not join those who do not.
    pub fn is_grave(&self) -> bool {
        matches!(self, Self::Versions { .. } | Self::Pools)
    }

    /// What is wrong, and what to do about it.
    pub fn text(&self, node: u64) -> String {
        match self {
            Self::Versions {
                program,
                theirs,
                ours,
            } => format!(
                "node {node} (version {program}) knows records of versions {} to {}, this node (version {}) of {} to {}: \
                 they cannot work together; upgrade the older one",
                theirs.0,
                theirs.1,
                env!("CARGO_PKG_VERSION"),
                ours.0,
                ours.1
            ),
            Self::Pools => format!(
                "node {node} has other pools: make [[pool]] name, prefixes and gateway alike in the files of all members, \
                 then \"holdfast reload\" on those that run and start the others"
            ),
            Self::Members => format!(
                "node {node} has other members or another isolation limit: make [[member]] and [cluster] isolation_limit \
                 alike in the files of all members, then \"holdfast reload\" on each; the isolation limit, and what a node is itself, \
                 need its restart"
            ),
            Self::Subscribers => format!(
                "node {node} has other LACs, policies, filters, users or secrets: make [[lac]], [[policy]], [[filter]] and [[user]] alike in the files of all \
                 members, then \"holdfast reload\" on each"
            ),
            Self::Clock(ahead) => format!(
                "the clock of node {node} is {} {} this node's: set both by NTP; no session depends on them, but certificates are \
                 judged and events dated by them",
                span(ahead.unsigned_abs()),
                if *ahead > 0 { "ahead of" } else { "behind" }
            ),
        }
    }
}

/// In words, the way a person would say how far a clock is off.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl Agreements {
    /// Nobody was heard yet. `versions` are the oldest and newest of commands and records that this program knows.
    pub fn new(ours: Agreement, versions: (u32, u32)) -> Self {
        Self(Mutex::new(State {
            ours,
            versions,
            heard: BTreeMap::new(),
        }))
    }

    /// A member said Hello.
    pub fn hello(&self, node: u64, hello: &Hello) {
        let mut state = self.state();
        let logged = state
            .heard
            .remove(&node)
            .map_or_else(Vec::new, |heard| heard.logged);
        let heard = Heard {
            program: hello.program.clone(),
            versions: (hello.oldest_version, hello.newest_version),
            agreement: Agreement::decode(&hello.configuration),
            past: hello.past.clone(),
            ahead: None,
            logged,
        };
        state.heard.insert(node, heard);
        state.log(node);
    }

    /// A member has another configuration now.
    pub fn changed(&self, node: u64, agreement: Agreement) {
        let mut state = self.state();
        if let Some(heard) = state.heard.get_mut(&node) {
            heard.agreement = Some(agreement);
            state.log(node);
        }
    }

    /// A member's wall clock was at `theirs` when ours was at `ours`, a moment ago.
    pub fn clock(&self, node: u64, theirs: Duration, ours: Duration) {
        let ahead = theirs.as_secs().cast_signed() - ours.as_secs().cast_signed();
        let mut state = self.state();
        let Some(heard) = state.heard.get_mut(&node) else {
            return;
        };
        let is_said = |said: i64| said.abs_diff(ahead) < CLOCK_OFF_MIN_S / 2;
        if heard.ahead.is_some_and(is_said) && ahead.unsigned_abs() >= CLOCK_OFF_MIN_S / 2 {
            return;
        }
        heard.ahead = Some(ahead).filter(|ahead| ahead.unsigned_abs() >= CLOCK_OFF_MIN_S);
        state.log(node);
    }

    /// This node has another configuration now.
    pub fn reconfigure(&self, ours: Agreement) {
        let mut state = self.state();
        state.ours = ours;
        let nodes: Vec<u64> = state.heard.keys().copied().collect();
        nodes.into_iter().for_each(|node| state.log(node));
    }

    /// What a member has otherwise than this node, as far as it was heard.
    pub fn differences(&self, node: u64) -> Vec<Difference> {
        self.state().differences(node)
    }

    /// What those who were heard remember of the cluster, as they said last.
    pub fn pasts(&self) -> BTreeMap<u64, Past> {
        let heard = &self.state().heard;
        heard
            .iter()
            .map(|(node, heard)| (*node, heard.past.clone()))
            .collect()
    }

    /// Why this node, which is about to start, must not: it differs gravely from most of those heard, itself among them; or
    /// from the leader where as many agree.
    pub fn refusal(&self, leader: u64) -> Option<String> {
        let state = self.state();
        let grave = |node: u64| state.differences(node).into_iter().find(Difference::is_grave);
        let against: Vec<(u64, Difference)> = state
            .heard
            .keys()
            .filter_map(|node| grave(*node).map(|difference| (*node, difference)))
            .collect();
        let agreeing = state.heard.len() - against.len() + 1;
        let leads = |found: &&(u64, Difference)| found.0 == leader;
        let named = match against.len().cmp(&agreeing) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => against.iter().find(leads),
            std::cmp::Ordering::Greater => against.iter().find(leads).or(against.first()),
        };
        named.map(|(node, difference)| difference.text(*node))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics with the agreements locked")
    }
}

impl State {
    fn differences(&self, node: u64) -> Vec<Difference> {
        let Some(heard) = self.heard.get(&node) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        if heard.versions.0 > self.versions.1 || heard.versions.1 < self.versions.0 {
            found.push(Difference::Versions {
                program: heard.program.clone(),
                theirs: heard.versions,
                ours: self.versions,
            });
        }
        found.extend(heard.ahead.map(Difference::Clock));
        if let Some(theirs) = &heard.agreement {
            let parts = [
                (theirs.pools != self.ours.pools, Difference::Pools),
                (theirs.members != self.ours.members, Difference::Members),
                (
                    theirs.subscribers != self.ours.subscribers,
                    Difference::Subscribers,
                ),
            ];
            found.extend(
                parts
                    .into_iter()
                    .filter_map(|(differs, what)| differs.then_some(what)),
            );
        }
        found
    }

    /// Each difference once, however often its node connects.
    fn log(&mut self, node: u64) {
        let found = self.differences(node);
        let Some(heard) = self.heard.get_mut(&node) else {
            return;
        };
        for difference in found.iter().filter(|found| !heard.logged.contains(found)) {
            match difference.is_grave() {
                true => tracing::error!(node, "the members disagree: {}", difference.text(node)),
                false => tracing::warn!(node, "the members disagree: {}", difference.text(node)),
            }
        }
        if found.is_empty() && !heard.logged.is_empty() {
            tracing::info!(node, "a member agrees with this one again");
        }
        heard.logged = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(pools: u8, subscribers: u8) -> Agreement {
        Agreement {
            pools: [pools; DIGEST],
            members: [0; DIGEST],
            subscribers: [subscribers; DIGEST],
        }
    }

    fn hello(node: u64, versions: (u32, u32), said: Vec<u8>) -> Hello {
        Hello {
            cluster_id: "c".into(),
            node,
            program: "9.9".into(),
            oldest_version: versions.0,
            newest_version: versions.1,
            configuration: said,
            boot: 1,
            lineage: holdfast_cluster::replica::Lineage::default(),
            past: Past::default(),
        }
    }

    fn heard(said: &[(u64, Agreement)]) -> Agreements {
        let agreements = Agreements::new(agreement(1, 1), (1, 2));
        for (node, theirs) in said {
            agreements.hello(*node, &hello(*node, (1, 2), theirs.encode()));
        }
        agreements
    }

    #[test]
    fn what_is_told_is_understood() {
        let said = agreement(1, 2).encode();
        assert_eq!(Agreement::decode(&said), Some(agreement(1, 2)));
        assert_eq!(Agreement::decode(&said[1..]), None);
        assert_eq!(Agreement::decode(&[]), None);
        let mut newer = said;
        newer[0] = 2;
        assert_eq!(Agreement::decode(&newer), None);
    }

    #[test]
    fn other_pools_than_most_have_are_refused() {
        let (same, other) = (agreement(1, 1), agreement(2, 1));
        assert_eq!(heard(&[]).refusal(2), None);
        assert_eq!(
            heard(&[(2, same), (3, other)]).refusal(3),
            None,
            "two against one"
        );
        assert!(heard(&[(2, other), (3, other)]).refusal(1).is_some());
        assert!(heard(&[(2, other)]).refusal(2).is_some(), "the leader decides");
        assert_eq!(heard(&[(2, other)]).refusal(1), None);
        let text = heard(&[(2, other), (3, other)]).refusal(3).expect("refused");
        assert!(text.contains("node 3 has other pools"), "{text}");
    }

    #[test]
    fn other_secrets_are_named_and_tolerated() {
        let agreements = heard(&[(2, agreement(1, 9)), (3, agreement(1, 9))]);
        assert_eq!(agreements.differences(2), [Difference::Subscribers]);
        assert_eq!(agreements.refusal(2), None);
        agreements.changed(2, agreement(1, 1));
        assert_eq!(agreements.differences(2), []);
        agreements.reconfigure(agreement(1, 9));
        assert_eq!(agreements.differences(2), [Difference::Subscribers]);
        assert_eq!(agreements.differences(3), []);
    }

    #[test]
    fn a_clock_that_is_off_is_named_until_it_is_set() {
        let agreements = heard(&[(2, agreement(1, 1))]);
        let noon = Duration::from_secs(1_800_000_000);
        let hour = Duration::from_secs(3_600);
        let said = |theirs: Duration| {
            agreements.clock(2, theirs, noon);
            agreements.differences(2)
        };
        assert_eq!(said(noon + Duration::from_secs(59)), []);
        let hour_ahead = said(noon + hour);
        assert_eq!(hour_ahead, [Difference::Clock(3_600)]);
        assert!(
            hour_ahead[0]
                .text(2)
                .contains("the clock of node 2 is 60 minutes ahead of")
        );
        assert_eq!(
            said(noon + hour + Duration::from_secs(1)),
            hour_ahead,
            "one line is enough"
        );
        assert_eq!(said(noon - hour), [Difference::Clock(-3_600)]);
        assert_eq!(agreements.refusal(2), None);
        assert_eq!(said(noon), []);
    }

    #[test]
    fn versions_without_one_in_common_are_refused_and_overlapping_ones_not() {
        let agreements = Agreements::new(agreement(1, 1), (2, 3));
        agreements.hello(2, &hello(2, (3, 4), Vec::new()));
        assert_eq!(agreements.differences(2), []);
        agreements.hello(2, &hello(2, (4, 5), Vec::new()));
        let text = agreements.refusal(2).expect("refused");
        assert!(
            text.contains("node 2 (version 9.9) knows records of versions 4 to 5"),
            "{text}"
        );
    }

    #[test]
    fn secrets_and_pools_change_the_digests() {
        let parse = |pool: &str, secret: &str| {
            let text = format!(
                "[node]\nlisten = [\"127.0.0.1:1701\"]\n[[pool]]\nname = \"p\"\nprefixes = [\"{pool}\"]\n\
                 [[lac]]\nname = \"a\"\nhost_name = \"*\"\nsecret = \"{secret}\"\n"
            );
            Agreement::of(&crate::config::Config::parse("f".as_ref(), &text, Vec::new()).expect("sound"))
        };
        let one = parse("100.64.0.0/24", "hunter2");
        assert_eq!(one, parse("100.64.0.0/24", "hunter2"));
        let secret = parse("100.64.0.0/24", "hunter3");
        assert!(one.pools == secret.pools && one.subscribers != secret.subscribers);
        let pool = parse("100.64.1.0/24", "hunter2");
        assert!(one.pools != pool.pools && one.subscribers == pool.subscribers);
    }
}
