//! Fairness between tenants, as a CPU scheduler has it: whoever had the least weighted server time is next. Pure.
//!
//! A tenant is charged while it holds a connection, so that one that floods waits for itself.

use guardian_model::tier::WEIGHT_DEFAULT;

/// A tenant's virtual time after it had a connection for `used_us` microseconds.
pub(crate) fn charged(virtual_us: u64, used_us: u64, weight: u16) -> u64 {
    virtual_us.saturating_add(used_us.saturating_mul(u64::from(WEIGHT_DEFAULT)) / u64::from(weight.max(1)))
}

/// A tenant's virtual time when it begins to want connections again: it has no claim to what it did not use. `least` is the
/// least of those at work or waiting.
pub(crate) fn joins(virtual_us: u64, least: Option<u64>) -> u64 {
    virtual_us.max(least.unwrap_or(virtual_us))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absence_earns_nothing() {
        assert_eq!(joins(5, Some(100)), 100);
        assert_eq!(joins(500, Some(100)), 500);
        assert_eq!(joins(5, None), 5);
    }

    proptest! {
        /// One connection, tenants that always want it: in the long run each gets time by its weight.
        #[test]
        fn time_is_divided_by_weight(
            weights in proptest::collection::vec(1_u16..=1000, 2..6),
            statements in proptest::collection::vec(1_u64..20_000, 6),
        ) {
            let mut virtual_us = vec![0_u64; weights.len()];
            let mut used = vec![0_u64; weights.len()];
            let longest: u64 = *statements.iter().max().unwrap_or(&1);
            for _ in 0..20_000 {
                let next = (0..weights.len()).min_by_key(|at| (virtual_us[*at], *at)).unwrap_or(0);
                used[next] += statements[next];
                virtual_us[next] = charged(virtual_us[next], statements[next], weights[next]);
            }
            // No two differ by more than the virtual time of one of their statements.
            let spread = virtual_us.iter().max().unwrap_or(&0) - virtual_us.iter().min().unwrap_or(&0);
            let lightest = u64::from(*weights.iter().min().unwrap_or(&1));
            prop_assert!(spread <= longest * u64::from(WEIGHT_DEFAULT) / lightest + 1);
        }
    }
}
