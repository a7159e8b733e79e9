//! Why a link ended, in the terms of L2TP's PPP Disconnect Cause (RFC 3145) and of the CDN (RFC 2661 §4.4.2).

use crate::auth::AuthMethod;
use crate::iana::protocol;
use crate::ncp::Ncp;

/// Which side a cause points at (RFC 3145 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    Global = 0,
    Peer = 1,
    Local = 2,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Closed by the operator or by a limit of the session.
    Administrative,
    /// The session has lasted as long as it may.
    SessionTimeout,
    /// No user data for as long as the session may idle.
    IdleTimeout,
    /// LCP Terminate-Request, from this side.
    Terminated(Direction),
    /// LCP did not converge.
    LcpTimeout,
    /// Nothing that looks like LCP was heard.
    NoLcp,
    /// The line is looped back.
    Loop,
    /// Too many echoes without a reply.
    EchoTimeout,
    /// The peer did not authenticate in time, or no verdict came; `None` where no protocol was asked for.
    AuthTimeout(Option<AuthMethod>),
    /// The peer refuses every authentication protocol that policy allows; this one was offered last.
    AuthUnacceptable(AuthMethod),
    /// The peer failed to authenticate; `None` where policy refused it without a protocol.
    AuthFailed(Option<AuthMethod>),
    /// Nobody could say whether the peer may come in: no server answered.
    AuthUnavailable(Option<AuthMethod>),
    /// A network control protocol did not converge.
    NcpTimeout(Ncp),
    /// No network protocol opened, or the last one closed; `None` where none was enabled.
    NoNcp(Option<Ncp>),
    /// No agreement on addresses: too many Naks from the peer (`Direction::Peer`) or to it (`Direction::Local`).
    NoAgreement(Ncp, Direction),
    /// The address that the peer insists on is refused.
    AddressRefused(Ncp),
}

impl Cause {
    /// The disconnect code.
    pub fn code(self) -> u16 {
        match self {
            Self::Administrative | Self::SessionTimeout | Self::IdleTimeout => 1,
            Self::Terminated(_) => 3,
            Self::LcpTimeout => 5,
            Self::NoLcp => 6,
            Self::Loop => 7,
            Self::EchoTimeout => 8,
            Self::AuthTimeout(_) | Self::AuthUnavailable(_) => 13,
            Self::AuthUnacceptable(_) => 15,
            Self::AuthFailed(_) => 16,
            Self::NcpTimeout(_) => 17,
            Self::NoNcp(_) => 18,
            Self::NoAgreement(..) => 19,
            Self::AddressRefused(_) => 20,
        }
    }

    /// The control protocol that the code is about; 0 for the link as a whole.
    pub fn protocol(self) -> u16 {
        match self {
            Self::Administrative | Self::SessionTimeout | Self::IdleTimeout | Self::Terminated(_) => 0,
            Self::LcpTimeout | Self::NoLcp | Self::Loop | Self::EchoTimeout => protocol::LCP,
            Self::AuthUnacceptable(method) => method.protocol(),
            Self::AuthTimeout(method) | Self::AuthUnavailable(method) | Self::AuthFailed(method) => {
                method.map_or(0, AuthMethod::protocol)
            }
            Self::NoNcp(ncp) => ncp.map_or(0, Ncp::protocol),
            Self::NcpTimeout(ncp) | Self::NoAgreement(ncp, _) | Self::AddressRefused(ncp) => ncp.protocol(),
        }
    }

    /// The direction field.
    pub fn direction(self) -> Direction {
        match self {
            Self::Terminated(direction) | Self::NoAgreement(_, direction) => direction,
            Self::AuthUnacceptable(_) | Self::AuthFailed(_) => Direction::Peer,
            Self::AddressRefused(_) => Direction::Local,
            Self::Administrative
            | Self::SessionTimeout
            | Self::IdleTimeout
            | Self::LcpTimeout
            | Self::NoLcp
            | Self::Loop
            | Self::EchoTimeout
            | Self::AuthTimeout(_)
            | Self::AuthUnavailable(_)
            | Self::NcpTimeout(_)
            | Self::NoNcp(_) => Direction::Global,
        }
    }

    /// The result code for the CDN: 1 loss of carrier, 3 administrative, 4 no facilities for now, 11 no proper framing.
    pub fn cdn_result(self) -> u16 {
        match self {
            Self::EchoTimeout => 1,
            Self::AuthUnavailable(_) => 4,
            Self::NoLcp => 11,
            Self::Administrative
            | Self::SessionTimeout
            | Self::IdleTimeout
            | Self::Terminated(_)
            | Self::LcpTimeout
            | Self::Loop
            | Self::AuthTimeout(_)
            | Self::AuthUnacceptable(_)
            | Self::AuthFailed(_)
            | Self::NcpTimeout(_)
            | Self::NoNcp(_)
            | Self::NoAgreement(..)
            | Self::AddressRefused(_) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_carry_the_numbers_of_rfc_3145() {
        use Direction::{Global, Local, Peer};
        for (cause, code, protocol, direction, result) in [
            (Cause::Administrative, 1, 0, Global, 3),
            (Cause::Terminated(Peer), 3, 0, Peer, 3),
            (Cause::NoLcp, 6, 0xc021, Global, 11),
            (Cause::EchoTimeout, 8, 0xc021, Global, 1),
            (Cause::AuthTimeout(Some(AuthMethod::Pap)), 13, 0xc023, Global, 3),
            (Cause::AuthUnacceptable(AuthMethod::MsChapV2), 15, 0xc223, Peer, 3),
            (Cause::AuthFailed(None), 16, 0, Peer, 3),
            (
                Cause::AuthUnavailable(Some(AuthMethod::ChapMd5)),
                13,
                0xc223,
                Global,
                4,
            ),
            (Cause::NcpTimeout(Ncp::Ipcp), 17, 0x8021, Global, 3),
            (Cause::NoNcp(None), 18, 0, Global, 3),
            (Cause::NoAgreement(Ncp::Ipcp, Local), 19, 0x8021, Local, 3),
            (Cause::AddressRefused(Ncp::Ipcp), 20, 0x8021, Local, 3),
        ] {
            let got = (
                cause.code(),
                cause.protocol(),
                cause.direction(),
                cause.cdn_result(),
            );
            assert_eq!(got, (code, protocol, direction, result), "{cause:?}");
        }
    }
}
