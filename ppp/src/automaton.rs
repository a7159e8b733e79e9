//! The option negotiation automaton (RFC 1661 §4.1), once, for LCP and every network control protocol.
//!
//! ```text
//!         | State
//!         |    0         1         2         3         4         5
//!   Events| Initial   Starting  Closed    Stopped   Closing   Stopping
//!   ------+-----------------------------------------------------------
//!    Up   |    2     irc,scr/6     -         -         -         -
//!    Down |    -         -         0       tls/1       0         1
//!    Open |  tls/1       1     irc,scr/6     3         5         5
//!    Close|    0       tlf/0       2         2         4         4
//!         |
//!     TO+ |    -         -         -         -       str/4     str/5
//!     TO- |    -         -         -         -       tlf/2     tlf/3
//!         |
//!    RCR+ |    -         -       sta/2 irc,scr,sca/8   4         5
//!    RCR- |    -         -       sta/2 irc,scr,scn/6   4         5
//!    RCA  |    -         -       sta/2     sta/3       4         5
//!    RCN  |    -         -       sta/2     sta/3       4         5
//!         |
//!    RTR  |    -         -       sta/2     sta/3     sta/4     sta/5
//!    RTA  |    -         -         2         3       tlf/2     tlf/3
//!         |
//!    RUC  |    -         -       scj/2     scj/3     scj/4     scj/5
//!    RXJ+ |    -         -         2         3         4         5
//!    RXJ- |    -         -       tlf/2     tlf/3     tlf/2     tlf/3
//!         |
//!    RXR  |    -         -         2         3         4         5
//!
//!         | State
//!         |    6         7         8           9
//!   Events| Req-Sent  Ack-Rcvd  Ack-Sent    Opened
//!   ------+-----------------------------------------
//!    Up   |    -         -         -           -
//!    Down |    1         1         1         tld/1
//!    Open |    6         7         8           9
//!    Close|irc,str/4 irc,str/4 irc,str/4 tld,irc,str/4
//!         |
//!     TO+ |  scr/6     scr/6     scr/8         -
//!     TO- |  tlf/3     tlf/3     tlf/3         -
//!         |
//!    RCR+ |  sca/8   sca,tlu/9   sca/8   tld,scr,sca/8
//!    RCR- |  scn/6     scn/7     scn/6   tld,scr,scn/6
//!    RCA  |  irc/7     scr/6   irc,tlu/9   tld,scr/6
//!    RCN  |irc,scr/6   scr/6   irc,scr/8   tld,scr/6
//!         |
//!    RTR  |  sta/6     sta/6     sta/6   tld,zrc,sta/5
//!    RTA  |    6         6         8       tld,scr/6
//!         |
//!    RUC  |  scj/6     scj/7     scj/8       scj/9
//!    RXJ+ |    6         6         8           9
//!    RXJ- |  tlf/3     tlf/3     tlf/3   tld,irc,str/5
//!         |
//!    RXR  |    6         7         8         ser/9
//! ```
//!
//! Neither the passive option nor the restart option is used.

/// States (RFC 1661 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Initial,
    Starting,
    Closed,
    Stopped,
    Closing,
    Stopping,
    ReqSent,
    AckRcvd,
    AckSent,
    Opened,
}

/// Events (RFC 1661 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The lower layer is up.
    Up,
    /// The lower layer is down.
    Down,
    /// The administrator wants the layer.
    Open,
    /// The administrator wants it no more.
    Close,
    /// TO+: timeout with restarts left.
    Timeout,
    /// TO-: timeout with none left.
    Expired,
    /// RCR+: an acceptable Configure-Request.
    GoodRequest,
    /// RCR-: an unacceptable one.
    BadRequest,
    /// RCA: a valid Configure-Ack.
    Ack,
    /// RCN: a valid Configure-Nak or Configure-Reject.
    NakOrReject,
    /// RTR: a Terminate-Request.
    TerminateRequest,
    /// RTA: a Terminate-Ack.
    TerminateAck,
    /// RUC: an unknown code.
    UnknownCode,
    /// RXJ+: a rejection one can live with.
    TolerableReject,
    /// RXJ-: a rejection that ends the protocol.
    FatalReject,
    /// RXR: Echo-Request, Echo-Reply or Discard-Request.
    Echo,
}

