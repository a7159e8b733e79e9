//! The shell of one tunnel: feeds its core, carries out its commands, and has it born again when it panics or is refused.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use holdfast_cluster::Refusal;
use holdfast_cluster::commands::RemoveTunnel;
use holdfast_cluster::records::{SessionRow, SessionState};
use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::iana::{call_result, error_code, stop_result};
use holdfast_protocol::message::Cdn;
use holdfast_protocol::{CloseReason, SessionId, TunnelId};

use super::context::{ShardContext, TimerKey};
use super::handover::Word;
use super::shard::{ShardInput, reclaim_tunnel};
use super::supervision::{PanicHistory, contain};
use super::table::{Image, ReplyTo, session_row};
use super::{accept, session};
use crate::dataplane::TunnelShared;
use crate::lns::terminate_cause;
use crate::lns::tunnel::{Birth, CallRefusal, Command, Occurrence, SessionRequest, Tunnel};
use crate::metrics::{Counter, Limit};
use crate::throttled;

/// Control messages that may wait for one tunnel; more are dropped and come again.
const MAILBOX: usize = 256;

/// Orders that wait for a tunnel's birth; one more is lost.
const ORDERS_WAITING_MAX: usize = 16;

/// A tunnel that waits for its rebirth asks for it again after this long.
const REBIRTH_RETRY: Duration = Duration::from_secs(1);

/// A control message for the tunnel.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Datagram(pub Vec<u8>);

/// The table's answer to a change.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Verdict {
    /// Of the core that proposed the change.
    pub life: u64,
    /// Of the change.
    pub revision: u64,
    /// Why not.
    pub refusal: Option<Refusal>,
}

/// The table's answer to the removal of the tombstone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Removed {
    /// Why not.
    pub refusal: Option<Refusal>,
}

/// A deadline has come.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// A session asks its tunnel.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ask(pub SessionId, pub SessionRequest);

/// Something from outside the tunnel's own life.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Order {
    /// Close it: StopCCN.
    Close(ResultCode, u32),
    /// End it without a word: its LAC has restarted.
    Abandon,
    /// Clear a session whose place another one of its user took.
    ClearReplaced(SessionId),
    /// A session's core panicked: have it born again from its row.
    BearSession(SessionId),
    /// A session's panics do not end: clear it.
    GiveUpSession(SessionId),
    /// The table refuses one address after the other that a session asks for: clear it.
    ClearWithoutAddress(SessionId),
    /// Panic, to show that it is contained.
    InjectPanic,
}

impl Order {
    /// An operator wants it ended.
    pub fn administrative_end() -> Self {
        Self::Close(
            ResultCode::new(stop_result::GENERAL_REQUEST),
            terminate_cause::ADMIN_RESET,
        )
    }
}

/// Be born (again) from this.
#[derive(Message)]
#[rtype(result = "()")]
struct Born(Image);

/// See the module.
#[derive(Debug)]
pub struct TunnelActor {
    shard: Rc<ShardContext>,
    id: TunnelId,
    /// `None` while the tunnel waits for its rebirth.
    core: Option<Box<Tunnel>>,
    /// Of the latest core, whether it lives or not. Nothing of an earlier life, nor a second birth into the same one, may
    /// touch the next: two cores of one life would take each other's verdicts for their own.
    life: Option<u64>,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    profile: String,
    shared: Option<Arc<TunnelShared>>,
    panics: PanicHistory,
    give_up: bool,
    /// Whether something is under way that another owner would have to begin anew.
    under_way: Word,
    /// Sessions that the latest birth found connected with PPP unfinished: it had begun under another core, or owner.
    begun: BTreeSet<SessionId>,
    /// Orders that came while there was no core.
    waiting: Vec<Order>,
}

/// Has a tunnel born from its rows; one that is there already is born again.
pub fn start(shard: &Rc<ShardContext>, image: Image) {
    let Some(id) = image.row.id() else { return };
    let known = shard.tunnels.borrow().get(&id).cloned();
    let address = known.unwrap_or_else(|| {
        let context = shard.clone();
        // The supervisor keeps the address alive over restarts (see `give_back`).
        let address = Supervisor::start(move |ctx: &mut Context<TunnelActor>| {
            ctx.set_mailbox_capacity(MAILBOX);
            TunnelActor::unborn(context, id)
        });
        shard.tunnels.borrow_mut().insert(id, address.clone());
        address
    });
    address.do_send(Born(image));
}

