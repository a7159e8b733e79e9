//! What `raft` says of itself.

use slog::{Drain, Logger, OwnedKVList, Record, o};

/// Hands raft's own log lines to `tracing`. What raft calls info is detail to an operator.
struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!("raft: {}", record.msg()),
            slog::Level::Warning => tracing::warn!("raft: {}", record.msg()),
            slog::Level::Info | slog::Level::Debug => tracing::debug!("raft: {}", record.msg()),
            slog::Level::Trace => tracing::trace!("raft: {}", record.msg()),
        }
        Ok(())
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(Tracing, o!())
}
