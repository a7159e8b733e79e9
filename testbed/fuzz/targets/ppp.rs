//! PPP frames in sequence against a link: LCP, PAP, CHAP, IPCP, IPV6CP and whatever else. Nothing panics, every frame that
//! leaves can be read, and nothing is open without an accepted row.
//!
//! What the fuzzer cannot know, identifiers and random values, it need not: an empty frame acknowledges our last
//! Configure-Request, a frame of one octet answers our last CHAP Challenge.

#![no_main]

#[path = "chunks.rs"]
mod chunks;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::frame::Frame;
use holdfast_ppp::iana::{chap_code, code, protocol};
use holdfast_ppp::{
    AuthMethod, AuthRequest, IpcpConfig, Ipv6cpConfig, Link, LinkConfig, Output, Secret, Transition, Verdict,
};
use libfuzzer_sys::fuzz_target;

/// Where the code stands in a frame: behind address, control and protocol.
const CODE_AT: usize = 4;
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
    let mut sent = Sent {
        ms_chap: choice % 4 == 3,
        ..Sent::default()
    };
    sent.drain(&mut link, now);
    for frame in chunks::chunks(input) {
        now += STEP;
        match frame.len() {
            0 => link.handle_input(now, &sent.acknowledgement()),
            1 => link.handle_input(now, &sent.response()),
            _ => link.handle_input(now, frame),
        }
        sent.drain(&mut link, now);
        if link.poll_timeout().is_some_and(|at| at <= now) {
            link.handle_timeout(now);
            sent.drain(&mut link, now);
        }
    }
    if let Some(row) = link.row().cloned() {
        let resumed = Link::resume(now, config, &row, 2);
        assert_eq!(resumed.row(), Some(&row));
    }
});

/// Our last frames that ask for an answer, as far as they have none.
#[derive(Default)]
struct Sent {
    request: Vec<u8>,
    /// The one before, if none of them has been acknowledged since.
    before: Vec<u8>,
    challenge: Vec<u8>,
    /// The challenge is one of MS-CHAPv2.
    ms_chap: bool,
}

impl Sent {
    /// Does what the owner of a link does with its outputs.
    fn drain(&mut self, link: &mut Link, now: Duration) {
        while let Some(output) = link.poll_output() {
            match output {
                Output::Frame(octets) => self.note(octets),
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

    fn note(&mut self, octets: Vec<u8>) {
        let frame = Frame::parse(&octets).expect("a frame of ours can be read");
        let code = frame.information.first();
        match (frame.protocol, code) {
            (protocol::LCP | protocol::IPCP | protocol::IPV6CP, Some(&code::CONFIGURE_REQUEST)) => {
                self.before = std::mem::replace(&mut self.request, octets);
            }
            (protocol::CHAP, Some(&chap_code::CHALLENGE)) => self.challenge = octets,
            _ => {}
        }
    }

    fn acknowledgement(&mut self) -> Vec<u8> {
        let before = std::mem::take(&mut self.before);
        let mut frame = std::mem::replace(&mut self.request, before);
        if let Some(code) = frame.get_mut(CODE_AT) {
            *code = code::CONFIGURE_ACK;
        }
        frame
    }

    /// A Response of the right form with the Challenge's identifier: 16 octets of MD5, 49 of MS-CHAPv2.
    fn response(&self) -> Vec<u8> {
        let Some(id) = self.challenge.get(CODE_AT + 1) else {
            return Vec::new();
        };
        let value = [16, 49][usize::from(self.ms_chap)];
        let mut frame = vec![0xff, 0x03, 0xc2, 0x23, chap_code::RESPONSE, *id, 0, 10 + value];
        frame.push(value);
        frame.resize(frame.len() + usize::from(value), 0);
        frame.extend_from_slice(b"alice");
        frame
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
    let ipv6cp = Ipv6cpConfig {
        local: [1; 8],
        peer: [2; 8],
        fixed: false,
    };
    let ms_chap_success = accepted
        .and_then(|accepted| accepted.ms_chap_success)
        .or(Some(b"S=".to_vec()));
    Verdict::Accept {
        ipcp: Some(ipcp),
        ipv6cp: Some(ipv6cp),
        message: Vec::new(),
        ms_chap_success,
    }
}
