//! The shell of one session: feeds its core, sends its frames, asks who the subscriber is, and has it born again when it panics.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use holdfast_cluster::records::SessionRow;
use holdfast_ppp::Cause;
use holdfast_protocol::message::Proxy;
use holdfast_protocol::{SessionId, TunnelId};

use super::context::{ShardContext, TimerKey};
use super::judgement::{self, Answered};
use super::supervision::{PanicHistory, contain};
use super::tunnel;
use super::{prefixes, subscriber};
use crate::dataplane::SessionShared;
use crate::io::PppRoute;
use crate::lns::change::Change;
use crate::lns::session::{Command, Denial, Grant, Session};
use crate::metrics::Counter;
use crate::throttled;

/// PPP control frames that may wait for one session; more are dropped and come again.
const MAILBOX: usize = 32;

/// A session that waits for its rebirth, or its end, asks its tunnel for it again after this long.
const REBIRTH_RETRY: Duration = Duration::from_secs(1);

/// How long a former owner may go on sending (design invariant 3): five times what its lease lasts.
const FORMER_OWNER: Duration = Duration::from_secs(1);

/// Addresses of one session that the table may refuse before the session is cleared.
const ADDRESSES_REFUSED_MAX: u32 = 3;

/// A PPP control frame from the subscriber.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Frame(pub Vec<u8>);

/// Something from outside the session's own life.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Order {
    /// A deadline has come.
    Wake,
    /// The tunnel had the row of this serial number accepted.
    Accepted(u32),
    /// What RADIUS servers say of the subscriber.
    Judged(Box<Answered>),
    /// The table refused the address that it asked for; it is about to be born again.
    AddressRefused,
    /// Half of the reserved data sequence numbers are used.
    ReserveSequence,
    /// Hold it to something else; the table tells what came of it.
    Change(Box<Change>),
    /// End it: LCP Terminate, then CDN.
    Close(Cause),
    /// Panic, to show that it is contained.
    InjectPanic,
}

impl Order {
    /// An operator wants it ended.
    pub fn administrative_end() -> Self {
        Self::Close(Cause::Administrative)
    }
}

/// Be born (again) from this.
#[derive(Message)]
#[rtype(result = "()")]
struct Born {
    row: Arc<SessionRow>,
    /// A core that lives goes on.
    unless_alive: bool,
    /// Its call was connected just now, so nobody has begun PPP before.
    begins: bool,
    proxy: Option<Box<Proxy>>,
}

/// See the module.
#[derive(Debug)]
pub struct SessionActor {
    shard: Rc<ShardContext>,
    tunnel: TunnelId,
    id: SessionId,
    /// `None` while the session waits for its rebirth.
    core: Option<Box<Session>>,
    /// What its core has asked RADIUS servers, and under which serial number; forgotten when it is born again.
    question: Option<(u64, u32)>,
    shared: Option<Arc<SessionShared>>,
    /// Packets of user data that it was told of: from the subscriber, and to them.
    data_packets_seen: (u64, u64),
    /// Since boot.
    heard: Option<Duration>,
    panics: PanicHistory,
    /// Since it was last accepted.
    addresses_refused: u32,
    /// Its panics do not end: it waits for its tunnel to clear it.
    given_up: bool,
}

/// Has a session born from its row; one that is there already is born again. `begins`: its call was connected just now.
pub fn start(
    shard: &Rc<ShardContext>,
    tunnel: TunnelId,
    session: SessionId,
    row: Arc<SessionRow>,
    proxy: Option<Box<Proxy>>,
    begins: bool,
) {
    let known = shard.sessions.borrow().get(&(tunnel, session)).cloned();
    let address = known.unwrap_or_else(|| {
        let context = shard.clone();
        let address = Supervisor::start(move |ctx: &mut Context<SessionActor>| {
            ctx.set_mailbox_capacity(MAILBOX);
            SessionActor::unborn(context, tunnel, session)
        });
        shard
            .sessions
            .borrow_mut()
            .insert((tunnel, session), address.clone());
        address
    });
    address.do_send(Born {
        row,
        unless_alive: false,
        begins,
        proxy,
    });
    let now = shard.now().monotonic;
    let early = shard.early.borrow_mut().take(now, (tunnel, session));
    // What was said to a former owner would come as a surprise.
    if let Some(frame) = early.filter(|_| begins) {
        address.do_send(Frame(frame));
    }
}

