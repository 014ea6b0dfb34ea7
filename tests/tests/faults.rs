//! Seeded faults in the in-memory mesh, the short form; `--bin schedules` runs ten thousand.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use hermesh_tests::faults::{history::Violation, plan::Sabotage, run::run};

const SEEDS: u64 = 300;

/// The seeds below `end` whose schedules break an invariant. Seeds are independent of each other.
fn broken(end: u64, sabotage: Sabotage) -> Vec<(u64, Vec<Violation>)> {
    let next = AtomicU64::new(0);
    let worker = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        seeds
            .take_while(|seed| *seed < end)
            .map(|seed| (seed, run(seed, sabotage).1.violations))
            .filter(|(_, violations)| !violations.is_empty())
            .collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().flat_map(|worker| worker.join().expect("does not panic")).collect()
    })
}

fn is_caught(sabotage: Sabotage, invariant: &str) {
    let found = broken(SEEDS, sabotage);
    let caught = found.iter().flat_map(|(_, violations)| violations);
    assert!(caught.into_iter().any(|v| v.invariant == invariant), "{sabotage:?}: {found:?}");
}

#[test]
fn every_schedule_keeps_the_invariants() {
    let broken = broken(SEEDS, Sabotage::None);
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..30 {
        let (_, first) = run(seed, Sabotage::None);
        let (_, second) = run(seed, Sabotage::None);
        let differs = first.events.iter().zip(&second.events).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.events.len(), second.events.len(), "seed {seed}");
    }
}

#[test]
fn wrong_results_are_caught() {
    is_caught(Sabotage::WrongResults, "an outcome is right");
}

#[test]
fn a_queue_that_is_not_unique_is_caught() {
    is_caught(Sabotage::SharedSubjects, "a job ends once");
}

#[test]
fn lost_tasks_are_caught() {
    is_caught(Sabotage::LostTasks, "an outcome is right");
}

#[test]
fn a_worker_that_does_not_look_is_caught() {
    is_caught(Sabotage::Forgetful, "a stored shard is not evaluated again");
}
