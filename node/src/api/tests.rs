//! Server and client over a real socket in a temporary folder, with a backend made up here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};

use super::server::{MAX_CONNECTIONS, MAX_REQUEST};
use super::*;
use crate::metrics::{Limit, Metrics};

/// As many as the largest node.
const SESSIONS: u32 = 100_000;
const PER_TUNNEL: u32 = 1000;

struct Fake;

fn ids(index: u32) -> (TunnelId, SessionId) {
    let tunnel = TunnelId::new((256 + index / PER_TUNNEL) as u16).expect("not zero");
    let session = SessionId::new((1 + index % PER_TUNNEL) as u16).expect("not zero");
    (tunnel, session)
}

fn index_after(after: Option<Target>) -> u32 {
    match after {
        None => 0,
        Some(Target::Tunnel(tunnel)) => (u32::from(tunnel.get()) - 255) * PER_TUNNEL,
        Some(Target::Session(tunnel, session)) => {
            (u32::from(tunnel.get()) - 256) * PER_TUNNEL + u32::from(session.get())
        }
    }
}

impl Backend for Fake {
    async fn status(&self, counters: bool) -> Result<StatusReport, ApiError> {
        let counters = if counters {
            Metrics::default().counters()
        } else {
            Vec::new()
        };
        Ok(StatusReport {
            node: "fake".to_owned(),
            counters,
            ..StatusReport::default()
        })
    }

    async fn tunnels(&self, _: Option<Target>, _: usize) -> Result<Page<TunnelInfo>, ApiError> {
        Err(ApiError::new(ErrorCode::Unavailable, "still starting"))
    }

    async fn sessions(
        &self,
        user: Option<&str>,
        after: Option<Target>,
        limit: usize,
    ) -> Result<Page<SessionInfo>, ApiError> {
        let start = index_after(after);
        let end = (start + limit as u32).min(SESSIONS);
        let info = |index: u32| {
            let (tunnel, session) = ids(index);
            let user = format!("user{}", index % 10);
            SessionInfo {
                tunnel_id: tunnel.get(),
                session_id: session.get(),
                user,
                ..SessionInfo::default()
            }
        };
        let wanted = |info: &SessionInfo| user.is_none_or(|user| user == info.user);
        let items = (start..end).map(info).filter(wanted).collect();
        let last = end.checked_sub(1).filter(|_| end < SESSIONS).map(ids);
        Ok(Page {
            items,
            after: last.map(|(tunnel, session)| Target::Session(tunnel, session)),
        })
    }

    async fn disconnect(&self, id: Target) -> Result<u64, ApiError> {
        match id {
            Target::Tunnel(_) => Ok(2),
            Target::Session(..) => Err(ApiError::new(
                ErrorCode::NotFound,
                format!("there is no session {id}"),
            )),
        }
    }

    async fn shutdown(&self, _: bool) -> Result<u64, ApiError> {
        Ok(SESSIONS.into())
    }

    async fn reload(&self) -> Result<ReloadReport, ApiError> {
        Ok(ReloadReport {
            applied: vec!["user a: added".to_owned()],
            needs_restart: Vec::new(),
        })
    }

    async fn cluster(&self, _: ClusterOrder) -> Result<ClusterStatus, ApiError> {
        Err(ApiError::new(ErrorCode::NotFound, "alone"))
    }

    async fn inject(&self, _: Fault) -> Result<(), ApiError> {
        Err(ApiError::new(ErrorCode::NotAllowed, "not for fault injection"))
    }
}

