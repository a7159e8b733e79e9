//! Acct-Terminate-Cause (RFC 2866 §5.10): why a session ended, for accounting.

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::iana::{call_result, stop_result};
use holdfast_protocol::{CallEnd, CloseReason};

/// The subscriber hung up.
pub const USER_REQUEST: u32 = 1;
/// The LAC or the line went away.
pub const LOST_CARRIER: u32 = 2;
/// The LAC takes its tunnel down.
pub const LOST_SERVICE: u32 = 3;
/// No user data for as long as the session may idle.
pub const IDLE_TIMEOUT: u32 = 4;
/// It has lasted as long as it may.
pub const SESSION_TIMEOUT: u32 = 5;
/// An operator ended it.
pub const ADMIN_RESET: u32 = 6;
/// The line, or the LAC's end of the call, is faulty.
pub const PORT_ERROR: u32 = 8;
/// The LNS is being shut down for good.
pub const NAS_REBOOT: u32 = 11;
/// PPP failed.
pub const SERVICE_UNAVAILABLE: u32 = 15;
/// Something inside broke.
pub const NAS_ERROR: u32 = 9;
/// The subscriber's end of PPP does not do what it must.
pub const USER_ERROR: u32 = 17;

/// For a call that ended other than by our word; `ending`: the link was being ended for this cause already, and the LAC follows.
pub fn of_call(end: &CallEnd, ending: Option<u32>) -> u32 {
    if let Some(cause) = ending {
        return cause;
    }
    let CallEnd::Peer(Some(cdn)) = end else {
        return LOST_CARRIER;
    };
    match cdn.result.result {
        call_result::GENERAL_ERROR | call_result::STATE_MACHINE_ERROR | call_result::NO_FRAMING => PORT_ERROR,
        call_result::ADMINISTRATIVE => ADMIN_RESET,
        call_result::NO_FACILITIES_TEMPORARY | call_result::NO_FACILITIES_PERMANENT => SERVICE_UNAVAILABLE,
        _ => LOST_CARRIER,
    }
}

/// For the sessions of a tunnel that ended; `own` is what we said of it if the end is ours.
pub fn of_tunnel(end: &CloseReason, own: u32) -> u32 {
    match end {
        CloseReason::Local(_) => own,
        CloseReason::Peer(Some(ResultCode { result, .. })) => match *result {
            stop_result::GENERAL_ERROR | stop_result::STATE_MACHINE_ERROR => PORT_ERROR,
            _ => LOST_SERVICE,
        },
        CloseReason::Peer(None) | CloseReason::NoAnswer | CloseReason::TieLost => LOST_CARRIER,
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::message::Cdn;

    use super::*;

    #[test]
    fn what_the_lac_says_of_a_call() {
        let said = |result| {
            of_call(
                &CallEnd::Peer(Some(Box::new(Cdn::new(ResultCode::new(result))))),
                None,
            )
        };
        assert_eq!(said(call_result::LOSS_OF_CARRIER), LOST_CARRIER);
        assert_eq!(said(call_result::GENERAL_ERROR), PORT_ERROR);
        assert_eq!(said(call_result::ADMINISTRATIVE), ADMIN_RESET);
        assert_eq!(said(call_result::NO_FACILITIES_PERMANENT), SERVICE_UNAVAILABLE);
        assert_eq!(of_call(&CallEnd::Peer(None), None), LOST_CARRIER);
        assert_eq!(of_call(&CallEnd::Peer(None), Some(ADMIN_RESET)), ADMIN_RESET);
    }

    #[test]
    fn how_a_tunnel_ends() {
        let said = |result| of_tunnel(&CloseReason::Peer(Some(ResultCode::new(result))), NAS_REBOOT);
        assert_eq!(said(stop_result::GENERAL_REQUEST), LOST_SERVICE);
        assert_eq!(said(stop_result::SHUTTING_DOWN), LOST_SERVICE);
        assert_eq!(said(stop_result::GENERAL_ERROR), PORT_ERROR);
        assert_eq!(of_tunnel(&CloseReason::NoAnswer, NAS_REBOOT), LOST_CARRIER);
        let ours = CloseReason::Local(ResultCode::new(stop_result::SHUTTING_DOWN));
        assert_eq!(of_tunnel(&ours, NAS_REBOOT), NAS_REBOOT);
    }
}
