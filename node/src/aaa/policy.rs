//! Policies of the configuration: what the sessions of a product are held to, by its name.

use std::collections::{HashMap, HashSet};

use super::profile::{Profile, Service};
use crate::config::{FilterConfig, PolicyConfig};
use crate::lns::change::Change;

/// All of them by name.
#[derive(Debug, Default)]
pub struct Policies {
    by_name: HashMap<String, PolicyConfig>,
    filters: HashSet<String>,
}

/// A session would be held to something that is not there: better none than one without limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no [[policy]] or [[filter]] \"{0}\" in the configuration")]
pub struct UnknownPolicy(pub String);

impl Policies {
    /// Of the configuration; a reload makes new ones.
    pub fn new(policies: &[PolicyConfig], filters: &[FilterConfig]) -> Self {
        let named = |policy: &PolicyConfig| (policy.name.clone(), policy.clone());
        Self {
            by_name: policies.iter().map(named).collect(),
            filters: filters.iter().map(|filter| filter.name.clone()).collect(),
        }
    }

    /// Completes a profile by the policies that it names: its own, and those of Filter-Id. What the profile says itself counts more,
    /// and a policy named earlier more than a later one. The filters are those of the policies and those that Filter-Id names itself, in
    /// the order in which they are named.
    pub fn complete(&self, profile: &mut Profile) -> Result<(), UnknownPolicy> {
        let own = Some(profile.service.policy.clone()).filter(|name| !name.is_empty());
        let mut filters = Vec::new();
        for name in own
            .into_iter()
            .chain(std::mem::take(&mut profile.service.filters))
        {
            let brought = match self.by_name.get(&name) {
                Some(policy) => {
                    fill(profile, policy);
                    policy.filters.clone()
                }
                None if self.filters.contains(&name) => vec![name],
                None => return Err(UnknownPolicy(name)),
            };
            let new = brought.into_iter().filter(|name| !filters.contains(name));
            filters.extend(new.collect::<Vec<_>>());
        }
        profile.service.filters = filters;
        Ok(())
    }

    /// Completes a change by the policies and filters that it names. All of them take the place of the session's filters; the rates of a
    /// policy that of the session's, unless the change says others. Where filters alone are named the rates stay.
    pub fn complete_change(&self, change: &mut Change) -> Result<(), UnknownPolicy> {
        if change.policy.is_none() && change.filters.is_none() {
            return Ok(());
        }
        let service = Service {
            policy: change.policy.clone().unwrap_or_default(),
            filters: change.filters.clone().unwrap_or_default(),
            rules: Vec::new(),
            rate_up: change.rate_up.unwrap_or(0),
            rate_down: change.rate_down.unwrap_or(0),
            burst_up: change.burst_up.unwrap_or(0),
            burst_down: change.burst_down.unwrap_or(0),
            mtu: 0,
        };
        let mut profile = Profile {
            service,
            ..Profile::default()
        };
        self.complete(&mut profile)?;
        let service = profile.service;
        change.filters = Some(service.filters);
        if service.policy.is_empty() {
            return Ok(());
        }
        change.policy = Some(service.policy);
        (change.rate_up, change.burst_up) = (Some(service.rate_up), Some(service.burst_up));
        (change.rate_down, change.burst_down) = (Some(service.rate_down), Some(service.burst_down));
        let set = |seconds: u32| Some(seconds).filter(|seconds| *seconds > 0);
        change.session_timeout_s = change.session_timeout_s.or(set(profile.session_timeout_s));
        change.idle_timeout_s = change.idle_timeout_s.or(set(profile.idle_timeout_s));
        Ok(())
    }
}

