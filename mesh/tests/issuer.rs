//! The issuer: which workload gets a certificate, with which name and lifetime, and which requests
//! are refused.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use hermesh_mesh::{
    UnixMillis,
    identity::{CertificateError, Chain, Credentials, Peer, Purpose, SpiffeId, Trust},
    issuer::{
        Authority, Grant, Issued, Issuer, IssuerError, KeyAndRequest, LONGEST, Lifetime,
        MAX_REQUEST, Proof, Request, SHORTEST, SKEW, Token, TokenError, Tokens, Uses, files, grant,
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tempfile::TempDir;

const DOMAIN: &str = "hermesh.local";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn before(duration: Duration) -> UnixMillis {
    UnixMillis(NOW.0 - u64::try_from(duration.as_millis()).expect("fits"))
}

fn id(workload: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, workload).expect("a name")
}

/// An issuer and the parts it was built from.
struct Desk {
    directory: TempDir,
    root: (String, String),
    revoked: Arc<Mutex<Vec<SpiffeId>>>,
    issuer: Issuer,
}

impl Desk {
    fn new() -> Self {
        Self::with(
            Authority::create(DOMAIN, before(HOUR), NOW.plus(48 * HOUR)),
            Lifetime::default(),
        )
    }

    fn with(authority: Result<Authority, CertificateError>, lifetime: Lifetime) -> Self {
        let authority = authority.expect("creates");
        let root = (authority.certificate().to_owned(), authority.key().to_string());
        let directory = TempDir::new().expect("a directory");
        let revoked = Arc::default();
        let issuer = open(directory.path(), &root, lifetime, &revoked);
        Self { directory, root, revoked, issuer }
    }

    fn restart(&mut self) {
        let lifetime = Lifetime::default();
        self.issuer = open(self.directory.path(), &self.root, lifetime, &self.revoked);
    }

    fn tokens(&self) -> Tokens {
        Tokens::open(&self.directory.path().join("tokens")).expect("opens")
    }

    fn token(&self, workload: &str) -> Token {
        self.tokens().create(&id(workload), &[], NOW, 10 * MINUTE).expect("a token")
    }

    fn join(&self, token: &Token, csr: &str, now: UnixMillis) -> Result<Issued, IssuerError> {
        let proof = Proof::Token(token.reveal().parse().expect("is one"));
        self.issuer.issue(Request { csr: csr.as_bytes(), proof }, now)
    }

    fn renew(&self, chain: &Chain, csr: &str, now: UnixMillis) -> Result<Issued, IssuerError> {
        let proof = Proof::Certificate(chain.clone());
        self.issuer.issue(Request { csr: csr.as_bytes(), proof }, now)
    }

    fn verify(&self, chain: &Chain, now: UnixMillis) -> Result<Peer, CertificateError> {
        let trust = Trust::from_pem(DOMAIN, self.root.0.as_bytes()).expect("roots");
        trust.verify(chain, Purpose::Client, now)
    }
}

fn open(
    directory: &Path,
    (certificate, key): &(String, String),
    lifetime: Lifetime,
    revoked: &Arc<Mutex<Vec<SpiffeId>>>,
) -> Issuer {
    let authority = Authority::from_pem(certificate, key).expect("reads");
    let tokens = Tokens::open(&directory.join("tokens")).expect("opens");
    let revoked = revoked.clone();
    let revoked = move |peer: &Peer| revoked.lock().expect("locks").contains(&peer.id);
    Issuer::new(authority, certificate.as_bytes(), tokens, lifetime, revoked).expect("an issuer")
}

fn csr(workload: &str) -> String {
    KeyAndRequest::generate(&id(workload)).expect("a request").request
}

#[test]
fn a_token_gets_a_certificate_of_its_name() {
    let desk = Desk::new();
    let asked = KeyAndRequest::generate(&id("service/evaluation")).expect("a request");
    let issued = desk.join(&desk.token("service/evaluation"), &asked.request, NOW).expect("issues");
    assert_eq!(issued.peer.id, id("service/evaluation"));
    assert_eq!(issued.renewed, None);
    assert_eq!(desk.verify(&issued.chain, NOW), Ok(issued.peer.clone()));
    let pem = files::to_pem(issued.chain.certificates());
    let own = Credentials::from_pem(pem.as_bytes(), asked.key.as_bytes()).expect("the key is its");
    assert_eq!(own.peer(), &issued.peer);
}

#[test]
fn a_token_is_good_once() {
    let mut desk = Desk::new();
    let token = desk.token("service/evaluation");
    desk.join(&token, &csr("service/evaluation"), NOW).expect("issues");
    let unknown = |result: Result<Issued, IssuerError>| {
        assert!(matches!(result, Err(IssuerError::Token(TokenError::Unknown))), "{result:?}");
    };
    unknown(desk.join(&token, &csr("service/evaluation"), NOW));
    desk.restart();
    unknown(desk.join(&token, &csr("service/evaluation"), NOW));
}

