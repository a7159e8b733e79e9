//! Leaves nothing behind when the program is told to end.

use std::io::Write;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::namespace;
use super::process;

/// Exit status after a signal, as a shell would report an interrupt.
const INTERRUPTED: i32 = 130;

/// Removes what killed runs left, then waits on a thread of its own for SIGINT, SIGTERM or SIGHUP, kills all children and
/// removes all namespaces of this process, and exits.
pub fn install() -> std::io::Result<()> {
    namespace::remove_leftovers();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let [mut interrupt, mut terminate, mut hangup] = {
        let _inside = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
        });
        // After a hangup there may be nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "\ninterrupted: removing namespaces and processes"
        );
        process::kill_all_for_exit();
        namespace::remove_own();
        crate::cleanup::clean_up();
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}
