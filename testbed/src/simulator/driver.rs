//! Runs a fleet on real sockets and a real clock, told what to do over a control port.
//!
//! One thread, one `poll`: the control port, one UDP socket a LAC. After every datagram what it caused is sent and
//! the armed triggers are looked at, so that a kill comes right behind the moment it waits for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;

use super::fleet::{Fast, Fleet, Transmit};
use super::impairment::Link;
use super::plan::Plan;
use super::protocol::{Answer, Command, Event, Line, Moment, Report};
use super::{garbage, hex};

/// Socket buffers asked for; without privileges the kernel's own limit holds.
const BUFFER: usize = 16 << 20;
/// Datagrams taken from one socket before the others have their turn.
const BATCH: usize = 64;
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Commands longer than this end the simulator: something else is talking.
const MAX_LINE: usize = 1 << 20;

/// Where commands come from and lines go.
#[derive(Debug)]
pub struct ControlPort {
    input: File,
    output: File,
    buffer: Vec<u8>,
}

impl ControlPort {
    pub fn new(input: OwnedFd, output: OwnedFd) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            buffer: Vec::new(),
        }
    }

    /// The next whole line; waits for it.
    pub fn read_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there; `false` at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let count = self.input.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        if self.buffer.len() > MAX_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "command without an end",
            ));
        }
        Ok(count > 0)
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|&octet| octet == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn tell(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).expect("lines are plain data");
        text.push(b'\n');
        self.output.write_all(&text)
    }
}

/// A moment that is waited for.
#[derive(Debug)]
struct Trigger {
    moment: Moment,
    /// The count at which it fires.
    at: u64,
    delay: Duration,
    kill: Option<i32>,
    /// Set once the moment has come.
    due: Option<Duration>,
}

/// A datagram on its way from the LNS to a LAC.
type Arrival = (u16, SocketAddr, Vec<u8>);

/// A fleet, its sockets and its clock.
#[derive(Debug)]
pub struct Driver {
    fleet: Fleet,
    sockets: Vec<UdpSocket>,
    inbound: Link<Arrival>,
    outbound: Link<Transmit>,
    origin: Instant,
    triggers: Vec<Trigger>,
    port: ControlPort,
    quit: bool,
}

impl Driver {
    /// Binds the LACs' sockets and tells that they are ready.
    pub fn new(plan: Plan, port: ControlPort) -> io::Result<Self> {
        let sockets = (0..plan.lacs)
            .map(|lac| bind(plan.source(lac)))
            .collect::<io::Result<Vec<_>>>()?;
        Self::with_sockets(plan, port, sockets)
    }

    /// As [`Self::new`], with sockets that are bound already: one a LAC, none of them blocking.
    pub fn with_sockets(plan: Plan, mut port: ControlPort, sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let sources = sockets
            .iter()
            .map(UdpSocket::local_addr)
            .collect::<io::Result<Vec<_>>>()?;
        port.tell(&Line::Event(Event::Ready { sources }))?;
        Ok(Self {
            inbound: Link::new(plan.impairment, plan.seed.wrapping_add(1)),
            outbound: Link::new(plan.impairment, plan.seed.wrapping_add(2)),
            fleet: Fleet::new(plan),
            sockets,
            origin: Instant::now(),
            triggers: Vec::new(),
            port,
            quit: false,
        })
    }

