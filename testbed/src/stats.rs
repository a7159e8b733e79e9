//! Small statistics for reports: percentiles of set-up times and rates.

/// Durations in microseconds, kept whole: 100,000 of them are 400 KB, and percentiles stay exact.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    micros: Vec<u32>,
}

impl Samples {
    /// Adds one duration; values above 71 minutes count as that.
    pub fn record(&mut self, duration: std::time::Duration) {
        self.micros
            .push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    /// How many durations were recorded.
    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.micros.is_empty()
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        self.micros.clear();
    }

    /// The value in milliseconds below which `percent` of the samples lie (nearest rank); 0 without samples.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        if self.micros.is_empty() {
            return 0.0;
        }
        let mut sorted = self.micros.clone();
        let rank = ((percent / 100.0) * sorted.len() as f64).ceil() as usize;
        let index = rank.clamp(1, sorted.len()) - 1;
        let (_, value, _) = sorted.select_nth_unstable(index);
        f64::from(*value) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut samples = Samples::default();
        for millis in (1..=100).rev() {
            samples.record(Duration::from_millis(millis));
        }
        assert_eq!(samples.percentile_ms(50.0), 50.0);
        assert_eq!(samples.percentile_ms(99.0), 99.0);
        assert_eq!(samples.percentile_ms(100.0), 100.0);
        assert_eq!(Samples::default().percentile_ms(50.0), 0.0);
    }
}
