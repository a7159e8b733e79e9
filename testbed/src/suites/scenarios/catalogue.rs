//! The numbered cases that an LNS has to get right, each in a line, and those that are not due yet.

/// A case and its number, which test functions carry as `s_NUMBER_...`.
pub struct Scenario {
    pub number: u16,
    pub case: &'static str,
    /// Why no test is due yet; `None` if one is.
    pub not_due: Option<&'static str>,
}

const MULTILINK: Option<&str> = Some("multilink PPP comes later");

const fn due(number: u16, case: &'static str) -> Scenario {
    Scenario {
        number,
        case,
        not_due: None,
    }
}

const fn later(number: u16, case: &'static str, not_due: Option<&'static str>) -> Scenario {
    Scenario {
        number,
        case,
        not_due,
    }
}

/// All cases of L2TPv2, PPP and the data plane, in order.
pub const SCENARIOS: &[Scenario] = &[
    // Datagram and header.
    due(1, "datagram shorter than its header"),
    due(2, "version other than 2"),
    due(3, "control message without L or S, or with O or P"),
    due(4, "Length beyond, below or inside the payload"),
    due(5, "reserved header bits set"),
    due(6, "offset beyond the end, offset 0"),
    due(7, "control message for an unknown tunnel"),
    due(8, "known tunnel, other address or port"),
    due(9, "flood of SCCRQs"),
    // Tunnel setup.
    due(10, "SCCRQ repeated while half-open"),
    due(
        11,
        "SCCRQ repeated after the tunnel is up: late duplicate or restarted LAC",
    ),
    due(12, "second tunnel of the same peer"),
    due(13, "same Assigned Tunnel ID from two peers"),
    due(14, "SCCRQ with Assigned Tunnel ID 0"),
    due(15, "SCCRQ without a mandatory AVP"),
    due(16, "Protocol Version other than 1.0"),
    due(17, "Host Name empty, long, binary, unknown"),
    due(18, "Receive Window Size 0"),
    due(19, "Challenge, but no secret"),
    due(20, "Challenge Response missing, wrong, of wrong length"),
    due(21, "Challenge reflected"),
    due(22, "both sides send SCCRQ: Tie Breaker"),
    due(23, "SCCRP where we are the responder"),
    due(24, "SCCCN on an established tunnel"),
    due(25, "SCCCN never comes"),
    due(26, "StopCCN with header Tunnel ID 0"),
    due(27, "StopCCN repeated after clearing"),
    due(28, "StopCCN whose Assigned Tunnel ID contradicts"),
    // Reliable transport.
    due(30, "old Ns"),
    due(31, "Ns ahead, inside the window"),
    due(32, "Ns far ahead"),
    due(33, "sequence numbers wrap"),
    due(34, "Nr acknowledges what was never sent"),
    due(35, "Nr older than the last"),
    due(36, "ZLB with a strange Ns"),
    due(37, "ZLBs are never acknowledged"),
    due(38, "peer's window of 1 and 200 messages"),
    due(39, "acknowledgement lost, ICRQ repeated"),
    due(40, "no acknowledgement at all"),
    due(41, "HELLO every second"),
    due(42, "HELLO with a Session ID"),
    due(43, "malformed message inside the window"),
    // AVPs.
    due(50, "AVP Length below 6"),
    due(51, "AVP beyond the end"),
    due(52, "octets left over after the last AVP"),
    due(53, "unknown AVP, M=0"),
    due(54, "unknown AVP, M=1, in a session's message"),
    due(55, "unknown AVP, M=1, in a tunnel's message"),
    due(56, "vendor AVP, M=1"),
    due(57, "reserved AVP bits set"),
    due(58, "Message Type not first, or twice"),
    due(59, "unknown Message Type"),
    due(60, "known AVP of wrong length"),
    due(61, "M other than expected"),
    due(62, "hidden AVP without secret or Random Vector"),
    due(63, "hidden AVP whose inner length is too large"),
    due(64, "hidden AVP that must not be"),
    due(65, "two Random Vectors"),
    due(66, "AVP in a message where it does not belong"),
    due(67, "AVP twice"),
    due(68, "Result Code without error code, text that is not UTF-8"),
    // Sessions.
    due(70, "ICRQ before the tunnel is up"),
    due(71, "ICRQ with Assigned Session ID 0 or none"),
    due(72, "ICRQ with an Assigned Session ID in use"),
    due(73, "ICRQ with a header Session ID"),
    due(74, "ICCN for an unknown session"),
    due(75, "ICCN without a mandatory AVP"),
    due(76, "second ICCN"),
    due(77, "ICCN never comes"),
    due(78, "CDN with header Session ID 0"),
    due(79, "CDN for an unknown session"),
    due(80, "CDN whose Assigned Session ID contradicts"),
    due(81, "OCRQ to an LNS"),
    due(82, "no free Session ID"),
    due(83, "ICRQ or SCCRQ while draining"),
    due(84, "WEN every second, SLI to an LNS"),
    // Data plane.
    due(90, "data for an unknown tunnel or session"),
    due(91, "data before ICCN"),
    due(92, "data without content"),
    due(93, "with and without address, control and protocol compression"),
    due(94, "invalid protocol number"),
    due(95, "old data sequence number"),
    due(96, "sequencing required but absent"),
    due(97, "peer stops sequencing"),
    due(98, "Nr of data"),
    due(99, "foreign source address (IPv4)"),
    due(100, "L2TP inside its own session"),
    due(101, "packet larger than the peer's MRU"),
    due(102, "outer fragment lost"),
    // PPP.
    due(110, "LCP Length out of range"),
    due(111, "LCP option length out of range"),
    due(112, "loop"),
    due(113, "Configure-Ack that does not match"),
    due(114, "Configure-Reject that does not match"),
    due(115, "authentication, MRU or magic rejected"),
    due(116, "authentication method not allowed"),
    due(117, "endless Naks"),
    due(118, "no answer to Configure-Requests"),
    due(119, "IPCP before authentication"),
    due(120, "unknown NCP"),
    due(121, "Code-Reject of Echo-Request"),
    due(122, "Protocol-Reject of LCP or IPCP"),
    due(123, "renegotiation of an open link"),
    due(124, "Terminate-Request"),
    due(125, "Echo-Request with our or a foreign magic"),
    due(126, "Echo-Request of 1400 octets"),
    due(127, "PAP request repeated while pending"),
    due(128, "CHAP Response with old id, or twice"),
    due(129, "names with any octet"),
    due(130, "IPCP address 0.0.0.0, foreign, absent"),
    due(131, "IPV6CP interface identifier"),
    due(132, "proxy LCP that cannot be used"),
    due(133, "proxy authentication that cannot be used"),
    due(134, "proxy authentication of type none"),
    due(135, "multilink options while multilink is off"),
    later(136, "multilink fragments without end", MULTILINK),
    due(137, "CCP while MPPE is not wanted"),
    due(138, "DHCPv6 Solicit with 200 IA_PDs"),
    due(139, "Router Advertisement from a subscriber"),
    // RADIUS.
    due(150, "reply with wrong authenticator, unknown id, other source"),
    due(151, "Accept without Message-Authenticator, or with Proxy-State"),
    due(152, "Reject after an Accept for the same id"),
    due(153, "Accept with an address already in use"),
    due(154, "Accept with an unsupported Service-Type or Framed-Protocol"),
    due(155, "RADIUS attribute of length 0 or 1, or beyond the packet"),
    due(156, "Session-Timeout 0, Acct-Interim-Interval 1"),
    due(157, "CoA replayed, or with an old Event-Timestamp"),
    due(158, "CoA with one known and one unknown attribute"),
    due(159, "Disconnect for a session of another node"),
    due(160, "accounting server dead for long"),
    due(161, "octet counter beyond 2^32"),
];

#[cfg(test)]
mod tests {
    use super::SCENARIOS;

    #[test]
    fn numbers_rise() {
        assert!(SCENARIOS.windows(2).all(|pair| pair[0].number < pair[1].number));
    }
}
