//! Which sessions have which filters, as the packet threads know it: by a number for each combination of names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::aaa::Filters;
use crate::dataplane::TableUpdate;
use crate::dataplane::filter::FilterSet;
use crate::dataplane::table::NO_FILTERS;
use crate::metrics::{Limit, Metrics};
use crate::throttled;

/// Combinations of filters that sessions may have; sessions with a further one pass nothing.
pub const COMBINATIONS_MAX: u16 = 4096;
/// The combination that passes nothing.
const CLOSED: u16 = COMBINATIONS_MAX + 1;

/// Owned by the table's thread.
#[derive(Debug)]
pub struct Combinations {
    filters: Arc<Filters>,
    numbers: HashMap<Vec<String>, u16>,
    metrics: Arc<Metrics>,
}

impl Combinations {
    /// Of these filters.
    pub fn new(filters: Arc<Filters>, metrics: Arc<Metrics>) -> Self {
        metrics.set_limit(Limit::FilterCombinations, COMBINATIONS_MAX.into());
        Self {
            filters,
            numbers: HashMap::new(),
            metrics,
        }
    }

    /// The number of a combination, and what the packet threads are to be told first if it is new to them.
    pub fn number(&mut self, names: &[String]) -> (u16, Option<TableUpdate>) {
        if names.is_empty() {
            return (NO_FILTERS, None);
        }
        if let Some(number) = self.numbers.get(names) {
            return (*number, None);
        }
        if self.numbers.len() >= usize::from(COMBINATIONS_MAX) {
            self.metrics.hit(Limit::FilterCombinations);
            throttled!(
                error,
                ?names,
                "sessions have more than {COMBINATIONS_MAX} combinations of filters: this one passes nothing"
            );
            return (
                CLOSED,
                Some(TableUpdate::Filters(CLOSED, Arc::new(FilterSet::Closed))),
            );
        }
        let number = self.numbers.len() as u16 + 1;
        self.numbers.insert(names.to_vec(), number);
        self.metrics
            .set_current(Limit::FilterCombinations, self.numbers.len() as u64);
        (number, Some(self.update(names, number)))
    }

    /// Goes over to other filters: all that the packet threads are to be told.
    pub fn replace(&mut self, filters: Arc<Filters>) -> Vec<TableUpdate> {
        self.filters = filters;
        let numbers = self.numbers.iter();
        numbers
            .map(|(names, number)| self.update(names, *number))
            .collect()
    }

    fn update(&self, names: &[String], number: u16) -> TableUpdate {
        let set = self.filters.set(names).unwrap_or_else(|unknown| {
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

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn is_closed(update: &TableUpdate) -> bool {
        matches!(update, TableUpdate::Filters(_, set) if matches!(**set, FilterSet::Closed))
    }

    #[test]
    fn a_combination_is_told_once() {
        let mut known = Combinations::new(filters(&["a", "b"]), Arc::default());
        assert_eq!(known.number(&[]).0, NO_FILTERS);
        let (number, update) = known.number(&names(&["a", "b"]));
        assert!(number != NO_FILTERS && update.is_some_and(|update| !is_closed(&update)));
        let (again, update) = known.number(&names(&["a", "b"]));
        assert!(again == number && update.is_none());
        assert_ne!(
            known.number(&names(&["b", "a"])).0,
            number,
            "who answers is another"
        );
    }

    #[test]
    fn what_is_not_known_passes_nothing_until_it_is() {
        let mut known = Combinations::new(filters(&["a"]), Arc::default());
        let (_, update) = known.number(&names(&["a", "gone"]));
        assert!(is_closed(&update.expect("it is new")));
        let updates = known.replace(filters(&["a", "gone"]));
        assert!(updates.len() == 1 && !is_closed(&updates[0]));
        assert!(is_closed(&known.replace(filters(&[]))[0]));
    }

    #[test]
    fn more_combinations_than_may_be_pass_nothing() {
        let metrics = Arc::new(Metrics::default());
        let mut known = Combinations::new(filters(&["a"]), metrics.clone());
        for number in 1..=COMBINATIONS_MAX {
            known.number(&[number.to_string()]);
        }
        let (number, update) = known.number(&names(&["one", "more"]));
        assert!(number == CLOSED && is_closed(&update.expect("told each time")));
        assert_eq!(metrics.hits(Limit::FilterCombinations), 1);
    }
}
