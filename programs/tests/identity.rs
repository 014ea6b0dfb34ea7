//! The file of the receipt signing key.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    sync::Barrier,
};

use hermesh_programs::identity::{Error, read, read_or_create};
use tempfile::TempDir;

#[test]
fn a_key_is_made_once_and_for_its_owner_only() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    assert!(matches!(read(&path), Err(Error::File { .. })));
    let key = read_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = read_or_create(&path).unwrap();
    assert_eq!(key.to_bytes(), again.to_bytes());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
    let text = fs::read_to_string(&path).unwrap();
    let hex: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text.trim_end(), hex);
}

#[test]
fn replicas_that_start_at_the_same_time_get_the_same_key() {
    for _ in 0..20 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("key");
        let start = Barrier::new(4);
        let make = || {
            start.wait();
            read_or_create(&path).unwrap().to_bytes()
        };
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn a_key_that_others_can_read_or_change_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    read_or_create(&path).unwrap();
    for (mode, refused) in
        [(0o644, true), (0o604, true), (0o620, true), (0o640, false), (0o400, false)]
    {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        match read_or_create(&path) {
            Err(Error::Exposed { mode: told, .. }) => assert!(refused && told == mode, "{mode:o}"),
            Ok(_) => assert!(!refused, "{mode:o}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_no_key_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    let digits = "0123456789abcdef".repeat(4);
    for text in [
        "",
        "no digits",
        &digits[1..],
        &format!("{digits}0"),
        &digits.replace('0', "+"),
        &digits.repeat(99),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = read_or_create(&path).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
        assert!(text.is_empty() || !error.to_string().contains(text));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, format!("{digits}\n")).unwrap();
    assert_eq!(read(&path).unwrap().to_bytes()[..2], [0x01, 0x23]);
}