/// The tunnel is gone from the table: so are its actor and those of its sessions.
pub fn stop(shard: &Rc<ShardContext>, tunnel: TunnelId) {
    shard.timers.borrow_mut().set(TimerKey::Tunnel(tunnel), None);
    shard.tunnels.borrow_mut().remove(&tunnel);
    stop_sessions(shard, tunnel, |_| true);
}

/// Ends the actors of a tunnel's sessions that are `gone`.
fn stop_sessions(shard: &Rc<ShardContext>, tunnel: TunnelId, gone: impl Fn(SessionId) -> bool) {
    let first = (tunnel, SessionId::new(1).expect("1 is not zero"));
    let last = (tunnel, SessionId::new(u16::MAX).expect("0xffff is not zero"));
    let sessions: Vec<_> = {
        let sessions = shard.sessions.borrow();
        let of_tunnel = sessions.range(first..=last).map(|((_, session), _)| *session);
        of_tunnel.filter(|session| gone(*session)).collect()
    };
    for session in sessions {
        session::stop(shard, tunnel, session);
    }
}

impl TunnelActor {
    fn unborn(shard: Rc<ShardContext>, id: TunnelId) -> Self {
        let departures = shard.shared.departures.clone();
        Self {
            under_way: Word::new(departures, id.group()),
            shard,
            id,
            begun: BTreeSet::new(),
            waiting: Vec::new(),
            core: None,
            life: None,
            peer: SocketAddr::from(([0, 0, 0, 0], 0)),
            local: None,
            profile: String::new(),
            shared: None,
            panics: PanicHistory::default(),
            give_up: false,
        }
    }

    /// Lets the core work and carries out what it wants; a panic voids it.
    fn run(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(&mut Tunnel, crate::lns::Now)) {
        let Some(mut core) = self.core.take() else { return };
        let now = self.shard.now();
        let refused = self.shard.shared.calls_refused(&self.profile);
        let max_sessions = self.shard.shared.config.load().l2tp.max_sessions_per_tunnel;
        let shared = self.shared.clone();
        let holds_calls = self.shard.shared.departures.holds_calls(self.id.group());
        let survived = contain(|| {
            core.refuse_calls(refused);
            core.hold_calls(holds_calls);
            core.set_max_sessions(max_sessions);
            core.set_table_took(self.shard.table_took.get());
            if let Some(heard) = shared.and_then(|shared| shared.last_received()) {
                core.note_received(heard);
            }
            work(&mut core, now);
            let commands: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
            (commands, core.poll_timeout(), core)
        });
        let Some((commands, deadline, core)) = survived else {
            self.on_panic(ctx);
            return;
        };
        self.panics.handled();
        self.under_way.set(core.has_under_way());
        self.shard.table_took.set(core.table_took());
        self.core = Some(core);
        self.shard
            .timers
            .borrow_mut()
            .set(TimerKey::Tunnel(self.id), deadline);
        for command in commands {
            self.carry_out(ctx, command);
        }
    }

    /// For what is written to the log. Made where that is done alone: its text costs as much as all else that a message needs here.
    fn span(&self) -> tracing::span::EnteredSpan {
        tracing::info_span!("tunnel", id = %self.id, peer = %self.peer).entered()
    }

