//! Orders of RADIUS servers (RFC 5176): at any node, for any session.
//!
//! Every node has all rows, so who is meant is looked up here. The session's owner carries it out, and this node sees in its own copy of the
//! table that it is done; then it answers. So an owner that dies meanwhile is no matter: the order goes to the next one.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::limits::ORDERS_FROM;
use holdfast_cluster::records::SessionRow;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::aaa::coa::{
    Arrival, Dropped, ErrorCause, Refusal, Request, Server, Wanted, change, identify, server,
};
use crate::aaa::radius::dictionary::attribute;
use crate::actors::act::{Act, Outcome};
use crate::actors::context::Shared;
use crate::actors::directory::SessionIds;
use crate::config::duration;
use crate::io::clock;
use crate::io::coa::{CoaSocket, Datagram};
use crate::lns::change::Change;
use crate::lns::ordered::ORDERS_REMEMBERED;
use crate::logging::Escaped;
use crate::metrics::{Counter, Limit};
use crate::peers::Frame;
use crate::throttled;

/// Requests that are carried out at once; further ones are refused.
const REQUESTS_MAX: usize = 256;

/// Sessions that one Disconnect-Request may end.
const SESSIONS_MAX: usize = 16;

/// How long a request may take, a takeover included. Servers ask again meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(10);

/// How often an owner is told again.
const REPEAT: Duration = Duration::from_millis(500);

/// A pause after a socket's error, so that it does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Starts to listen, and to carry out what other nodes have heard. Ends with the tasks.
pub fn start(shared: &Arc<Shared>, sockets: Vec<CoaSocket>) -> Vec<JoinHandle<()>> {
    let metrics = &shared.metrics;
    for (limit, bound) in [
        (Limit::CoaRequests, REQUESTS_MAX),
        (Limit::CoaRemembered, server::REMEMBERED_MAX),
        (Limit::CoaSessions, SESSIONS_MAX),
    ] {
        metrics.set_limit(limit, bound as u64);
    }
    let desk = Rc::new(Desk {
        shared: shared.clone(),
        server: RefCell::default(),
        room: Arc::new(Semaphore::new(REQUESTS_MAX)),
    });
    let mut tasks = vec![actix::spawn(carry_out_others(shared.clone()))];
    tasks.extend(sockets.into_iter().map(|socket| {
        tracing::info!(address = %socket.address(), "listening for CoA and Disconnect requests");
        actix::spawn(listen(desk.clone(), socket))
    }));
    tasks
}

/// What all sockets share.
struct Desk {
    shared: Arc<Shared>,
    server: RefCell<Server>,
    room: Arc<Semaphore>,
}

/// An answer on its way to the socket.
struct Answer {
    to: SocketAddr,
    from: IpAddr,
    octets: Arc<[u8]>,
}

async fn carry_out_others(shared: Arc<Shared>) {
    let inbox = shared.members.as_ref().and_then(|members| members.acts().inbox());
    let Some(mut inbox) = inbox else { return };
    while let Some(act) = inbox.recv().await {
        act.carry_out(&shared);
    }
}

async fn listen(desk: Rc<Desk>, mut socket: CoaSocket) {
    let (answers, mut ready) = mpsc::channel::<Answer>(REQUESTS_MAX);
    loop {
        tokio::select! {
            Some(Answer { to, from, octets }) = ready.recv() => socket.answer(to, from, &octets),
            heard = socket.receive() => match heard {
                Ok(datagrams) => {
                    for datagram in datagrams {
                        if let Some(octets) = desk.on_datagram(&datagram, &answers) {
                            socket.answer(datagram.from, datagram.to, &octets);
                        }
                    }
                }
                Err(error) => {
                    throttled!(warn, %error, "the CoA socket fails");
                    sleep(AFTER_ERROR).await;
                }
            },
        }
    }
}

