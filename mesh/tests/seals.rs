//! Message signatures: what they cover, whose certificates are accepted, and that any change is
//! detected.

use hermesh_mesh::{
    Digest, UnixMillis,
    identity::{CertificateError, Credentials, SpiffeId, Trust},
    issuer::{Authority, Grant, Uses},
    seal::{Content, HeaderBlock, MAX_BATCH, SEAL, SealError, Verifier, seal},
};
use proptest::prelude::*;

const DOMAIN: &str = "hermesh.local";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOUR: u64 = 3_600_000;

fn authority(domain: &str) -> Authority {
    let day = UnixMillis(NOW.0 - 24 * HOUR);
    Authority::create(domain, day, UnixMillis(NOW.0 + 24 * HOUR)).expect("creates")
}

fn grant(domain: &str) -> Grant {
    Grant {
        id: SpiffeId::new(domain, "service/evaluation").expect("a name"),
        hosts: Vec::new(),
        uses: Uses::Workload,
        from: NOW,
        until: UnixMillis(NOW.0 + HOUR),
    }
}

fn verifier(authority: &Authority) -> Verifier {
    let trust = Trust::from_pem(authority.domain(), authority.certificate().as_bytes());
    Verifier::new(trust.expect("roots"))
}

/// A message in its wire format.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    subject: String,
    reply: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn some() -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            subject: "hermesh.partial.acme.1".into(),
            reply: "_INBOX.service.evaluation.7".into(),
            headers: vec![header("Hermesh-Job", "07"), header("ce-id", "x")],
            body: b"body".to_vec(),
        }
    }

    fn block(&self) -> Vec<u8> {
        let line = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let lines: String = self.headers.iter().map(line).collect();
        format!("NATS/1.0\r\n{lines}\r\n").into_bytes()
    }

    fn with<T>(&self, block: &[u8], then: impl FnOnce(Content<'_>) -> T) -> T {
        let headers = HeaderBlock::parse(block).expect("well-formed");
        then(Content {
            subject: &self.subject,
            reply: &self.reply,
            headers: &headers,
            body: Digest::of(&self.body),
        })
    }

    fn sealed(mut self, credentials: &Credentials) -> Self {
        let block = self.block();
        let value = self.with(&block, |content| seal(credentials, &[content], NOW));
        self.headers.push((SEAL.into(), value.expect("seals").remove(0)));
        self
    }

    fn verify(&self, verifier: &Verifier) -> Result<String, SealError> {
        let block = self.block();
        self.with(&block, |content| verifier.verify(&content))
            .map(|sealed| sealed.peer.id.to_string())
    }
}

#[test]
fn a_seal_names_its_sealer() {
    let authority = authority(DOMAIN);
    let verifier = verifier(&authority);
    let sent = Sent::some().sealed(&authority.credentials(&grant(DOMAIN)).expect("issues"));
    let name = "spiffe://hermesh.local/service/evaluation".to_owned();
    assert_eq!(sent.verify(&verifier), Ok(name.clone()));
    // Headers between a client and the broker do not affect the signature.
    let mut steered = sent.clone();
    steered.headers.insert(0, ("Nats-Sequence".into(), "7".into()));
    assert_eq!(steered.verify(&verifier), Ok(name));
}

#[test]
fn whatever_is_altered_breaks_the_seal() {
    let authority = authority(DOMAIN);
    let verifier = verifier(&authority);
    let sent = Sent::some().sealed(&authority.credentials(&grant(DOMAIN)).expect("issues"));
    let alterations: [fn(&mut Sent); 8] = [
        |sent| sent.subject.push('2'),
        |sent| sent.reply.push('2'),
        |sent| sent.reply.clear(),
        |sent| sent.body.push(0),
        |sent| sent.body.clear(),
        |sent| sent.headers[0].1.push('0'),
        |sent| drop(sent.headers.remove(1)),
        |sent| sent.headers.swap(0, 1),
    ];
    for (number, alter) in alterations.iter().enumerate() {
        let mut altered = sent.clone();
        alter(&mut altered);
        assert_eq!(altered.verify(&verifier), Err(SealError::Broken), "alteration {number}");
    }
    let mut added = sent.clone();
    added.headers.push(("Hermesh-Outputs".into(), "true".into()));
    assert_eq!(added.verify(&verifier), Err(SealError::Broken));
    let mut bare = sent.clone();
    bare.headers.pop();
    assert_eq!(bare.verify(&verifier), Err(SealError::Missing));
    let mut twice = sent.clone();
    twice.headers.push(twice.headers[2].clone());
    assert!(matches!(twice.verify(&verifier), Err(SealError::Malformed(_))));
    let block = [b"NATS/1.0 408 Request Timeout", &sent.block()[8..]].concat();
    let with_status = sent.with(&block, |content| verifier.verify(&content));
    assert!(matches!(with_status, Err(SealError::Malformed(_))), "{with_status:?}");
    // Status lines that other parsers might take for no status.
    for first in ["NATS/1.0 \u{a0}", "NATS/1.0 4040", "NATS/1.0 x", "NATS/1.0 \t408x"] {
        let block = [first.as_bytes(), &sent.block()[8..]].concat();
        assert!(HeaderBlock::parse(&block).is_err(), "{first:?}");
    }
    // The original still verifies: the refused variants were not cached.
    assert!(sent.verify(&verifier).is_ok());
}

