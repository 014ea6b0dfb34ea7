use std::iter;

use super::*;

/// Milliseconds instead of a second.
const QUICK: u8 = 4;

fn passphrase(text: &str) -> Passphrase {
    text.to_owned().into()
}

fn quick(secret: &[u8]) -> Vec<u8> {
    seal_with(QUICK, secret, &passphrase("right")).unwrap()
}

/// The error in the file.
fn inner(error: Error) -> Error {
    match error {
        Error::File { source, .. } => *source,
        other => other,
    }
}

#[test]
fn opens_what_it_sealed() {
    for secret in [&b""[..], b"secret", &vec![7; 200_000]] {
        let sealed = quick(secret);
        assert!(sealed.len() <= secret.len() + secret.len() / 4096 + 4096);
        assert_eq!(*open(&sealed, &passphrase("right")).unwrap(), secret);
    }
}

#[test]
fn sealing_twice_shares_nothing() {
    let (first, second) = (quick(b"secret"), quick(b"secret"));
    assert_ne!(first, second);
    assert!(!first.windows(6).any(|window| window == b"secret"));
}

/// New files have the work factor for users, and the reader accepts it.
#[test]
fn new_secrets_have_the_full_work_factor() {
    let sealed = seal(b"secret", &passphrase("right")).unwrap();
    let header = String::from_utf8_lossy(&sealed);
    let stanza = header.lines().nth(1).unwrap();
    assert_eq!(stanza.split(' ').next_back(), Some("18"), "{stanza}");
    assert_eq!(*open(&sealed, &passphrase("right")).unwrap(), b"secret");
}

#[test]
fn another_passphrase_is_refused() {
    for wrong in ["wrong", "", "right "] {
        assert!(matches!(open(&quick(b"secret"), &passphrase(wrong)), Err(Error::WrongPassphrase)));
    }
}

#[test]
fn excessive_work_is_refused_before_it_is_done() {
    let sealed = quick(b"secret");
    let needle = format!(" {QUICK}\n").into_bytes();
    let at = sealed.windows(needle.len()).position(|window| window == needle).unwrap();
    for factor in [MAX_WORK_FACTOR + 1, 63] {
        let costly =
            [&sealed[..at], format!(" {factor}\n").as_bytes(), &sealed[at + needle.len()..]]
                .concat();
        assert!(matches!(
            open(&costly, &passphrase("right")),
            Err(Error::ExcessiveWork { found, .. }) if found == factor
        ));
    }
}

#[test]
fn a_secret_for_a_key_pair_is_named() {
    let recipient = age::x25519::Identity::generate().to_public();
    let sealed = age::encrypt(&recipient, b"secret").unwrap();
    assert!(matches!(open(&sealed, &passphrase("right")), Err(Error::NotASecret { .. })));
}

#[test]
fn damaged_secrets_are_refused() {
    let sealed = quick(b"secret");
    let right = passphrase("right");
    for length in 0..sealed.len() {
        assert!(open(&sealed[..length], &right).is_err(), "{length}");
    }
    let longer: Vec<u8> = sealed.iter().copied().chain(iter::once(0)).collect();
    assert!(matches!(open(&longer, &right), Err(Error::SecretDamaged)));
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&damaged, &right).is_err(), "bit {bit}");
    }
    let last = sealed.len() - 1;
    let mut damaged = sealed;
    damaged[last] ^= 1;
    assert!(matches!(open(&damaged, &right), Err(Error::SecretDamaged)));
}

#[test]
fn sizes_are_bounded() {
    let right = passphrase("right");
    let large = vec![0; MAX_SECRET + 1];
    assert!(matches!(seal_with(QUICK, &large, &right), Err(Error::SecretTooLarge { .. })));
    let largest = quick(&large[1..]);
    assert_eq!(open(&largest, &right).unwrap().len(), MAX_SECRET);
    assert!(matches!(open(&vec![0; MAX_SEALED + 1], &right), Err(Error::SecretTooLarge { .. })));
}

#[cfg(unix)]
mod on_disk {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn stored(directory: &Path) -> PathBuf {
        let path = directory.join("client.key");
        files::write(&path, &quick(b"old"), Audience::Owner, Existing::Keep).unwrap();
        path
    }

    #[test]
    fn written_for_the_owner_only_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.key");
        write(&path, b"secret", &passphrase("right"), Existing::Keep).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(*read(&path, &passphrase("right")).unwrap(), b"secret");
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "no temporary file remains");
    }

    #[test]
    fn never_overwritten_unless_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = stored(directory.path());
        let new = quick(b"new");
        let kept = files::write(&path, &new, Audience::Owner, Existing::Keep);
        assert!(matches!(kept.map_err(inner), Err(Error::AlreadyExists)));
        assert_eq!(*read(&path, &passphrase("right")).unwrap(), b"old");

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        files::write(&path, &new, Audience::Owner, Existing::Replace).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(*read(&path, &passphrase("right")).unwrap(), b"new");
    }

    /// A symbolic link in place of the file counts as a file, even if its target does not exist.
    #[test]
    fn does_not_write_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.key");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        let kept = files::write(&path, b"x", Audience::Owner, Existing::Keep);
        assert!(matches!(kept.map_err(inner), Err(Error::AlreadyExists)));
        files::write(&path, b"x", Audience::Owner, Existing::Replace).unwrap();
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn a_secret_that_others_can_reach_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = stored(directory.path());
        for exposed in [0o640, 0o604, 0o620, 0o602, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
            let refused = read(&path, &passphrase("right")).map_err(inner);
            assert!(
                matches!(refused, Err(Error::SecretExposed { mode }) if mode == exposed),
                "{exposed:o}"
            );
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(*read(&path, &passphrase("right")).unwrap(), b"old");
    }

    #[test]
    fn a_directory_is_not_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            read(directory.path(), &passphrase("right")).map_err(inner),
            Err(Error::NotASecret { .. })
        ));
    }

    #[test]
    fn public_files_follow_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let reference = directory.path().join("reference");
        fs::write(&reference, b"x").unwrap();
        let path = directory.path().join("evaluation.key");
        files::write(&path, b"x", Audience::Public, Existing::Keep).unwrap();
        assert_eq!(mode(&path), mode(&reference));
    }
}
