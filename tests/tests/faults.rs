//! Seeded faults in the in-memory mesh, short form; `--bin schedules` runs ten thousand schedules.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use hermesh_tests::faults::{
    fault::Kind,
    history::{History, Violation},
    plan::Sabotage,
    run::run,
};

const SEEDS: u64 = 300;

/// Runs the schedules of all seeds, which are independent of each other, until `done` returns true.
fn run_all(sabotage: Sabotage, done: impl FnMut(u64, History) -> bool + Send) {
    let (next, done) = (AtomicU64::new(0), Mutex::new(done));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let (_, history) = run(seed, sabotage);
            if done.lock().unwrap_or_else(PoisonError::into_inner)(seed, history) {
                next.store(SEEDS, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
}

fn is_caught(sabotage: Sabotage, invariant: &str) {
    let (mut caught, mut others) = (false, Vec::<Violation>::new());
    run_all(sabotage, |_, history| {
        caught |= history.violations.iter().any(|found| found.invariant == invariant);
        others.extend(history.violations);
        caught
    });
    assert!(caught, "{sabotage:?} does not break {invariant:?}, but {others:?}");
}

#[test]
fn every_schedule_keeps_the_invariants() {
    let (mut total, mut broken) = (History::default(), Vec::new());
    run_all(Sabotage::None, |seed, history| {
        for (kind, times) in history.faults {
            *total.faults.entry(kind).or_default() += times;
        }
        total.crashes += history.crashes;
        total.redeliveries += history.redeliveries;
        if !history.violations.is_empty() {
            broken.push((seed, history.violations));
        }
        false
    });
    assert!(broken.is_empty(), "{broken:#?}");
    // Check that every kind of fault occurred; otherwise the test would prove little.
    for kind in Kind::ALL {
        assert!(total.faults.contains_key(&kind), "no {kind:?} in {:?}", total.faults);
    }
    assert!(total.crashes > 0 && total.redeliveries > 0);
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
    is_caught(Sabotage::SharedSubjects, "an outcome never changes");
}

#[test]
fn lost_tasks_are_caught() {
    is_caught(Sabotage::Lost("hermesh.task."), "an outcome is right");
}

#[test]
fn lost_outcomes_are_caught() {
    is_caught(Sabotage::Lost("hermesh.answer."), "every job ends");
    is_caught(Sabotage::Lost("hermesh.answer."), "nothing is left behind");
}

#[test]
fn who_does_not_look_is_caught() {
    is_caught(Sabotage::Blind("hermesh.partial."), "a stored shard is not evaluated again");
    is_caught(Sabotage::Blind("hermesh.answer."), "an ended job is not computed");
    is_caught(Sabotage::Blind("hermesh.answer."), "who waits gets the outcome");
    is_caught(Sabotage::Blind("hermesh.revoked."), "a revoked key is not used");
    is_caught(Sabotage::Blind("hermesh.joined."), "a stored shard is not evaluated again");
    is_caught(Sabotage::Blind("hermesh.cancelled."), "an outcome is right");
}