#[test]
fn a_token_outlives_a_restart() {
    let mut desk = Desk::new();
    let token = desk.token("service/evaluation");
    desk.restart();
    desk.join(&token, &csr("service/evaluation"), NOW).expect("issues");
}

#[test]
fn of_many_at_the_same_time_one_uses_a_token() {
    let desk = Desk::new();
    let token = desk.token("service/evaluation");
    let csr = csr("service/evaluation");
    let issued = std::thread::scope(|scope| {
        let join = || desk.join(&token, &csr, NOW).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(join)).collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).filter(|won| *won).count()
    });
    assert_eq!(issued, 1);
}

#[test]
fn a_token_expires() {
    let desk = Desk::new();
    let token = desk.token("service/evaluation");
    let late = desk.join(&token, &csr("service/evaluation"), NOW.plus(10 * MINUTE));
    let expired = matches!(
        &late,
        Err(IssuerError::Token(TokenError::Expired { id: whose, .. })) if *whose == id("service/evaluation")
    );
    assert!(expired, "{late:?}");
    let early = NOW.plus(10 * MINUTE - Duration::from_millis(1));
    desk.join(&token, &csr("service/evaluation"), early).expect("issues");
}

#[test]
fn a_wrong_token_gets_nothing() {
    let desk = Desk::new();
    let token = desk.token("service/evaluation");
    let other = Desk::new().token("service/evaluation");
    let result = desk.join(&other, &csr("service/evaluation"), NOW);
    assert!(matches!(result, Err(IssuerError::Token(TokenError::Unknown))), "{result:?}");
    let text = token.reveal();
    for bad in ["", &text[1..], &format!("{}=", *text), &format!("{}\n", *text), &"+".repeat(43)] {
        assert!(matches!(bad.parse::<Token>(), Err(TokenError::Malformed)), "{bad:?}");
    }
}

#[test]
fn a_token_whose_name_collides_is_told_apart_by_its_digest() {
    let desk = Desk::new();
    let (mine, yours) = (desk.token("service/evaluation"), desk.token("service/aggregation"));
    let mut paths = fs::read_dir(desk.directory.path().join("tokens")).expect("lists");
    let mut path = || paths.next().expect("a file").expect("an entry").path();
    let (first, second) = (path(), path());
    // Swaps the contents of two token files.
    let content = fs::read(&first).expect("reads");
    fs::copy(&second, &first).expect("copies");
    fs::write(&second, content).expect("writes");
    for token in [mine, yours] {
        let result = desk.join(&token, &csr("service/evaluation"), NOW);
        assert!(matches!(result, Err(IssuerError::Token(TokenError::Unknown))), "{result:?}");
    }
}

#[test]
fn only_the_digest_of_a_token_is_stored_and_only_for_us() {
    let desk = Desk::new();
    let token = desk.token("service/evaluation");
    assert_eq!(format!("{token:?}"), "Token(redacted)");
    let file = fs::read_dir(desk.directory.path().join("tokens")).expect("lists").next();
    let path = file.expect("one").expect("an entry").path();
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    let content = fs::read_to_string(&path).expect("reads");
    assert!(!content.contains(&*token.reveal()), "{content}");
    assert!(content.contains("service/evaluation"), "{content}");
}

#[test]
fn expired_tokens_are_forgotten_when_others_are_made() {
    let desk = Desk::new();
    desk.token("service/evaluation");
    let later = NOW.plus(HOUR);
    desk.tokens().create(&id("service/aggregation"), &[], later, MINUTE).expect("a token");
    assert_eq!(fs::read_dir(desk.directory.path().join("tokens")).expect("lists").count(), 1);
}

#[test]
fn there_are_no_tokens_for_those_who_do_not_connect_nor_for_strange_hosts() {
    let desk = Desk::new();
    let create = |workload, hosts: &[&str]| {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        desk.tokens().create(&id(workload), &hosts, NOW, MINUTE)
    };
    for (workload, hosts) in [
        ("issuer/hermesh", &[][..]),
        ("broker/nats", &[]),
        ("service/evaluation", &["*.local"]),
        ("service/evaluation", &["a b"]),
        ("service/evaluation", &[""]),
        ("service/evaluation", &["a"; 17]),
    ] {
        let created = create(workload, hosts);
        assert!(matches!(created, Err(TokenError::Refused(_))), "{workload} {hosts:?}");
    }
    create("service/evaluation", &["evaluation.local", "127.0.0.1", "::1"]).expect("a token");
}