    fn on_panic(&mut self, ctx: &mut Context<Self>) {
        let _span = self.span();
        self.shard.shared.metrics.count(Counter::TunnelActorRestarts);
        tracing::error!("the tunnel's actor panicked; it is born again from its row");
        self.give_up |= self.panics.panicked(self.shard.now().monotonic);
        // The supervisor calls `restarting`.
        ctx.stop();
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>, command: Command) {
        match command {
            Command::Transmit(datagram) => {
                self.shard.shared.metrics.count(Counter::ControlSent);
                // A datagram that the packet thread cannot take is sent again by the control channel.
                let _ = self.shard.shared.dataplane.queue_control(
                    self.shard.index,
                    self.local,
                    self.peer,
                    datagram,
                );
                self.shard.wake_soon();
            }
            Command::Propose(change) => {
                let reply = ReplyTo::Change {
                    tunnel: self.id,
                    life: change.life,
                    revision: change.revision,
                };
                self.shard
                    .shared
                    .table
                    .propose(reply, Arc::unwrap_or_clone(change));
            }
            Command::ProposeRemoval => self.propose_removal(),
            Command::StartSession { session, row, proxy } => {
                let begins = !self.begun.remove(&session);
                session::start(&self.shard, self.id, session, row, proxy, begins);
            }
            Command::StopSession(session) => session::stop(&self.shard, self.id, session),
            Command::SessionAccepted { session, serial } => {
                session::order(&self.shard, self.id, session, session::Order::Accepted(serial));
            }
            Command::Established => {
                let _span = self.span();
                accept::on_established(&self.shard, self.id);
            }
            Command::Closed(reason) => self.on_closed(&reason),
            Command::Heard => self.shard.shared.directory.note_heard(self.id),
            Command::Rebirth(refusal) => {
                let _span = self.span();
                self.shard.shared.metrics.count(Counter::TunnelRebirths);
                tracing::warn!(
                    refusal,
                    "a change was refused; the tunnel is born again from its row"
                );
                self.core = None;
                ctx.stop();
            }
            Command::Finished => stop(&self.shard, self.id),
            Command::Count(occurrence) => self.count(occurrence),
        }
    }

    fn on_closed(&self, reason: &CloseReason) {
        let _span = self.span();
        let metrics = &self.shard.shared.metrics;
        metrics.count(Counter::TunnelsClosed);
        match reason {
            CloseReason::NoAnswer => metrics.count(Counter::TunnelsNoAnswer),
            CloseReason::Local(result) if result.result == stop_result::NOT_AUTHORIZED => {
                metrics.count(Counter::TunnelSecretWrong);
                throttled!(
                    warn,
                    profile = self.profile,
                    "wrong tunnel secret: the LAC's answer to our challenge is not right; give the LAC and the [[lac]] section \
                     of its profile the same secret"
                );
            }
            CloseReason::Peer(Some(result)) if result.result == stop_result::NOT_AUTHORIZED => {
                throttled!(
                    warn,
                    profile = self.profile,
                    "the LAC does not authorize us: give it and the [[lac]] section of its profile the same secret"
                );
            }
            CloseReason::Local(_) | CloseReason::Peer(_) | CloseReason::TieLost => {}
        }
        throttled!(info, profile = self.profile, ?reason, "tunnel closed");
    }

    fn count(&self, occurrence: Occurrence) {
        let metrics = &self.shard.shared.metrics;
        if let Occurrence::CallRefused(why) = occurrence {
            let _span = self.span();
            let limit = match why {
                CallRefusal::NodeSessions => Some(Limit::Sessions),
                CallRefusal::ProfileSessions => Some(Limit::LacSessions),
                CallRefusal::TunnelSessions | CallRefusal::NoSessionId => Some(Limit::SessionsPerTunnel),
                CallRefusal::ShuttingDown | CallRefusal::DiskFull => None,
            };
            if let Some(limit) = limit {
                metrics.hit(limit);
            }
            throttled!(warn, profile = self.profile, ?why, "call refused");
        }
        metrics.count(match occurrence {
            Occurrence::ControlReceived => Counter::ControlReceived,
            Occurrence::ControlDuplicate => Counter::ControlDuplicate,
            Occurrence::ControlDropped => Counter::ControlDropped,
            Occurrence::ControlRetransmitted => Counter::ControlRetransmitted,
            Occurrence::CallReceived => Counter::CallsReceived,
            Occurrence::CallRefused(_) => Counter::CallsRefused,
            Occurrence::CallHeld => Counter::CallsHeld,
            Occurrence::CallAbandoned => Counter::CallsAbandoned,
            Occurrence::Fault => Counter::ControlMalformed,
        });
    }

