//! Whom RADIUS is to judge is online by one Accept for that subscriber, whole and his session's alone.

use std::collections::BTreeMap;

use holdfast_cluster::Effect;
use holdfast_cluster::records::SessionRow;
use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{Fact, World, is_of_radius};

/// A session among all that ever were: ids are used again.
type Identity = (TunnelId, SessionId, u64, u32);

#[derive(Debug, Default)]
pub(super) struct Judged {
    /// By its Class: for whom an Accept was, and which session it has let in.
    accepts: BTreeMap<Vec<u8>, (Vec<u8>, Option<Identity>)>,
}

impl Invariant for Judged {
    const NAME: &'static str = "judged";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Accepted { user, class } => {
                self.accepts.insert(class.clone(), (user.clone(), None));
                Ok(())
            }
            Fact::Effect {
                effect:
                    Effect::SessionChanged {
                        tunnel, session, row, ..
                    },
                ..
            } if row.is_open() => {
                let identity = (*tunnel, *session, row.created_ms, row.call_serial);
                self.is_online(world, identity, row)
            }
            _ => Ok(()),
        }
    }
}

impl Judged {
    fn is_online(&mut self, world: &World, session: Identity, row: &SessionRow) -> Result<(), String> {
        let Some(ppp) = &row.ppp else { return Ok(()) };
        let classes = &ppp.classes;
        let (tunnel, id, ..) = session;
        if !(world.has_radius() && is_of_radius(&ppp.user)) {
            return match classes.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "session {tunnel}/{id} is a local user's and has {classes:?}"
                )),
            };
        }
        let [class] = &classes[..] else {
            return Err(format!(
                "session {tunnel}/{id} is online with the classes {classes:?}"
            ));
        };
        let identity = ppp.identity.clone().unwrap_or_default();
        if identity.chargeable_user != *class || identity.server_group.is_empty() {
            return Err(format!(
                "session {tunnel}/{id} has the class {class:?}, and of another Accept {identity:?}"
            ));
        }
        match self.accepts.get_mut(class) {
            None => Err(format!(
                "session {tunnel}/{id} has the class {class:?}, of no Accept"
            )),
            Some((user, _)) if *user != ppp.user => Err(format!(
                "session {tunnel}/{id} of {} is online by an Accept for {}",
                ppp.user.escape_ascii(),
                user.escape_ascii()
            )),
            Some((_, Some(other))) if *other != session => Err(format!(
                "the Accept {class:?} has let in {}/{} and {tunnel}/{id}",
                other.0, other.1
            )),
            Some((_, used)) => {
                *used = Some(session);
                Ok(())
            }
        }
    }
}