/// A request with a new key that claims any name and CA status.
fn claim(uri: Option<&str>, ca: bool) -> String {
    let mut params = CertificateParams::default();
    if let Some(uri) = uri {
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("text")));
    }
    params.subject_alt_names.push(SanType::DnsName("nats.local".try_into().expect("text")));
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    let key = KeyPair::generate().expect("a key");
    params.serialize_request(&key).and_then(|csr| csr.pem()).expect("a request")
}

#[test]
fn a_request_that_lies_about_its_name_is_refused_and_costs_no_token() {
    let desk = Desk::new();
    let token = desk.token("tenant/acme");
    let lie = claim(Some("spiffe://hermesh.local/service/key-management"), false);
    let result = desk.join(&token, &lie, NOW);
    assert!(matches!(result, Err(IssuerError::Name { .. })), "{result:?}");
    let issued = desk.join(&token, &csr("tenant/acme"), NOW).expect("issues");
    assert_eq!(issued.peer.id, id("tenant/acme"));
}

#[test]
fn what_else_a_request_claims_is_not_granted() {
    let desk = Desk::new();
    let issued = desk.join(&desk.token("tenant/acme"), &claim(None, true), NOW).expect("issues");
    assert_eq!(issued.peer.id, id("tenant/acme"));
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.chain.certificates()[0])
        .expect("a certificate");
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().expect("reads").expect("has one").value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let names = leaf.subject_alternative_name().expect("reads").expect("has some").value;
    assert_eq!(names.general_names.len(), 1, "{names:?}");
}

#[test]
fn what_is_no_request_is_refused_and_costs_no_token() {
    let desk = Desk::new();
    let token = desk.token("tenant/acme");
    let good = csr("tenant/acme");
    let mut forged = good.clone().into_bytes();
    // Changes the last bytes of the signature.
    let place = good.find("\n-----END").expect("ends") - 6;
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    let long = "A".repeat(MAX_REQUEST + 1);
    for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----", "no request", &good[1..], &forged, &long]
    {
        let result = desk.join(&token, bad, NOW);
        assert!(matches!(result, Err(IssuerError::Request(_))), "{result:?}");
    }
    desk.join(&token, &good, NOW).expect("issues");
}

#[test]
fn a_request_may_be_der() {
    let desk = Desk::new();
    let key = KeyPair::generate().expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request");
    let proof = Proof::Token(desk.token("tenant/acme"));
    desk.issuer.issue(Request { csr: csr.der(), proof }, NOW).expect("issues");
}

#[test]
fn a_certificate_is_renewed_for_its_own_name_and_hosts() {
    let desk = Desk::new();
    let hosts = ["evaluation.local".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let token = desk.tokens().create(&id("service/evaluation"), &hosts, NOW, MINUTE);
    let first = desk.join(&token.expect("a token"), &csr("service/evaluation"), NOW);
    let first = first.expect("issues");
    let later = NOW.plus(30 * MINUTE);
    let second = desk.renew(&first.chain, &csr("service/evaluation"), later).expect("renews");
    assert_eq!(second.renewed, Some(first.peer.clone()));
    assert_eq!(second.peer.id, first.peer.id);
    assert_ne!(second.peer.fingerprint, first.peer.fingerprint);
    assert_eq!(second.peer.not_after, later.plus(HOUR));
    let names = |chain: &Chain| {
        let (_, leaf) =
            x509_parser::parse_x509_certificate(&chain.certificates()[0]).expect("a certificate");
        let names = leaf.subject_alternative_name().expect("reads").expect("has some").value;
        names.general_names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&first.chain).len(), 4);
    assert_eq!(names(&second.chain), names(&first.chain));
}

#[test]
fn nobody_renews_for_another() {
    let desk = Desk::new();
    let mine = desk.join(&desk.token("tenant/acme"), &csr("tenant/acme"), NOW).expect("issues");
    let result = desk.renew(&mine.chain, &csr("tenant/globex"), NOW);
    assert!(matches!(result, Err(IssuerError::Name { .. })), "{result:?}");
    let issued = desk.renew(&mine.chain, &claim(None, false), NOW).expect("renews");
    assert_eq!(issued.peer.id, id("tenant/acme"));
}

#[test]
fn nobody_renews_with_what_does_not_count() {
    let desk = Desk::new();
    let mine = desk.join(&desk.token("tenant/acme"), &csr("tenant/acme"), NOW).expect("issues");
    let refused = |chain: &Chain, now| {
        let result = desk.renew(chain, &csr("tenant/acme"), now);
        assert!(matches!(result, Err(IssuerError::Certificate(_))), "{result:?}");
    };
    refused(&mine.chain, NOW.plus(HOUR + Duration::from_secs(1)));
    let other = Desk::new();
    let forged = other.join(&other.token("tenant/acme"), &csr("tenant/acme"), NOW);
    refused(&forged.expect("issues").chain, NOW);
    let authority = desk.issuer.authority();
    for workload in ["broker/nats", "issuer/hermesh"] {
        let grant = grant(authority, id(workload), Vec::new(), NOW, HOUR).expect("grants");
        assert_eq!(grant.uses, Uses::ServerOnly);
        refused(authority.credentials(&grant).expect("issues").chain(), NOW);
    }
}

