//! Why a call ended, in the terms of the line (Q.931 Cause Code, RFC 2661 §4.4.5) and of PPP (PPP Disconnect
//! Cause, RFC 3145).

/// Q.931 Cause Code, of an unsolicited disconnect of the ISDN line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Q931Cause {
    /// The Q.931 cause.
    pub cause: u16,
    /// The Q.931 message type.
    pub message: u8,
    /// Advisory text, ASCII by the RFC; may be empty.
    pub text: Vec<u8>,
}

impl Q931Cause {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = self.cause.to_be_bytes().to_vec();
        value.push(self.message);
        value.extend_from_slice(&self.text);
        value
    }

    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        let (head, text) = value.split_first_chunk::<3>()?;
        Some(Self {
            cause: u16::from_be_bytes([head[0], head[1]]),
            message: head[2],
            text: text.to_vec(),
        })
    }
}

/// PPP Disconnect Cause. A CDN may carry several, one for each NCP concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisconnectCause {
    /// `iana::disconnect`.
    pub code: u16,
    /// The PPP protocol concerned, 0 for none.
    pub protocol: u16,
    /// 0 global, 1 at the peer, 2 at the local end.
    pub direction: u8,
    /// UTF-8 by the RFC; may be empty.
    pub text: Vec<u8>,
}

impl DisconnectCause {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = self.code.to_be_bytes().to_vec();
        value.extend_from_slice(&self.protocol.to_be_bytes());
        value.push(self.direction);
        value.extend_from_slice(&self.text);
        value
    }

    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        let (head, text) = value.split_first_chunk::<5>()?;
        Some(Self {
            code: u16::from_be_bytes([head[0], head[1]]),
            protocol: u16::from_be_bytes([head[2], head[3]]),
            direction: head[4],
            text: text.to_vec(),
        })
    }
}
