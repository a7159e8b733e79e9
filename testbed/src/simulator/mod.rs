//! LACs and their subscribers, simulated by the thousand.

mod channel;
pub mod command_line;
mod driver;
#[cfg(test)]
mod driver_tests;
mod fleet;
mod garbage;
mod handle;
mod hex;
mod impairment;
mod numbers;
mod plan;
mod ppp;
mod protocol;
mod subscriber;
mod timers;
#[cfg(test)]
mod tiny_lns;
mod tunnel;

pub use driver::ControlPort;
pub use fleet::{Fleet, Transmit};
pub use handle::{Error, Simulator, serve};
pub use impairment::{Impairment, Link};
pub use plan::Plan;
pub use ppp::{Authentication, PROTOCOL_IPV4, split as split_frame};
pub use protocol::{
    Answer, CallIds, Checked, Command, Event, HangUp, Line, Moment, Report, Session, SessionState, SinceMark,
};