fn fill(profile: &mut Profile, policy: &PolicyConfig) {
    let seconds = |timeout: std::time::Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    let service = &mut profile.service;
    if service.policy.is_empty() {
        service.policy.clone_from(&policy.name);
    }
    if service.rate_up == 0 {
        (service.rate_up, service.burst_up) = (policy.rate_up, policy.burst_up);
    }
    if service.rate_down == 0 {
        (service.rate_down, service.burst_down) = (policy.rate_down, policy.burst_down);
    }
    if profile.session_timeout_s == 0 {
        profile.session_timeout_s = seconds(policy.session_timeout);
    }
    if profile.idle_timeout_s == 0 {
        profile.idle_timeout_s = seconds(policy.idle_timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policies() -> Policies {
        let policy = |name: &str, rate: u64, idle: u64| PolicyConfig {
            name: name.to_owned(),
            rate_up: rate,
            rate_down: 10 * rate,
            burst_up: 0,
            burst_down: 4_000,
            filters: vec!["no-mail".to_owned()],
            session_timeout: Duration::ZERO,
            idle_timeout: Duration::from_secs(idle),
        };
        let filter = |name: &str| FilterConfig {
            name: name.to_owned(),
            rules: Vec::new(),
            answer: Default::default(),
            portal: None,
        };
        let policies = [policy("basic", 1_000_000, 600), policy("fast", 9_000_000, 0)];
        Policies::new(&policies, &[filter("no-mail"), filter("garden")])
    }

    fn profile(policy: &str, filters: &[&str], rate_up: u64) -> Profile {
        let service = Service {
            policy: policy.to_owned(),
            filters: filters.iter().map(|name| (*name).to_owned()).collect(),
            rate_up,
            ..Service::default()
        };
        Profile {
            service,
            ..Profile::default()
        }
    }

    #[test]
    fn a_policy_fills_what_the_profile_leaves_open() {
        let mut own = profile("basic", &[], 7_000);
        policies().complete(&mut own).expect("it is there");
        let service = &own.service;
        assert_eq!(
            (
                service.rate_up,
                service.rate_down,
                service.burst_down,
                own.idle_timeout_s
            ),
            (7_000, 10_000_000, 4_000, 600)
        );
        let mut both = profile("", &["fast", "basic"], 0);
        policies().complete(&mut both).expect("they are there");
        assert_eq!((both.service.rate_up, both.idle_timeout_s), (9_000_000, 600));
        assert_eq!(both.service.policy, "fast");
    }

    #[test]
    fn filters_are_those_of_the_policies_and_those_that_are_named() {
        for (policy, named, expected) in [
            ("basic", &[][..], &["no-mail"][..]),
            ("", &["garden"], &["garden"]),
            ("basic", &["garden"], &["no-mail", "garden"]),
            ("", &["garden", "fast", "basic", "garden"], &["garden", "no-mail"]),
        ] {
            let mut profile = profile(policy, named, 0);
            policies().complete(&mut profile).expect("they are there");
            assert_eq!(profile.service.filters, expected, "{policy} {named:?}");
        }
        let mut filter_as_policy = profile("", &["garden"], 0);
        policies().complete(&mut filter_as_policy).expect("it is there");
        assert_eq!(
            (
                filter_as_policy.service.policy.as_str(),
                filter_as_policy.service.rate_up
            ),
            ("", 0)
        );
    }

    #[test]
    fn another_policy_brings_its_rates() {
        let named = |names: &[&str]| Change {
            filters: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            session_timeout_s: Some(9),
            ..Change::default()
        };
        let mut change = named(&["basic"]);
        policies().complete_change(&mut change).expect("it is there");
        let timeouts = (change.session_timeout_s, change.idle_timeout_s);
        assert_eq!(
            (change.rate_up, change.rate_down),
            (Some(1_000_000), Some(10_000_000))
        );
        assert_eq!(timeouts, (Some(9), Some(600)));
        assert_eq!(
            (change.policy.as_deref(), change.filters),
            (Some("basic"), Some(vec!["no-mail".to_owned()]))
        );
        let mut garden = named(&["garden"]);
        policies().complete_change(&mut garden).expect("it is there");
        assert_eq!(
            (garden.rate_up, garden.rate_down, garden.policy.clone()),
            (None, None, None),
            "they stay"
        );
        assert_eq!(garden.filters, Some(vec!["garden".to_owned()]));
        assert!(policies().complete_change(&mut named(&["gold"])).is_err());
        let mut plain = Change {
            rate_up: Some(5),
            ..Change::default()
        };
        policies().complete_change(&mut plain).expect("it names none");
        assert_eq!(plain.rate_down, None, "stays");
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let unknown = UnknownPolicy("gold".to_owned());
        assert_eq!(
            policies().complete(&mut profile("gold", &[], 0)),
            Err(unknown.clone())
        );
        assert_eq!(
            policies().complete(&mut profile("", &["basic", "gold"], 0)),
            Err(unknown)
        );
        let mut none = profile("", &[], 0);
        assert_eq!(policies().complete(&mut none), Ok(()));
        assert_eq!(none, profile("", &[], 0));
    }
}
