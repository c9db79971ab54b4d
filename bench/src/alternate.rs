//! Alternating measurements: a round takes several slices of each contender in turn, and keeps each one's middle slice. A
//! disturbance of the machine strikes all alike, or one slice.

use anyhow::{Context, Result};

use crate::Summary;

/// What one contender took, for one transaction and in one second.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// CPU microseconds a transaction, of what is measured.
    pub us: f64,
    /// Transactions a second.
    pub rate: f64,
}

/// One of those that are compared.
pub struct Contender<'a> {
    name: &'static str,
    slice: Box<dyn FnMut() -> Result<Taken> + 'a>,
}

/// The rounds of all contenders.
#[derive(Debug)]
pub struct Rounds {
    names: Vec<&'static str>,
    /// By round, then by contender.
    taken: Vec<Vec<Taken>>,
}

impl<'a> Contender<'a> {
    /// `slice` does the work for about a second and says what it took.
    pub fn new(name: &'static str, slice: impl FnMut() -> Result<Taken> + 'a) -> Self {
        Self { name, slice: Box::new(slice) }
    }
}

impl Rounds {
    /// Runs one round to warm up and then those that count.
    #[expect(clippy::print_stderr, reason = "the progress of a bench")]
    pub fn run(mut contenders: Vec<Contender<'_>>, rounds: usize, slices: usize) -> Result<Self> {
        let mut taken = Vec::new();
        for round in 0..=rounds {
            let mut samples = vec![Vec::new(); contenders.len()];
            for slice in 0..slices {
                for turn in 0..contenders.len() {
                    let place = (turn + slice) % contenders.len();
                    let contender = &mut contenders[place];
                    samples[place].push((contender.slice)().with_context(|| format!("measuring {}", contender.name))?);
                }
            }
            let middles: Vec<Taken> = samples.iter().map(|samples| middle(samples)).collect();
            for (contender, taken) in contenders.iter().zip(&middles) {
                eprint!("  {} {:.2} µs {:.0}/s", contender.name, taken.us, taken.rate);
            }
            eprintln!();
            if round > 0 {
                taken.push(middles);
            }
        }
        Ok(Self { names: contenders.iter().map(|contender| contender.name).collect(), taken })
    }

    /// One value of each round.
    pub fn of(&self, name: &str, value: fn(&Taken) -> f64) -> Vec<f64> {
        let place = self.place(name);
        self.taken.iter().map(|round| value(&round[place])).collect()
    }

    /// The ratio of two contenders in each round.
    pub fn ratio(&self, name: &str, peer: &str, value: fn(&Taken) -> f64) -> Vec<f64> {
        self.of(name, value).iter().zip(self.of(peer, value)).map(|(ours, theirs)| ours / theirs).collect()
    }

    fn place(&self, name: &str) -> usize {
        let place = self.names.iter().position(|known| *known == name);
        place.unwrap_or_else(|| panic!("`{name}` took no part"))
    }
}

fn middle(samples: &[Taken]) -> Taken {
    let of = |value: fn(&Taken) -> f64| Summary::of(&samples.iter().map(value).collect::<Vec<_>>()).median;
    Taken { us: of(|taken| taken.us), rate: of(|taken| taken.rate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_the_middle_of_its_slices_and_the_first_only_warms_up() {
        let mut costs = [90.0, 91.0, 92.0, 1.0, 7.0, 2.0].into_iter();
        let first = Contender::new("first", move || Ok(Taken { us: costs.next().context("no more slices")?, rate: 8.0 }));
        let second = Contender::new("second", || Ok(Taken { us: 4.0, rate: 2.0 }));
        let rounds = Rounds::run(vec![first, second], 1, 3).unwrap();
        assert_eq!(rounds.of("first", |taken| taken.us), [2.0]);
        assert_eq!(rounds.ratio("first", "second", |taken| taken.us), [0.5]);
        assert_eq!(rounds.ratio("first", "second", |taken| taken.rate), [4.0]);
    }
}
