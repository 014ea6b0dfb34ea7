//! Who gets which certificate.

use std::{fmt, net::IpAddr, time::Duration};

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{Authority, Grant, Token, TokenError, Tokens, Uses, csr::Csr, files, token::Joining};
use crate::{
    UnixMillis,
    identity::{CertificateError, Chain, Peer, Purpose, SpiffeId, Trust},
};

/// The workload that is the issuer.
pub const OWN: &str = "issuer/hermesh";
/// How far in the past a certificate begins, for clocks that differ.
pub const SKEW: Duration = Duration::from_secs(60);
/// The shortest [`Lifetime`].
pub const SHORTEST: Duration = Duration::from_secs(5 * 60);
/// The longest one.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the certificates of an issuer are valid: 1 hour, if not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// From [`SHORTEST`] to [`LONGEST`].
    pub fn new(lifetime: Duration) -> Option<Self> {
        (SHORTEST..=LONGEST).contains(&lifetime).then_some(Self(lifetime))
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(Duration::from_secs(60 * 60))
    }
}

/// What shows who asks.
#[derive(Debug)]
pub enum Proof {
    /// It was given a token.
    Token(Token),
    /// It has a certificate, and the key: the transport made sure of that.
    Certificate(Chain),
}

/// A wish for a certificate.
#[derive(Debug)]
pub struct Request<'a> {
    /// The signing request, in PEM or DER.
    pub csr: &'a [u8],
    /// Who asks.
    pub proof: Proof,
}

/// A certificate that was issued. To be logged as it is.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Whose it is, its fingerprint, how long it is valid.
    pub peer: Peer,
    /// The certificate it takes the place of.
    pub renewed: Option<Peer>,
    /// The certificate.
    pub chain: Chain,
}

/// Why there is no certificate. To be logged as it is: no token, no key is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The request is none.
    #[error(
        "the certificate signing request is {0}; expected PKCS #10 with a P-256, P-384 or Ed25519 key"
    )]
    Request(&'static str),
    /// The request names somebody else than the one who asks.
    #[error("{proven} asks for a certificate of {asked:?}; expected a request of its own name")]
    Name {
        /// Who asks.
        proven: SpiffeId,
        /// What it asks for.
        asked: String,
    },
    /// The token does not count.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate with which it asks does not count.
    #[error("the certificate to be renewed: {0}")]
    Certificate(CertificateError),
    /// The policy revoked the certificate or the workload.
    #[error("{id} (certificate {fingerprint}) is on the policy's list of the revoked")]
    Revoked {
        /// Who asks.
        id: SpiffeId,
        /// With which certificate, or for which.
        fingerprint: crate::Digest,
    },
    /// A certificate would not be valid.
    #[error(
        "the root is valid from {from} to {until} (ms since 1970), not at {now}; make a new root"
    )]
    Root {
        /// The root's first instant.
        from: UnixMillis,
        /// Its last.
        until: UnixMillis,
        /// The time.
        now: UnixMillis,
    },
    /// The library does not make the certificate.
    #[error("the certificate cannot be made: {0}")]
    Make(CertificateError),
}

type Revoked = dyn Fn(&Peer) -> bool + Send + Sync;

/// Issues certificates of one trust domain.
pub struct Issuer {
    authority: Authority,
    trust: Trust,
    tokens: Tokens,
    lifetime: Lifetime,
    revoked: Box<Revoked>,
}

impl Issuer {
    /// An issuer. `roots`, in PEM, are those that workloads are to trust, which is more than the
    /// authority's own while roots change; `revoked` says whom the policy revoked.
    ///
    /// # Errors
    /// [`CertificateError`]: the roots are none, or the authority's is not among them.
    pub fn new(
        authority: Authority,
        roots: &[u8],
        tokens: Tokens,
        lifetime: Lifetime,
        revoked: impl Fn(&Peer) -> bool + Send + Sync + 'static,
    ) -> Result<Self, CertificateError> {
        let trust = Trust::from_pem(authority.domain(), roots)?;
        let own = Trust::from_pem(authority.domain(), authority.certificate().as_bytes())?;
        if !own.roots().iter().all(|root| trust.roots().contains(root)) {
            return Err(CertificateError::Malformed("roots without the one that signs"));
        }
        Ok(Self { authority, trust, tokens, lifetime, revoked: Box::new(revoked) })
    }

    /// What signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The roots that workloads are to trust.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The roots in PEM.
    pub fn roots(&self) -> String {
        files::to_pem(self.trust.roots())
    }

