//! Certificates in files that another program keeps up to date.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use hermesh_mesh::issuer::{Authority, files};
use hermesh_sidecar::source::{Files, Handle, Source};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::common::*;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        let write = if name == "key.pem" { files::write_secret } else { files::write };
        write(&path, content.as_bytes(), files::Existing::Replace).expect("writes");
    }

    fn put(&self, pair: &Pair, root: &Authority) {
        self.write("key.pem", &pair.key);
        self.write("certificate.pem", &pair.chain);
        self.write("roots.pem", root.certificate());
    }

    fn source(&self) -> Source {
        Source::Files(Files {
            certificate: self.path("certificate.pem"),
            key: self.path("key.pem"),
            roots: self.path("roots.pem"),
            every: Files::EVERY,
        })
    }

    async fn start(&self) -> Handle {
        timeout(MINUTE, self.source().start(clock())).await.expect("starts")
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_set_takes_the_place_of_the_old_one() {
    let (place, root) = (Place::new(), root());
    place.put(&pair(&root, "service/evaluation", NOW, HOUR), &root);
    let handle = place.start().await;
    let first = handle.current();
    assert_eq!(*first.id(), id("service/evaluation"));
    place.put(&pair(&root, "service/evaluation", NOW, 2 * HOUR), &root);
    let second = next(&handle, &first).await;
    assert_eq!(second.expires(), NOW.plus(2 * HOUR));
    assert_eq!(handle.health().expires, second.expires());
    sleep(MINUTE).await;
    assert_eq!(handle.health().taken, 2, "what stays the same is taken once");
}

#[tokio::test(start_paused = true)]
async fn an_orchestrator_swaps_a_link_and_nothing_else_shows() {
    let (place, root) = (Place::new(), root());
    for (directory, lifetime) in [("..1", HOUR), ("..2", 2 * HOUR)] {
        fs::create_dir(place.path(directory)).expect("makes");
        let pair = pair(&root, "service/evaluation", NOW, lifetime);
        for (name, content) in [
            ("key.pem", &*pair.key),
            ("certificate.pem", &*pair.chain),
            ("roots.pem", root.certificate()),
        ] {
            place.write(&format!("{directory}/{name}"), content);
        }
        let key = place.path(&format!("{directory}/key.pem"));
        fs::set_permissions(key, fs::Permissions::from_mode(0o440)).expect("sets");
    }
    symlink("..1", place.path("..data")).expect("links");
    for name in ["key.pem", "certificate.pem", "roots.pem"] {
        symlink(format!("..data/{name}"), place.path(name)).expect("links");
    }
    let handle = place.start().await;
    let first = handle.current();
    symlink("..2", place.path("..new")).expect("links");
    fs::rename(place.path("..new"), place.path("..data")).expect("swaps");
    assert_eq!(next(&handle, &first).await.expires(), NOW.plus(2 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn half_a_set_is_not_taken() {
    let (place, root) = (Place::new(), root());
    let old = pair(&root, "service/evaluation", NOW, HOUR);
    place.put(&old, &root);
    let handle = place.start().await;
    let first = handle.current();
    let new = pair(&root, "service/evaluation", NOW, 2 * HOUR);
    // The certificate appears before its key; then half of the key; then all of it.
    place.write("certificate.pem", &new.chain);
    let error = failure(&handle).await;
    assert!(error.contains("another certificate's key"), "{error}");
    place.write("key.pem", &new.key[..new.key.len() / 2]);
    sleep(2 * SECOND).await;
    let error = failure(&handle).await;
    assert!(error.contains("key"), "{error}");
    fs::remove_file(place.path("roots.pem")).expect("removes");
    sleep(2 * SECOND).await;
    let error = failure(&handle).await;
    assert!(error.contains("roots.pem"), "{error}");
    assert!(same(&handle.current(), &first));
    place.put(&new, &root);
    assert_eq!(next(&handle, &first).await.expires(), NOW.plus(2 * HOUR));
    sleep(SECOND).await;
    assert_eq!(handle.health().error, None);
}

#[tokio::test(start_paused = true)]
async fn an_old_set_that_is_put_back_ends_the_error() {
    let (place, root) = (Place::new(), root());
    let old = pair(&root, "service/evaluation", NOW, HOUR);
    place.put(&old, &root);
    let handle = place.start().await;
    place.write("key.pem", "nothing");
    failure(&handle).await;
    place.put(&old, &root);
    sleep(2 * SECOND).await;
    let health = handle.health();
    assert_eq!((health.error, health.taken), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_or_not_valid_is_not_taken() {
    let (place, root) = (Place::new(), root());
    let old = pair(&root, "service/evaluation", NOW, HOUR);
    place.put(&old, &root);
    let handle = place.start().await;
    let first = handle.current();
    let past = hermesh_mesh::UnixMillis(NOW.0 - 7_200_000);
    let stranger = super::common::root();
    for (what, pair, told) in [
        ("expired", pair(&root, "service/evaluation", past, HOUR), "expired"),
        ("not valid yet", pair(&root, "service/evaluation", NOW.plus(HOUR), HOUR), "valid from"),
        ("another's", pair(&root, "service/aggregation", NOW, HOUR), "expected spiffe://"),
        ("of another root", pair(&stranger, "service/evaluation", NOW, HOUR), "no root"),
        ("a broker's", pair(&root, "broker/nats", NOW, HOUR), "not for Clients"),
    ] {
        place.put(&pair, &root);
        let error = failure(&handle).await;
        assert!(error.contains(told), "{what}: {error}");
        assert!(same(&handle.current(), &first), "{what}");
        place.put(&old, &root);
        sleep(2 * SECOND).await;
        assert_eq!(handle.health().error, None, "{what}");
    }
    assert_eq!(handle.health().taken, 1);
}

#[tokio::test(start_paused = true)]
async fn files_that_are_too_long_or_that_others_read_are_not_taken() {
    let (place, root) = (Place::new(), root());
    let old = pair(&root, "service/evaluation", NOW, HOUR);
    place.put(&old, &root);
    let handle = place.start().await;
    let long = format!("{}{}", old.chain, "#".repeat(files::MAX_BYTES));
    place.write("certificate.pem", &long);
    let error = failure(&handle).await;
    assert!(error.contains("64 KiB"), "{error}");
    place.put(&old, &root);
    sleep(2 * SECOND).await;
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(place.path("key.pem"), mode).expect("sets");
    let error = failure(&handle).await;
    assert!(error.contains("chmod 600"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_valid_certificate_follows_one_that_expired() {
    let (place, root) = (Place::new(), root());
    place.put(&pair(&root, "service/evaluation", NOW, HOUR), &root);
    let handle = place.start().await;
    let first = handle.current();
    sleep(2 * HOUR).await;
    assert!(same(&handle.current(), &first));
    assert_eq!(handle.health().expires, NOW.plus(HOUR));
    place.put(&pair(&root, "service/evaluation", NOW.plus(2 * HOUR), HOUR), &root);
    assert_eq!(next(&handle, &first).await.expires(), NOW.plus(3 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn new_roots_are_taken_too() {
    let (place, root, other) = (Place::new(), root(), super::common::root());
    place.put(&pair(&root, "service/evaluation", NOW, HOUR), &root);
    let handle = place.start().await;
    let mut watch = handle.watch();
    place.write("roots.pem", &format!("{}{}", root.certificate(), other.certificate()));
    let both = timeout(MINUTE, watch.wait_for(|identity| identity.trust.roots().len() == 2)).await;
    both.expect("comes").expect("the source lives");
}

#[tokio::test(start_paused = true)]
async fn a_source_waits_for_its_first_files() {
    let (place, root) = (Place::new(), root());
    let mut start = std::pin::pin!(place.source().start(clock()));
    timeout(MINUTE, &mut start).await.expect_err("there is nothing");
    place.put(&pair(&root, "service/evaluation", NOW, HOUR), &root);
    let handle = timeout(MINUTE, start).await.expect("starts");
    assert_eq!(*handle.current().id(), id("service/evaluation"));
}

#[tokio::test(start_paused = true)]
async fn a_source_ends_with_its_last_handle_and_prints_no_key() {
    let (place, root) = (Place::new(), root());
    let pair = pair(&root, "service/evaluation", NOW, HOUR);
    place.put(&pair, &root);
    let handle = place.start().await;
    let printed = format!("{handle:?} {:?}", handle.current());
    for line in pair.key.lines() {
        assert!(!printed.contains(line), "{printed}");
    }
    let mut watch = handle.watch();
    drop(handle);
    watch.changed().await.expect_err("the sender is still there");
}