impl Desk {
    /// Gives what can be answered at once; the rest comes as an answer later, or is dropped.
    fn on_datagram(
        self: &Rc<Self>,
        datagram: &Datagram,
        answers: &mpsc::Sender<Answer>,
    ) -> Option<Arc<[u8]>> {
        let metrics = &self.shared.metrics;
        metrics.count(Counter::CoaReceived);
        let config = self.shared.config.load();
        let policy = &config.coa.policy;
        let (from, octets) = (datagram.from, &datagram.octets);
        let (now, unix_s) = (clock::since_boot(), clock::unix().as_secs());
        let arrival = self
            .server
            .borrow_mut()
            .handle_input(policy, now, unix_s, from, octets);
        let remembered = self.server.borrow().remembered() as u64;
        metrics.set_current(Limit::CoaRemembered, remembered);
        match arrival {
            Arrival::Drop(why) => {
                self.on_dropped(from, why);
                None
            }
            Arrival::Again(answer) => {
                metrics.count(Counter::CoaRepeated);
                Some(answer)
            }
            Arrival::Full(nak) => {
                metrics.hit(Limit::CoaRemembered);
                metrics.count(Counter::CoaRefused);
                let window = duration::format(policy.window);
                throttled!(warn, %from, "a CoA request is refused: too many came within {window}");
                Some(nak.into())
            }
            Arrival::Work(request) => self.begin(request, datagram, answers),
        }
    }

    fn on_dropped(&self, from: SocketAddr, why: Dropped) {
        let counter = match why {
            Dropped::UnknownClient => Counter::CoaUnknownClient,
            Dropped::Malformed => Counter::CoaMalformed,
            Dropped::Unverified | Dropped::MessageAuthenticatorMissing => Counter::CoaUnverified,
            Dropped::TimestampMissing | Dropped::OutOfWindow => Counter::CoaOutOfWindow,
            Dropped::UnderWay => return self.shared.metrics.count(Counter::CoaRepeated),
        };
        self.shared.metrics.count(counter);
        throttled!(warn, %from, "a packet at the CoA socket is dropped: {why}");
    }

    fn begin(
        self: &Rc<Self>,
        request: Request,
        &Datagram { from, to, .. }: &Datagram,
        answers: &mpsc::Sender<Answer>,
    ) -> Option<Arc<[u8]>> {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            self.shared.metrics.hit(Limit::CoaRequests);
            let why = "too many others are being carried out";
            let refused = Err(Refusal::new(ErrorCause::ResourcesUnavailable, why));
            return self.answer(&request, from, refused);
        };
        let (desk, answers) = (self.clone(), answers.clone());
        actix::spawn(async move {
            let outcome = carry_out(&desk.shared, &request, to).await;
            if let Some(octets) = desk.answer(&request, from, outcome) {
                let answer = Answer {
                    to: from,
                    from: to,
                    octets,
                };
                // Without a socket there is nobody to be told.
                let _ = answers.send(answer).await;
            }
            drop(place);
        });
        None
    }

    fn answer(&self, request: &Request, from: SocketAddr, outcome: Result<(), Refusal>) -> Option<Arc<[u8]>> {
        let metrics = &self.shared.metrics;
        let what = match request.is_disconnect() {
            true => "Disconnect-Request",
            false => "CoA-Request",
        };
        metrics.count(match &outcome {
            Ok(()) => Counter::CoaDone,
            Err(_) => Counter::CoaRefused,
        });
        if let Err(refusal) = &outcome {
            let user = request.packet().first(attribute::USER_NAME).map(|a| a.value);
            let user = Escaped(user.unwrap_or_default());
            throttled!(warn, %from, %user, "a {what} is refused: {refusal}");
        }
        let outcome = outcome.map_err(|refusal| refusal.cause);
        self.server.borrow_mut().answer(request, outcome)
    }
}

/// A session that a request means.
type Found = (SessionIds, Arc<SessionRow>);

