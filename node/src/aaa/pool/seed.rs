//! What a process that starts finds in the session table.

use std::net::IpAddr;
use std::time::Duration;

use holdfast_cluster::Table;
use holdfast_cluster::limits::TABLE_TIME_STEP_MS;

use super::Pools;

impl Pools {
    /// Notes which addresses the table's sessions have, and which rest: the table would refuse them to another user.
    pub fn seed(&mut self, table: &Table, now: Duration) {
        for (address, rests_ms, user) in table.released() {
            if let IpAddr::V4(address) = address {
                // The table's clock runs in steps.
                let rests = match rests_ms {
                    0 => Duration::ZERO,
                    rests_ms => Duration::from_millis(rests_ms + TABLE_TIME_STEP_MS),
                };
                self.restore_released(
                    address,
                    &String::from_utf8_lossy(&user),
                    now + rests,
                    table.applied(),
                );
            }
        }
        for (tunnel, entry) in table.tunnels() {
            for (session, row) in entry.sessions() {
                let Some(ppp) = &row.ppp else { continue };
                let user = String::from_utf8_lossy(&ppp.user);
                for prefix in &ppp.addresses {
                    if let (Some(IpAddr::V4(address)), 32) = (prefix.ip(), prefix.length) {
                        self.restore(address, &user, (tunnel, session));
                    }
                }
            }
        }
    }
}
