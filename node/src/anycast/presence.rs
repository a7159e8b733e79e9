//! The anycast side of a running node: its beats and its announcements.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;

use super::announcer::{Announcement, Announcer, BirdTable, Standing};
use super::bird;
use super::heart::Heart;
use super::parent::Leash;
use crate::config::Config;
use crate::io::{Pulses, TunLink, clock};

/// What failed is tried again, and a restored link noticed, after this long.
const RETRY: Duration = Duration::from_millis(100);
/// How long [`Presence::withdraw`] waits for the kernel.
const WITHDRAW_PATIENCE: Duration = Duration::from_secs(1);

/// Beats and announces. Dropped, it withdraws and stops.
#[derive(Debug)]
pub struct Presence {
    heart: Option<Heart>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where the announcer's thread finds what it is to say.
#[derive(Debug, Default)]
struct Desk {
    wish: Mutex<Wish>,
    changed: Condvar,
}

/// What there is to announce besides the addresses that LACs dial; see [`Announcement`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// See [`Announcement::wholes`].
    pub wholes: BTreeSet<IpNet>,
    /// See [`Announcement::slices`].
    pub slices: BTreeSet<IpNet>,
    /// See [`Announcement::outside`].
    pub outside: BTreeSet<IpNet>,
}

#[derive(Debug, Default)]
struct Wish {
    announcement: Announcement,
    /// When the standing was last confirmed, since boot.
    confirmed: Duration,
    /// Counts the changes of the announcement, and of which the kernel knows.
    revision: u64,
    done: u64,
    over: bool,
}

impl Desk {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Begins, with nothing announced. Without a `leash` there is no parent to beat for.
    ///
    /// # Errors
    /// No thread, or no netlink socket.
    pub fn start(config: &Config, link: &TunLink, leash: Option<Leash>) -> io::Result<Option<Self>> {
        let Some(anycast) = &config.anycast else {
            return Ok(None);
        };
        if let Some(socket) = &anycast.bird_socket {
            match bird::greeting(socket) {
                Ok(greeting) => tracing::info!(%greeting, "the BGP speaker is there"),
                Err(error) => tracing::warn!(
                    socket = %socket.display(),
                    "no BIRD answers, so nothing is announced until one is started: {error}"
                ),
            }
        }
        let heart = leash.map(|leash| Heart::start(leash, link.clone())).transpose()?;
        let restored = heart.as_ref().map_or_else(Default::default, Heart::restored);
        let addresses = bird::addresses(config);
        let announcer = BirdTable::open(link.clone(), anycast.table, addresses, restored.clone())?;
        let desk = Arc::new(Desk::default());
        desk.wish().announcement.wholes = config.networks().into_iter().collect();
        let at_desk = desk.clone();
        let thread = std::thread::Builder::new()
            .name("announcer".into())
            .spawn(move || serve(&at_desk, announcer, &restored))?;
        Ok(Some(Self {
            heart,
            desk,
            thread: Some(thread),
        }))
    }

    /// Where threads without which the node is of no use sign on. `None` when there is no parent to tell.
    pub fn pulses(&self) -> Option<Arc<Pulses>> {
        self.heart.as_ref().map(Heart::pulses)
    }

    /// How the node stands, as far as its caller knows *now*. To be confirmed every 100 ms or so: after the parent has
    /// set the link down, what was said before does not count any more.
    pub fn set_standing(&self, standing: Standing) {
        let mut wish = self.desk.wish();
        wish.confirmed = clock::since_boot();
        if wish.announcement.standing != standing {
            tracing::info!(?standing, "announcing to the routers");
            wish.announcement.standing = standing;
            wish.revision += 1;
            self.desk.changed.notify_all();
        }
    }

    /// What the table says of the networks: [`Forwarding::announced`](crate::actors::forwarding::Forwarding::announced).
    pub fn set_networks(&self, networks: Networks) {
        let mut wish = self.desk.wish();
        let announcement = Announcement {
            standing: wish.announcement.standing,
            wholes: networks.wholes,
            slices: networks.slices,
            outside: networks.outside,
        };
        if wish.announcement != announcement {
            wish.announcement = announcement;
            wish.revision += 1;
            self.desk.changed.notify_all();
        }
    }

    /// Counts up whenever the link was set up again, which takes its routes away.
    pub fn restored(&self) -> Arc<AtomicU64> {
        self.heart.as_ref().map_or_else(Default::default, Heart::restored)
    }