    /// How long its certificates are valid.
    pub fn lifetime(&self) -> Duration {
        self.lifetime.0
    }

    /// Issues a certificate, or says why not. A token is used up only if there is a certificate.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn issue(&self, request: Request<'_>, now: UnixMillis) -> Result<Issued, IssuerError> {
        let proven = self.prove(request.proof, now)?;
        let csr = Csr::read(request.csr)?;
        if let Some(asked) = csr.asked.filter(|asked| asked != proven.id().as_str()) {
            return Err(IssuerError::Name { proven: proven.id().clone(), asked });
        }
        let hosts = proven.hosts().to_vec();
        let grant = grant(&self.authority, proven.id().clone(), hosts, now, self.lifetime.0)?;
        let chain = self.authority.sign(&grant, &csr.key).map_err(IssuerError::Make)?;
        let peer = chain.peer().map_err(IssuerError::Make)?;
        self.refuse_revoked(&peer)?;
        let renewed = match proven {
            Proven::Joins(joining) => {
                self.tokens.consume(&joining)?;
                None
            }
            Proven::Renews(peer, _) => Some(peer),
        };
        Ok(Issued { peer, renewed, chain })
    }

    fn prove(&self, proof: Proof, now: UnixMillis) -> Result<Proven, IssuerError> {
        let proven = match proof {
            Proof::Token(token) => Proven::Joins(self.tokens.find(&token, now)?),
            Proof::Certificate(chain) => {
                let peer = self.trust.verify(&chain, Purpose::Client, now);
                let peer = peer.map_err(IssuerError::Certificate)?;
                self.refuse_revoked(&peer)?;
                Proven::Renews(peer, hosts(&chain))
            }
        };
        // Whatever is in a file of tokens.
        let id = proven.id();
        if id.trust_domain() != self.authority.domain() {
            let told = format!("{id}; expected a workload of {}", self.authority.domain());
            return Err(TokenError::Refused(told).into());
        }
        joins(id)?;
        Ok(proven)
    }

    fn refuse_revoked(&self, peer: &Peer) -> Result<(), IssuerError> {
        if (self.revoked)(peer) {
            let (id, fingerprint) = (peer.id.clone(), peer.fingerprint);
            return Err(IssuerError::Revoked { id, fingerprint });
        }
        Ok(())
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("authority", &self.authority)
            .field("trust", &self.trust)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Who asks, beyond doubt.
enum Proven {
    Joins(Joining),
    Renews(Peer, Vec<String>),
}

impl Proven {
    fn id(&self) -> &SpiffeId {
        match self {
            Self::Joins(joining) => &joining.id,
            Self::Renews(peer, _) => &peer.id,
        }
    }

    fn hosts(&self) -> &[String] {
        match self {
            Self::Joins(joining) => &joining.hosts,
            Self::Renews(_, hosts) => hosts,
        }
    }
}

/// Brokers and the issuer are only connected to: their certificates serve neither to sign messages nor to
/// ask for the next certificate.
fn uses(id: &SpiffeId) -> Uses {
    match id.kind() {
        "broker" | "issuer" => Uses::ServerOnly,
        _ => Uses::Workload,
    }
}

/// Whether a workload may join by itself.
pub(super) fn joins(id: &SpiffeId) -> Result<(), TokenError> {
    match uses(id) {
        Uses::Workload => Ok(()),
        Uses::ServerOnly => Err(TokenError::Refused(format!(
            "{id}; expected a workload that connects: certificates of brokers are issued by hand"
        ))),
    }
}

/// What a certificate for a workload says, from [`SKEW`] ago and never for longer than the root.
///
/// # Errors
/// [`IssuerError::Root`]: the root is not valid now.
pub fn grant(
    authority: &Authority,
    id: SpiffeId,
    hosts: Vec<String>,
    now: UnixMillis,
    lifetime: Duration,
) -> Result<Grant, IssuerError> {
    let (first, last) = (authority.from(), authority.until());
    if now < first || now >= last {
        return Err(IssuerError::Root { from: first, until: last, now });
    }
    let uses = uses(&id);
    let skew = u64::try_from(SKEW.as_millis()).unwrap_or_default();
    let from = UnixMillis(now.0.saturating_sub(skew)).max(first);
    Ok(Grant { id, hosts, uses, from, until: now.plus(lifetime).min(last) })
}

/// The host names and addresses in a certificate that was verified.
fn hosts(chain: &Chain) -> Vec<String> {
    let Ok((_, leaf)) = X509Certificate::from_der(&chain.certificates()[0]) else {
        return Vec::new();
    };
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}
