//! Decides which workload gets which certificate.

use std::{fmt, net::IpAddr, time::Duration};

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{Authority, Grant, Token, TokenError, Tokens, Uses, csr::Csr, files, token::Joining};
use crate::{
    UnixMillis,
    identity::{CertificateError, Chain, Peer, Purpose, SpiffeId, Trust},
};

/// The issuer's own workload name.
pub const OWN: &str = "issuer/hermesh";
/// How far in the past a certificate's validity begins, to allow for clock differences.
pub const SKEW: Duration = Duration::from_secs(60);
/// The shortest [`Lifetime`].
pub const SHORTEST: Duration = Duration::from_secs(5 * 60);
/// The longest one.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an issuer's certificates are valid; 1 hour by default.
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

/// The requester's proof of identity.
#[derive(Debug)]
pub enum Proof {
    /// A join token.
    Token(Token),
    /// A certificate. The transport has verified that the requester holds its key.
    Certificate(Chain),
}

/// A request for a certificate.
#[derive(Debug)]
pub struct Request<'a> {
    /// The signing request, in PEM or DER.
    pub csr: &'a [u8],
    /// The proof of identity.
    pub proof: Proof,
}

/// An issued certificate. Contains no secrets and may be logged.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Workload, fingerprint and validity.
    pub peer: Peer,
    /// The certificate that it replaces.
    pub renewed: Option<Peer>,
    /// The certificate.
    pub chain: Chain,
}

/// Why no certificate was issued. Contains no token and no key and may be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The request is not valid.
    #[error(
        "the certificate signing request is {0}; expected PKCS #10 with a P-256, P-384 or Ed25519 key"
    )]
    Request(&'static str),
    /// The request names another workload than the proof.
    #[error("{proven} requests a certificate for {asked:?}; expected a request for its own name")]
    Name {
        /// The proven workload.
        proven: SpiffeId,
        /// The requested name.
        asked: String,
    },
    /// The join token is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The presented certificate is not accepted.
    #[error("the certificate to be renewed: {0}")]
    Certificate(CertificateError),
    /// The policy revokes the certificate or the workload.
    #[error("{id} (certificate {fingerprint}) is on the policy's list of the revoked")]
    Revoked {
        /// The workload.
        id: SpiffeId,
        /// The presented certificate, or the new one.
        fingerprint: crate::Digest,
    },
    /// The root is not valid now.
    #[error(
        "the root is valid from {from} to {until} (ms since 1970), not at {now}; make a new root"
    )]
    Root {
        /// Start of the root's validity.
        from: UnixMillis,
        /// End of the root's validity.
        until: UnixMillis,
        /// The current time.
        now: UnixMillis,
    },
    /// The library could not create the certificate.
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
    /// Creates an issuer. `roots`, in PEM, are the roots that workloads trust; during a root change there are more than
    /// the authority's own. `revoked` says which certificates and workloads the policy revokes.
    ///
    /// # Errors
    /// [`CertificateError`] if the roots are not valid or do not contain the authority's.
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

    /// The root that signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The roots that workloads trust.
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

    /// Issues a certificate or returns the reason for refusing. A join token is used up only if a certificate is
    /// issued.
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
        // Checked for tokens too: the contents of a token file are not trusted.
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

/// A requester whose identity is proven.
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

/// Brokers and the issuer only accept connections. Their certificates can neither sign messages nor be used to request
/// a new certificate.
fn uses(id: &SpiffeId) -> Uses {
    match id.kind() {
        "broker" | "issuer" => Uses::ServerOnly,
        _ => Uses::Workload,
    }
}

/// Checks whether a workload may join with a token.
pub(super) fn joins(id: &SpiffeId) -> Result<(), TokenError> {
    match uses(id) {
        Uses::Workload => Ok(()),
        Uses::ServerOnly => Err(TokenError::Refused(format!(
            "{id}; expected a workload that connects: certificates of brokers are issued by hand"
        ))),
    }
}

/// The content of a certificate for a workload. Its validity begins [`SKEW`] ago and ends with the root's at the
/// latest.
///
/// # Errors
/// [`IssuerError::Root`] if the root is not valid now.
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

/// The host names and addresses in a verified certificate.
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
