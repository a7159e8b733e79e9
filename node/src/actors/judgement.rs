//! Who judges a subscriber: the users of the configuration, at once, or RADIUS servers, whose answer comes later.
//!
//! The answer finds its way back by the number of the question, which one birth of one session asks: whoever was born again meanwhile, here
//! or at another node, asks anew. So nothing is granted, and no address reserved, for a question that nobody waits on.

use std::sync::Arc;

use holdfast_cluster::records::SessionRow;
use holdfast_ppp::{AuthRequest, Credential};
use tracing::span::EnteredSpan;

use super::context::Shared;
use super::directory::SessionIds;
use super::session::Order;
use super::shard::ShardInput;
use super::subscriber;
use crate::aaa::radius::client::{Ask, Purpose};
use crate::aaa::radius::packet::Packet;
use crate::aaa::radius::reply::{self, Asked, Decision};
use crate::aaa::radius::request::{Content, SessionFacts, Unaskable};
use crate::config::LocalUse;
use crate::io::radius::{Answer, NoAnswer};
use crate::lns::session::{Denial, Grant};
use crate::logging::Escaped;
use crate::metrics::Counter;
use crate::throttled;

/// A subscriber is told this without a word of the server.
const FAILED: &[u8] = b"Authentication failed";
const UNAVAILABLE: &[u8] = b"Service temporarily unavailable";

/// What servers said to a question.
#[derive(Debug)]
pub struct Answered {
    /// As it was given to [`begin`].
    pub question: u64,
    request: Box<AuthRequest>,
    answer: Answer,
}

/// Judges at once, or asks: then the answer comes to the session as [`Order::Judged`]. What is logged goes into `span`.
pub fn begin(
    shared: &Arc<Shared>,
    ids: SessionIds,
    question: u64,
    row: &SessionRow,
    request: Box<AuthRequest>,
    span: impl Fn() -> EnteredSpan,
) -> Option<Result<Grant, Denial>> {
    let config = shared.config.load();
    let tunnel = shared.directory.tunnel(ids.0);
    let profile = tunnel.as_ref().map_or("", |tunnel| &tunnel.profile);
    let groups = config.radius_groups(profile, &request.name);
    let comes_first = config.aaa.local == LocalUse::First && shared.users.load().knows(&request.name);
    if groups.is_empty() || comes_first {
        return Some(locally(shared, ids, &request, span));
    }
    let facts = SessionFacts {
        tunnel: ids.0,
        row,
        lac: tunnel.as_ref().map(|tunnel| tunnel.peer),
        local: tunnel.as_ref().and_then(|tunnel| tunnel.local),
        lac_name: tunnel.as_ref().map_or(&[], |tunnel| &tunnel.host_name),
        own_name: &config.node.host_name,
    };
    let content = match Content::access(&request, &config.nas_identity(), &facts) {
        Ok(content) => content,
        Err(unaskable) => return Some(Err(not_asked(shared, &request, unaskable, span))),
    };
    let ask = Ask {
        token: token(ids),
        groups: groups.iter().map(|group| group.as_str().into()).collect(),
        purpose: Purpose::Access,
        content,
        patience: config.aaa.patience,
    };
    let shard = shared.shard_of(ids.0).clone();
    let taker = move |answer| {
        let answered = Answered {
            question,
            request,
            answer,
        };
        shard.send(ShardInput::Session {
            tunnel: ids.0,
            session: ids.1,
            order: Order::Judged(Box::new(answered)),
        });
    };
    shared.radius.ask(ask, Box::new(taker));
    None
}

/// What becomes of an answer that is still waited for.
pub fn finish(
    shared: &Shared,
    ids: SessionIds,
    answered: &Answered,
    span: impl Fn() -> EnteredSpan,
) -> Result<Grant, Denial> {
    let request = &answered.request;
    match &answered.answer {
        Answer::Reply {
            group,
            server,
            octets,
        } => on_reply(shared, ids, request, (group, server), octets, span),
        Answer::None(_) if shared.config.load().aaa.local == LocalUse::Fallback => {
            locally(shared, ids, request, span)
        }
        Answer::None(why) => Err(unavailable(shared, request, *why, span)),
    }
}

fn locally(
    shared: &Shared,
    ids: SessionIds,
    request: &AuthRequest,
    span: impl Fn() -> EnteredSpan,
) -> Result<Grant, Denial> {
    subscriber::decide(shared, ids, request, span).map_err(Denial::from)
}

fn on_reply(
    shared: &Shared,
    ids: SessionIds,
    request: &AuthRequest,
    (group, server): (&str, &str),
    octets: &[u8],
    span: impl Fn() -> EnteredSpan,
) -> Result<Grant, Denial> {
    let packet = Packet::parse(octets).expect("the client has parsed it");
    let user = match std::str::from_utf8(&request.name) {
        Ok(name) => name.to_owned(),
        // Another name for each: the table counts by it.
        Err(_) => request.name.escape_ascii().to_string(),
    };
    let asked = Asked {
        name: &request.name,
        user: &user,
        ms_chap: matches!(request.credential, Credential::MsChapV2 { .. }),
        group,
    };
    match reply::read(&packet, &asked) {
        Ok(Decision::Accept(profile)) => {
            subscriber::grant(shared, ids, &request.name, *profile, span).map_err(Denial::from)
        }
        Ok(Decision::Refuse(refusal)) => {
            let _span = span();
            shared.metrics.count(Counter::AuthRejected);
            let why = refusal.why.unwrap_or("rejected");
            throttled!(warn, user = %Escaped(&request.name), server, "subscriber refused: {why}");
            Err(Denial {
                message: if refusal.message.is_empty() {
                    FAILED.to_vec()
                } else {
                    refusal.message
                },
                ms_chap_error: refusal.ms_chap_error,
                is_temporary: false,
            })
        }
        Err(wrong) => {
            let _span = span();
            shared.metrics.count(Counter::RadiusUnusable);
            throttled!(error, user = %Escaped(&request.name), server, "subscriber refused: the server's Access-Accept cannot be honoured: {wrong}");
            Err(FAILED.to_vec().into())
        }
    }
}

fn not_asked(
    shared: &Shared,
    request: &AuthRequest,
    why: Unaskable,
    span: impl Fn() -> EnteredSpan,
) -> Denial {
    let _span = span();
    shared.metrics.count(Counter::AuthRejected);
    throttled!(warn, user = %Escaped(&request.name), "subscriber refused: no server can be asked: {why}");
    FAILED.to_vec().into()
}

fn unavailable(
    shared: &Shared,
    request: &AuthRequest,
    why: NoAnswer,
    span: impl Fn() -> EnteredSpan,
) -> Denial {
    let _span = span();
    shared.metrics.count(Counter::AuthUnavailable);
    throttled!(error, user = %Escaped(&request.name), "subscriber refused for now: {why}");
    Denial {
        message: UNAVAILABLE.to_vec(),
        ms_chap_error: None,
        is_temporary: true,
    }
}

/// One question at a time for each session; the client's other questions have tokens above these.
fn token((tunnel, session): SessionIds) -> u64 {
    u64::from(tunnel.get()) << 16 | u64::from(session.get())
}