    /// Works until told to quit or until the control port is closed.
    pub fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while !self.quit {
            self.handle_timeouts();
            self.settle()?;
            let (commanded, readable) = self.wait()?;
            if commanded {
                self.handle_commands()?;
            }
            for lac in readable {
                self.receive(lac, &mut buffer)?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn handle_timeouts(&mut self) {
        let now = self.now();
        while let Some((lac, from, octets)) = self.inbound.take_due(now) {
            self.fleet.handle_datagram(now, lac, from, &octets);
        }
        while let Some(transmit) = self.outbound.take_due(now) {
            send(&self.sockets, &transmit);
        }
        self.fleet.handle_timeout(now);
    }

    /// Sends what is to be sent, fires the triggers whose moment has come, tells what there is to tell.
    fn settle(&mut self) -> io::Result<()> {
        let now = self.now();
        while let Some(transmit) = self.fleet.poll_transmit() {
            self.outbound
                .offer(now, transmit, |transmit| send(&self.sockets, &transmit));
        }
        self.fire_triggers()?;
        while let Some(event) = self.fleet.poll_event() {
            self.port.tell(&Line::Event(event))?;
        }
        Ok(())
    }

    fn fire_triggers(&mut self) -> io::Result<()> {
        if self.triggers.is_empty() {
            return Ok(());
        }
        let now = self.now();
        for trigger in &mut self.triggers {
            if trigger.due.is_none() && self.fleet.moment(trigger.moment) >= trigger.at {
                trigger.due = Some(now + trigger.delay);
            }
        }
        let is_due = |trigger: &mut Trigger| trigger.due.is_some_and(|due| due <= now);
        let fired: Vec<Trigger> = self.triggers.extract_if(.., is_due).collect();
        for trigger in fired {
            if let Some(pid) = trigger.kill {
                self.fleet.mark(now);
                // Gone already: then the moment came too late to matter.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.port.tell(&Line::Event(Event::Triggered {
                moment: trigger.moment,
                at_ms,
            }))?;
        }
        Ok(())
    }

