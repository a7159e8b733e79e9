//! PPP frames in sequence against a link: LCP, PAP, CHAP, IPCP and whatever else. Nothing panics, every frame that
//! leaves can be read, and nothing is open without an accepted row.

#![no_main]

#[path = "chunks.rs"]
mod chunks;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::frame::Frame;
use holdfast_ppp::{
    AuthMethod, AuthRequest, IpcpConfig, Link, LinkConfig, Output, Secret, Transition, Verdict,
};
use libfuzzer_sys::fuzz_target;

const STEP: Duration = Duration::from_millis(400);

fuzz_target!(|input: &[u8]| {
    // The first octet decides how the peer has to authenticate itself, as PAP is out of reach behind CHAP.
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let auth = match choice % 4 {
        0 => Vec::new(),
        1 => vec![AuthMethod::Pap],
        2 => vec![AuthMethod::ChapMd5, AuthMethod::Pap],
        _ => vec![AuthMethod::MsChapV2],
    };
    let config = Arc::new(LinkConfig {
        auth,
        ..LinkConfig::default()
    });
    let mut now = Duration::ZERO;
    let mut link = Link::start(now, Arc::clone(&config), None, 1);
    drain(&mut link, now);
    for frame in chunks::chunks(input) {
        now += STEP;
        link.handle_input(now, frame);
        drain(&mut link, now);
        if link.poll_timeout().is_some_and(|at| at <= now) {
            link.handle_timeout(now);
            drain(&mut link, now);
        }
    }
    if let Some(row) = link.row().cloned() {
        let resumed = Link::resume(now, config, &row, 2);
        assert_eq!(resumed.row(), Some(&row));
    }
});

/// Does what the owner of a link does with its outputs.
fn drain(link: &mut Link, now: Duration) {
    while let Some(output) = link.poll_output() {
        match output {
            Output::Frame(octets) => assert!(Frame::parse(&octets).is_ok(), "a frame of ours: {octets:02x?}"),
            Output::Authenticate { serial, request } => link.verdict(now, serial, judge(&request)),
            Output::Commit { serial, transition } => {
                if let Transition::Open(row) = transition {
                    assert!(!row.ncps.is_empty(), "an open link has an open protocol");
                }
                link.commit_accepted(now, serial);
            }
            Output::Up(_) => assert!(link.row().is_some(), "up without a row"),
            Output::Down(_) | Output::Finished(_) | Output::Count(_) => {}
        }
    }
}

/// Computes the proof, and then lets everybody in: the fuzzer cannot guess one.
fn judge(request: &AuthRequest) -> Verdict {
    let accepted = request.verify(&Secret::new(*b"password"));
    let address = Ipv4Addr::new(100, 64, 0, 2);
    let ipcp = IpcpConfig {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: address,
        dns: [Some(address), None],
    };
    let ms_chap_success = accepted.and_then(|accepted| accepted.ms_chap_success);
    Verdict::Accept {
        ipcp: Some(ipcp),
        message: Vec::new(),
        ms_chap_success,
    }
}
