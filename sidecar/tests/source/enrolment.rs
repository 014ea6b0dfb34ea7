//! An issuer in this process, which may be unreachable; `issuer.rs` tests it over HTTPS.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hermesh_mesh::{
    Clock, TokioClock, UnixMillis,
    issuer::{
        Authority, Issuer, KeyAndRequest, Lifetime, Proof, Request, Tokens,
        files::{self, Existing},
    },
};
use hermesh_sidecar::{
    issuer::{Answer, Ask, CertificateAuthority, ClientError},
    source::{Enrolment, Handle, start_enrolment},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::common::*;

/// An issuer, its clients, and their requests.
struct World {
    place: TempDir,
    clock: Arc<TokioClock>,
    issuer: Issuer,
    away: AtomicBool,
    /// Certifies another key than the one in the request.
    confused: AtomicBool,
    asked: Mutex<Vec<(UnixMillis, bool)>>,
}

impl World {
    fn new() -> Arc<Self> {
        let (place, root) = (TempDir::new().expect("a directory"), root());
        let authority = Authority::from_pem(root.certificate(), &root.key()).expect("reads");
        let tokens = Tokens::open(&place.path().join("tokens")).expect("opens");
        let roots = root.certificate().as_bytes();
        let issuer = Issuer::new(authority, roots, tokens, Lifetime::default(), |_| false);
        let world = Self {
            clock: clock(),
            issuer: issuer.expect("an issuer"),
            away: AtomicBool::new(false),
            confused: AtomicBool::new(false),
            asked: Mutex::default(),
            place,
        };
        files::write(&world.path("roots.pem"), roots, Existing::Keep).expect("writes");
        Arc::new(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn make_token(&self) {
        let tokens = Tokens::open(&self.path("tokens")).expect("opens");
        let token = tokens.create(&id("service/evaluation"), &[], self.clock.now(), HOUR);
        let text = format!("{}\n", *token.expect("a token").reveal());
        let path = self.path("token");
        files::write_secret(&path, text.as_bytes(), Existing::Replace).expect("writes");
    }

    fn enrolment(&self) -> Enrolment {
        Enrolment {
            address: "nowhere".to_owned(),
            roots: self.path("roots.pem"),
            identity: id("service/evaluation"),
            token: Some(self.path("token")),
            directory: self.path("identity"),
        }
    }

    fn stored(&self) -> PathBuf {
        self.path("identity/identity.pem")
    }

    async fn start(self: &Arc<Self>) -> Handle {
        let start = start_enrolment(self.enrolment(), Way(self.clone()), self.clock.clone());
        timeout(HOUR, start).await.expect("starts")
    }

    fn asked(&self) -> Vec<(UnixMillis, bool)> {
        self.asked.lock().expect("locks").clone()
    }
}

struct Way(Arc<World>);

impl CertificateAuthority for Way {
    async fn certificate(&self, ask: Ask) -> Result<Answer, ClientError> {
        let world = &self.0;
        let now = world.clock.now();
        world.asked.lock().expect("locks").push((now, ask.credentials.is_some()));
        let address = "nowhere".to_owned();
        if world.away.load(Ordering::SeqCst) {
            return Err(ClientError::Slow(address));
        }
        let proof = match (ask.token, ask.credentials) {
            (Some(token), _) => Proof::Token(token),
            (None, Some(credentials)) => Proof::Certificate(credentials.chain().clone()),
            (None, None) => panic!("nothing to show"),
        };
        let other = KeyAndRequest::generate(&id("service/evaluation")).expect("a request");
        let confused = world.confused.load(Ordering::SeqCst);
        let csr = if confused { &other.request } else { &ask.csr };
        let issued = world.issuer.issue(Request { csr: csr.as_bytes(), proof }, now);
        let issued = issued.map_err(|error| ClientError::Refused {
            address,
            status: 403,
            told: error.to_string(),
        })?;
        Ok(Answer {
            certificate: files::to_pem(issued.chain.certificates()),
            roots: world.issuer.roots(),
            expires: issued.peer.not_after.0,
        })
    }
}

/// The middle of the life of a certificate issued at `from`, which begins a minute before.
fn half(from: UnixMillis) -> UnixMillis {
    from.plus((HOUR - MINUTE) / 2)
}

#[tokio::test(start_paused = true)]
async fn a_token_gets_the_first_certificate_which_then_serves_restarts() {
    let world = World::new();
    world.make_token();
    let first = world.start().await.current();
    assert_eq!(*first.id(), id("service/evaluation"));
    let mode = fs::metadata(world.stored()).expect("is stored").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(world.path("token")).expect("removes");
    world.away.store(true, Ordering::SeqCst);
    sleep(10 * MINUTE).await;
    let handle = world.start().await;
    assert!(same(&handle.current(), &first));
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_by_itself_at_half_of_its_life() {
    let world = World::new();
    world.make_token();
    let handle = world.start().await;
    let first = handle.current();
    let second = next(&handle, &first).await;
    assert_eq!(world.clock.now(), half(NOW));
    let third = next(&handle, &second).await;
    let dues = [(NOW, false), (half(NOW), true), (half(half(NOW)), true)];
    assert_eq!(world.asked(), dues);
    assert_eq!(third.expires(), half(half(NOW)).plus(HOUR));
    assert_ne!(third.credentials.peer().fingerprint, second.credentials.peer().fingerprint);
    drop(handle);
    world.away.store(true, Ordering::SeqCst);
    assert!(same(&world.start().await.current(), &third), "the newest is stored");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_at_renewal_is_asked_again() {
    let world = World::new();
    world.make_token();
    let handle = world.start().await;
    let first = handle.current();
    world.away.store(true, Ordering::SeqCst);
    sleep(45 * MINUTE).await;
    assert!(same(&handle.current(), &first));
    let health = handle.health();
    assert!(health.error.expect("an error").contains("did not answer"));
    let times: Vec<u64> = world.asked().iter().map(|(at, _)| at.0).collect();
    let waits: Vec<u64> = times[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] <= 1000, "{waits:?}");
    // Waits of 30 to 60 s in the remaining 15 minutes.
    assert!((15..45).contains(&waits.len()), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 60_001), "{waits:?}");
    assert!(waits[8..].iter().all(|wait| *wait >= 30_000), "{waits:?}");
    world.away.store(false, Ordering::SeqCst);
    let second = next(&handle, &first).await;
    assert!(second.expires() > first.expires());
    sleep(SECOND).await;
    assert_eq!(handle.health().error, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_let_the_certificate_expire_needs_a_token() {
    let world = World::new();
    world.make_token();
    let handle = world.start().await;
    let first = handle.current();
    world.away.store(true, Ordering::SeqCst);
    sleep(2 * HOUR).await;
    world.away.store(false, Ordering::SeqCst);
    sleep(2 * MINUTE).await;
    let error = handle.health().error.expect("an error");
    assert!(error.contains("used already"), "{error}");
    assert!(same(&handle.current(), &first));
    world.make_token();
    assert!(next(&handle, &first).await.expires() > world.clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_source_waits_for_its_token() {
    let world = World::new();
    let start = start_enrolment(world.enrolment(), Way(world.clone()), world.clock.clone());
    let mut start = std::pin::pin!(start);
    timeout(MINUTE, &mut start).await.expect_err("there is no token");
    assert_eq!(world.asked(), [], "there is nothing to ask with");
    world.make_token();
    timeout(HOUR, start).await.expect("starts");
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_counts_only_if_it_is_whole_and_ours() {
    let world = World::new();
    world.make_token();
    drop(world.start().await);
    let good = fs::read_to_string(world.stored()).expect("reads");
    let other = pair(world.issuer.authority(), "tenant/acme", NOW, HOUR);
    let roots = world.issuer.roots();
    let others = format!("{}{}# The roots:\n{roots}", other.key, other.chain);
    let swapped =
        good.replace(good.split("-----BEGIN CERTIFICATE").next().expect("a key"), &other.key);
    for bad in ["", &good[..good.len() / 2], &good.replace("# The", "#"), &others, &swapped] {
        files::write_secret(&world.stored(), bad.as_bytes(), Existing::Replace).expect("writes");
        world.make_token();
        let before = world.asked().len();
        let handle = world.start().await;
        assert_eq!(*handle.current().id(), id("service/evaluation"));
        assert_eq!(world.asked().len(), before + 1, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_question_is_neither_taken_nor_stored() {
    let world = World::new();
    world.make_token();
    let handle = world.start().await;
    let (first, stored) = (handle.current(), fs::read(world.stored()).expect("reads"));
    world.confused.store(true, Ordering::SeqCst);
    let error = failure(&handle).await;
    assert!(error.contains("another certificate's key"), "{error}");
    assert!(same(&handle.current(), &first));
    assert_eq!(fs::read(world.stored()).expect("reads"), stored);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_used_up_where_nothing_can_be_stored() {
    let world = World::new();
    world.make_token();
    fs::write(world.path("identity"), "a file where the directory should be").expect("writes");
    let start = start_enrolment(world.enrolment(), Way(world.clone()), world.clock.clone());
    let mut start = std::pin::pin!(start);
    timeout(MINUTE, &mut start).await.expect_err("there is no place");
    assert_eq!(world.asked(), []);
    fs::remove_file(world.path("identity")).expect("removes");
    timeout(HOUR, start).await.expect("starts");
}
