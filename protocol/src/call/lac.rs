//! The incoming call at the LAC (RFC 2661 §7.4.1). It decides; the connection acts.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | idle | call detected | open tunnel if needed | wait-tunnel |
//! | idle | ICCN, ICRP, CDN | clean up | idle |
//! | wait-tunnel | line drop or close | clean up | idle |
//! | wait-tunnel | tunnel open | send ICRQ | wait-reply |
//! | wait-reply | ICRP acceptable | send ICCN | established |
//! | wait-reply | ICRP not acceptable | send CDN, clean up | idle |
//! | wait-reply | ICRQ | send CDN, clean up | idle |
//! | wait-reply | CDN, ICCN | clean up | idle |
//! | wait-reply | line drop or close | send CDN, clean up | idle |
//! | established | CDN | clean up | idle |
//! | established | ICRQ, ICRP, ICCN | send CDN, clean up | idle |
//! | established | line drop or close | send CDN, clean up | idle |
//!
//! In wait-tunnel the peer cannot name the session yet; a message that does is ignored.

use super::{CallAction as Action, CallInput as Input, CallState as State};

/// The table above.
pub(crate) fn transition(state: State, input: Input) -> (Action, State) {
    match state {
        State::Idle => idle(input),
        State::WaitTunnel => wait_tunnel(input),
        State::WaitReply => wait_reply(input),
        State::Established => established(input),
        // A state of the LNS's machine: no call at a LAC is ever in it.
        State::WaitConnect => (Action::CleanUp, State::Idle),
    }
}

fn idle(input: Input) -> (Action, State) {
    match input {
        Input::Dial => (Action::Nothing, State::WaitTunnel),
        Input::IccnAcceptable | Input::IccnRefused | Input::Icrp | Input::IcrpRefused | Input::Cdn => {
            (Action::CleanUp, State::Idle)
        }
        Input::IcrqAcceptable | Input::IcrqRefused | Input::Close | Input::TunnelOpen => {
            (Action::Nothing, State::Idle)
        }
    }
}

fn wait_tunnel(input: Input) -> (Action, State) {
    match input {
        Input::Close => (Action::CleanUp, State::Idle),
        Input::TunnelOpen => (Action::SendIcrq, State::WaitReply),
        Input::Dial
        | Input::IcrqAcceptable
        | Input::IcrqRefused
        | Input::Icrp
        | Input::IcrpRefused
        | Input::IccnAcceptable
        | Input::IccnRefused
        | Input::Cdn => (Action::Nothing, State::WaitTunnel),
    }
}

fn wait_reply(input: Input) -> (Action, State) {
    match input {
        Input::Icrp => (Action::SendIccn, State::Established),
        Input::IcrpRefused | Input::IcrqAcceptable | Input::IcrqRefused | Input::Close => {
            (Action::SendCdn, State::Idle)
        }
        Input::Cdn | Input::IccnAcceptable | Input::IccnRefused => (Action::CleanUp, State::Idle),
        Input::Dial | Input::TunnelOpen => (Action::Nothing, State::WaitReply),
    }
}

fn established(input: Input) -> (Action, State) {
    match input {
        Input::Cdn => (Action::CleanUp, State::Idle),
        Input::IcrqAcceptable
        | Input::IcrqRefused
        | Input::Icrp
        | Input::IcrpRefused
        | Input::IccnAcceptable
        | Input::IccnRefused
        | Input::Close => (Action::SendCdn, State::Idle),
        Input::Dial | Input::TunnelOpen => (Action::Nothing, State::Established),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::INPUTS;
    use super::*;
    use Action::*;
    use State::*;

    fn row(state: State) -> [(Action, State); 10] {
        INPUTS.map(|input| transition(state, input))
    }

    #[test]
    fn every_cell_of_idle() {
        let clean = (CleanUp, Idle);
        let none = (Nothing, Idle);
        assert_eq!(
            row(Idle),
            [
                none,
                none,
                clean,
                clean,
                clean,
                clean,
                clean,
                none,
                (Nothing, WaitTunnel),
                none
            ]
        );
    }

    #[test]
    fn every_cell_of_wait_tunnel() {
        let none = (Nothing, WaitTunnel);
        let expected = [
            none,
            none,
            none,
            none,
            none,
            none,
            none,
            (CleanUp, Idle),
            none,
            (SendIcrq, WaitReply),
        ];
        assert_eq!(row(WaitTunnel), expected);
    }

    #[test]
    fn every_cell_of_wait_reply() {
        let cdn = (SendCdn, Idle);
        let clean = (CleanUp, Idle);
        let none = (Nothing, WaitReply);
        let expected = [
            cdn,
            cdn,
            (SendIccn, Established),
            cdn,
            clean,
            clean,
            clean,
            cdn,
            none,
            none,
        ];
        assert_eq!(row(WaitReply), expected);
    }

    #[test]
    fn every_cell_of_established() {
        let cdn = (SendCdn, Idle);
        let none = (Nothing, Established);
        assert_eq!(
            row(Established),
            [cdn, cdn, cdn, cdn, cdn, cdn, (CleanUp, Idle), cdn, none, none]
        );
    }

    #[test]
    fn every_cell_of_the_state_of_an_lns() {
        assert_eq!(row(WaitConnect), [(CleanUp, Idle); 10]);
    }
}
