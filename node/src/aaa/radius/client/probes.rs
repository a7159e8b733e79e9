//! Status-Server packets (RFC 5997): to servers that do not answer, where they are configured to be asked so. Each has a new identifier and a new
//! authenticator, and none is sent again.

use std::time::Duration;

use super::endpoint::{EndpointId, Open, Use};
use super::health::Health;
use super::{Client, Output, Random, Timer};
use crate::aaa::radius::request::Content;

impl Client {
    /// The state of a server has changed.
    pub(super) fn plan_probe(&mut self, now: Duration, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(interval) = endpoint.settings.status_interval else {
            return;
        };
        match (endpoint.health, endpoint.probe_at) {
            (Health::Alive, Some(at)) => {
                endpoint.probe_at = None;
                if let Some(slot) = endpoint.probe.take() {
                    endpoint.release(slot);
                }
                self.timers.remove(&(at, Timer::Probe(id)));
            }
            (Health::Alive, None) | (_, Some(_)) => {}
            (Health::Suspect | Health::Dead { .. } | Health::Trial { .. }, None) => {
                // The request that found it so has just been sent again: leave it some time.
                let at = now + interval.min(FIRST_PROBE);
                endpoint.probe_at = Some(at);
                self.timers.insert((at, Timer::Probe(id)));
            }
        }
    }

    pub(super) fn on_probe_timer(&mut self, now: Duration, random: Random<'_>, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(interval) = endpoint.settings.status_interval else {
            return;
        };
        if let Some(earlier) = endpoint.probe.take() {
            endpoint.release(earlier);
        }
        let at = now + interval;
        endpoint.probe_at = Some(at);
        self.timers.insert((at, Timer::Probe(id)));
        let Some(slot) = endpoint.take_slot() else { return };
        let probe = Content::status(&self.nas);
        let Ok((octets, authenticator)) = probe.encode(slot.id, endpoint.settings.secret.expose(), random())
        else {
            return endpoint.give_back(slot);
        };
        let by = Use::Probe;
        let open = Open {
            by,
            authenticator,
            sent_at: now,
        };
        endpoint.open.insert(slot, open);
        endpoint.probe = Some(slot);
        endpoint.counts.probes += 1;
        self.outputs.push_back(Output::Send {
            endpoint: id,
            socket: slot.socket,
            octets: octets.into(),
        });
    }
}

/// The first probe follows the loss of trust after this long.
const FIRST_PROBE: Duration = Duration::from_secs(1);
