//! The least, middle and greatest of several rounds.

/// A summary of at least one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The least sample.
    pub min: f64,
    /// The middle one (the mean of the two middle ones when their number is even).
    pub median: f64,
    /// The greatest sample.
    pub max: f64,
}

impl Summary {
    /// Summarises the samples; their order does not matter. Panics on none.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Self { min: sorted[0], median, max: sorted[sorted.len() - 1] }
    }
}

/// The value below which `share` (0 to 1) of the samples lie. Panics on none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a vector of samples"
)]
pub fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * (sorted.len() - 1) as f64).ceil() as usize;
    sorted[index.min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Summary { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0]).median.to_bits(), 2.5_f64.to_bits());
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.99).to_bits(), 4.0_f64.to_bits());
    }
}
