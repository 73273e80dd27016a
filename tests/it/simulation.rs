//! The orchestrator against a modelled world: one seed is one run, with virtual time.
//!
//! Real are `daemon::step`, `lifecycle::decide`, `daemon::resume` and the policies; modelled are the disk, the database with its group
//! commit, tmux, the shims and their commands, the machine, and who asks. The daemon is killed between any two of its actions. A seed
//! also chooses what may go wrong at all. What is invisible to `step`, the bytes of terminals, is not modelled.
//!
//! `KAS_SIM_SEED=n` runs one seed and prints its trace; `KAS_SIM_SEEDS=n` runs so many; `KAS_FAULTS=long` runs 20 000.

mod callers;
mod check;
mod choices;
mod daemon;
mod jobs;
mod perform;
mod plant;
mod run;
mod shrink;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use choices::Choices;
use plant::Plant;
use run::{Outcome, run};

/// Seeds that CI runs.
const SEEDS: u64 = 6_000;
const LONG_SEEDS: u64 = 20_000;
const THREADS: u64 = 2;

/// Seeds that once found something, and what.
const FOUND: [(&str, u64); 8] = [
    ("a project stayed although its last launch could not be recorded; a directory outlived its record", 64),
    ("a stop was answered while others of the tree lived", 239),
    ("the window of a run that never started stayed for ever", 322),
    ("a run given up by a restart forgot who wanted it stopped", 402),
    ("after a power loss a run was said never to have run", 545),
    ("a stop was answered while a run given up by a restart was still ending", 88_313),
    ("a run that was to end while its shim stood still at its gate never ended", 117_684),
    ("the window of a launch that tmux failed for stayed when the daemon died before it closed it", 161_815),
];

fn seed(seed: u64, plant: Plant) -> Outcome {
    run(Choices::seeded(seed), plant, false)
}

/// The first of the seeds that fails, if one does.
fn first_wrong(seeds: std::ops::Range<u64>, plant: Plant) -> Option<u64> {
    let (next, wrong) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds.end || at >= wrong.load(Ordering::Relaxed) {
                        return;
                    }
                    if seed(at, plant).wrong.is_some() {
                        wrong.fetch_min(at, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner();
    (wrong != u64::MAX).then_some(wrong)
}

/// The shortest list of choices found that fails as this seed does, and what it shows.
fn smallest(at: u64, plant: Plant) -> (Vec<u32>, Outcome) {
    let made = seed(at, plant).made;
    let fails = |choices: &[u32]| run(Choices::replayed(choices.to_vec()), plant, false).wrong.is_some();
    let small = shrink::shrink(made, fails);
    let shown = run(Choices::replayed(small.clone()), plant, true);
    (small, shown)
}

fn tell(at: u64) -> String {
    let first = seed(at, Plant::Nothing).wrong.unwrap_or_default();
    let (small, shown) = smallest(at, Plant::Nothing);
    format!(
        "seed {at}: {first}\nreplay: KAS_SIM_SEED={at} cargo test --test it simulation::\n\
         a shorter run of {} choices {small:?}: {}\n{}",
        small.len(),
        shown.wrong.unwrap_or_default(),
        shown.trace.join("\n")
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(at) = number("KAS_SIM_SEED") {
        let shown = run(Choices::seeded(at), Plant::Nothing, true);
        println!("{}", shown.trace.join("\n"));
        assert!(shown.wrong.is_none(), "{}", tell(at));
        return;
    }
    let long = std::env::var_os("KAS_FAULTS").is_some_and(|value| value == "long");
    let count = number("KAS_SIM_SEEDS").unwrap_or(if long { LONG_SEEDS } else { SEEDS });
    let from = number("KAS_SIM_FROM").unwrap_or(0);
    let began = Instant::now();
    let wrong = first_wrong(from..from + count, Plant::Nothing);
    let took = began.elapsed().as_secs_f64();
    println!("{count} seeds in {took:.1} s, {:.0} a second", count as f64 / took);
    assert!(wrong.is_none(), "{}", wrong.map(tell).unwrap_or_default());
}

#[test]
fn what_was_found_once_stays_found() {
    for (name, at) in FOUND {
        assert_eq!(seed(at, Plant::Nothing).wrong, None, "{name}: {}", tell(at));
    }
}

#[test]
fn every_planted_bug_is_found_soon_and_shrinks_to_a_short_trace() {
    for plant in Plant::ALL {
        let found = first_wrong(0..400, plant);
        let at = found.unwrap_or_else(|| panic!("{plant:?} is not found"));
        let (small, shown) = smallest(at, plant);
        println!("{plant:?}: seed {at}, {} choices: {}", small.len(), shown.wrong.as_deref().unwrap_or("?"));
        assert!(shown.wrong.is_some() && small.len() <= 80, "{plant:?}: {small:?}");
    }
}
