//! A simulator on real sockets against the tiny LNS on one of its own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::tiny_lns::TinyLns;
use super::{Command, Event, HangUp, Moment, Plan, SessionState, Simulator};

const PATIENCE: Duration = Duration::from_secs(20);

/// The tiny LNS on a thread, until dropped.
struct Lns {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lns {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // Without privileges the default has to do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20));
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut lns, mut buffer) = (TinyLns::default(), [0; 2048]);
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                lns.handle_datagram(from, &buffer[..len]);
                for (to, octets) in lns.outbox.drain(..) {
                    socket.send_to(&octets, to).unwrap();
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Lns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn sessions_come_up_answer_and_end_over_real_sockets() {
    let lns = Lns::start();
    let plan = Plan {
        target: lns.address,
        lacs: 2,
        tunnels: 4,
        sessions: 50,
        ping_interval_ms: 50,
        ..Plan::default()
    };
    let mut simulator = Simulator::start_thread(&plan).unwrap();
    simulator
        .arm(Moment::Opened, 10, Duration::from_micros(50), None)
        .unwrap();
    simulator.dial(50, Some(8)).unwrap();
    let report = simulator
        .wait_until("50 up", PATIENCE, |report| report.sessions_open == 50)
        .unwrap();
    assert!(report.setup_rate > 0.0 && report.setup_p99_ms >= report.setup_p50_ms);
    simulator
        .wait_event(PATIENCE, |event| matches!(event, Event::Triggered { .. }))
        .unwrap();
    simulator
        .wait_until("pings", PATIENCE, |report| report.pings_answered > 200)
        .unwrap();
    let checked = simulator.check(PATIENCE).unwrap();
    assert_eq!((checked.tunnels_asked, checked.sessions_asked), (4, 50));
    assert_eq!((checked.tunnels_stuck(), checked.sessions_silent()), (0, 0));
    simulator
        .ask(&Command::HangUp {
            from: 25,
            sessions: Some(5),
            by: HangUp::Disconnect,
        })
        .unwrap();
    let sessions = simulator.sessions().unwrap();
    assert_eq!(
        sessions
            .iter()
            .filter(|session| session.state == SessionState::Open)
            .count(),
        45
    );
    assert_eq!(sessions[25].state, SessionState::Idle);
    assert!(
        simulator
            .ask(&Command::Inject {
                lac: 0,
                octets: "xyz".into()
            })
            .is_err()
    );
}

/// Not a test of ours but of the simulator's own limits: `cargo test --release -- --ignored --nocapture ceiling`.
#[test]
#[ignore = "a measurement"]
fn ceiling_of_the_simulator_itself() {
    let lns = Lns::start();
    let (lacs, tunnels, sessions) = (8, 200, 100_000);
    let plan = Plan {
        target: lns.address,
        lacs,
        tunnels,
        sessions,
        ..Plan::default()
    };
    let mut simulator = Simulator::start_thread(&plan).unwrap();
    simulator.dial(sessions, Some(200)).unwrap();
    let report = simulator
        .wait_until("all up", Duration::from_secs(120), |report| {
            report.sessions_pending == 0 && report.sessions_asked > 99_999
        })
        .unwrap();
    println!("{report:#?}");
    println!("{:?}", simulator.check(Duration::from_secs(30)).unwrap());
}
