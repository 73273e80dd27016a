//! The fuzz targets on their corpora, on damaged corpora, and on generated input.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::abnf::Random;
use crate::fuzz_targets::{TARGETS, chunks, parse, round_trip};

/// The corpus of a target, in a fixed order.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{target} has a corpus of {}", files.len());
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn corpora_hold() {
    for (name, target) in TARGETS {
        corpus(name).iter().for_each(|input| target(input));
    }
}

/// A search without a fuzzer: `KAS_FUZZ_ROUNDS` says how long (`scripts/fuzz` sets it). A failing input is printed.
#[test]
fn damaged_corpora_hold() {
    let set = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let rounds = set("KAS_FUZZ_ROUNDS").unwrap_or(40);
    let mut random = Random::new(set("KAS_FUZZ_SEED").unwrap_or(1));
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        for _ in 0..rounds {
            for input in &corpus {
                let other = &corpus[random.below(corpus.len())];
                let mut input = spliced(&mut random, input, other);
                for _ in 0..=random.below(6) {
                    input = random.damage(&input);
                }
                let shown = input.clone();
                let held = std::panic::catch_unwind(|| target(&input));
                assert!(held.is_ok(), "{name}: {}", shown.escape_ascii());
            }
        }
    }
}

/// The head of one input and the tail of another.
fn spliced(random: &mut Random, one: &[u8], other: &[u8]) -> Vec<u8> {
    let (head, tail) = (random.below(one.len() + 1), random.below(other.len() + 1));
    [&one[..head], &other[tail..]].concat()
}

/// Pieces of protocol, so that random streams are not all nonsense.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "\n", "\r\n", "%output %1 ", "%extended-output %2 30 : ", "%begin 1 2 1\n", "%end 1 2 1\n", "%begin 1 3 0\n",
            "%error 1 3 0\n", "%pause %1\n", "%exit", "%exit server exited unexpectedly", "\\015\\012", "\\", "\x1bP1000p",
            "\x1b\\", "%layout-change @0 b25d,80x24,0,0,0 b25d,80x24,0,0,0 *\n", "%window-add @", "1", " ",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_survive_escaping(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        round_trip(&bytes);
    }

    #[test]
    fn any_stream_is_read_alike_however_it_is_cut(seed: u8, pieces in prop::collection::vec(piece(), 0..40)) {
        let stream = pieces.concat();
        parse(&stream);
        chunks(&[&[seed][..], &stream].concat());
    }
}
