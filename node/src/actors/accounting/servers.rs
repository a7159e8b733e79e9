//! The accounting servers of the configuration in force, by the node's RADIUS client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::courier::{Courier, Delivery, Outcome};
use crate::aaa::accounting::Request;
use crate::aaa::accounting::record::{self, Nas};
use crate::aaa::radius::client::{Ask, AskError, Purpose};
use crate::actors::context::Shared;
use crate::io::radius::{Answer, NoAnswer};

/// How long a Start or Stop is repeated and tried at one server after the other, before the group counts as silent.
const RECORD_PATIENCE: Duration = Duration::from_secs(30);

/// The same for an interim.
const INTERIM_PATIENCE: Duration = Duration::from_secs(10);

/// The same for an Accounting-On: a copy that came after the first session had begun would end it.
const ON_PATIENCE: Duration = Duration::from_secs(2);

/// The same for an Accounting-Off: the process waits for it.
const OFF_PATIENCE: Duration = Duration::from_secs(5);

/// Tells our questions from those of sessions.
const TOKENS: u64 = 1 << 63;

/// And those of a node that ends from those before.
const LAST_TOKENS: u64 = TOKENS | 1 << 62;

/// See the module.
#[derive(Debug)]
pub struct Servers {
    shared: Arc<Shared>,
    next_token: AtomicU64,
}

impl Servers {
    /// Nothing is under way.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            next_token: AtomicU64::new(TOKENS),
        }
    }

    /// Beside the others, for what is said last.
    pub fn for_goodbye(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            next_token: AtomicU64::new(LAST_TOKENS),
        }
    }
}

fn patience(request: &Request) -> Duration {
    match request {
        Request::On { .. } => ON_PATIENCE,
        Request::Off { .. } => OFF_PATIENCE,
        Request::Owed(..) => RECORD_PATIENCE,
        Request::Interim(_) => INTERIM_PATIENCE,
    }
}

impl Courier for Servers {
    fn groups(&self) -> Vec<String> {
        let config = self.shared.config.load();
        let mut groups: Vec<_> = config
            .radius
            .iter()
            .filter(|server| server.acct_port != 0)
            .map(|server| server.group.clone())
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn accounts(&self, group: &str) -> bool {
        let config = self.shared.config.load();
        let mut servers = config.radius.iter();
        servers.any(|server| server.acct_port != 0 && server.group == group)
    }

    fn interim_interval_s(&self) -> u32 {
        let config = self.shared.config.load();
        let is_wanted = config.radius.iter().any(|server| server.acct_port != 0);
        let interval = config.accounting.interim_interval.as_secs();
        if is_wanted {
            u32::try_from(interval).unwrap_or(u32::MAX)
        } else {
            0
        }
    }

    fn deliver(&self, group: &str, request: Request) -> Delivery {
        let config = self.shared.config.load();
        let nas = Nas {
            identity: config.nas_identity(),
            host_name: config.node.host_name.clone(),
        };
        let content = match record::content(&nas, &request) {
            Ok(content) => content,
            Err(why) => return Box::pin(async move { Outcome::Impossible(why) }),
        };
        let ask = Ask {
            token: self.next_token.fetch_add(1, Relaxed),
            groups: vec![group.into()],
            purpose: Purpose::Accounting,
            content,
            patience: patience(&request),
        };
        let (answer, answered) = oneshot::channel();
        let taker = move |given: Answer| {
            let outcome = match given {
                Answer::Reply { .. } => Outcome::Confirmed,
                Answer::None(NoAnswer::NotAsked(AskError::TooLong(why))) => Outcome::Impossible(why),
                Answer::None(_) => Outcome::Unanswered,
            };
            // Who went away does not want to know.
            let _ = answer.send(outcome);
        };
        self.shared.radius.ask(ask, Box::new(taker));
        Box::pin(async move { answered.await.unwrap_or(Outcome::Unanswered) })
    }
}