#[test]
fn the_revoked_get_nothing_and_use_no_token_up() {
    let desk = Desk::new();
    let mine = desk.join(&desk.token("tenant/acme"), &csr("tenant/acme"), NOW).expect("issues");
    let token = desk.token("tenant/acme");
    desk.revoked.lock().expect("locks").push(id("tenant/acme"));
    for result in [
        desk.renew(&mine.chain, &csr("tenant/acme"), NOW),
        desk.join(&token, &csr("tenant/acme"), NOW),
    ] {
        assert!(matches!(result, Err(IssuerError::Revoked { .. })), "{result:?}");
    }
    desk.revoked.lock().expect("locks").clear();
    desk.join(&token, &csr("tenant/acme"), NOW).expect("issues");
}

#[test]
fn certificates_live_as_long_as_configured_but_not_longer_than_the_root() {
    assert_eq!(Lifetime::new(SHORTEST - Duration::from_millis(1)), None);
    assert_eq!(Lifetime::new(LONGEST + Duration::from_millis(1)), None);
    for lifetime in [SHORTEST, LONGEST] {
        let root = Authority::create(DOMAIN, before(HOUR), NOW.plus(48 * HOUR));
        let desk = Desk::with(root, Lifetime::new(lifetime).expect("in range"));
        let issued = desk.join(&desk.token("tenant/acme"), &csr("tenant/acme"), NOW);
        let peer = issued.expect("issues").peer;
        assert_eq!((peer.not_before, peer.not_after), (before(SKEW), NOW.plus(lifetime)));
    }
    let root = Authority::create(DOMAIN, before(MINUTE / 2), NOW.plus(30 * MINUTE));
    let desk = Desk::with(root, Lifetime::default());
    let issued = desk.join(&desk.token("tenant/acme"), &csr("tenant/acme"), NOW).expect("issues");
    let (first, last) = (issued.peer.not_before, issued.peer.not_after);
    assert_eq!((first, last), (before(MINUTE / 2), NOW.plus(30 * MINUTE)));
}

#[test]
fn a_root_that_is_not_valid_issues_nothing() {
    let root = Authority::create(DOMAIN, NOW, NOW.plus(5 * MINUTE));
    let desk = Desk::with(root, Lifetime::default());
    let token = desk.token("tenant/acme");
    for now in [before(MINUTE), NOW.plus(5 * MINUTE)] {
        let result = desk.join(&token, &csr("tenant/acme"), now);
        assert!(matches!(result, Err(IssuerError::Root { .. })), "{result:?}");
    }
}

#[test]
fn a_root_is_read_with_its_key_and_says_its_domain() {
    let create = |domain| Authority::create(domain, NOW, NOW.plus(HOUR)).expect("creates");
    let (root, other) = (create(DOMAIN), create("example.org"));
    let read = Authority::from_pem(root.certificate(), &root.key()).expect("reads");
    assert_eq!((read.domain(), read.from(), read.until()), (DOMAIN, NOW, NOW.plus(HOUR)));
    assert!(matches!(
        Authority::from_pem(root.certificate(), &other.key()),
        Err(CertificateError::Key(_))
    ));
    let grant = Grant {
        id: id("service/evaluation"),
        hosts: Vec::new(),
        uses: Uses::Workload,
        from: NOW,
        until: NOW.plus(HOUR),
    };
    let asked = KeyAndRequest::generate(&grant.id).expect("a request");
    let key = KeyPair::from_pem(&asked.key).expect("a key");
    let leaf = files::to_pem(root.sign(&grant, &key).expect("signs").certificates());
    assert!(matches!(Authority::from_pem(&leaf, &asked.key), Err(CertificateError::Malformed(_))));
}

#[test]
fn roots_without_the_one_that_signs_make_no_issuer() {
    let create = || Authority::create(DOMAIN, NOW, NOW.plus(HOUR)).expect("creates");
    let (old, new) = (create(), create());
    let directory = TempDir::new().expect("a directory");
    let issuer = |roots: &str| {
        let authority = Authority::from_pem(new.certificate(), &new.key()).expect("reads");
        let tokens = Tokens::open(directory.path()).expect("opens");
        Issuer::new(authority, roots.as_bytes(), tokens, Lifetime::default(), |_| false)
    };
    assert!(issuer(old.certificate()).is_err());
    let both = format!("{}{}", old.certificate(), new.certificate());
    let roots = issuer(&both).expect("an issuer").roots();
    assert_eq!(Trust::from_pem(DOMAIN, roots.as_bytes()).expect("roots").roots().len(), 2);
}
