//! Which sessions have which filters, as the packet threads know it: by a number for each combination.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_cluster::records::SessionRow;

use crate::aaa::Filters;
use crate::dataplane::TableUpdate;
use crate::dataplane::filter::FilterSet;
use crate::dataplane::table::NO_FILTERS;
use crate::metrics::{Limit, Metrics};
use crate::throttled;

/// Combinations of filters and rules that sessions may have at once; one with a further combination passes nothing.
pub const COMBINATIONS_MAX: u16 = u16::MAX - 1;
/// Never told to the packet threads, which let nothing pass for it.
const CLOSED: u16 = u16::MAX;

/// What a session is held to: names of filters, and rules of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Combination {
    filters: Vec<String>,
    rules: Vec<String>,
}

impl Combination {
    /// `None` for a session that has none, as most.
    pub fn of(row: &SessionRow) -> Option<Self> {
        let service = row.ppp.as_ref()?.service.as_ref()?;
        let any = !service.filters.is_empty() || !service.rules.is_empty();
        any.then(|| Self {
            filters: service.filters.clone(),
            rules: service.rules.clone(),
        })
    }
}

#[derive(Debug)]
struct Known {
    number: u16,
    sessions: usize,
}

/// Owned by the table's thread.
#[derive(Debug)]
pub struct Combinations {
    filters: Arc<Filters>,
    known: HashMap<Combination, Known>,
    /// Numbers that were given and are free again.
    free: Vec<u16>,
    metrics: Arc<Metrics>,
}

impl Combinations {
    /// Of these filters.
    pub fn new(filters: Arc<Filters>, metrics: Arc<Metrics>) -> Self {
        metrics.set_limit(Limit::FilterCombinations, COMBINATIONS_MAX.into());
        Self {
            filters,
            known: HashMap::new(),
            free: Vec::new(),
            metrics,
        }
    }

    /// A session has another combination than before: its number, and what the packet threads are to be told first.
    pub fn settle(
        &mut self,
        before: Option<&Combination>,
        now: Option<&Combination>,
    ) -> (u16, Option<TableUpdate>) {
        if before == now {
            return (self.number(now), None);
        }
        let update = now.and_then(|now| self.take(now));
        if let Some(before) = before {
            self.give_back(before);
        }
        self.metrics
            .set_current(Limit::FilterCombinations, self.known.len() as u64);
        (self.number(now), update)
    }

    /// Goes over to other filters: all that the packet threads are to be told.
    pub fn replace(&mut self, filters: Arc<Filters>) -> Vec<TableUpdate> {
        self.filters = filters;
        let known = self.known.iter();
        known
            .map(|(combination, known)| self.update(combination, known.number))
            .collect()
    }

    fn number(&self, combination: Option<&Combination>) -> u16 {
        let known = |combination| self.known.get(combination).map_or(CLOSED, |known| known.number);
        combination.map_or(NO_FILTERS, known)
    }

    fn take(&mut self, combination: &Combination) -> Option<TableUpdate> {
        if let Some(known) = self.known.get_mut(combination) {
            known.sessions += 1;
            return None;
        }
        let fresh = u16::try_from(self.known.len() + 1)
            .ok()
            .filter(|number| *number <= COMBINATIONS_MAX);
        let Some(number) = self.free.pop().or(fresh) else {
            self.metrics.hit(Limit::FilterCombinations);
            throttled!(
                error,
                ?combination,
                "sessions have {COMBINATIONS_MAX} combinations of filters: a further one passes nothing"
            );
            return None;
        };
        self.known
            .insert(combination.clone(), Known { number, sessions: 1 });
        Some(self.update(combination, number))
    }

    fn give_back(&mut self, combination: &Combination) {
        let Some(known) = self.known.get_mut(combination) else {
            return;
        };
        known.sessions -= 1;
        if known.sessions == 0 {
            self.free.push(known.number);
            self.known.remove(combination);
        }
    }

    fn update(&self, combination: &Combination, number: u16) -> TableUpdate {
        let set = self.filters.set(&combination.filters, &combination.rules);
        let set = set.unwrap_or_else(|unknown| {
            throttled!(
                error,
                filter = unknown,
                "sessions have a filter that is not in the configuration: they pass nothing"
            );
            FilterSet::Closed
        });
        TableUpdate::Filters(number, Arc::new(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FilterConfig;

    fn filters(names: &[&str]) -> Arc<Filters> {
        let config = |name: &&str| FilterConfig {
            name: (*name).to_owned(),
            rules: Vec::new(),
            answer: Default::default(),
            portal: None,
        };
        let configs: Vec<_> = names.iter().map(config).collect();
        Arc::new(Filters::new(&configs, &Filters::default()))
    }

    fn combination(filters: &[&str], rules: &[&str]) -> Combination {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Combination {
            filters: owned(filters),
            rules: owned(rules),
        }
    }

    fn is_closed(update: &TableUpdate) -> bool {
        matches!(update, TableUpdate::Filters(_, set) if matches!(**set, FilterSet::Closed))
    }

    #[test]
    fn a_combination_is_told_once_and_its_number_used_again_when_nobody_has_it() {
        let mut known = Combinations::new(filters(&["a", "b"]), Arc::default());
        assert!(matches!(known.settle(None, None), (NO_FILTERS, None)));
        let (both, swapped) = (combination(&["a", "b"], &[]), combination(&["b", "a"], &[]));
        let (number, update) = known.settle(None, Some(&both));
        assert!(number != NO_FILTERS && update.is_some_and(|update| !is_closed(&update)));
        let (again, update) = known.settle(None, Some(&both));
        assert!(again == number && update.is_none());
        let (other, update) = known.settle(Some(&both), Some(&swapped));
        assert!(other != number && update.is_some(), "who answers is another");
        assert_eq!(
            known.settle(Some(&both), Some(&both)).0,
            number,
            "one session has it yet"
        );
        assert_eq!(known.settle(Some(&both), None).0, NO_FILTERS);
        let (third, update) = known.settle(None, Some(&combination(&["a"], &["deny in ip from any to any"])));
        assert!(third == number && update.is_some_and(|update| !is_closed(&update)));
    }

    #[test]
    fn what_is_not_known_passes_nothing_until_it_is() {
        let mut known = Combinations::new(filters(&["a"]), Arc::default());
        let (_, update) = known.settle(None, Some(&combination(&["a", "gone"], &[])));
        assert!(is_closed(&update.expect("it is new")));
        let updates = known.replace(filters(&["a", "gone"]));
        assert!(updates.len() == 1 && !is_closed(&updates[0]));
        assert!(is_closed(&known.replace(filters(&[]))[0]));
        let (_, update) = known.settle(None, Some(&combination(&[], &["allow all"])));
        assert!(
            is_closed(&update.expect("it is new")),
            "a rule that a later version may know"
        );
    }

    #[test]
    fn more_combinations_than_may_be_pass_nothing() {
        let metrics = Arc::new(Metrics::default());
        let mut known = Combinations::new(filters(&[]), metrics.clone());
        let one = |number: u32| combination(&[&number.to_string()], &[]);
        for number in 1..=u32::from(COMBINATIONS_MAX) {
            assert!(known.settle(None, Some(&one(number))).0 < CLOSED);
        }
        let further = one(0);
        assert!(matches!(known.settle(None, Some(&further)), (CLOSED, None)));
        assert_eq!(metrics.hits(Limit::FilterCombinations), 1);
        assert_eq!(known.settle(Some(&further), None).0, NO_FILTERS);
        known.settle(Some(&one(7)), None);
        assert!(known.settle(None, Some(&further)).0 < CLOSED);
    }
}
