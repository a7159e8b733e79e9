//! The incoming call at the LNS (RFC 2661 §7.4.2). It decides; the connection acts.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | idle | ICRQ acceptable | send ICRP | wait-connect |
//! | idle | ICRQ not acceptable | send CDN, clean up | idle |
//! | idle | ICRP | send CDN, clean up | idle |
//! | idle | ICCN | clean up | idle |
//! | wait-connect | ICCN acceptable | prepare for data | established |
//! | wait-connect | ICCN not acceptable | send CDN, clean up | idle |
//! | wait-connect | ICRQ or ICRP | send CDN, clean up | idle |
//! | established | ICRQ, ICRP or ICCN | send CDN, clean up | idle |
//! | any | CDN | clean up | idle |
//! | wait-connect, established | local close | send CDN, clean up | idle |
//!
//! A message of an outgoing call that names this session is as much out of place as an ICRP, and counts as one.

use super::{CallAction as Action, CallInput as Input, CallState as State};

/// The table above.
pub(crate) fn transition(state: State, input: Input) -> (Action, State) {
    match state {
        State::Idle => idle(input),
        State::WaitConnect => wait_connect(input),
        State::Established => established(input),
        // States of the LAC's machine: no call at an LNS is ever in one.
        State::WaitTunnel | State::WaitReply => (Action::CleanUp, State::Idle),
    }
}

fn idle(input: Input) -> (Action, State) {
    match input {
        Input::IcrqAcceptable => (Action::SendIcrp, State::WaitConnect),
        Input::IcrqRefused | Input::Icrp | Input::IcrpRefused => (Action::SendCdn, State::Idle),
        Input::IccnAcceptable | Input::IccnRefused | Input::Cdn => (Action::CleanUp, State::Idle),
        Input::Close | Input::Dial | Input::TunnelOpen => (Action::Nothing, State::Idle),
    }
}

fn wait_connect(input: Input) -> (Action, State) {
    match input {
        Input::IccnAcceptable => (Action::Connect, State::Established),
        Input::IccnRefused
        | Input::IcrqAcceptable
        | Input::IcrqRefused
        | Input::Icrp
        | Input::IcrpRefused
        | Input::Close => (Action::SendCdn, State::Idle),
        Input::Cdn => (Action::CleanUp, State::Idle),
        Input::Dial | Input::TunnelOpen => (Action::Nothing, State::WaitConnect),
    }
}

fn established(input: Input) -> (Action, State) {
    match input {
        Input::IcrqAcceptable
        | Input::IcrqRefused
        | Input::Icrp
        | Input::IcrpRefused
        | Input::IccnAcceptable
        | Input::IccnRefused
        | Input::Close => (Action::SendCdn, State::Idle),
        Input::Cdn => (Action::CleanUp, State::Idle),
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
        let cdn = (SendCdn, Idle);
        let clean = (CleanUp, Idle);
        let none = (Nothing, Idle);
        assert_eq!(
            row(Idle),
            [
                (SendIcrp, WaitConnect),
                cdn,
                cdn,
                cdn,
                clean,
                clean,
                clean,
                none,
                none,
                none
            ]
        );
    }

    #[test]
    fn every_cell_of_wait_connect() {
        let cdn = (SendCdn, Idle);
        let none = (Nothing, WaitConnect);
        assert_eq!(
            row(WaitConnect),
            [
                cdn,
                cdn,
                cdn,
                cdn,
                (Connect, Established),
                cdn,
                (CleanUp, Idle),
                cdn,
                none,
                none
            ]
        );
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
    fn every_cell_of_the_states_of_a_lac() {
        for state in [WaitTunnel, WaitReply] {
            assert_eq!(row(state), [(CleanUp, Idle); 10]);
        }
    }
}
