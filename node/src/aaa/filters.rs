//! The filters of the configuration, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::FilterConfig;
use crate::dataplane::filter::{Filter, FilterSet};
use crate::metrics::CounterRow;

/// All of them.
#[derive(Debug, Default)]
pub struct Filters {
    /// In the file's order.
    filters: Vec<Arc<Filter>>,
    by_name: HashMap<String, usize>,
}

impl Filters {
    /// Of the configuration. Those that were there `before` go on counting.
    pub fn new(filters: &[FilterConfig], before: &Self) -> Self {
        let made = |config: &FilterConfig| {
            let counts = before.get(&config.name).map(|known| known.counts().clone());
            let (rules, answer) = (config.rules.clone(), config.answer());
            Arc::new(Filter::new(
                &config.name,
                rules,
                answer,
                counts.unwrap_or_default(),
            ))
        };
        let places = filters.iter().enumerate();
        Self {
            filters: filters.iter().map(made).collect(),
            by_name: places
                .map(|(place, filter)| (filter.name.clone(), place))
                .collect(),
        }
    }

    /// The filter of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Filter>> {
        Some(&self.filters[*self.by_name.get(name)?])
    }

    /// What the packet threads do with a session that has these.
    ///
    /// # Errors
    /// A name that is not known: nothing may pass then, for what the filter would have let is not known either.
    pub fn set<'a>(&self, names: &'a [String]) -> Result<FilterSet, &'a str> {
        let found = names
            .iter()
            .map(|name| self.get(name).cloned().ok_or(name.as_str()));
        found.collect::<Result<_, _>>().map(FilterSet::Filters)
    }

    /// What they have denied.
    pub fn counters(&self) -> Vec<CounterRow> {
        let rows = |filter: &Arc<Filter>| {
            let counts = filter.counts();
            let denied = "Packets that a filter has denied, by direction; one that several filters deny is the first one's.";
            let row = |direction: &str, value: &std::sync::atomic::AtomicU64| {
                let labels = [
                    ("filter", filter.name().to_owned()),
                    ("direction", direction.to_owned()),
                ];
                CounterRow::new(
                    "filter_denied_packets_total",
                    &labels,
                    value.load(Relaxed),
                    denied,
                )
            };
            let redirects = CounterRow::new(
                "filter_redirects_total",
                &[("filter", filter.name().to_owned())],
                counts.redirected.load(Relaxed),
                "Requests for pages that were answered with the portal's address.",
            );
            [
                row("in", &counts.denied_up),
                row("out", &counts.denied_down),
                redirects,
            ]
        };
        self.filters.iter().flat_map(rows).collect()
    }
}