/// Has a session whose core panicked born again, if it is still there and was not born with its tunnel meanwhile.
pub fn start_again(shard: &Rc<ShardContext>, tunnel: TunnelId, session: SessionId, row: Arc<SessionRow>) {
    if let Some(address) = shard.sessions.borrow().get(&(tunnel, session)) {
        address.do_send(Born {
            row,
            unless_alive: true,
            begins: false,
            proxy: None,
        });
    }
}

/// The session is gone from the table: so is its actor.
pub fn stop(shard: &Rc<ShardContext>, tunnel: TunnelId, session: SessionId) {
    shard
        .timers
        .borrow_mut()
        .set(TimerKey::Session(tunnel, session), None);
    shard.sessions.borrow_mut().remove(&(tunnel, session));
    subscriber::release(&shard.shared, tunnel, session);
}

/// Tells a session something.
pub fn order(shard: &Rc<ShardContext>, tunnel: TunnelId, session: SessionId, order: Order) {
    if let Some(address) = shard.sessions.borrow().get(&(tunnel, session)) {
        address.do_send(order);
    }
}

impl SessionActor {
    fn unborn(shard: Rc<ShardContext>, tunnel: TunnelId, id: SessionId) -> Self {
        Self {
            shard,
            tunnel,
            id,
            core: None,
            question: None,
            shared: None,
            data_packets_seen: (0, 0),
            heard: None,
            panics: PanicHistory::default(),
            addresses_refused: 0,
            given_up: false,
        }
    }