    /// Waits for the control port or a socket; whether the port is readable, and the LACs that are.
    fn wait(&self) -> io::Result<(bool, Vec<u16>)> {
        let mut descriptors = vec![PollFd::new(self.port.input.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(
            self.sockets
                .iter()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
        );
        // Finer than poll's milliseconds: pings may be one apart, a trigger's delay less.
        match ppoll(&mut descriptors, self.timeout(), None) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok((false, Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |descriptor: &PollFd<'_>| descriptor.any().unwrap_or(false);
        let sockets = descriptors[1..].iter().zip(0_u16..);
        let readable = sockets
            .filter(|(descriptor, _)| is_ready(descriptor))
            .map(|(_, lac)| lac)
            .collect();
        Ok((is_ready(&descriptors[0]), readable))
    }

    fn timeout(&self) -> Option<TimeSpec> {
        let now = self.now();
        let triggers = self.triggers.iter().filter_map(|trigger| trigger.due).min();
        let links = [self.inbound.poll_timeout(), self.outbound.poll_timeout()];
        let next = [self.fleet.poll_timeout(), triggers]
            .into_iter()
            .chain(links)
            .flatten()
            .min();
        let left = next?.saturating_sub(now);
        // A trigger's delay is finer than the scheduler wakes us: do not sleep through it.
        let soon = triggers.is_some() && left < Duration::from_millis(2);
        Some(TimeSpec::from_duration(if soon { Duration::ZERO } else { left }))
    }

    fn receive(&mut self, lac: u16, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let (len, from) = match self.sockets[usize::from(lac)].recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The LNS is away for a moment and its kernel says so.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let now = self.now();
            let arrival = (lac, from, buffer[..len].to_vec());
            let fleet = &mut self.fleet;
            self.inbound.offer(now, arrival, |(lac, from, octets)| {
                fleet.handle_datagram(now, lac, from, &octets)
            });
            self.settle()?;
        }
        Ok(())
    }

    fn handle_commands(&mut self) -> io::Result<()> {
        if !self.port.fill()? {
            self.quit = true;
        }
        while let Some(line) = self.port.take_line() {
            let answer = match serde_json::from_str(&line) {
                Ok(command) => self.obey(command),
                Err(error) => Answer::Error {
                    text: format!("{error} in {line}"),
                },
            };
            self.settle()?;
            self.port.tell(&Line::Answer(answer))?;
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Answer {
        let now = self.now();
        let fleet = &mut self.fleet;
        match command {
            Command::Dial {
                sessions,
                rate,
                concurrency,
            } => fleet.dial(now, sessions, rate, concurrency),
            Command::HangUp { from, sessions, by } => fleet.hang_up(now, from, sessions, by),
            Command::Close => fleet.close(now),
            Command::Vanish { tunnels } => fleet.vanish(now, tunnels),
            Command::Ping {
                interval_ms,
                host,
                fast_sessions,
                fast_interval_us,
            } => {
                let fast = Fast {
                    sessions: fast_sessions,
                    interval: Duration::from_micros(fast_interval_us),
                };
                fleet.set_ping(now, interval_ms, host, fast);
            }
            Command::Probe {
                interval_ms,
                repeat_ms,
            } => fleet.set_probe(now, millis(interval_ms), millis(repeat_ms)),
            Command::Mark => fleet.mark(now),
            Command::Impair { impairment } => {
                fleet.set_impairment(impairment);
                self.inbound.set(impairment);
                self.outbound.set(impairment);
            }
            Command::Hold { on } => fleet.set_hold(now, on),
            Command::Hello => fleet.hello(now),
            Command::Check { within_ms } => fleet.start_check(now, Duration::from_millis(within_ms)),
            Command::Trigger {
                moment,
                count,
                delay_us,
                kill,
            } => {
                let (at, delay) = (fleet.moment(moment) + count, Duration::from_micros(delay_us));
                self.triggers.push(Trigger {
                    moment,
                    at,
                    delay,
                    kill,
                    due: None,
                });
            }
            Command::Watch { tunnels } => fleet.watch(tunnels.as_deref()),
            Command::Disarm => self.triggers.clear(),
            Command::Inject { lac, octets } => return self.inject(lac, &octets),
            Command::InjectGarbage { count, seed } => self.inject_garbage(count, seed),
            Command::ResetMeasurements => fleet.reset_measurements(),
            Command::Report => return Answer::Report(Box::new(self.report(now))),
            Command::Sessions => {
                return Answer::Sessions {
                    sessions: fleet.sessions(now),
                };
            }
            Command::Quit => self.quit = true,
        }
        Answer::Done
    }

    fn report(&self, now: Duration) -> Report {
        let dropped = self.inbound.dropped + self.outbound.dropped;
        Report {
            datagrams_dropped: dropped,
            ..self.fleet.report(now)
        }
    }

    fn inject(&self, lac: u16, octets: &str) -> Answer {
        let Some(octets) = hex::decode(octets) else {
            return Answer::Error {
                text: "octets are not hexadecimal".into(),
            };
        };
        if usize::from(lac) >= self.sockets.len() {
            return Answer::Error {
                text: format!("there is no LAC {lac}"),
            };
        }
        send(
            &self.sockets,
            &Transmit {
                lac,
                to: self.fleet.plan().target,
                octets,
            },
        );
        Answer::Done
    }

    fn inject_garbage(&self, count: u32, seed: u64) {
        let to = self.fleet.plan().target;
        for (number, octets) in garbage::datagrams(seed).take(count as usize).enumerate() {
            let lac = (number % self.sockets.len()) as u16;
            send(&self.sockets, &Transmit { lac, to, octets });
        }
    }
}

/// Zero stands for none.
fn millis(time: u64) -> Option<Duration> {
    (time > 0).then(|| Duration::from_millis(time))
}

/// Sends; what the kernel has no room for is lost, as on any network.
fn send(sockets: &[UdpSocket], transmit: &Transmit) {
    let _ = sockets[usize::from(transmit.lac)].send_to(&transmit.octets, transmit.to);
}

fn bind(source: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(source)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind {source}: {error}")))?;
    socket.set_nonblocking(true)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
    }
    setsockopt(&socket, sockopt::SndBuf, &BUFFER)?;
    Ok(socket)
}
