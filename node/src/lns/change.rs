//! What may change of a session that is open, without its subscriber noticing more than the effect.

use holdfast_cluster::records::{PppRow, SessionRow};
use serde::{Deserialize, Serialize};

use super::granted;
use super::ordered::{self, Mark, Standing};

/// New values; what is absent stays. All of it is accepted with one row, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Name of a policy of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// bit/s from the subscriber; 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_up: Option<u64>,
    /// bit/s to the subscriber; 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_down: Option<u64>,
    /// Octets; 0: as the rate implies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_up: Option<u32>,
    /// Octets; 0: as the rate implies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_down: Option<u32>,
    /// All names of filters, in the order in which they apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<String>>,
    /// All rules of the subscriber's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<String>>,
    /// Seconds from when the session opened; 0: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_timeout_s: Option<u32>,
    /// Seconds without user data; 0: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<u32>,
    /// Seconds between two interim records; 0: as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interim_interval_s: Option<u32>,
    /// All instances of Class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<Vec<u8>>>,
    /// The order that wants it, so that the session follows it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Mark>,
}

impl Change {
    /// Whether it changes nothing, whatever the session.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a row has it: has followed the order, or, where there is no mark of it, has all of the new values.
    pub fn is_in(&self, row: &SessionRow) -> bool {
        if let Some(order) = self.order {
            return ordered::standing(row, order) == Standing::Followed;
        }
        row.ppp.as_ref().is_some_and(|ppp| {
            let mut changed = ppp.clone();
            self.replace(&mut changed);
            changed == *ppp
        })
    }

    /// Whether it may have been in the row before, and something else since.
    pub fn is_outdated(&self, row: &SessionRow) -> bool {
        self.order
            .is_some_and(|order| ordered::standing(row, order) == Standing::Forgotten)
    }

    /// The row with it; `None` if nothing is to be written: the session is not open, or has followed the order.
    pub fn applied(&self, mut row: SessionRow) -> Option<SessionRow> {
        if let Some(order) = self.order {
            if ordered::standing(&row, order) != Standing::New {
                return None;
            }
            ordered::note(&mut row, order);
        }
        self.replace(row.ppp.as_mut().filter(|ppp| ppp.is_open())?);
        Some(row)
    }

    fn replace(&self, ppp: &mut PppRow) {
        fn set<T: Clone>(into: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                into.clone_from(value);
            }
        }
        let mut service = granted::service(ppp.service.as_ref());
        set(&mut service.policy, self.policy.as_ref());
        set(&mut service.rate_up, self.rate_up.as_ref());
        set(&mut service.rate_down, self.rate_down.as_ref());
        set(&mut service.burst_up, self.burst_up.as_ref());
        set(&mut service.burst_down, self.burst_down.as_ref());
        set(&mut service.filters, self.filters.as_ref());
        set(&mut service.rules, self.rules.as_ref());
        ppp.service = granted::service_row(&service);
        set(&mut ppp.session_timeout, self.session_timeout_s.as_ref());
        set(&mut ppp.idle_timeout, self.idle_timeout_s.as_ref());
        set(&mut ppp.interim_interval, self.interim_interval_s.as_ref());
        set(&mut ppp.classes, self.classes.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{NcpRow, Service};

    use super::*;

    fn open(ppp: PppRow) -> SessionRow {
        let ncp = NcpRow {
            open: true,
            ..NcpRow::default()
        };
        let ppp = PppRow {
            ncps: vec![ncp],
            ..ppp
        };
        SessionRow {
            ppp: Some(ppp),
            ..SessionRow::default()
        }
    }

    fn rate_up(rate: u64) -> Change {
        Change {
            rate_up: Some(rate),
            ..Change::default()
        }
    }

    #[test]
    fn what_is_absent_stays() {
        let service = Service {
            rate_up: 5,
            rate_down: 6,
            filters: vec!["a".to_owned()],
            ..Service::default()
        };
        let row = open(PppRow {
            service: Some(service),
            session_timeout: 7,
            idle_timeout: 8,
            classes: vec![vec![1]],
            ..PppRow::default()
        });
        assert_eq!(Change::default().applied(row.clone()), Some(row.clone()));
        let change = Change {
            rate_down: Some(60),
            filters: Some(Vec::new()),
            idle_timeout_s: Some(0),
            classes: Some(vec![vec![2], vec![3]]),
            ..Change::default()
        };
        assert!(!change.is_in(&row));
        let row = change.applied(row).expect("it is open");
        assert!(change.is_in(&row));
        let ppp = row.ppp.expect("it is open");
        let service = ppp.service.expect("rates are left");
        assert_eq!((service.rate_up, service.rate_down), (5, 60));
        assert!(service.filters.is_empty());
        assert_eq!((ppp.session_timeout, ppp.idle_timeout), (7, 0));
        assert_eq!(ppp.classes, [[2], [3]]);
    }

    #[test]
    fn nothing_left_to_hold_to_leaves_nothing_in_the_row() {
        let before = open(PppRow::default());
        let row = rate_up(9).applied(before.clone()).expect("it is open");
        assert_ne!(row, before);
        assert_eq!(rate_up(0).applied(row), Some(before));
    }

    #[test]
    fn a_session_that_is_not_open_is_not_changed() {
        assert_eq!(rate_up(9).applied(SessionRow::default()), None);
    }

    /// S-157: whoever recorded the first order and sends it again after the second one changes nothing.
    #[test]
    fn s_157_an_order_is_followed_once_whatever_came_after_it() {
        let order = |signature, rate| Change {
            order: Some(Mark {
                made_at: 100,
                signature,
            }),
            ..rate_up(rate)
        };
        let (first, second) = (order(1, 5), order(2, 6));
        let row = first.applied(open(PppRow::default())).expect("new");
        assert!(first.is_in(&row) && !second.is_in(&row));
        let row = second.applied(row).expect("new, of the same second");
        assert_eq!(first.applied(row.clone()), None);
        assert!(first.is_in(&row) && second.is_in(&row));
        let service = row.ppp.as_ref().and_then(|ppp| ppp.service.as_ref());
        assert_eq!(service.map(|service| service.rate_up), Some(6));
        let row = (3..20).fold(row, |row, signature| {
            let mut later = order(signature, signature);
            later.order.as_mut().expect("set").made_at += signature as u32;
            later.applied(row).expect("new")
        });
        assert!(first.is_outdated(&row) && !first.is_in(&row));
        assert_eq!(first.applied(row), None);
    }
}
