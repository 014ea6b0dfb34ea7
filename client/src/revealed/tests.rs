use std::fs;

use super::*;

fn key(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn scores(scores: u64, bits: f64) -> Count {
    Count { scores, labels: 0, bits }
}

#[test]
fn counts_are_kept_for_each_key() {
    let directory = tempfile::tempdir().unwrap();
    let revealed = Revealed::new(directory.path());
    assert_eq!(revealed.of(key(1)).unwrap(), Count::default());
    revealed.add(key(1), scores(10, 7.5), 100.0).unwrap();
    let labels = Count { scores: 0, labels: 3, bits: 0.25 };
    let both = revealed.add(key(1), labels, 100.0).unwrap();
    assert_eq!(both, Count { scores: 10, labels: 3, bits: 7.75 });
    // Another command, later.
    let again = Revealed::new(directory.path());
    assert_eq!(again.of(key(1)).unwrap(), both);
    assert_eq!(again.of(key(2)).unwrap(), Count::default());
}

#[test]
fn what_goes_past_the_bound_is_refused_and_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let revealed = Revealed::new(directory.path());
    revealed.add(key(1), scores(99, 99.0), 100.0).unwrap();
    let refused = revealed.add(key(1), scores(2, 2.0), 100.0);
    assert!(matches!(refused, Err(Error::KeyUsedUp { .. })), "{refused:?}");
    assert_eq!(revealed.of(key(1)).unwrap(), scores(99, 99.0));
    // An invalid cost neither passes nor spoils the file.
    for bits in [f64::NAN, f64::INFINITY, -1.0] {
        let refused = revealed.add(key(1), scores(1, bits), 100.0);
        assert!(matches!(refused, Err(Error::KeyUsedUp { .. })), "{refused:?}");
    }
    revealed.add(key(1), scores(1, 1.0), 100.0).unwrap();
    // A new key starts at zero.
    revealed.add(key(2), scores(2, 2.0), 100.0).unwrap();
}

#[test]
fn commands_at_the_same_time_are_all_counted() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let revealed = Revealed::new(directory.path());
                for _ in 0..5 {
                    revealed.add(key(1), scores(1, 1.0), 100.0).unwrap();
                }
            });
        }
    });
    assert_eq!(Revealed::new(directory.path()).of(key(1)).unwrap(), scores(40, 40.0));
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let revealed = Revealed::new(directory.path());
    let entry = |count: &str| format!(r#"{{"version": 1, "keys": {{"{}": {count}}}}}"#, key(1));
    let good = entry(r#"{"scores": 1, "labels": 2, "bits": 0.5}"#);
    fs::write(directory.path().join("revealed.json"), good).unwrap();
    assert_eq!(revealed.of(key(1)).unwrap().labels, 2);
    for bad in [
        "",
        "{}",
        r#"{"version": 2, "keys": {}}"#,
        r#"{"version": 1, "keys": {"a key": {"scores": 1, "labels": 2, "bits": 0.5}}}"#,
        &entry(r#"{"scores": 1, "labels": 2, "bits": -0.5}"#),
        &entry(r#"{"scores": 1, "labels": 2, "bits": 1e999}"#),
        &entry(r#"{"scores": -1, "labels": 2, "bits": 0.5}"#),
        &entry(r#"{"scores": 1, "labels": 2}"#),
    ] {
        fs::write(directory.path().join("revealed.json"), bad).unwrap();
        let refused = revealed.add(key(1), scores(1, 0.1), 100.0);
        assert!(refused.is_err(), "{bad}");
        // The file stays unchanged, so that the owner can inspect it.
        let kept = fs::read_to_string(directory.path().join("revealed.json")).unwrap();
        assert_eq!(kept, bad);
    }
}
