//! Runs the automaton for one protocol: packets and timers become events, actions become packets (RFC 1661 §4, §5).
//!
//! What the options mean is the business of an [`OptionHandling`]; when an NCP may open is the business of the link.
//! Echo, Discard and the like never come here: the link answers them, also where no negotiator is alive.

use std::time::Duration;

use crate::automaton::{Action, Event, State, transition};
use crate::cause::Cause;
use crate::iana::code;
use crate::link::LinkConfig;
use crate::packet::{ConfigOption, HEADER, Packet, encode_options, parse_options};

/// The longest restart period: doubling stops at RFC 1661's default for the restart timer (§4.6).
pub(crate) const RESTART_CAP: Duration = Duration::from_secs(3);

/// The answer to a Configure-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ack,
    /// Options with the values wanted, in the order of the request; wanted ones that were missing come last.
    Nak(Vec<ConfigOption>),
    /// Options refused, as they were in the request.
    Reject(Vec<ConfigOption>),
}

/// The options of one protocol.
pub(crate) trait OptionHandling {
    /// The options of our next Configure-Request.
    fn request(&self) -> Vec<ConfigOption>;
    /// What to answer to the peer's options; an error gives the protocol up.
    fn judge(&mut self, options: &[ConfigOption]) -> Result<Answer, Cause>;
    /// The peer wants other values. `exhausted`: it has said so more than Max-Failure times.
    fn naked(&mut self, options: &[ConfigOption], exhausted: bool) -> Result<(), Cause>;
    /// The peer refuses these of our options.
    fn rejected(&mut self, options: &[ConfigOption]) -> Result<(), Cause>;
    /// Naks are spent: these options, which would be naked, are rejected instead. An error gives the protocol up.
    fn nak_becomes_reject(&mut self, _refused: &[ConfigOption]) -> Result<(), Cause> {
        Ok(())
    }
    /// The reason to give up when Naks are spent and nothing in the request is left to reject.
    fn disagreement(&self) -> Cause;
}

/// What a run of the automaton asks of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A packet of this protocol for the peer.
    Send(Vec<u8>),
    Up,
    Down,
    /// The protocol is done with. `timed_out`: for want of an answer to our Configure-Requests.
    Finished {
        timed_out: bool,
    },
}

/// A packet that did not become an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Malformed, or an answer to something we did not say: dropped silently (RFC 1661 §5).
    Discard,
    /// The protocol cannot reach agreement.
    Fatal(Cause),
}

/// The circumstances of one run.
pub(crate) struct Run<'a> {
    pub(crate) now: Duration,
    pub(crate) config: &'a LinkConfig,
    /// What the peer can take, in octets; caps a Code-Reject.
    pub(crate) peer_mru: u16,
    pub(crate) effects: Vec<Effect>,
}

/// Our last Configure-Request.
#[derive(Debug)]
struct Request {
    id: u8,
    options: Vec<u8>,
    /// A valid answer came; any further one is a duplicate.
    answered: bool,
}

/// The automaton of one protocol with its counters and its timer.
#[derive(Debug)]
pub(crate) struct Negotiator {
    state: State,
    restarts_left: u32,
    naks_sent: u32,
    naks_received: u32,
    period: Duration,
    deadline: Option<Duration>,
    next_id: u8,
    request: Option<Request>,
}

impl Negotiator {
    /// A protocol in Initial.
    pub(crate) fn new(first_id: u8) -> Self {
        Self {
            state: State::Initial,
            restarts_left: 0,
            naks_sent: 0,
            naks_received: 0,
            period: Duration::ZERO,
            deadline: None,
            next_id: first_id,
            request: None,
        }
    }

    /// A protocol that was negotiated before: in Opened.
    pub(crate) fn opened(first_id: u8, config: &LinkConfig) -> Self {
        Self {
            state: State::Opened,
            restarts_left: config.max_configure,
            period: config.restart,
            ..Self::new(first_id)
        }
    }

