//! Group commit: what waits to be proposed, and how much of it one log entry takes.
//!
//! Proposed at once when nothing is in flight, gathered while something is: the busier the disk, the larger the
//! batches. A repetition of a change that still waits adds nothing and is not taken: when so much waits that owners begin to
//! repeat, repetitions would be most of what waits.

use std::collections::{HashSet, VecDeque};

use prost::Message;

use crate::commands::Command;
use crate::commands::command::Kind;
use crate::limits::{
    BATCH_COMMANDS_MAX, BATCH_OCTETS_MAX, COMMAND_OCTETS_MAX, QUEUE_COMMANDS_MAX, QUEUE_OCTETS_MAX,
};

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too much waits already; try again after the next verdicts.
    #[error("too many commands wait to be proposed")]
    Full,
    /// The very change waits already, and will be judged.
    #[error("the same change waits to be proposed")]
    Repeated,
    /// The command is larger than `limits::COMMAND_OCTETS_MAX`.
    #[error("a command of {octets} octets is too large")]
    TooLarge {
        /// Its encoded size.
        octets: usize,
    },
}

/// Commands that wait to be proposed. `T` names whoever wants the verdict.
#[derive(Debug)]
pub struct Batcher<T> {
    waiting: VecDeque<(T, Command, usize)>,
    octets: usize,
    /// The changes among them.
    changes: HashSet<ChangeKey>,
}

/// What tells a change of a tunnel from every other one: the tunnel's id, life and revision.
type ChangeKey = (u32, u64, u64);

impl<T> Default for Batcher<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            octets: 0,
            changes: HashSet::new(),
        }
    }
}

impl<T> Batcher<T> {
    /// Puts a command behind the others.
    pub fn push(&mut self, token: T, command: Command) -> Result<(), ProposeError> {
        let octets = command.encoded_len();
        if octets > COMMAND_OCTETS_MAX {
            return Err(ProposeError::TooLarge { octets });
        }
        let key = change_key(&command);
        if key.is_some_and(|key| self.changes.contains(&key)) {
            return Err(ProposeError::Repeated);
        }
        if self.waiting.len() >= QUEUE_COMMANDS_MAX || self.octets + octets > QUEUE_OCTETS_MAX {
            return Err(ProposeError::Full);
        }
        self.changes.extend(key);
        self.octets += octets;
        self.waiting.push_back((token, command, octets));
        Ok(())
    }

    /// Takes as much from the front as one log entry holds.
    pub fn take(&mut self) -> (Vec<T>, Vec<Command>) {
        let most = self.waiting.len().min(BATCH_COMMANDS_MAX);
        let (mut tokens, mut commands) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut room = BATCH_OCTETS_MAX;
        while let Some((token, command, octets)) = self.waiting.pop_front() {
            let fits = octets <= room && commands.len() < BATCH_COMMANDS_MAX;
            if !fits && !commands.is_empty() {
                self.waiting.push_front((token, command, octets));
                break;
            }
            room = room.saturating_sub(octets);
            self.octets -= octets;
            if let Some(key) = change_key(&command) {
                self.changes.remove(&key);
            }
            tokens.push(token);
            commands.push(command);
        }
        (tokens, commands)
    }

    /// Puts back in front what `take` gave.
    pub fn put_back(&mut self, tokens: Vec<T>, commands: Vec<Command>) {
        for (token, command) in tokens.into_iter().zip(commands).rev() {
            let octets = command.encoded_len();
            self.octets += octets;
            self.changes.extend(change_key(&command));
            self.waiting.push_front((token, command, octets));
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn change_key(command: &Command) -> Option<ChangeKey> {
    match &command.kind {
        Some(Kind::ChangeTunnel(change)) => Some((change.tunnel_id, change.life, change.revision)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Acknowledge, ChangeTunnel, Tick};

    #[test]
    fn a_change_that_waits_is_not_taken_again_and_one_that_was_taken_out_is() {
        let change = |life, revision| {
            Command::from(ChangeTunnel {
                tunnel_id: 7,
                life,
                revision,
                ..ChangeTunnel::default()
            })
        };
        let mut batcher = Batcher::default();
        batcher.push(1, change(1, 1)).expect("room");
        batcher.push(2, change(1, 2)).expect("another revision");
        assert_eq!(batcher.push(3, change(1, 1)), Err(ProposeError::Repeated));
        batcher.push(4, change(2, 1)).expect("another life");
        let (tokens, commands) = batcher.take();
        assert_eq!(tokens, [1, 2, 4]);
        batcher.push(5, change(1, 1)).expect("nothing waits");
        batcher.put_back(tokens, commands);
        assert_eq!(batcher.push(6, change(2, 1)), Err(ProposeError::Repeated));
        assert_eq!(batcher.take().0, [1, 2, 4, 5]);
    }

    #[test]
    fn a_batch_is_bounded_by_count_and_keeps_the_order() {
        let mut batcher = Batcher::default();
        for token in 0..BATCH_COMMANDS_MAX + 1 {
            batcher.push(token, Tick::default().into()).expect("room");
        }
        let (tokens, commands) = batcher.take();
        assert_eq!(
            (tokens.len(), commands.len()),
            (BATCH_COMMANDS_MAX, BATCH_COMMANDS_MAX)
        );
        assert_eq!(batcher.take().0, [BATCH_COMMANDS_MAX]);
        assert!(batcher.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_by_octets() {
        let large = || Acknowledge {
            sequences: vec![u64::MAX; BATCH_OCTETS_MAX / 10 - 10],
        };
        let mut batcher = Batcher::default();
        for token in 0..2 {
            batcher.push(token, large().into()).expect("room");
        }
        assert_eq!(batcher.take().0, [0]);
        assert_eq!(batcher.take().0, [1]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut batcher = Batcher::default();
        for _ in 0..QUEUE_COMMANDS_MAX {
            batcher.push((), Tick::default().into()).expect("room");
        }
        assert_eq!(batcher.push((), Tick::default().into()), Err(ProposeError::Full));
    }
}
