//! The control connection's state machine (RFC 2661 §7.2), for both roles. It decides; others act.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | idle | local open | send SCCRQ | wait-ctl-reply |
//! | idle | SCCRQ acceptable | send SCCRP | wait-ctl-conn |
//! | idle | SCCRQ not acceptable | send StopCCN, clean up | idle |
//! | idle | SCCRP | send StopCCN, clean up | idle |
//! | idle | SCCCN | clean up | idle |
//! | wait-ctl-reply | SCCRP acceptable | send SCCCN, tunnel open | established |
//! | wait-ctl-reply | SCCRP not acceptable | send StopCCN, clean up | closing |
//! | wait-ctl-reply | SCCRQ, tie lost | clean up | idle |
//! | wait-ctl-reply | SCCRQ, tie won | none: the peer discards its own | wait-ctl-reply |
//! | wait-ctl-reply | SCCRQ of this tunnel, SCCCN | send StopCCN, clean up | closing |
//! | wait-ctl-conn | SCCCN acceptable | tunnel open | established |
//! | wait-ctl-conn | SCCCN not acceptable | send StopCCN, clean up | closing |
//! | wait-ctl-conn | SCCRP or SCCRQ | send StopCCN, clean up | closing |
//! | established | local open | tunnel open | established |
//! | established | SCCRQ, SCCRP or SCCCN | send StopCCN, clean up | closing |
//! | any with a tunnel | close | send StopCCN, clean up | closing |
//! | any with a tunnel | StopCCN | clean up, go on acknowledging | closed |
//! | any before closing | no answer | clean up | idle |
//! | closing, closed | retention over | clean up | idle |
//!
//! The RFC's "idle" is three states here: without a transport (idle), and with one kept for a full retransmission
//! cycle after our StopCCN (closing) or the peer's (closed), in which only the transport answers. A peer that
//! does not answer then is no reason to end it early: its late messages are still to be acknowledged.

/// Where a control connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No tunnel: not yet, or no longer.
    Idle,
    /// SCCRQ sent.
    WaitCtlReply,
    /// SCCRP sent.
    WaitCtlConn,
    /// Open for calls.
    Established,
    /// StopCCN sent.
    Closing,
    /// StopCCN received.
    Closed,
}

/// What happens to a control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    LocalOpen,
    SccrqAcceptable,
    SccrqRefused,
    TieLost,
    TieWon,
    SccrpAcceptable,
    SccrpRefused,
    ScccnAcceptable,
    ScccnRefused,
    StopCcn,
    /// An operator, a timer, a message that is at fault or out of place.
    Close,
    /// The peer acknowledges nothing any more.
    NoAnswer,
    /// A full retransmission cycle has passed since the end.
    RetentionOver,
}

/// What is to be done. The message that was refused, or out of place, says with which result StopCCN is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    SendSccrq,
    SendSccrp,
    SendScccnAndOpen,
    Open,
    SendStopCcn,
    CleanUp,
}

/// The table above.
pub(crate) fn transition(state: State, input: Input) -> (Action, State) {
    match state {
        State::Idle => idle(input),
        State::WaitCtlReply => wait_ctl_reply(input),
        State::WaitCtlConn => wait_ctl_conn(input),
        State::Established => established(input),
        State::Closing => ending(State::Closing, input),
        State::Closed => ending(State::Closed, input),
    }
}

fn idle(input: Input) -> (Action, State) {
    match input {
        Input::LocalOpen => (Action::SendSccrq, State::WaitCtlReply),
        Input::SccrqAcceptable => (Action::SendSccrp, State::WaitCtlConn),
        Input::SccrqRefused | Input::SccrpAcceptable | Input::SccrpRefused => {
            (Action::SendStopCcn, State::Idle)
        }
        Input::ScccnAcceptable | Input::ScccnRefused | Input::StopCcn => (Action::CleanUp, State::Idle),
        Input::TieLost | Input::TieWon | Input::Close | Input::NoAnswer | Input::RetentionOver => {
            (Action::Nothing, State::Idle)
        }
    }
}

fn wait_ctl_reply(input: Input) -> (Action, State) {
    match input {
        Input::SccrpAcceptable => (Action::SendScccnAndOpen, State::Established),
        Input::TieLost | Input::NoAnswer => (Action::CleanUp, State::Idle),
        Input::TieWon | Input::LocalOpen | Input::RetentionOver => (Action::Nothing, State::WaitCtlReply),
        Input::StopCcn => (Action::CleanUp, State::Closed),
        Input::SccrpRefused
        | Input::SccrqAcceptable
        | Input::SccrqRefused
        | Input::ScccnAcceptable
        | Input::ScccnRefused
        | Input::Close => (Action::SendStopCcn, State::Closing),
    }
}