    /// Withdraws everything and waits until the kernel has it so; the node serves on. Blocks.
    pub fn withdraw(&self) {
        self.set_standing(Standing::Withdrawn);
        let wish = self.desk.wish();
        let (wish, timeout) = self
            .desk
            .changed
            .wait_timeout_while(wish, WITHDRAW_PATIENCE, |wish| wish.done < wish.revision)
            .unwrap_or_else(PoisonError::into_inner);
        drop(wish);
        if timeout.timed_out() {
            tracing::warn!("not everything could be withdrawn; it goes with the process");
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.withdraw();
        self.desk.wish().over = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The announcer's thread.
fn serve(desk: &Desk, mut announcer: impl Announcer, restored: &AtomicU64) {
    let mut seen = restored.load(Ordering::Acquire);
    let mut restored_at = Duration::ZERO;
    let mut failing = false;
    let mut wish = desk.wish();
    while !wish.over {
        let now_restored = restored.load(Ordering::Acquire);
        if now_restored != seen {
            seen = now_restored;
            restored_at = clock::since_boot();
        }
        let mut announcement = wish.announcement.clone();
        if wish.confirmed < restored_at {
            announcement.standing = Standing::Withdrawn;
        }
        let revision = wish.revision;
        drop(wish);
        let outcome = announcer.announce(&announcement);
        wish = desk.wish();
        match &outcome {
            Ok(_) => {
                wish.done = revision;
                desk.changed.notify_all();
            }
            // While the link is down this is so ten times a second.
            Err(error) if !failing => tracing::warn!("{error}; trying again"),
            Err(_) => {}
        }
        failing = outcome.is_err();
        if !wish.over && (wish.revision == revision || failing) {
            wish = desk
                .changed
                .wait_timeout(wish, RETRY)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::announcer::{AnnounceError, Changed};
    use super::*;

    /// Notes what it was asked for last, and fails as often as it is told to.
    #[derive(Clone, Default)]
    struct Notes {
        last: Arc<Mutex<Option<Announcement>>>,
        failures: Arc<AtomicU64>,
    }

    impl Announcer for Notes {
        fn announce(&mut self, wanted: &Announcement) -> Result<Changed, AnnounceError> {
            let fails = |left: u64| left.checked_sub(1);
            if self
                .failures
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
                .is_ok()
            {
                return Err(AnnounceError::Route {
                    to: "192.0.2.1/32".parse().expect("a prefix"),
                    table: 1701,
                    failed: 1,
                    source: io::ErrorKind::NetworkDown.into(),
                });
            }
            *self.last.lock().expect("no panic") = Some(wanted.clone());
            Ok(Changed::default())
        }
    }

    struct Bench {
        presence: Presence,
        notes: Notes,
        restored: Arc<AtomicU64>,
    }

    impl Bench {
        fn new() -> Self {
            let (notes, restored) = (Notes::default(), Arc::new(AtomicU64::new(0)));
            let desk = Arc::new(Desk::default());
            let (at_desk, announcer, count) = (desk.clone(), notes.clone(), restored.clone());
            let thread = std::thread::spawn(move || serve(&at_desk, announcer, &count));
            let presence = Presence {
                heart: None,
                desk,
                thread: Some(thread),
            };
            Self {
                presence,
                notes,
                restored,
            }
        }

        #[track_caller]
        fn wait_for(&self, standing: Standing, slices: usize) {
            for _ in 0..1000 {
                let last = self.notes.last.lock().expect("no panic").clone();
                if last.is_some_and(|last| last.standing == standing && last.slices.len() == slices) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("{standing:?} with {slices} slices was waited for in vain");
        }
    }

    #[test]
    fn what_is_wished_is_announced_and_tried_again() {
        let bench = Bench::new();
        bench.wait_for(Standing::Withdrawn, 0);
        bench.notes.failures.store(3, Ordering::Relaxed);
        bench.presence.set_standing(Standing::Ready);
        bench.presence.set_networks(Networks {
            slices: ["100.64.1.0/24".parse().expect("a prefix")].into(),
            ..Networks::default()
        });
        bench.wait_for(Standing::Ready, 1);
        bench.presence.withdraw();
        bench.wait_for(Standing::Withdrawn, 1);
    }

    #[test]
    fn what_was_said_before_the_link_was_restored_does_not_count() {
        let bench = Bench::new();
        bench.presence.set_standing(Standing::Ready);
        bench.wait_for(Standing::Ready, 0);
        bench.restored.fetch_add(1, Ordering::Release);
        bench.wait_for(Standing::Withdrawn, 0);
        bench.presence.set_standing(Standing::Ready);
        bench.wait_for(Standing::Ready, 0);
    }

    #[test]
    fn an_end_withdraws() {
        let Bench { presence, notes, .. } = Bench::new();
        presence.set_standing(Standing::Ready);
        drop(presence);
        let last = notes.last.lock().expect("no panic").clone();
        assert_eq!(last.expect("announced").standing, Standing::Withdrawn);
    }
}
