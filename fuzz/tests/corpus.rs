//! The bounded run: every corpus file, and mutations of each, through its target.

use std::{fs, path::Path};

use proptest::prelude::Rng;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const MUTATIONS_A_FILE: usize = 2000;

fn mutated(rng: &mut TestRng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.next_u32() % 4 {
        let at = rng.next_u32() as usize % (bytes.len() + 1);
        match rng.next_u32() % 4 {
            0 => bytes.insert(at, (rng.next_u32() & 0xff) as u8),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] ^= 1 << (rng.next_u32() % 8),
            _ => {
                let from = rng.next_u32() as usize % (other.len() + 1);
                bytes.splice(at..at, other[from..].iter().take(24).copied());
            }
        }
    }
    bytes
}

#[test]
fn the_corpus_and_its_mutations_hold() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for (name, target) in guardian_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "no corpus for {name}");
        for (index, seed) in seeds.iter().enumerate() {
            target(seed);
            for _ in 0..MUTATIONS_A_FILE {
                target(&mutated(runner.rng(), seed, &seeds[(index + 1) % seeds.len()]));
            }
        }
    }
}
