//! The filters of the configuration, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::FilterConfig;
use crate::dataplane::filter::{Answer, Counts, Filter, FilterSet, Rule};
use crate::metrics::CounterRow;

/// Stands for a filter's name where a server has brought the rules along.
const BROUGHT: &str = "nas-filter-rule";

/// All of them.
#[derive(Debug, Default)]
pub struct Filters {
    /// In the file's order.
    filters: Vec<Arc<Filter>>,
    by_name: HashMap<String, usize>,
    /// Of all rules that servers bring along.
    brought: Arc<Counts>,
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
            brought: before.brought.clone(),
        }
    }

    /// The filter of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Filter>> {
        Some(&self.filters[*self.by_name.get(name)?])
    }

    /// What the packet threads do with a session that has these filters, and rules of its own.
    ///
    /// # Errors
    /// What is not known: nothing may pass then, for what the filter would have let is not known either.
    pub fn set<'a>(&self, names: &'a [String], rules: &'a [String]) -> Result<FilterSet, &'a str> {
        let named = names
            .iter()
            .map(|name| self.get(name).cloned().ok_or(name.as_str()));
        let mut filters = named.collect::<Result<Vec<_>, _>>()?;
        if !rules.is_empty() {
            let rules = rules
                .iter()
                .map(|rule| rule.parse::<Rule>().map_err(|_| rule.as_str()));
            let rules = rules.collect::<Result<_, _>>()?;
            let counts = self.brought.clone();
            filters.push(Arc::new(Filter::new(BROUGHT, rules, Answer::Prohibited, counts)));
        }
        Ok(FilterSet::Filters(filters))
    }

    /// What they have denied.
    pub fn counters(&self) -> Vec<CounterRow> {
        let named = self.filters.iter().map(|filter| (filter.name(), filter.counts()));
        let all = named.chain([(BROUGHT, &self.brought)]);
        all.flat_map(|(name, counts)| rows(name, counts)).collect()
    }
}

fn rows(name: &str, counts: &Counts) -> [CounterRow; 3] {
    let filter = ("filter", name.to_owned());
    let denied = |direction: &str, value: &AtomicU64| {
        let labels = [filter.clone(), ("direction", direction.to_owned())];
        let help = "Packets that a filter has denied; one that several filters deny is the first one's.";
        CounterRow::new("filter_denied_packets_total", &labels, value.load(Relaxed), help)
    };
    let redirects = CounterRow::new(
        "filter_redirects_total",
        std::slice::from_ref(&filter),
        counts.redirected.load(Relaxed),
        "Requests for pages that were answered with the portal's address.",
    );
    [
        denied("in", &counts.denied_up),
        denied("out", &counts.denied_down),
        redirects,
    ]
}
