//! A LAC with one subscriber, which speaks to whichever node it is led to, as behind an anycast address.

use crate::caller::Caller;
use crate::site::Site;

/// See the module.
pub struct Line(Caller);

impl Line {
    /// Dials a node with tunnel id `tunnel`, 1 or 2.
    pub fn dial(site: &Site, node: u8, tunnel: u16) -> Self {
        let mut caller = Caller::new(&site.address(node), tunnel);
        caller.until("the tunnel is up", |caller| caller.lac.established);
        caller.place_call(1);
        Self(caller)
    }

    /// The routers send what comes from it to another node now.
    pub fn lead_to(&mut self, site: &Site, node: u8) {
        self.0.send_to(&site.address(node));
    }

    /// Until its subscriber's interface is up.
    pub fn until_up(&mut self) {
        self.0.until("the subscriber is up", |caller| {
            caller.lac.calls.values().any(|call| call.client.is_up())
        });
    }

    /// Until an LNS has acknowledged what the LAC says from now on; the session has stayed up meanwhile.
    pub fn until_answered(&mut self) {
        let said = self.0.lac.connection.progress().queued;
        self.0.until("an LNS answers the LAC", |caller| {
            let progress = caller.lac.connection.progress();
            progress.queued != said && progress.acknowledged == progress.queued
        });
        assert_eq!(self.0.lac.closed, None, "the tunnel is kept");
        let call = self.0.lac.first();
        assert!(!call.over && call.client.is_up(), "the session is kept");
    }
}