async fn carry_out(shared: &Arc<Shared>, request: &Request, addressed: IpAddr) -> Result<(), Refusal> {
    let packet = request.packet();
    let end = request.is_disconnect();
    let mut change = match end {
        true => change::of_disconnect(&packet)?,
        false => change::of_coa(&packet)?,
    };
    shared
        .policies
        .load()
        .complete_change(&mut change)
        .map_err(|unknown| {
            shared.metrics.count(Counter::PolicyUnknown);
            Refusal::new(ErrorCause::InvalidAttributeValue, unknown.to_string())
        })?;
    let nas = shared.config.load().nas_identity();
    let wanted = identify::wanted(&packet, &nas, addressed)?;
    let exact = wanted.is_exact();
    let mut found = find(shared, wanted, end).await;
    let most = if end { SESSIONS_MAX } else { 1 };
    let published = shared.table.published();
    if !found.is_empty() && !exact {
        let (now_ms, unix_s) = (published.table_ms(), clock::unix().as_secs());
        let age = |row: &SessionRow| Duration::from_millis(now_ms.saturating_sub(row.created_ms));
        found.retain(|(_, row)| !request.is_older_than(age(row), unix_s));
        if found.is_empty() {
            shared.metrics.count(Counter::CoaReplayed);
            let why = "it was made before the session began: a replay, or clocks that differ";
            return Err(Refusal::new(ErrorCause::SessionContextNotFound, why));
        }
    }
    if published.version() >= ORDERS_FROM && !end {
        change.order = request.mark();
    }
    if found.is_empty() {
        let why = "no session fits all that it says";
        return Err(Refusal::new(ErrorCause::SessionContextNotFound, why));
    }
    if found.len() > most {
        shared.metrics.hit(Limit::CoaSessions);
        let why = format!("more than {most} of the sessions fit what it says");
        let cause = ErrorCause::MultipleSessionSelectionUnsupported;
        return Err(Refusal::new(cause, why));
    }
    if change.order.is_some() && found.iter().all(|(_, row)| change.is_in(row)) {
        // Another node has heard it.
        shared.metrics.count(Counter::CoaRepeated);
        return Ok(());
    }
    act(shared, &found, &change, end).await
}

/// The sessions that are meant, one more than may be at the most. A session that is not open can be ended, not changed.
async fn find(shared: &Arc<Shared>, wanted: Wanted, end: bool) -> Vec<Found> {
    let directory = shared.directory.clone();
    let holder = |address| directory.holder(address);
    let only = wanted.ids().or_else(|| wanted.address().and_then(holder));
    let fits =
        move |(tunnel, _): SessionIds, row: &SessionRow| (end || row.is_open()) && wanted.fits(tunnel, row);
    if let Some(ids) = only {
        let row = directory.session(ids.0, ids.1).map(|facts| facts.row);
        return row
            .filter(|row| fits(ids, row))
            .map(|row| (ids, row))
            .into_iter()
            .collect();
    }
    // Not on the thread that answers others meanwhile: there may be hundreds of thousands.
    let search = tokio::task::spawn_blocking(move || directory.select(SESSIONS_MAX + 1, fits));
    search.await.unwrap_or_default()
}

/// Has the owners of these sessions act, and waits until the table has all of it.
async fn act(shared: &Shared, found: &[Found], change: &Change, end: bool) -> Result<(), Refusal> {
    let mut waiting = Vec::new();
    for (ids, row) in found {
        let act = Act::new(*ids, row, change.clone(), end);
        waiting.push((*ids, row, act));
    }
    let until = Instant::now() + PATIENCE;
    let mut tell = Instant::now();
    loop {
        let mut still = Vec::new();
        for (ids, row, act) in waiting {
            match act.outcome(shared, row.is_open()) {
                Some(Outcome::Done) => log(ids, row, end),
                Some(Outcome::Gone) => {
                    let why = "the session ended before it was changed";
                    return Err(Refusal::new(ErrorCause::SessionContextNotFound, why));
                }
                Some(Outcome::Outdated) => {
                    shared.metrics.count(Counter::CoaReplayed);
                    let why = format!(
                        "it was made before the last {ORDERS_REMEMBERED} that the session has followed: a replay, or too many at once"
                    );
                    return Err(Refusal::new(ErrorCause::ResourcesUnavailable, why));
                }
                None => still.push((ids, row, act)),
            }
        }
        waiting = still;
        if waiting.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        if now >= until {
            let why = "the session's owner did not carry it out in time";
            return Err(Refusal::new(ErrorCause::ResourcesUnavailable, why));
        }
        if now >= tell {
            tell = now + REPEAT;
            waiting.iter().for_each(|(ids, _, act)| order(shared, *ids, act));
        }
        sleep(LOOK).await;
    }
}

/// Tells whoever owns the session now.
fn order(shared: &Shared, (tunnel, _): SessionIds, act: &Act) {
    let published = shared.table.published();
    match &shared.members {
        Some(members) if !published.owns(tunnel) => {
            // If it cannot be reached now: again soon.
            let owner = published.owner(tunnel.group());
            let _ = members.peers().send(owner, Frame::Order(act.encode()));
        }
        _ => act.carry_out(shared),
    }
}

fn log((tunnel, session): SessionIds, row: &SessionRow, end: bool) {
    let user = Escaped(row.user().unwrap_or_default());
    let what = if end { "ended" } else { "changed" };
    tracing::info!(%tunnel, %session, %user, "{what} by a RADIUS server's order");
}