/// Actions (RFC 1661 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// tlu
    ThisLayerUp,
    /// tld
    ThisLayerDown,
    /// tls
    ThisLayerStarted,
    /// tlf
    ThisLayerFinished,
    /// irc
    InitRestartCount,
    /// zrc
    ZeroRestartCount,
    /// scr
    SendRequest,
    /// sca
    SendAck,
    /// scn
    SendNakOrReject,
    /// str
    SendTerminateRequest,
    /// sta
    SendTerminateAck,
    /// scj
    SendCodeReject,
    /// ser
    SendEchoReply,
}

use Action::{
    InitRestartCount as Irc, SendAck as Sca, SendCodeReject as Scj, SendEchoReply as Ser,
    SendNakOrReject as Scn, SendRequest as Scr, SendTerminateAck as Sta, SendTerminateRequest as Str,
    ThisLayerDown as Tld, ThisLayerFinished as Tlf, ThisLayerStarted as Tls, ThisLayerUp as Tlu,
    ZeroRestartCount as Zrc,
};
use State::{AckRcvd, AckSent, Closed, Closing, Initial, Opened, ReqSent, Starting, Stopped, Stopping};

/// What to do and where to go; `None` where the RFC's table says that it cannot happen.
type Step = Option<(&'static [Action], State)>;

const fn step(actions: &'static [Action], next: State) -> Step {
    Some((actions, next))
}

/// The table above, a row a function.
pub(crate) fn transition(state: State, event: Event) -> Step {
    match event {
        Event::Up => up(state),
        Event::Down => down(state),
        Event::Open => open(state),
        Event::Close => close(state),
        Event::Timeout => timeout(state),
        Event::Expired => expired(state),
        Event::GoodRequest => good_request(state),
        Event::BadRequest => bad_request(state),
        Event::Ack => ack(state),
        Event::NakOrReject => nak_or_reject(state),
        Event::TerminateRequest => terminate_request(state),
        Event::TerminateAck => terminate_ack(state),
        Event::UnknownCode => unknown_code(state),
        Event::TolerableReject => tolerable_reject(state),
        Event::FatalReject => fatal_reject(state),
        Event::Echo => echo(state),
    }
}

fn up(state: State) -> Step {
    match state {
        Initial => step(&[], Closed),
        Starting => step(&[Irc, Scr], ReqSent),
        Closed | Stopped | Closing | Stopping | ReqSent | AckRcvd | AckSent | Opened => None,
    }
}

fn down(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed | Closing => step(&[], Initial),
        Stopped => step(&[Tls], Starting),
        Stopping | ReqSent | AckRcvd | AckSent => step(&[], Starting),
        Opened => step(&[Tld], Starting),
    }
}

fn open(state: State) -> Step {
    match state {
        Initial => step(&[Tls], Starting),
        Starting => step(&[], Starting),
        Closed => step(&[Irc, Scr], ReqSent),
        Stopped => step(&[], Stopped),
        Closing | Stopping => step(&[], Stopping),
        ReqSent => step(&[], ReqSent),
        AckRcvd => step(&[], AckRcvd),
        AckSent => step(&[], AckSent),
        Opened => step(&[], Opened),
    }
}

fn close(state: State) -> Step {
    match state {
        Initial => step(&[], Initial),
        Starting => step(&[Tlf], Initial),
        Closed | Stopped => step(&[], Closed),
        Closing | Stopping => step(&[], Closing),
        ReqSent | AckRcvd | AckSent => step(&[Irc, Str], Closing),
        Opened => step(&[Tld, Irc, Str], Closing),
    }
}

