//! What time does to a tunnel: retransmission, setup and retention deadlines, HELLO, unfinished calls.

use std::time::Duration;

use super::Connection;
use super::event::{CallEnd, CloseReason};
use super::state::{Input, State};
use crate::avp::ResultCode;
use crate::call::CallInput;
use crate::iana::{call_result, error_code, stop_result};
use crate::message::Message;

impl Connection {
    /// When [`Self::handle_timeout`] has something to do; in the past if it is overdue.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.is_finished() {
            return None;
        }
        let timers = [
            self.channel.poll_timeout(),
            self.deadline,
            self.hello_due(),
            self.calls.next_deadline(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.is_finished() {
            return;
        }
        if self.channel.handle_timeout(now).is_err() {
            self.step(now, Input::NoAnswer, CloseReason::NoAnswer);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline_passed(now);
        }
        if self.hello_due().is_some_and(|due| due <= now) {
            self.send_or_close(now, None, &Message::Hello);
        }
        while let Some(local) = self.calls.expired(now) {
            let result = ResultCode::new(call_result::NOT_ESTABLISHED_IN_TIME);
            self.step_call(now, local, CallInput::Close, CallEnd::Local(result));
        }
    }

    /// A HELLO is due after an interval without a sign of life. While anything waits for its acknowledgement the
    /// retransmissions ask the same question.
    fn hello_due(&self) -> Option<Duration> {
        let asks = self.state == State::Established
            && !self.settings.hello_interval.is_zero()
            && self.channel.is_idle();
        asks.then(|| self.silent_since + self.settings.hello_interval)
    }

    fn deadline_passed(&mut self, now: Duration) {
        self.deadline = None;
        match self.state {
            State::WaitCtlReply | State::WaitCtlConn => {
                let result = ResultCode::with_error(
                    stop_result::GENERAL_REQUEST,
                    error_code::NONE,
                    "not established in time",
                );
                self.step(now, Input::Close, CloseReason::Local(result));
            }
            State::Closing | State::Closed => self.step(now, Input::RetentionOver, CloseReason::NoAnswer),
            State::Idle | State::Established => {}
        }
    }
}
