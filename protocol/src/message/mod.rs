//! Control messages (RFC 2661 §6): one file a message or family, each with its fields, encoder and decoder.
//!
//! ```text
//! +--------+----------------------------+--------------------------------------------+
//! | type   | message                    | file                                       |
//! +--------+----------------------------+--------------------------------------------+
//! | 1 2 3  | SCCRQ SCCRP SCCCN          | sccrq.rs sccrp.rs scccn.rs                 |
//! | 4      | StopCCN                    | stopccn.rs                                 |
//! | 6      | HELLO                      | here: it has no fields                     |
//! | 7 8 9  | OCRQ OCRP OCCN             | outgoing.rs                                |
//! | 10     | ICRQ                       | icrq.rs                                    |
//! | 11 12  | ICRP ICCN                  | icrp.rs iccn.rs                            |
//! | 14     | CDN                        | cdn.rs                                     |
//! | 15 16  | WEN SLI                    | link.rs                                    |
//! +--------+----------------------------+--------------------------------------------+
//! ```
//!
//! A decoder says what is wrong, not what to do about the tunnel: [`Fault::reaction`] does.

mod cdn;
mod iccn;
mod icrp;
mod icrq;
mod link;
mod outgoing;
mod scccn;
mod sccrp;
mod sccrq;
mod stopccn;

pub use cdn::Cdn;
pub use iccn::{Iccn, Proxy};
pub use icrp::Icrp;
pub use icrq::Icrq;
pub use link::{Sli, Wen};
pub use outgoing::{Occn, Ocrp, Ocrq};
pub use scccn::Scccn;
pub use sccrp::Sccrp;
pub use sccrq::{DEFAULT_RECEIVE_WINDOW, Sccrq};
pub use stopccn::StopCcn;

use crate::avp::{Attributes, Context, Fault, FaultKind, Hiding, Writer, message_type};
use crate::header::ControlHeader;
use crate::iana::MessageType;

/// A control message with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Start-Control-Connection-Request.
    Sccrq(Sccrq),
    /// Start-Control-Connection-Reply.
    Sccrp(Sccrp),
    /// Start-Control-Connection-Connected.
    Scccn(Scccn),
    /// Stop-Control-Connection-Notification.
    StopCcn(StopCcn),
    /// Hello.
    Hello,
    /// Outgoing-Call-Request.
    Ocrq(Ocrq),
    /// Outgoing-Call-Reply.
    Ocrp(Ocrp),
    /// Outgoing-Call-Connected.
    Occn(Occn),
    /// Incoming-Call-Request.
    Icrq(Icrq),
    /// Incoming-Call-Reply.
    Icrp(Icrp),
    /// Incoming-Call-Connected. Boxed: it is several times larger than any other.
    Iccn(Box<Iccn>),
    /// Call-Disconnect-Notify.
    Cdn(Cdn),
    /// WAN-Error-Notify.
    Wen(Wen),
    /// Set-Link-Info.
    Sli(Sli),
    /// A type that is not known, sent with M clear: acknowledged and otherwise ignored.
    Unknown(u16),
}

impl Message {
    /// Reads the body of a control message that is no ZLB.
    pub fn decode(body: &[u8], context: &Context<'_>) -> Result<Self, Fault> {
        let (wire, mandatory) = message_type(body)?;
        let Some(message) = MessageType::from_wire(wire) else {
            return unknown(wire, mandatory);
        };
        let mut attributes = Attributes::collect(message, body, context);
        attributes.check()?;
        Ok(match message {
            MessageType::Sccrq => Self::Sccrq(Sccrq::from_attributes(&attributes)?),
            MessageType::Sccrp => Self::Sccrp(Sccrp::from_attributes(&attributes)?),
            MessageType::Scccn => Self::Scccn(Scccn::from_attributes(&attributes)),
            MessageType::StopCcn => Self::StopCcn(StopCcn::from_attributes(&attributes)?),
            MessageType::Hello => Self::Hello,
            MessageType::Ocrq => Self::Ocrq(Ocrq::from_attributes(&attributes)?),
            MessageType::Ocrp => Self::Ocrp(Ocrp::from_attributes(&attributes)?),
            MessageType::Occn => Self::Occn(Occn::from_attributes(&attributes)?),
            MessageType::Icrq => Self::Icrq(Icrq::from_attributes(&mut attributes)?),
            MessageType::Icrp => Self::Icrp(Icrp::from_attributes(&attributes)?),
            MessageType::Iccn => Self::Iccn(Box::new(Iccn::from_attributes(&attributes)?)),
            MessageType::Cdn => Self::Cdn(Cdn::from_attributes(&attributes)?),
            MessageType::Wen => Self::Wen(Wen::from_attributes(&attributes)?),
            MessageType::Sli => Self::Sli(Sli::from_attributes(&attributes)?),
        })
    }

    /// The whole message, header included. `hiding` says which values to hide, and with what.
    pub fn encode(&self, header: ControlHeader, hiding: Option<&Hiding>) -> Vec<u8> {
        let Some(message) = self.message_type() else {
            return header.encode(0).to_vec();
        };
        let mut writer = Writer::new(header, message, hiding);
        match self {
            Self::Sccrq(message) => message.write(&mut writer),
            Self::Sccrp(message) => message.write(&mut writer),
            Self::Scccn(message) => message.write(&mut writer),
            Self::StopCcn(message) => message.write(&mut writer),
            Self::Ocrq(message) => message.write(&mut writer),
            Self::Ocrp(message) => message.write(&mut writer),
            Self::Occn(message) => message.write(&mut writer),
            Self::Icrq(message) => message.write(&mut writer),
            Self::Icrp(message) => message.write(&mut writer),
            Self::Iccn(message) => message.write(&mut writer),
            Self::Cdn(message) => message.write(&mut writer),
            Self::Wen(message) => message.write(&mut writer),
            Self::Sli(message) => message.write(&mut writer),
            Self::Hello | Self::Unknown(_) => {}
        }
        writer.finish()
    }

    /// The message's type; `None` for an unknown one, which is never sent.
    pub fn message_type(&self) -> Option<MessageType> {
        Some(match self {
            Self::Sccrq(_) => MessageType::Sccrq,
            Self::Sccrp(_) => MessageType::Sccrp,
            Self::Scccn(_) => MessageType::Scccn,
            Self::StopCcn(_) => MessageType::StopCcn,
            Self::Hello => MessageType::Hello,
            Self::Ocrq(_) => MessageType::Ocrq,
            Self::Ocrp(_) => MessageType::Ocrp,
            Self::Occn(_) => MessageType::Occn,
            Self::Icrq(_) => MessageType::Icrq,
            Self::Icrp(_) => MessageType::Icrp,
            Self::Iccn(_) => MessageType::Iccn,
            Self::Cdn(_) => MessageType::Cdn,
            Self::Wen(_) => MessageType::Wen,
            Self::Sli(_) => MessageType::Sli,
            Self::Unknown(_) => return None,
        })
    }
}

fn unknown(wire: u16, mandatory: bool) -> Result<Message, Fault> {
    if !mandatory {
        return Ok(Message::Unknown(wire));
    }
    let kind = FaultKind::UnknownMessage(wire);
    Err(Fault {
        message: None,
        kind,
        assigned_tunnel: None,
        assigned_session: None,
    })
}