fn timeout(state: State) -> Step {
    match state {
        Initial | Starting | Closed | Stopped | Opened => None,
        Closing => step(&[Str], Closing),
        Stopping => step(&[Str], Stopping),
        ReqSent | AckRcvd => step(&[Scr], ReqSent),
        AckSent => step(&[Scr], AckSent),
    }
}

fn expired(state: State) -> Step {
    match state {
        Initial | Starting | Closed | Stopped | Opened => None,
        Closing => step(&[Tlf], Closed),
        Stopping | ReqSent | AckRcvd | AckSent => step(&[Tlf], Stopped),
    }
}

fn good_request(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Sta], Closed),
        Stopped => step(&[Irc, Scr, Sca], AckSent),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent | AckSent => step(&[Sca], AckSent),
        AckRcvd => step(&[Sca, Tlu], Opened),
        Opened => step(&[Tld, Scr, Sca], AckSent),
    }
}

fn bad_request(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Sta], Closed),
        Stopped => step(&[Irc, Scr, Scn], ReqSent),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent | AckSent => step(&[Scn], ReqSent),
        AckRcvd => step(&[Scn], AckRcvd),
        Opened => step(&[Tld, Scr, Scn], ReqSent),
    }
}

fn ack(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Sta], Closed),
        Stopped => step(&[Sta], Stopped),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent => step(&[Irc], AckRcvd),
        AckRcvd => step(&[Scr], ReqSent),
        AckSent => step(&[Irc, Tlu], Opened),
        Opened => step(&[Tld, Scr], ReqSent),
    }
}

fn nak_or_reject(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Sta], Closed),
        Stopped => step(&[Sta], Stopped),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent => step(&[Irc, Scr], ReqSent),
        AckRcvd => step(&[Scr], ReqSent),
        AckSent => step(&[Irc, Scr], AckSent),
        Opened => step(&[Tld, Scr], ReqSent),
    }
}

fn terminate_request(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Sta], Closed),
        Stopped => step(&[Sta], Stopped),
        Closing => step(&[Sta], Closing),
        Stopping => step(&[Sta], Stopping),
        ReqSent | AckRcvd | AckSent => step(&[Sta], ReqSent),
        Opened => step(&[Tld, Zrc, Sta], Stopping),
    }
}

fn terminate_ack(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[], Closed),
        Stopped => step(&[], Stopped),
        Closing => step(&[Tlf], Closed),
        Stopping => step(&[Tlf], Stopped),
        ReqSent | AckRcvd => step(&[], ReqSent),
        AckSent => step(&[], AckSent),
        Opened => step(&[Tld, Scr], ReqSent),
    }
}

fn unknown_code(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[Scj], Closed),
        Stopped => step(&[Scj], Stopped),
        Closing => step(&[Scj], Closing),
        Stopping => step(&[Scj], Stopping),
        ReqSent => step(&[Scj], ReqSent),
        AckRcvd => step(&[Scj], AckRcvd),
        AckSent => step(&[Scj], AckSent),
        Opened => step(&[Scj], Opened),
    }
}

fn tolerable_reject(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[], Closed),
        Stopped => step(&[], Stopped),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent | AckRcvd => step(&[], ReqSent),
        AckSent => step(&[], AckSent),
        Opened => step(&[], Opened),
    }
}

fn fatal_reject(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed | Closing => step(&[Tlf], Closed),
        Stopped | Stopping | ReqSent | AckRcvd | AckSent => step(&[Tlf], Stopped),
        Opened => step(&[Tld, Irc, Str], Stopping),
    }
}

