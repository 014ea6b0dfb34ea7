//! Reads the events that the processes wrote, and checks them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

/// Counts over a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Shards whose result was stored.
    pub shards: usize,
    /// Results of shards that were computed, stored or not.
    pub evaluations: usize,
    /// Shards computed more than once because the first attempt died, or was overtaken, before its result
    /// was stored.
    pub repeated_before_stored: usize,
    /// Deliveries of shards whose result was known to be stored: opportunities for `recomputed`.
    pub delivered_again: usize,
    /// Shards started again, and computed, after their result was known to be stored. Must be none.
    pub recomputed: usize,
    /// Jobs whose outcome was stored more than once. Must be none.
    pub answered_twice: usize,
}

/// Reads the events of all processes in `directory`.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn read(directory: &Path) -> io::Result<Counts> {
    let mut history = String::new();
    for entry in fs::read_dir(directory)? {
        history.push_str(&fs::read_to_string(entry?.path())?);
    }
    Ok(count(&history))
}

/// Counts the events. A line is `what millis role.process subject`.
pub fn count(history: &str) -> Counts {
    let events: Vec<(&str, u64, &str, &str)> = history.lines().filter_map(parse).collect();
    let mut stored = HashMap::<&str, u64>::new();
    let mut answers = HashMap::<&str, usize>::new();
    for (what, at, _, subject) in &events {
        if *what == "stored" {
            if let Some(job) = subject.strip_prefix("hermesh.answer.") {
                *answers.entry(job).or_default() += 1;
            } else if let Some(shard) = subject.strip_prefix("hermesh.partial.") {
                let first = stored.entry(shard).or_insert(*at);
                *first = (*first).min(*at);
            }
        }
    }
    let mut counts = Counts {
        answered_twice: answers.values().filter(|times| **times > 1).count(),
        ..Counts::default()
    };
    // When each process last started each shard, or last checked whether it is done. Removed once the
    // process has computed it, because what it publishes after that is the same result. The lines of one
    // process are in order.
    let mut taken = HashMap::<(&str, &str), u64>::new();
    let mut evaluated = HashSet::new();
    for (what, at, who, subject) in &events {
        let Some(shard) = who.starts_with("evaluation").then(|| shard_of(subject)).flatten() else {
            continue;
        };
        let stored_before = |moment: u64| stored.get(shard).is_some_and(|stored| *stored < moment);
        match *what {
            "pulled" | "adopted" | "looked" => {
                taken.insert((who, shard), *at);
                counts.delivered_again += usize::from(*what == "pulled" && stored_before(*at));
            }
            "publishing" => {
                let Some(taken) = taken.remove(&(*who, shard)) else { continue };
                counts.evaluations += 1;
                let again = !evaluated.insert(shard);
                if stored_before(taken) {
                    counts.recomputed += 1;
                } else if again {
                    counts.repeated_before_stored += 1;
                }
            }
            _ => {}
        }
    }
    counts.shards = evaluated.iter().filter(|shard| stored.contains_key(*shard)).count();
    counts
}

fn parse(line: &str) -> Option<(&str, u64, &str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.parse().ok()?, words.next()?, words.next()?))
}

/// `hermesh.task.{lane}.{shard}`, `hermesh.partial.{shard}` → `{shard}`.
fn shard_of(subject: &str) -> Option<&str> {
    match subject.strip_prefix("hermesh.task.") {
        Some(task) => task.split_once('.').map(|(_, shard)| shard),
        None => subject.strip_prefix("hermesh.partial."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dies_before_it_is_stored_may_be_repeated() {
        let counts = count(
            "pulled 1 evaluation.7 hermesh.task.normal.acme.j.0.0\n\
             looked 1 evaluation.7 hermesh.partial.acme.j.0.0\n\
             publishing 2 evaluation.7 hermesh.partial.acme.j.0.0\n\
             pulled 2 evaluation.8 hermesh.task.normal.acme.j.0.0\n\
             stored 3 evaluation.7 hermesh.partial.acme.j.0.0\n\
             publishing 4 evaluation.8 hermesh.partial.acme.j.0.0\n\
             publishing 5 evaluation.8 hermesh.partial.acme.j.0.0\n\
             duplicate 5 evaluation.8 hermesh.partial.acme.j.0.0\n\
             pulled 6 evaluation.7 hermesh.task.normal.acme.j.0.0\n\
             looked 6 evaluation.7 hermesh.partial.acme.j.0.0\n\
             stored 6 aggregation.9 hermesh.answer.acme.j\n",
        );
        let expected = Counts {
            shards: 1,
            evaluations: 2,
            repeated_before_stored: 1,
            delivered_again: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn counts_what_must_not_be() {
        let counts = count(
            "stored 3 evaluation.7 hermesh.partial.acme.j.0.0\n\
             pulled 4 evaluation.8 hermesh.task.bulk.acme.j.0.0\n\
             publishing 5 evaluation.8 hermesh.partial.acme.j.0.0\n\
             stored 6 aggregation.9 hermesh.answer.acme.j\n\
             stored 7 aggregation.9 hermesh.answer.acme.j\n",
        );
        assert_eq!((counts.delivered_again, counts.recomputed, counts.answered_twice), (1, 1, 1));
    }

    #[test]
    fn who_looks_again_and_computes_all_the_same_is_counted() {
        let counts = count(
            "pulled 1 evaluation.8 hermesh.task.bulk.acme.j.0.0\n\
             looked 2 evaluation.8 hermesh.partial.acme.j.0.0\n\
             stored 3 evaluation.7 hermesh.partial.acme.j.0.0\n\
             looked 4 evaluation.8 hermesh.partial.acme.j.0.0\n\
             publishing 5 evaluation.8 hermesh.partial.acme.j.0.0\n",
        );
        assert_eq!((counts.delivered_again, counts.recomputed), (0, 1));
    }
}
