//! The simulator as a process of its own: its lines in and out.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use holdfast_testbed::simulator::{Command, Moment, Plan, Simulator};

#[test]
fn a_simulator_process_dials_reports_and_quits() {
    let lns = UdpSocket::bind("127.0.0.1:0").unwrap();
    lns.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let plan = Plan {
        target: lns.local_addr().unwrap(),
        sessions: 3,
        ..Plan::default()
    };
    let mut simulator = Simulator::spawn(Path::new(env!("CARGO_BIN_EXE_holdfast-testbed")), &plan).unwrap();
    simulator
        .arm(Moment::ControlSent, 1, Duration::ZERO, None)
        .unwrap();
    simulator.dial(3, None).unwrap();
    let mut buffer = [0; 2048];
    let (len, _) = lns.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..2], [0xc8, 0x02], "a control message of {len} octets");
    let report = simulator.report().unwrap();
    assert_eq!(
        (
            report.sessions_asked,
            report.sessions_pending,
            report.sessions_open
        ),
        (3, 3, 0)
    );
    assert!(simulator.pid().is_some());
    simulator.ask(&Command::Quit).unwrap();
    assert!(simulator.report().is_err(), "it is gone");
}