fn echo(state: State) -> Step {
    match state {
        Initial | Starting => None,
        Closed => step(&[], Closed),
        Stopped => step(&[], Stopped),
        Closing => step(&[], Closing),
        Stopping => step(&[], Stopping),
        ReqSent => step(&[], ReqSent),
        AckRcvd => step(&[], AckRcvd),
        AckSent => step(&[], AckSent),
        Opened => step(&[Ser], Opened),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 10] = [
        Initial, Starting, Closed, Stopped, Closing, Stopping, ReqSent, AckRcvd, AckSent, Opened,
    ];

    /// The RFC's table again, as text, independent of the code above: event, then a cell for each of the ten states.
    const TABLE: [(Event, &str); 16] = [
        (Event::Up, "2 irc,scr/6 - - - - - - - -"),
        (Event::Down, "- - 0 tls/1 0 1 1 1 1 tld/1"),
        (Event::Open, "tls/1 1 irc,scr/6 3 5 5 6 7 8 9"),
        (
            Event::Close,
            "0 tlf/0 2 2 4 4 irc,str/4 irc,str/4 irc,str/4 tld,irc,str/4",
        ),
        (Event::Timeout, "- - - - str/4 str/5 scr/6 scr/6 scr/8 -"),
        (Event::Expired, "- - - - tlf/2 tlf/3 tlf/3 tlf/3 tlf/3 -"),
        (
            Event::GoodRequest,
            "- - sta/2 irc,scr,sca/8 4 5 sca/8 sca,tlu/9 sca/8 tld,scr,sca/8",
        ),
        (
            Event::BadRequest,
            "- - sta/2 irc,scr,scn/6 4 5 scn/6 scn/7 scn/6 tld,scr,scn/6",
        ),
        (Event::Ack, "- - sta/2 sta/3 4 5 irc/7 scr/6 irc,tlu/9 tld,scr/6"),
        (
            Event::NakOrReject,
            "- - sta/2 sta/3 4 5 irc,scr/6 scr/6 irc,scr/8 tld,scr/6",
        ),
        (
            Event::TerminateRequest,
            "- - sta/2 sta/3 sta/4 sta/5 sta/6 sta/6 sta/6 tld,zrc,sta/5",
        ),
        (Event::TerminateAck, "- - 2 3 tlf/2 tlf/3 6 6 8 tld,scr/6"),
        (
            Event::UnknownCode,
            "- - scj/2 scj/3 scj/4 scj/5 scj/6 scj/7 scj/8 scj/9",
        ),
        (Event::TolerableReject, "- - 2 3 4 5 6 6 8 9"),
        (
            Event::FatalReject,
            "- - tlf/2 tlf/3 tlf/2 tlf/3 tlf/3 tlf/3 tlf/3 tld,irc,str/5",
        ),
        (Event::Echo, "- - 2 3 4 5 6 7 8 ser/9"),
    ];

    fn action(name: &str) -> Action {
        match name {
            "tlu" => Tlu,
            "tld" => Tld,
            "tls" => Tls,
            "tlf" => Tlf,
            "irc" => Irc,
            "zrc" => Zrc,
            "scr" => Scr,
            "sca" => Sca,
            "scn" => Scn,
            "str" => Str,
            "sta" => Sta,
            "scj" => Scj,
            "ser" => Ser,
            other => panic!("no action {other}"),
        }
    }

    fn cell(text: &str) -> Option<(Vec<Action>, State)> {
        if text == "-" {
            return None;
        }
        let (actions, next) = text.split_once('/').unwrap_or(("", text));
        let actions = actions
            .split(',')
            .filter(|name| !name.is_empty())
            .map(action)
            .collect();
        Some((actions, STATES[next.parse::<usize>().unwrap()]))
    }

    #[test]
    fn every_cell_is_as_the_rfc_has_it() {
        let mut cells = 0;
        for (event, row) in TABLE {
            let wanted: Vec<_> = row.split(' ').map(cell).collect();
            assert_eq!(wanted.len(), STATES.len(), "{event:?}");
            for (state, want) in STATES.into_iter().zip(wanted) {
                let got = transition(state, event).map(|(actions, next)| (actions.to_vec(), next));
                assert_eq!(got, want, "{state:?} x {event:?}");
                cells += 1;
            }
        }
        assert_eq!(cells, 160);
    }
}