fn wait_ctl_conn(input: Input) -> (Action, State) {
    match input {
        Input::ScccnAcceptable => (Action::Open, State::Established),
        Input::LocalOpen | Input::TieLost | Input::TieWon | Input::RetentionOver => {
            (Action::Nothing, State::WaitCtlConn)
        }
        Input::StopCcn => (Action::CleanUp, State::Closed),
        Input::NoAnswer => (Action::CleanUp, State::Idle),
        Input::ScccnRefused
        | Input::SccrpAcceptable
        | Input::SccrpRefused
        | Input::SccrqAcceptable
        | Input::SccrqRefused
        | Input::Close => (Action::SendStopCcn, State::Closing),
    }
}

fn established(input: Input) -> (Action, State) {
    match input {
        Input::LocalOpen => (Action::Open, State::Established),
        Input::TieLost | Input::TieWon | Input::RetentionOver => (Action::Nothing, State::Established),
        Input::StopCcn => (Action::CleanUp, State::Closed),
        Input::NoAnswer => (Action::CleanUp, State::Idle),
        Input::SccrqAcceptable
        | Input::SccrqRefused
        | Input::SccrpAcceptable
        | Input::SccrpRefused
        | Input::ScccnAcceptable
        | Input::ScccnRefused
        | Input::Close => (Action::SendStopCcn, State::Closing),
    }
}

fn ending(state: State, input: Input) -> (Action, State) {
    match input {
        Input::RetentionOver => (Action::CleanUp, State::Idle),
        Input::LocalOpen
        | Input::SccrqAcceptable
        | Input::SccrqRefused
        | Input::TieLost
        | Input::TieWon
        | Input::SccrpAcceptable
        | Input::SccrpRefused
        | Input::ScccnAcceptable
        | Input::ScccnRefused
        | Input::StopCcn
        | Input::Close
        | Input::NoAnswer => (Action::Nothing, state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;
    use State::*;

    /// In the order of `Input`'s variants.
    const INPUTS: [Input; 13] = [
        Input::LocalOpen,
        Input::SccrqAcceptable,
        Input::SccrqRefused,
        Input::TieLost,
        Input::TieWon,
        Input::SccrpAcceptable,
        Input::SccrpRefused,
        Input::ScccnAcceptable,
        Input::ScccnRefused,
        Input::StopCcn,
        Input::Close,
        Input::NoAnswer,
        Input::RetentionOver,
    ];

    fn row(state: State) -> [(Action, State); 13] {
        INPUTS.map(|input| transition(state, input))
    }

    #[test]
    fn every_cell_of_idle() {
        let stop = (SendStopCcn, Idle);
        let clean = (CleanUp, Idle);
        let none = (Nothing, Idle);
        let expected = [
            (SendSccrq, WaitCtlReply),
            (SendSccrp, WaitCtlConn),
            stop,
            none,
            none,
            stop,
            stop,
            clean,
            clean,
            clean,
            none,
            none,
            none,
        ];
        assert_eq!(row(Idle), expected);
    }

    #[test]
    fn every_cell_of_wait_ctl_reply() {
        let stop = (SendStopCcn, Closing);
        let none = (Nothing, WaitCtlReply);
        let expected = [
            none,
            stop,
            stop,
            (CleanUp, Idle),
            none,
            (SendScccnAndOpen, Established),
            stop,
            stop,
            stop,
            (CleanUp, Closed),
            stop,
            (CleanUp, Idle),
            none,
        ];
        assert_eq!(row(WaitCtlReply), expected);
    }

    #[test]
    fn every_cell_of_wait_ctl_conn() {
        let stop = (SendStopCcn, Closing);
        let none = (Nothing, WaitCtlConn);
        let expected = [
            none,
            stop,
            stop,
            none,
            none,
            stop,
            stop,
            (Open, Established),
            stop,
            (CleanUp, Closed),
            stop,
            (CleanUp, Idle),
            none,
        ];
        assert_eq!(row(WaitCtlConn), expected);
    }

    #[test]
    fn every_cell_of_established() {
        let stop = (SendStopCcn, Closing);
        let none = (Nothing, Established);
        let expected = [
            (Open, Established),
            stop,
            stop,
            none,
            none,
            stop,
            stop,
            stop,
            stop,
            (CleanUp, Closed),
            stop,
            (CleanUp, Idle),
            none,
        ];
        assert_eq!(row(Established), expected);
    }

    #[test]
    fn every_cell_of_closing_and_closed() {
        for state in [Closing, Closed] {
            let mut expected = [(Nothing, state); 13];
            expected[12] = (CleanUp, Idle);
            assert_eq!(row(state), expected);
        }
    }
}
