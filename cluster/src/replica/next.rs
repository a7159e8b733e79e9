//! What the stand-in for a later release does otherwise: see [`crate::limits::COMMAND_VERSION`].
//!
//! The rule that any new field follows: it is written only once the table has the version that knows it. An older program drops
//! the fields that it does not know, so the rows of two nodes would differ.

use crate::commands::command::Kind;
use crate::commands::{Command, session_change};
use crate::limits::COMMAND_VERSION;

/// The commands with the new field in the rows that they bring, as soon as every member knows it.
pub(super) fn written_in(table_version: u32, mut commands: Vec<Command>) -> Vec<Command> {
    if table_version < COMMAND_VERSION {
        return commands;
    }
    for command in &mut commands {
        match &mut command.kind {
            Some(Kind::CreateTunnel(create)) => {
                if let Some(row) = &mut create.row {
                    row.written_in = table_version;
                }
            }
            Some(Kind::ChangeTunnel(change)) => {
                for change in &mut change.sessions {
                    if let Some(session_change::Change::Put(put)) = &mut change.change
                        && let Some(row) = &mut put.row
                    {
                        row.written_in = table_version;
                    }
                }
            }
            _ => {}
        }
    }
    commands
}