#[test]
fn messages_that_leave_together_are_told_apart() {
    let authority = authority(DOMAIN);
    let (verifier, credentials) =
        (verifier(&authority), authority.credentials(&grant(DOMAIN)).expect("issues"));
    for count in [1, 2, 3, 7, MAX_BATCH] {
        let messages: Vec<Sent> = (0..count)
            .map(|number| Sent { subject: format!("hermesh.partial.{number}"), ..Sent::some() })
            .collect();
        let block = Sent::some().block();
        let headers = HeaderBlock::parse(&block).expect("well-formed");
        let contents: Vec<Content<'_>> = messages
            .iter()
            .map(|sent| Content {
                subject: &sent.subject,
                reply: &sent.reply,
                headers: &headers,
                body: Digest::of(&sent.body),
            })
            .collect();
        let values = seal(&credentials, &contents, NOW).expect("seals");
        let sealed: Vec<Sent> = messages
            .iter()
            .zip(&values)
            .map(|(sent, value)| {
                let mut sent = sent.clone();
                sent.headers.push((SEAL.into(), value.clone()));
                sent
            })
            .collect();
        assert!(sealed.iter().all(|sent| sent.verify(&verifier).is_ok()), "{count} messages");
        if let [first, second, ..] = &sealed[..] {
            let mut swapped = first.clone();
            swapped.headers[2].1 = second.headers[2].1.clone();
            assert_eq!(swapped.verify(&verifier), Err(SealError::Broken));
        }
    }
}

#[test]
fn only_whom_the_roots_vouch_for_can_seal() {
    let ours = authority(DOMAIN);
    let verifier = verifier(&ours);
    let of = |authority: &Authority, grant: &Grant| {
        let credentials = authority.credentials(grant).expect("issues");
        Sent::some().sealed(&credentials).verify(&verifier)
    };
    assert!(of(&ours, &grant(DOMAIN)).is_ok());
    let certificate = |result: Result<String, SealError>| match result {
        Err(SealError::Certificate(why)) => why,
        other => panic!("{other:?}"),
    };
    let stranger = authority(DOMAIN);
    let untrusted = certificate(of(&stranger, &grant(DOMAIN)));
    assert!(matches!(untrusted, CertificateError::Untrusted(_)), "{untrusted}");
    let elsewhere = certificate(of(&ours, &grant("evil.example")));
    assert!(matches!(elsewhere, CertificateError::TrustDomain { .. }), "{elsewhere}");
    let old = Grant {
        from: UnixMillis(NOW.0 - 2 * HOUR),
        until: UnixMillis(NOW.0 - HOUR),
        ..grant(DOMAIN)
    };
    assert_eq!(certificate(of(&ours, &old)), CertificateError::Expired(old.until));
    let early = Grant {
        from: UnixMillis(NOW.0 + HOUR),
        until: UnixMillis(NOW.0 + 2 * HOUR),
        ..grant(DOMAIN)
    };
    assert_eq!(certificate(of(&ours, &early)), CertificateError::NotYetValid(early.from));
    let server = Grant { uses: Uses::ServerOnly, ..grant(DOMAIN) };
    let purpose = certificate(of(&ours, &server));
    assert!(matches!(purpose, CertificateError::Purpose(_)), "{purpose}");
}

/// A cached chain is still checked against the time of each message.
#[test]
fn what_is_remembered_is_still_looked_at() {
    let authority = authority(DOMAIN);
    let verifier = verifier(&authority);
    let credentials = authority.credentials(&grant(DOMAIN)).expect("issues");
    assert!(Sent::some().sealed(&credentials).verify(&verifier).is_ok());
    let block = Sent::some().block();
    let later = UnixMillis(NOW.0 + 2 * HOUR);
    let value = Sent::some().with(&block, |content| seal(&credentials, &[content], later));
    let mut sent = Sent::some();
    sent.headers.push((SEAL.into(), value.expect("seals").remove(0)));
    let expired = SealError::Certificate(CertificateError::Expired(UnixMillis(NOW.0 + HOUR)));
    assert_eq!(sent.verify(&verifier), Err(expired));
}

#[test]
fn what_is_no_text_is_no_header() {
    for value in ["\u{e9}".as_bytes(), b"\xff", b"a\x7f", b"\x1b[2J"] {
        let block = [b"NATS/1.0\r\nX: ", value, b"\r\n\r\n"].concat();
        assert!(HeaderBlock::parse(&block).is_err(), "{value:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_seals_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
        let verifier = verifier(&authority(DOMAIN));
        let mut sent = Sent::some();
        sent.headers.push((SEAL.into(), BASE64_URL_SAFE_NO_PAD.encode(bytes)));
        prop_assert!(sent.verify(&verifier).is_err());
    }

    #[test]
    fn arbitrary_header_blocks_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = HeaderBlock::parse(&bytes);
        let _ = HeaderBlock::parse(&[b"NATS/1.0", &bytes[..], b"\r\n\r\n"].concat());
    }
}