    /// Lets the core work and carries out what it wants; a panic voids it.
    fn run(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(&mut Session, crate::lns::Now)) {
        let Some(mut core) = self.core.take() else { return };
        let now = self.shard.now();
        let ((data, traffic), heard) = (self.new_data(core.row()), self.newly_heard());
        let survived = contain(|| {
            if let Some(at) = heard {
                core.note_heard(at);
            }
            if data {
                core.note_data(now);
            }
            if traffic {
                core.note_traffic(now);
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
        self.core = Some(core);
        self.shard
            .timers
            .borrow_mut()
            .set(TimerKey::Session(self.tunnel, self.id), deadline);
        for command in commands {
            self.carry_out(ctx, command);
        }
    }

    /// Whether the subscriber has sent data since this was last asked, and whether there was any either way.
    fn new_data(&mut self, row: &SessionRow) -> (bool, bool) {
        let Some(shared) = &self.shared else {
            return (false, false);
        };
        let totals = shared.totals();
        let either_way = totals.sent_packets + self.packets_elsewhere(row);
        let packets = (totals.received_packets, either_way);
        let seen = std::mem::replace(&mut self.data_packets_seen, packets);
        (seen.0 != packets.0, seen != packets)
    }

    /// Of a session that may not idle: user data that other nodes have forwarded, as they have told.
    fn packets_elsewhere(&self, row: &SessionRow) -> u64 {
        let limited = row.ppp.as_ref().is_some_and(|ppp| ppp.idle_timeout > 0);
        let members = self.shard.shared.members.as_ref().filter(|_| limited);
        members.map_or(0, |members| {
            let told = members.reports().of(&row.acct_session_id);
            told.rx_packets + told.tx_packets
        })
    }

    /// When the subscriber was last heard, if that was since this was last asked: the packet threads answer echoes themselves.
    fn newly_heard(&mut self) -> Option<Duration> {
        let heard = self.shared.as_ref()?.last_received();
        let before = std::mem::replace(&mut self.heard, heard);
        heard.filter(|_| before != heard)
    }

    /// For what is written to the log. Made where that is done alone: its text costs as much as all else that a frame needs here.
    fn span(&self) -> tracing::span::EnteredSpan {
        tracing::info_span!("session", tunnel = %self.tunnel, id = %self.id).entered()
    }

    fn on_panic(&mut self, ctx: &mut Context<Self>) {
        let _span = self.span();
        self.shard.shared.metrics.count(Counter::SessionActorRestarts);
        tracing::error!("the session's actor panicked; it is born again from its row");
        self.given_up |= self.panics.panicked(self.shard.now().monotonic);
        if self.given_up {
            self.wait_for_tunnel();
            self.tell_tunnel(tunnel::Order::GiveUpSession(self.id));
        } else {
            // The supervisor calls `restarting`.
            ctx.stop();
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>, command: Command) {
        match command {
            Command::SendFrame(frame) => self.send(frame),
            Command::Authenticate { serial, request } => {
                let Some(row) = self.core.as_ref().map(|core| core.row().clone()) else {
                    return;
                };
                let (question, ids) = (self.shard.seed(), (self.tunnel, self.id));
                let shared = &self.shard.shared;
                let decision = judgement::begin(shared, ids, question, &row, request, || self.span());
                match decision {
                    Some(decision) => self.decided(ctx, serial, decision),
                    None => self.question = Some((question, serial)),
                }
            }
            Command::Request(request) => self.tell_tunnel(tunnel::Ask(self.id, request)),
            Command::Online => {
                self.shard.shared.metrics.count(Counter::SessionsOpened);
                if let Some(core) = &self.core {
                    subscriber::log_online(self.tunnel, core.row());
                }
            }
            Command::Renegotiated => self.shard.shared.metrics.count(Counter::Renegotiations),
            Command::Ended(cause) => self.on_ended(cause),
            Command::Count(counter) => self.shard.shared.metrics.count(ppp_counter(counter)),
            Command::CountIpv6(counter) => self.shard.shared.metrics.count(prefixes::counter(counter)),
        }
    }

    fn decided(&mut self, ctx: &mut Context<Self>, serial: u32, decision: Result<Grant, Denial>) {
        self.run(ctx, |core, now| match decision {
            Ok(grant) => core.handle_grant(now, serial, grant),
            Err(denial) => core.handle_refusal(now, serial, denial),
        });
    }

    /// An answer that came too late, for an earlier core or a question that another one has followed, changes nothing.
    fn on_judged(&mut self, ctx: &mut Context<Self>, answered: &Answered) {
        let Some((_, serial)) = self.question.take_if(|(asked, _)| *asked == answered.question) else {
            return;
        };
        let ids = (self.tunnel, self.id);
        let decision = judgement::finish(&self.shard.shared, ids, answered, || self.span());
        self.decided(ctx, serial, decision);
    }

    /// In a cluster only a fresh owner may send (design invariant 3); a node alone is always one. A frame that the packet thread cannot take is sent again by
    /// PPP's restart timer.
    fn send(&self, frame: Vec<u8>) {
        let directory = &self.shard.shared.directory;
        let facts = (
            directory.tunnel(self.tunnel),
            directory.session(self.tunnel, self.id),
        );
        let (Some(tunnel), Some(session)) = facts else {
            return;
        };
        let route = PppRoute {
            tunnel: self.tunnel,
            session: self.id,
            local: tunnel.local,
            peer: tunnel.peer,
            peer_tunnel: tunnel.peer_tunnel,
            peer_session: session.peer_session,
            sequencing: session.row.sequencing_required,
            shared: session.shared,
        };
        let members = self.shard.shared.members.as_ref();
        let fresh_until = members.map(|members| members.fresh_until());
        // Who is vouched for again has applied that its group is another's, but this actor may not have been told yet.
        if !self.shard.shared.table.published().owns(self.tunnel) {
            return;
        }
        let _ = self.shard.shared.dataplane.queue_ppp(route, frame, fresh_until);
        self.shard.wake_soon();
    }

    /// The row as the table has it, instead of a copy of our own.
    fn share_row(&mut self) {
        let facts = self.shard.shared.directory.session(self.tunnel, self.id);
        if let (Some(core), Some(facts)) = (&mut self.core, facts) {
            core.share_row(facts.row);
        }
    }

    fn on_ended(&self, cause: Cause) {
        let _span = self.span();
        let metrics = &self.shard.shared.metrics;
        match cause {
            Cause::EchoTimeout => metrics.count(Counter::SessionsEchoTimeout),
            Cause::SessionTimeout => metrics.count(Counter::SessionsTimedOut),
            Cause::IdleTimeout => metrics.count(Counter::SessionsIdle),
            Cause::LcpTimeout | Cause::NoLcp | Cause::AuthTimeout(_) | Cause::NcpTimeout(_) => {
                metrics.count(Counter::SessionsSetupTimeout);
            }
            _ => {}
        }
        throttled!(info, ?cause, "PPP ended");
    }

    fn tell_tunnel<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        tunnel::TunnelActor: Handler<M>,
    {
        if let Some(address) = self.shard.tunnels.borrow().get(&self.tunnel) {
            address.do_send(message);
        }
    }

    /// Its tunnel is born again, and it with it.
    fn on_address_refused(&mut self) {
        subscriber::address_refused(&self.shard.shared, self.tunnel, self.id);
        self.addresses_refused += 1;
    }

    /// What the tunnel is asked for can get lost (the table's queue is full, the tunnel itself is being born): ask again.
    fn wait_for_tunnel(&self) {
        let retry = self.shard.now().monotonic + REBIRTH_RETRY;
        let key = TimerKey::Session(self.tunnel, self.id);
        self.shard.timers.borrow_mut().set(key, Some(retry));
    }

    fn be_born(&mut self, ctx: &mut Context<Self>, born: Born) {
        self.question = None;
        if self.addresses_refused >= ADDRESSES_REFUSED_MAX {
            // No address does. Only now, for after a refusal its tunnel has no core that could clear it; and again, should that
            // have lost its core meanwhile.
            self.core = None;
            self.wait_for_tunnel();
            return self.tell_tunnel(tunnel::Order::ClearWithoutAddress(self.id));
        }
        let Born {
            row, begins, proxy, ..
        } = born;
        let shared = self.shard.shared.clone();
        let (Some(tunnel), Some(session)) = (
            shared.directory.tunnel(self.tunnel),
            shared.directory.session(self.tunnel, self.id),
        ) else {
            // Removed from the table meanwhile: the word for this actor is on its way.
            return;
        };
        if let Some(from) = self.waits_for_former_owner(&row).filter(|_| !begins) {
            // It is asked for again then, as after a panic. An earlier core is over with its tunnel's, which nothing answers any more.
            self.core = None;
            let key = TimerKey::Session(self.tunnel, self.id);
            return self.shard.timers.borrow_mut().set(key, Some(from));
        }
        // What an earlier core was asked is lost with it, sequence numbers too.
        session.shared.sequence.ask_again();
        // After a takeover, where numbers begin behind those of the former owner: not only when a packet is dropped for want of one.
        let needs_numbers = session.shared.sequence.is_used_up() && row.sequencing_required;
        self.shared = Some(session.shared);
        let config = shared.link_config(&tunnel.profile);
        let (now, seed) = (self.shard.now(), self.shard.seed());
        match contain(|| Box::new(Session::born(now, config, row, proxy.as_deref(), seed))) {
            Some(mut core) => {
                core.serve_as(shared.duid);
                self.core = Some(core);
                self.run(ctx, |core, now| {
                    if needs_numbers {
                        core.reserve_sequence(now);
                    }
                });
            }
            None => self.on_panic(ctx),
        }
    }
}

impl SessionActor {
    /// From when on PPP may begin again that was unfinished when its tunnel's group was taken over: frames of the former
    /// owner, which may not know yet that it is none, would disturb it.
    fn waits_for_former_owner(&self, row: &SessionRow) -> Option<Duration> {
        let taken = *self.shard.taken.borrow().get(&self.tunnel.group())?;
        let from = taken.monotonic + FORMER_OWNER;
        let waits = !row.is_open() && row.created_ms <= taken.table_ms && self.shard.now().monotonic < from;
        waits.then_some(from)
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

impl Supervised for SessionActor {
    /// After a panic: the tunnel has the row read once everything that this session asked for before is decided.
    fn restarting(&mut self, _: &mut Self::Context) {
        self.core = None;
        self.question = None;
        self.wait_for_tunnel();
        self.tell_tunnel(tunnel::Order::BearSession(self.id));
    }
}

impl Handler<Born> for SessionActor {
    type Result = ();
    fn handle(&mut self, born: Born, ctx: &mut Self::Context) {
        if !born.unless_alive || self.core.is_none() {
            self.be_born(ctx, born);
        }
    }
}

impl Handler<Frame> for SessionActor {
    type Result = ();
    fn handle(&mut self, Frame(frame): Frame, ctx: &mut Self::Context) {
        self.run(ctx, |core, now| core.handle_input(now, &frame));
    }
}

impl Handler<Order> for SessionActor {
    type Result = ();
    fn handle(&mut self, order: Order, ctx: &mut Self::Context) {
        match order {
            Order::Wake if self.core.is_none() => {
                self.wait_for_tunnel();
                let id = self.id;
                self.tell_tunnel(match self.given_up {
                    true => tunnel::Order::GiveUpSession(id),
                    false => tunnel::Order::BearSession(id),
                });
            }
            Order::Wake => self.run(ctx, |core, now| core.handle_timeout(now)),
            Order::Accepted(serial) => {
                self.run(ctx, |core, now| core.handle_accepted(now, serial));
                self.share_row();
                self.addresses_refused = 0;
            }
            Order::Judged(answered) => self.on_judged(ctx, &answered),
            Order::AddressRefused => self.on_address_refused(),
            Order::ReserveSequence => self.run(ctx, |core, now| core.reserve_sequence(now)),
            Order::Change(change) => self.run(ctx, |core, now| core.change(now, &change)),
            Order::Close(cause) => self.run(ctx, |core, now| core.close(now, cause)),
            Order::InjectPanic => self.run(ctx, |core, _| panic!("injected into session {}", core.id())),
        }
    }
}

const fn ppp_counter(counter: holdfast_ppp::Counter) -> Counter {
    use holdfast_ppp::Counter as Ppp;
    match counter {
        Ppp::MalformedFrame => Counter::PppMalformedFrame,
        Ppp::MalformedPacket => Counter::PppMalformedPacket,
        Ppp::WrongPhase => Counter::PppWrongPhase,
        Ppp::Discarded => Counter::PppDiscarded,
        Ppp::UnknownProtocol => Counter::PppUnknownProtocol,
        Ppp::ProtocolRejected => Counter::PppProtocolRejected,
        Ppp::LoopedEcho => Counter::PppLoopedEcho,
        Ppp::ForeignMagic => Counter::PppForeignMagic,
        Ppp::Information => Counter::PppInformation,
        Ppp::AuthRepeated => Counter::PppAuthRepeated,
        Ppp::WithheldDropped => Counter::PppWithheldDropped,
        Ppp::RequestRepeated => Counter::PppRequestRepeated,
        Ppp::ProxyLcpRefused => Counter::ProxyLcpRefused,
        Ppp::ProxyAuthRefused => Counter::ProxyAuthRefused,
    }
}