    fn propose_removal(&self) {
        let life = self.core.as_ref().map_or(0, |core| core.life());
        let command = RemoveTunnel {
            tunnel_id: u32::from(self.id.get()),
            life,
        };
        self.shard
            .shared
            .table
            .propose(ReplyTo::Removal { tunnel: self.id }, command);
    }

    fn be_born(&mut self, ctx: &mut Context<Self>, image: &Image) {
        if self.life.is_some_and(|life| image.life <= life) {
            return;
        }
        self.life = Some(image.life);
        let row = &image.row;
        let (Some(peer), local) = (
            row.peer.as_ref().and_then(|a| a.to_std()),
            row.local.as_ref().and_then(|a| a.to_std()),
        ) else {
            tracing::error!(tunnel = %self.id, "the tunnel's row names no peer; it stays unborn");
            return;
        };
        self.peer = peer;
        self.local = local;
        self.profile.clone_from(&row.profile);
        self.shared = self
            .shard
            .shared
            .directory
            .tunnel(self.id)
            .map(|facts| facts.shared);
        let config = self.shard.shared.config.load();
        let birth = Birth {
            row,
            sessions: &image.sessions,
            life: image.life,
            seed: self.shard.seed(),
            accounting_prefix: self.shard.shared.incarnation,
            max_sessions: config.l2tp.max_sessions_per_tunnel,
        };
        let settings = accept::settings(&config, &row.profile, None);
        // The word that they are over may have been lost with an earlier core.
        stop_sessions(&self.shard, self.id, |session| {
            let id = u32::from(session.get());
            image
                .sessions
                .binary_search_by_key(&id, |row| row.session_id)
                .is_err()
        });
        let begun = |row: &&Arc<SessionRow>| row.state() == SessionState::Connected && !row.is_open();
        self.begun = image
            .sessions
            .iter()
            .filter(begun)
            .filter_map(|row| row.id())
            .collect();
        let now = self.shard.now();
        match contain(|| Box::new(Tunnel::born(now, settings, &birth))) {
            Some(core) => self.core = Some(core),
            // No life helps: try again now and then, so that neither the log nor the disk is flooded.
            None if self.give_up => {
                self.shard.shared.metrics.count(Counter::PanicLoops);
                let retry = now.monotonic + REBIRTH_RETRY;
                return self
                    .shard
                    .timers
                    .borrow_mut()
                    .set(TimerKey::Tunnel(self.id), Some(retry));
            }
            None => return self.on_panic(ctx),
        }
        if self.shard.shared.directory.is_superseded(self.id) {
            // The order to go was lost with the process.
            self.run(ctx, |core, now| core.abandon(now));
        } else if self.give_up {
            self.shard.shared.metrics.count(Counter::PanicLoops);
            let result = ResultCode::with_error(
                stop_result::GENERAL_ERROR,
                error_code::NO_RESOURCES,
                "internal error",
            );
            self.run(ctx, |core, now| {
                core.close(now, result, terminate_cause::NAS_ERROR)
            });
        } else {
            self.run(ctx, |core, now| core.rest_ids(now, &image.resting));
        }
        // The word that they were replaced came before this birth, or before this process.
        for session in &image.replaced {
            self.clear_replaced(ctx, *session);
        }
        for order in std::mem::take(&mut self.waiting) {
            self.carry_out_order(ctx, order);
        }
    }

    fn clear_replaced(&mut self, ctx: &mut Context<Self>, session: SessionId) {
        let text = "replaced by a newer session of the user";
        self.clear(ctx, session, text, terminate_cause::ADMIN_RESET);
    }

    /// After all that was proposed before: the session's row as it is then.
    fn bear_session(&self, session: SessionId) {
        let shared = self.shard.shared.clone();
        let tunnel = self.id;
        let node = shared.clone();
        shared.table.query(move |table| {
            let row = session_row(table, tunnel, session);
            node.shard_of(tunnel)
                .send(ShardInput::SessionBirth { tunnel, session, row });
        });
    }