    /// A protocol that the peer may begin: in Stopped.
    pub(crate) fn stopped(first_id: u8) -> Self {
        Self {
            state: State::Stopped,
            ..Self::new(first_id)
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Whether an Echo-Request is to be answered in this state (event RXR).
    pub(crate) fn answers_echoes(&self) -> bool {
        transition(self.state, Event::Echo)
            .is_some_and(|(actions, _)| actions.contains(&Action::SendEchoReply))
    }

    /// Whether this packet would take the layer out of Opened.
    pub(crate) fn would_leave(&self, packet: &Packet<'_>) -> bool {
        self.state == State::Opened
            && match packet.code {
                code::CONFIGURE_REQUEST => parse_options(packet.data).is_ok(),
                code::TERMINATE_REQUEST | code::TERMINATE_ACK => true,
                code::CODE_REJECT => rejects_basic_code(packet),
                _ => false,
            }
    }

    /// A fresh identifier.
    pub(crate) fn take_id(&mut self) -> u8 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// Open and Up: the layer below is there already.
    pub(crate) fn start(&mut self, options: &dyn OptionHandling, run: &mut Run<'_>) {
        self.happen(Event::Open, options, run);
        self.happen(Event::Up, options, run);
    }

    /// Down and Up, the way out of Opened that answers nothing (RFC 1661 §4.4, restart option).
    pub(crate) fn restart(&mut self, options: &dyn OptionHandling, run: &mut Run<'_>) {
        self.happen(Event::Down, options, run);
        self.happen(Event::Up, options, run);
    }

    /// An event that no packet brought.
    pub(crate) fn happen(&mut self, event: Event, options: &dyn OptionHandling, run: &mut Run<'_>) {
        self.step(event, None, options, run);
    }

    pub(crate) fn handle_timeout(&mut self, options: &dyn OptionHandling, run: &mut Run<'_>) {
        if self.deadline.is_none_or(|deadline| run.now < deadline) {
            return;
        }
        let event = if self.restarts_left > 0 {
            Event::Timeout
        } else {
            Event::Expired
        };
        self.happen(event, options, run);
    }

    /// A packet from the peer.
    pub(crate) fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        options: &mut dyn OptionHandling,
        run: &mut Run<'_>,
    ) -> Result<(), Trouble> {
        let event = match packet.code {
            code::CONFIGURE_REQUEST => {
                let answer = self.judge(packet, options, run.config)?;
                self.answer(packet, &answer, options, run);
                return Ok(());
            }
            code::CONFIGURE_ACK => self.check_ack(packet)?,
            code::CONFIGURE_NAK => self.check_nak(packet, options, run.config)?,
            code::CONFIGURE_REJECT => self.check_reject(packet, options)?,
            code::TERMINATE_REQUEST => Event::TerminateRequest,
            code::TERMINATE_ACK => Event::TerminateAck,
            code::CODE_REJECT if packet.data.is_empty() => return Err(Trouble::Discard),
            code::CODE_REJECT if rejects_basic_code(packet) => Event::FatalReject,
            code::CODE_REJECT => Event::TolerableReject,
            _ => Event::UnknownCode,
        };
        self.step(event, Some((packet, &Answer::Ack)), options, run);
        Ok(())
    }

    /// What this Configure-Request deserves. From Max-Failure Naks on, a Nak becomes a Reject (RFC 1661 §4.6).
    pub(crate) fn judge(
        &mut self,
        packet: &Packet<'_>,
        options: &mut dyn OptionHandling,
        config: &LinkConfig,
    ) -> Result<Answer, Trouble> {
        let requested = parse_options(packet.data).map_err(|_| Trouble::Discard)?;
        if !self.is_negotiating() {
            return Ok(Answer::Ack);
        }
        let answer = options.judge(&requested).map_err(Trouble::Fatal)?;
        let Answer::Nak(wanted) = &answer else {
            return Ok(answer);
        };
        if self.naks_sent < config.max_failure {
            return Ok(answer);
        }
        let refused: Vec<_> = requested
            .into_iter()
            .filter(|option| wanted.iter().any(|other| other.kind == option.kind))
            .collect();
        if refused.is_empty() {
            return Err(Trouble::Fatal(options.disagreement()));
        }
        options.nak_becomes_reject(&refused).map_err(Trouble::Fatal)?;
        Ok(Answer::Reject(refused))
    }

    /// Lets a judged Configure-Request happen.
    pub(crate) fn answer(
        &mut self,
        packet: &Packet<'_>,
        answer: &Answer,
        options: &dyn OptionHandling,
        run: &mut Run<'_>,
    ) {
        let event = match answer {
            Answer::Ack => Event::GoodRequest,
            Answer::Nak(_) | Answer::Reject(_) => Event::BadRequest,
        };
        self.step(event, Some((packet, answer)), options, run);
    }

    /// Whether a Configure-Request means anything in this state; elsewhere its options do not matter.
    fn is_negotiating(&self) -> bool {
        match self.state {
            State::Initial | State::Starting | State::Closed | State::Closing | State::Stopping => false,
            State::Stopped | State::ReqSent | State::AckRcvd | State::AckSent | State::Opened => true,
        }
    }

    /// Our last Configure-Request, if this answers it. A second answer is a duplicate: were it an event, a peer that
    /// acknowledges both copies of a retransmitted request would take an open layer down.
    fn outstanding(&mut self, packet: &Packet<'_>) -> Result<&mut Request, Trouble> {
        match &mut self.request {
            Some(request) if request.id == packet.id && !request.answered => Ok(request),
            Some(_) | None => Err(Trouble::Discard),
        }
    }

    fn check_ack(&mut self, packet: &Packet<'_>) -> Result<Event, Trouble> {
        let request = self.outstanding(packet)?;
        if request.options != packet.data {
            return Err(Trouble::Discard);
        }
        request.answered = true;
        Ok(Event::Ack)
    }

    fn check_nak(
        &mut self,
        packet: &Packet<'_>,
        options: &mut dyn OptionHandling,
        config: &LinkConfig,
    ) -> Result<Event, Trouble> {
        let wanted = parse_options(packet.data).map_err(|_| Trouble::Discard)?;
        self.outstanding(packet)?.answered = true;
        self.naks_received = self.naks_received.saturating_add(1);
        let exhausted = self.naks_received > config.max_failure;
        options.naked(&wanted, exhausted).map_err(Trouble::Fatal)?;
        Ok(Event::NakOrReject)
    }

    /// A Reject must name options of ours, unchanged and in order. RFC 1661 §5.4 says "proper subset", but a peer
    /// that refuses everything (IPCP asks for one option) can only say so with the whole set.
    fn check_reject(
        &mut self,
        packet: &Packet<'_>,
        options: &mut dyn OptionHandling,
    ) -> Result<Event, Trouble> {
        let refused = parse_options(packet.data).map_err(|_| Trouble::Discard)?;
        let request = self.outstanding(packet)?;
        let asked = parse_options(&request.options).expect("our own request is well formed");
        let mut rest = asked.iter();
        if refused.is_empty() || !refused.iter().all(|option| rest.any(|own| own == option)) {
            return Err(Trouble::Discard);
        }
        request.answered = true;
        options.rejected(&refused).map_err(Trouble::Fatal)?;
        Ok(Event::NakOrReject)
    }

    fn step(
        &mut self,
        event: Event,
        trigger: Option<(&Packet<'_>, &Answer)>,
        options: &dyn OptionHandling,
        run: &mut Run<'_>,
    ) {
        // A cell that cannot happen: the peer's timing at worst, and nothing is what it deserves.
        let Some((actions, next)) = transition(self.state, event) else {
            return;
        };
        let configuring = matches!(self.state, State::ReqSent | State::AckRcvd | State::AckSent);
        self.state = next;
        for action in actions {
            match action {
                Action::InitRestartCount => {
                    let closing = actions.contains(&Action::SendTerminateRequest);
                    self.restarts_left = if closing {
                        run.config.max_terminate
                    } else {
                        run.config.max_configure
                    };
                    self.period = run.config.restart;
                }
                Action::ZeroRestartCount => {
                    self.restarts_left = 0;
                    self.deadline = Some(run.now + self.period);
                }
                Action::SendRequest => self.send_request(options, run),
                Action::SendTerminateRequest => {
                    let id = self.take_id();
                    run.send(Packet {
                        code: code::TERMINATE_REQUEST,
                        id,
                        data: &[],
                    });
                    self.start_timer(run.now);
                }
                Action::SendCodeReject => self.send_code_reject(trigger, run),
                Action::SendAck | Action::SendNakOrReject => self.send_answer(trigger, run),
                Action::SendTerminateAck => {
                    let (packet, _) = trigger.expect("only a packet asks for a Terminate-Ack");
                    run.send(Packet {
                        code: code::TERMINATE_ACK,
                        id: packet.id,
                        data: &[],
                    });
                }
                Action::ThisLayerUp => {
                    (self.naks_sent, self.naks_received) = (0, 0);
                    run.effects.push(Effect::Up);
                }
                Action::ThisLayerDown => run.effects.push(Effect::Down),
                Action::ThisLayerFinished => {
                    let timed_out = event == Event::Expired && configuring;
                    run.effects.push(Effect::Finished { timed_out });
                }
                // The lower layer is there; echoes are answered by the link.
                Action::ThisLayerStarted | Action::SendEchoReply => {}
            }
        }
        if !self.timer_runs() {
            self.deadline = None;
        }
    }

    fn timer_runs(&self) -> bool {
        match self.state {
            State::Initial | State::Starting | State::Closed | State::Stopped | State::Opened => false,
            State::Closing | State::Stopping | State::ReqSent | State::AckRcvd | State::AckSent => true,
        }
    }

    /// Starts the restart timer and spends one restart; the period doubles up to [`RESTART_CAP`].
    fn start_timer(&mut self, now: Duration) {
        self.restarts_left = self.restarts_left.saturating_sub(1);
        self.deadline = Some(now + self.period);
        self.period = (self.period * 2).min(RESTART_CAP.max(self.period));
    }

    /// A retransmission keeps its identifier, so that a late answer to the first copy counts.
    fn send_request(&mut self, options: &dyn OptionHandling, run: &mut Run<'_>) {
        let octets = encode_options(&options.request());
        let id = match &self.request {
            Some(request) if !request.answered && request.options == octets => request.id,
            Some(_) | None => self.take_id(),
        };
        run.send(Packet {
            code: code::CONFIGURE_REQUEST,
            id,
            data: &octets,
        });
        self.request = Some(Request {
            id,
            options: octets,
            answered: false,
        });
        self.start_timer(run.now);
    }

    fn send_answer(&mut self, trigger: Option<(&Packet<'_>, &Answer)>, run: &mut Run<'_>) {
        let (packet, answer) = trigger.expect("only a Configure-Request asks for an answer");
        let id = packet.id;
        match answer {
            Answer::Ack => {
                self.naks_sent = 0;
                run.send(Packet {
                    code: code::CONFIGURE_ACK,
                    id,
                    data: packet.data,
                });
            }
            Answer::Nak(options) => {
                self.naks_sent += 1;
                run.send(Packet {
                    code: code::CONFIGURE_NAK,
                    id,
                    data: &encode_options(options),
                });
            }
            Answer::Reject(options) => {
                run.send(Packet {
                    code: code::CONFIGURE_REJECT,
                    id,
                    data: &encode_options(options),
                });
            }
        }
    }

    fn send_code_reject(&mut self, trigger: Option<(&Packet<'_>, &Answer)>, run: &mut Run<'_>) {
        let (packet, _) = trigger.expect("only a packet asks for a Code-Reject");
        let mut rejected = packet.encode();
        rejected.truncate(usize::from(run.peer_mru).saturating_sub(HEADER));
        let id = self.take_id();
        run.send(Packet {
            code: code::CODE_REJECT,
            id,
            data: &rejected,
        });
    }
}

impl Run<'_> {
    fn send(&mut self, packet: Packet<'_>) {
        self.effects.push(Effect::Send(packet.encode()));
    }
}

/// Whether a Code-Reject names a code that no implementation can lack (RFC 1661 §5.6).
fn rejects_basic_code(packet: &Packet<'_>) -> bool {
    packet
        .data
        .first()
        .is_some_and(|code| (code::CONFIGURE_REQUEST..=code::CODE_REJECT).contains(code))
}
