//! What may change of a session that is open, without its subscriber noticing more than the effect.

use holdfast_cluster::records::PppRow;
use serde::{Deserialize, Serialize};

use super::granted;

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
}

impl Change {
    /// Whether it changes nothing, whatever the session.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a row has all of the new values.
    pub fn is_in(&self, ppp: &PppRow) -> bool {
        let mut changed = ppp.clone();
        self.apply(&mut changed);
        changed == *ppp
    }

    /// Writes the new values into a row.
    pub fn apply(&self, ppp: &mut PppRow) {
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
    use holdfast_cluster::records::Service;

    use super::*;

    #[test]
    fn what_is_absent_stays() {
        let service = Service {
            rate_up: 5,
            rate_down: 6,
            filters: vec!["a".to_owned()],
            ..Service::default()
        };
        let mut row = PppRow {
            service: Some(service),
            session_timeout: 7,
            idle_timeout: 8,
            classes: vec![vec![1]],
            ..PppRow::default()
        };
        let before = row.clone();
        Change::default().apply(&mut row);
        assert_eq!(row, before);
        let change = Change {
            rate_down: Some(60),
            filters: Some(Vec::new()),
            idle_timeout_s: Some(0),
            classes: Some(vec![vec![2], vec![3]]),
            ..Change::default()
        };
        assert!(!change.is_in(&row));
        change.apply(&mut row);
        assert!(change.is_in(&row));
        let service = row.service.expect("rates are left");
        assert_eq!((service.rate_up, service.rate_down), (5, 60));
        assert!(service.filters.is_empty());
        assert_eq!((row.session_timeout, row.idle_timeout), (7, 0));
        assert_eq!(row.classes, [[2], [3]]);
    }

    #[test]
    fn nothing_left_to_hold_to_leaves_nothing_in_the_row() {
        let mut row = PppRow::default();
        let rate = |rate| Change {
            rate_up: Some(rate),
            ..Change::default()
        };
        rate(9).apply(&mut row);
        assert_ne!(row, PppRow::default());
        rate(0).apply(&mut row);
        assert_eq!(row, PppRow::default());
    }
}
