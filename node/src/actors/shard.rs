//! The root actor of one Arbiter: it receives what its packet thread and the table's thread have for it, finds the actor that
//! is meant, keeps the timer table and lets tunnels be born.
//!
//! Should it die, the server starts another one on a new Arbiter: the inbox outlives it, and every tunnel of the shard is
//! reclaimed and born from its row.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::prelude::*;
use holdfast_cluster::Refusal;
use holdfast_cluster::commands::Reclaim;
use holdfast_cluster::records::SessionRow;
use holdfast_protocol::{SessionId, TunnelId};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use super::accept;
use super::context::{ShardContext, Shared, TimerKey};
use super::relay;
use super::session;
use super::table::{Image, ReplyTo};
use super::tunnel::{self, TunnelActor};
use crate::io::{Inbound, Pulse, clock};
use crate::metrics::{Counter, Limit};

/// How often the timer table is looked at.
const TURN: Duration = Duration::from_millis(10);

/// Packets handled before the table's verdicts are looked at again.
const PACKETS_PER_TURN: usize = 256;

/// What the rest of the node tells a shard. Bounded by what is in flight, not by a queue length: each verdict answers a proposal,
/// and those are bounded.
#[derive(Debug)]
pub enum ShardInput {
    /// The answer to a change.
    ChangeVerdict {
        /// Whose change.
        tunnel: TunnelId,
        /// The life under which it was proposed.
        life: u64,
        /// Its revision.
        revision: u64,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// The answer to the removal of a tombstone.
    RemovalVerdict {
        /// Which tombstone.
        tunnel: TunnelId,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// A tunnel was created or reclaimed and is to be born from its row.
    Birth {
        /// Which.
        tunnel: TunnelId,
        /// Its rows; `None` if it was refused or is gone.
        image: Option<Box<Image>>,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// A group has a new owner. What acted for it here is over; if the new owner is this node, births follow.
    GroupTaken {
        /// 0..=255.
        group: u8,
    },
    /// The births that a `GroupTaken` brings have been sent.
    Replay {
        /// 0..=255.
        group: u8,
    },
    /// A session is to be born again from its row.
    SessionBirth {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
        /// Its row; `None` if it is gone.
        row: Option<Arc<SessionRow>>,
    },
    /// Another session of the same user took this one's place.
    Replaced {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
    },
    /// A control message that another shard received for a tunnel of this one (a repeated SCCRQ).
    Control {
        /// For which tunnel.
        tunnel: TunnelId,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Do something to a tunnel.
    Tunnel {
        /// To which.
        tunnel: TunnelId,
        /// What.
        order: tunnel::Order,
    },
    /// Do something to a session.
    Session {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
        /// What.
        order: session::Order,
    },
    /// Panic, to show that it is contained. Refused unless the process was started for fault injection.
    InjectPanic,
}

/// The way to a shard's actors.
#[derive(Clone, Debug)]
pub struct ShardSender(mpsc::UnboundedSender<ShardInput>);

impl ShardSender {
    /// Never blocks. After the node's end the input is dropped.
    pub fn send(&self, input: ShardInput) {
        let _ = self.0.send(input);
    }
}

/// What waits for a shard's actors; outlives them.
#[derive(Debug)]
pub struct Inbox {
    inputs: mpsc::UnboundedReceiver<ShardInput>,
    packets: mpsc::Receiver<Inbound>,
}

/// An inbox and the way to it. `packets` comes from the packet thread.
pub fn inbox(packets: mpsc::Receiver<Inbound>) -> (ShardSender, Arc<Mutex<Inbox>>) {
    let (sender, inputs) = mpsc::unbounded_channel();
    (
        ShardSender(sender),
        Arc::new(Mutex::new(Inbox { inputs, packets })),
    )
}

/// One thing out of an inbox.
#[derive(Debug)]
enum Arrival {
    Input(ShardInput),
    Packet(Inbound),
}

/// The inbox as a stream; verdicts first, since they set held output free.
struct Arrivals {
    inbox: OwnedMutexGuard<Inbox>,
    packets_in_turn: usize,
}

impl tokio_stream::Stream for Arrivals {
    type Item = Arrival;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Arrival>> {
        if let Poll::Ready(input) = self.inbox.inputs.poll_recv(task) {
            return Poll::Ready(input.map(Arrival::Input));
        }
        if self.packets_in_turn >= PACKETS_PER_TURN {
            self.packets_in_turn = 0;
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.packets_in_turn += 1;
        self.inbox
            .packets
            .poll_recv(task)
            .map(|packet| packet.map(Arrival::Packet))
    }
}

/// See the module.
#[derive(Debug)]
pub struct ShardActor {
    context: Rc<ShardContext>,
    inbox: Arc<Mutex<Inbox>>,
    /// Who watches over the threads hears of this one whenever it handles something, its timers at least.
    pulse: Option<Arc<Pulse>>,
    /// Dropped with the actor: that is how its end is noticed.
    _alive: oneshot::Sender<()>,
}

impl ShardActor {
    /// A shard without tunnels; they are born by [`bear_all`]. `alive` is dropped with the actor.
    pub fn new(
        shared: Arc<Shared>,
        index: usize,
        seed: u64,
        inbox: Arc<Mutex<Inbox>>,
        alive: oneshot::Sender<()>,
        pulse: Option<Arc<Pulse>>,
    ) -> Self {
        Self {
            context: Rc::new(ShardContext::new(shared, index, seed)),
            inbox,
            pulse,
            _alive: alive,
        }
    }

    fn on_input(&self, input: ShardInput) {
        match input {
            ShardInput::ChangeVerdict {
                tunnel,
                life,
                revision,
                refusal,
            } => {
                let verdict = tunnel::Verdict {
                    life,
                    revision,
                    refusal,
                };
                self.to_tunnel(tunnel, verdict);
            }
            ShardInput::RemovalVerdict { tunnel, refusal } => {
                self.to_tunnel(tunnel, tunnel::Removed { refusal })
            }
            ShardInput::Birth {
                tunnel,
                image,
                refusal,
            } => self.on_birth(tunnel, image, refusal),
            ShardInput::GroupTaken { group } => self.on_group_taken(group),
            ShardInput::Replay { group } => self.replay(group),
            ShardInput::SessionBirth { tunnel, session, row } => match row {
                Some(row) => session::start_again(&self.context, tunnel, session, row),
                None => session::stop(&self.context, tunnel, session),
            },
            ShardInput::Replaced { tunnel, session } => {
                self.to_tunnel(tunnel, tunnel::Order::ClearReplaced(session))
            }
            ShardInput::Control { tunnel, datagram } => self.to_tunnel(tunnel, tunnel::Datagram(datagram)),
            ShardInput::Tunnel { tunnel, order } => self.to_tunnel(tunnel, order),
            ShardInput::Session {
                tunnel,
                session,
                order,
            } => self.to_session(tunnel, session, order),
            ShardInput::InjectPanic => panic!("injected into shard {}", self.context.index),
        }
    }

    /// Straight from this node's packet thread, or by way of another node.
    fn on_packet(&self, packet: Inbound) {
        match packet {
            Inbound::Relayed { epoch, message } => {
                if let Some(packet) = relay::taken_in(&self.context, epoch, *message) {
                    self.handle_packet(packet, true);
                }
            }
            packet => match relay::tunnel_of(&packet) {
                Some(tunnel) if !self.context.shared.table.published().owns(tunnel) => {
                    relay::away(&self.context, tunnel, packet);
                }
                Some(tunnel) if relay::is_for_next_owner(&self.context, tunnel, &packet) => {
                    relay::keep_for_next_owner(&self.context, tunnel, packet);
                }
                _ => self.handle_packet(packet, false),
            },
        }
    }

    /// For a tunnel of this node.
    fn handle_packet(&self, packet: Inbound, relayed: bool) {
        match packet {
            Inbound::Relayed { .. } => {}
            Inbound::Disconnect {
                tunnel,
                session: Some(session),
            } => self.to_session(tunnel, session, session::Order::administrative_end()),
            Inbound::Disconnect {
                tunnel,
                session: None,
            } => self.to_tunnel(tunnel, tunnel::Order::administrative_end()),
            Inbound::Control {
                tunnel: 0,
                from,
                to,
                datagram,
            } => {
                accept::on_sccrq(&self.context, from, to, &datagram, relayed);
            }
            Inbound::Control { tunnel, datagram, .. } => {
                let Some(tunnel) = TunnelId::new(tunnel) else {
                    return;
                };
                let Some(address) = self.context.tunnels.borrow().get(&tunnel).cloned() else {
                    // The packet thread knows the tunnel, so the table has it: its birth got lost.
                    reclaim_tunnel(&self.context.shared, tunnel);
                    return;
                };
                if address.try_send(tunnel::Datagram(datagram)).is_err() {
                    self.context.shared.metrics.hit(Limit::Mailbox);
                }
            }
            Inbound::Ppp {
                tunnel,
                session,
                frame,
            } => {
                let Some(address) = self.context.sessions.borrow().get(&(tunnel, session)).cloned() else {
                    return self.keep_early(tunnel, session, frame);
                };
                if address.try_send(session::Frame(frame)).is_err() {
                    self.context.shared.metrics.hit(Limit::Mailbox);
                }
            }
            Inbound::SequenceLow { tunnel, session, .. } => {
                self.to_session(tunnel, session, session::Order::ReserveSequence);
            }
        }
    }

    fn keep_early(&self, tunnel: TunnelId, session: SessionId, frame: Vec<u8>) {
        let now = self.context.now().monotonic;
        let kept = self
            .context
            .early
            .borrow_mut()
            .keep(now, (tunnel, session), frame);
        self.context.shared.metrics.count(match kept {
            true => Counter::PppEarly,
            false => Counter::PppUnknownSession,
        });
    }

    /// Nothing is said to any peer: the new owner does.
    fn on_group_taken(&self, group: u8) {
        let published = self.context.shared.table.published();
        if published.own_groups().any(|own| own == group) {
            self.context.taken.borrow_mut().insert(group, self.context.now());
        } else {
            self.pass_early_on(group);
        }
        let of_group: Vec<_> = {
            let tunnels = self.context.tunnels.borrow();
            tunnels
                .keys()
                .filter(|tunnel| tunnel.group() == group)
                .copied()
                .collect()
        };
        for tunnel in of_group {
            tunnel::stop(&self.context, tunnel);
        }
    }

    /// First frames of sessions that will be born at the next owner.
    fn pass_early_on(&self, group: u8) {
        let now = self.context.now().monotonic;
        let early = self.context.early.borrow_mut().take_group(now, group);
        for ((tunnel, session), frame) in early {
            let packet = Inbound::Ppp {
                tunnel,
                session,
                frame,
            };
            relay::away(&self.context, tunnel, packet);
        }
    }

    /// The births of a taken group are done: what has waited for it is handled.
    fn replay(&self, group: u8) {
        for packet in relay::on_group_taken(&self.context, group) {
            self.handle_packet(packet, true);
        }
    }

    fn on_birth(&self, tunnel: TunnelId, image: Option<Box<Image>>, refusal: Option<Refusal>) {
        match image {
            Some(image) => tunnel::start(&self.context, *image),
            None => match refusal {
                // A tunnel that was to be born again is gone from the table.
                None | Some(Refusal::NoTunnel(_)) => tunnel::stop(&self.context, tunnel),
                // A new one whose id or key somebody else was given meanwhile, or a life that is over already.
                Some(refusal) => tracing::debug!(%tunnel, %refusal, "the tunnel was not born"),
            },
        }
    }

    /// To a tunnel's actor. Not bounded by its mailbox: what comes this way must not be lost, and is bounded at its origin.
    fn to_tunnel<M>(&self, tunnel: TunnelId, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        TunnelActor: Handler<M>,
    {
        if let Some(address) = self.context.tunnels.borrow().get(&tunnel) {
            address.do_send(message);
        }
    }

    fn to_session(&self, tunnel: TunnelId, session: SessionId, order: session::Order) {
        if let Some(address) = self.context.sessions.borrow().get(&(tunnel, session)) {
            address.do_send(order);
        }
    }

    /// Who has much to do hangs as little as who has nothing to do.
    fn beat(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.beat(clock::since_boot());
        }
    }

    fn wake_due(&self) {
        self.beat();
        let now = self.context.now().monotonic;
        relay::expire(&self.context);
        accept::serve_waiting(&self.context);
        loop {
            let due = self.context.timers.borrow_mut().pop_due(now);
            match due {
                None => return,
                Some(TimerKey::Tunnel(tunnel)) => self.to_tunnel(tunnel, tunnel::Wake),
                Some(TimerKey::Session(tunnel, session)) => {
                    self.to_session(tunnel, session, session::Order::Wake);
                }
            }
        }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TURN, |shard, _| shard.wake_due());
        // The inbox is free once the shard's earlier actor, if any, is gone.
        let inbox = self.inbox.clone().lock_owned();
        ctx.wait(
            actix::fut::wrap_future(inbox).map(|inbox, _, ctx: &mut Self::Context| {
                ctx.add_stream(Arrivals {
                    inbox,
                    packets_in_turn: 0,
                });
            }),
        );
    }
}

impl StreamHandler<Arrival> for ShardActor {
    fn handle(&mut self, arrival: Arrival, _: &mut Self::Context) {
        self.beat();
        match arrival {
            Arrival::Input(input) => self.on_input(input),
            Arrival::Packet(packet) => self.on_packet(packet),
        }
    }

    /// Both ends of the inbox are closed: the node ends.
    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Lets every tunnel of a shard be born: at the start of the process under the lives that the table names, after the death of
/// the shard's actors under new ones. To be awaited before the shard's actor starts: a tunnel that it accepts meanwhile would
/// be born twice.
pub async fn bear_all(shared: &Arc<Shared>, index: usize, reclaim: bool) {
    let shards = shared.shards.len();
    let node = shared.clone();
    let asked = shared.table.ask(move |table| {
        for (tunnel, _) in table
            .tunnels()
            .filter(|(tunnel, _)| tunnel.shard(shards) == index && node.table.published().owns(*tunnel))
        {
            if reclaim {
                reclaim_tunnel(&node, tunnel);
            } else {
                let image = Image::of(table, tunnel).map(Box::new);
                node.shards[index].send(ShardInput::Birth {
                    tunnel,
                    image,
                    refusal: None,
                });
            }
        }
    });
    if asked.await.is_none() {
        tracing::error!(
            shard = index,
            "the session table does not answer: the shard's tunnels cannot be born"
        );
    }
}

/// Proposes a new life for a tunnel; the shard lets it be born when the table has accepted it.
pub fn reclaim_tunnel(shared: &Shared, tunnel: TunnelId) {
    let Some(life) = shared.new_life(tunnel) else {
        return;
    };
    let command = Reclaim {
        tunnel_id: u32::from(tunnel.get()),
        life,
    };
    shared
        .table
        .propose(ReplyTo::Birth { tunnel, key: None }, command);
}