/// A server on a thread of its own; it ends with the test.
struct Server {
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = Listener::bind(&folder.path().join("h.sock"), 0o600).expect("bound");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let metrics = Arc::new(Metrics::default());
        let counted = Arc::clone(&metrics);
        runtime.spawn(async move { serve(&listener, Arc::new(Fake), counted).await });
        Self {
            folder,
            metrics,
            runtime: Some(runtime),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("h.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.path()).expect("connected")
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn replies(client: &mut Client, request: Request) -> Result<Vec<Reply>, ClientError> {
    let mut replies = Vec::new();
    client.request::<ClientError>(request, |reply| {
        replies.push(reply);
        Ok(())
    })?;
    Ok(replies)
}

/// Sends octets as they are and reads until the server closes.
fn raw(server: &Server, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.path()).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(octets);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).expect("text")
}

#[test]
fn one_connection_carries_several_requests() {
    let server = Server::start();
    let mut client = server.client();
    let status = replies(&mut client, Request::Status { counters: true }).expect("answered");
    assert!(matches!(&status[..], [Reply::Status(report)] if !report.counters.is_empty()));
    let reload = replies(&mut client, Request::Reload).expect("answered");
    assert!(matches!(&reload[..], [Reply::Reloaded(report)] if report.applied == ["user a: added"]));
    let tunnel = Request::Disconnect {
        id: "256".parse().unwrap(),
    };
    assert_eq!(
        replies(&mut client, tunnel).expect("answered"),
        [Reply::Disconnected { sessions: 2 }]
    );
    let session = Request::Disconnect {
        id: "256/1".parse().unwrap(),
    };
    let error = replies(&mut client, session).expect_err("not there");
    assert_eq!(error.to_string(), "there is no session 256/1");
    let error = replies(&mut client, Request::Tunnels).expect_err("still starting");
    assert!(matches!(
        error,
        ClientError::Refused(ApiError {
            code: ErrorCode::Unavailable,
            ..
        })
    ));
}

#[test]
fn a_hundred_thousand_sessions() {
    let server = Server::start();
    let all = replies(&mut server.client(), Request::Sessions { user: None }).expect("answered");
    assert_eq!(all.len(), SESSIONS as usize);
    let key = |reply: &Reply| match reply {
        Reply::Session(info) => (info.tunnel_id, info.session_id),
        other => panic!("{other:?}"),
    };
    assert!(
        all.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])),
        "each once, in order"
    );
    let some = replies(
        &mut server.client(),
        Request::Sessions {
            user: Some("user3".to_owned()),
        },
    )
    .expect("answered");
    assert_eq!(some.len(), SESSIONS as usize / 10);
}

#[test]
fn a_client_that_leaves_early_harms_nobody() {
    let server = Server::start();
    let mut stream = UnixStream::connect(server.path()).expect("connected");
    stream
        .write_all(b"{\"version\":1,\"request\":\"sessions\"}\n")
        .expect("sent");
    let mut some = [0; 100];
    stream.read_exact(&mut some).expect("the first lines");
    drop(stream);
    assert!(replies(&mut server.client(), Request::Reload).is_ok());
}

#[test]
fn bad_requests_are_answered() {
    let server = Server::start();
    let cases: [(&[u8], &str); 5] = [
        (b"hello\n", "not a request"),
        (b"{\"version\":1,\"request\":\"explode\"}\n", "not a request"),
        (
            b"{\"version\":2,\"request\":\"telepathy\"}\n",
            "version 2, this node speaks 1",
        ),
        (
            b"{\"version\":1,\"request\":\"disconnect\",\"id\":\"0/7\"}\n",
            "neither TUNNEL nor TUNNEL/SESSION",
        ),
        (b"\xff\xfe\n", "not a request"),
    ];
    for (request, expected) in cases {
        let answer = raw(&server, request);
        assert!(
            answer.contains("bad_request") && answer.contains(expected),
            "{answer}"
        );
    }
    let endless = vec![b'x'; 4 * MAX_REQUEST as usize];
    let answer = raw(&server, &endless);
    assert!(
        answer.is_empty() || answer.contains("at most 16384 octets"),
        "{answer}"
    );
    assert!(replies(&mut server.client(), Request::Reload).is_ok());
}

#[test]
fn too_many_connections_are_told_so() {
    let server = Server::start();
    let mut open: Vec<Client> = (0..MAX_CONNECTIONS).map(|_| server.client()).collect();
    for client in &mut open {
        replies(client, Request::Reload).expect("answered");
    }
    let error = replies(&mut server.client(), Request::Reload).expect_err("one too many");
    assert!(error.to_string().contains("32 connections are open"), "{error}");
    assert_eq!(server.metrics.hits(Limit::ApiConnections), 1);
}

#[test]
fn shutdown_is_over_when_the_connection_closes() {
    let mut server = Server::start();
    let mut client = server.client();
    let answer = replies(&mut client, Request::Shutdown { disconnect: true }).expect("answered");
    assert_eq!(
        answer,
        [Reply::ShuttingDown {
            sessions: SESSIONS.into()
        }]
    );
    assert!(!client.wait_for_end(Duration::from_millis(50)), "still there");
    server.stop();
    assert!(client.wait_for_end(Duration::from_secs(5)));
}

#[test]
fn nobody_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.sock");
    let error = Client::connect(&path).expect_err("no socket");
    assert!(
        error.to_string().contains("h.sock") && error.to_string().contains("holdfast run"),
        "{error}"
    );
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(
        matches!(Client::connect(&path), Err(ClientError::NoDaemon(_))),
        "a stale socket"
    );
}