    fn clear(&mut self, ctx: &mut Context<Self>, session: SessionId, text: &'static str, cause: u32) {
        let result = ResultCode::with_error(call_result::ADMINISTRATIVE, error_code::NONE, text);
        self.run(ctx, |core, now| {
            core.disconnect(now, session, Cdn::new(result), cause)
        });
    }
}

impl Actor for TunnelActor {
    type Context = Context<Self>;
}

impl Supervised for TunnelActor {
    /// After a panic or a refusal: take a new life, then be born from the row.
    fn restarting(&mut self, _: &mut Self::Context) {
        self.core = None;
        let retry = self.shard.now().monotonic + REBIRTH_RETRY;
        self.shard
            .timers
            .borrow_mut()
            .set(TimerKey::Tunnel(self.id), Some(retry));
        reclaim_tunnel(&self.shard.shared, self.id);
    }
}

impl Handler<Born> for TunnelActor {
    type Result = ();
    fn handle(&mut self, Born(image): Born, ctx: &mut Self::Context) {
        // Two cores under one life would take each other's changes for resubmissions of their own, and say what is in no row.
        if self.core.as_ref().is_none_or(|core| core.life() != image.life) {
            self.be_born(ctx, &image);
        }
    }
}

impl Handler<Datagram> for TunnelActor {
    type Result = ();
    fn handle(&mut self, Datagram(datagram): Datagram, ctx: &mut Self::Context) {
        self.run(ctx, |core, now| core.handle_input(now, &datagram));
    }
}

impl Handler<Verdict> for TunnelActor {
    type Result = ();
    fn handle(&mut self, verdict: Verdict, ctx: &mut Self::Context) {
        if self.life != Some(verdict.life) {
            return;
        }
        if let Some(Refusal::Address { session, .. }) = verdict.refusal {
            session::order(&self.shard, self.id, session, session::Order::AddressRefused);
        }
        let refusal = verdict.refusal.map(|refusal| refusal.to_string());
        self.run(ctx, |core, now| {
            core.handle_verdict(now, verdict.revision, refusal)
        });
    }
}

impl Handler<Removed> for TunnelActor {
    type Result = ();
    fn handle(&mut self, removed: Removed, ctx: &mut Self::Context) {
        let refusal = removed.refusal.map(|refusal| refusal.to_string());
        self.run(ctx, |core, now| core.handle_removal(now, refusal));
    }
}

impl Handler<Wake> for TunnelActor {
    type Result = ();
    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        if self.core.is_none() {
            self.restarting(ctx);
        } else {
            self.run(ctx, |core, now| core.handle_timeout(now));
        }
    }
}

impl Handler<Ask> for TunnelActor {
    type Result = ();
    fn handle(&mut self, Ask(session, request): Ask, ctx: &mut Self::Context) {
        self.run(ctx, |core, now| core.handle_request(now, session, request));
    }
}

impl Handler<Order> for TunnelActor {
    type Result = ();
    fn handle(&mut self, order: Order, ctx: &mut Self::Context) {
        // A session is born with its tunnel in any case.
        let waits = self.core.is_none() && !matches!(order, Order::BearSession(_));
        if waits && self.waiting.len() < ORDERS_WAITING_MAX {
            self.waiting.push(order);
        } else {
            self.carry_out_order(ctx, order);
        }
    }
}

impl TunnelActor {
    fn carry_out_order(&mut self, ctx: &mut Context<Self>, order: Order) {
        match order {
            Order::Close(result, cause) => self.run(ctx, |core, now| core.close(now, result, cause)),
            Order::Abandon => self.run(ctx, |core, now| core.abandon(now)),
            Order::ClearReplaced(session) => self.clear_replaced(ctx, session),
            Order::BearSession(session) => self.bear_session(session),
            Order::GiveUpSession(session) => {
                self.shard.shared.metrics.count(Counter::PanicLoops);
                self.clear(ctx, session, "internal error", terminate_cause::NAS_ERROR);
            }
            Order::ClearWithoutAddress(session) => {
                self.clear(ctx, session, "no address available", terminate_cause::NAS_ERROR);
            }
            Order::InjectPanic => self.run(ctx, |core, _| panic!("injected into tunnel {}", core.id())),
        }
    }
}
