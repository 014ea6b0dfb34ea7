//! The root of a trust domain: its key, and the certificates it signs.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::files::to_pem;
use crate::{
    UnixMillis,
    identity::{CertificateError, Chain, Credentials, SpiffeId, Trust},
};

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// For a workload: to connect, to sign messages, and to accept connections.
    Workload,
    /// Only to accept connections.
    ServerOnly,
}

/// The content of a certificate.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The workload that the certificate names.
    pub id: SpiffeId,
    /// Host names and addresses of a server, for clients that verify them.
    pub hosts: Vec<String>,
    /// The permitted uses.
    pub uses: Uses,
    /// Start of validity.
    pub from: UnixMillis,
    /// End of validity.
    pub until: UnixMillis,
}

/// A root and its key.
pub struct Authority {
    domain: String,
    from: UnixMillis,
    until: UnixMillis,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

const CANNOT: CertificateError = CertificateError::Malformed("the library rejected its content");

const NO_ROOT: CertificateError =
    CertificateError::Malformed("a certificate that is not the root of a trust domain");

/// The trust domain of a root: its only URI is `spiffe://{domain}`.
fn domain(root: &X509Certificate<'_>) -> Result<String, CertificateError> {
    let names = root.subject_alternative_name().map_err(|_| NO_ROOT)?.ok_or(NO_ROOT)?;
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match uris.collect::<Vec<_>>()[..] {
        [uri] => uri.strip_prefix("spiffe://").map(str::to_owned).ok_or(NO_ROOT),
        _ => Err(NO_ROOT),
    }
}

fn refused(_: rcgen::Error) -> CertificateError {
    CANNOT
}

impl Authority {
    /// Creates a new root for a trust domain.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] if the library rejects the domain.
    pub fn create(
        domain: &str,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(format!("hermesh root of {domain}"), from, until);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        let certificate = params.self_signed(&key).map_err(refused)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { domain: domain.to_owned(), from, until, certificate, issuer })
    }

    /// Reads a root from its certificate and key, both in PEM. The certificate names the trust
    /// domain.
    ///
    /// # Errors
    /// The texts are not a root certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(key).map_err(|_| CertificateError::Key("no key in PEM"))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes());
        let der = der.map_err(|_| CertificateError::Malformed("no certificate in PEM"))?;
        let (_, root) = X509Certificate::from_der(&der).map_err(|_| NO_ROOT)?;
        if !root.is_ca() {
            return Err(NO_ROOT);
        }
        if root.public_key().subject_public_key.data[..] != *key.der_bytes() {
            return Err(CertificateError::Key("another root's key"));
        }
        let domain = domain(&root)?;
        Trust::from_pem(&domain, certificate.as_bytes())?;
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let from = UnixMillis(millis(root.validity().not_before.timestamp()));
        let until = UnixMillis(millis(root.validity().not_after.timestamp()));
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(refused)?;
        Ok(Self { domain, from, until, certificate: certificate.to_owned(), issuer })
    }

    /// Start of the root's validity.
    pub fn from(&self) -> UnixMillis {
        self.from
    }

    /// End of the root's validity, and of every certificate it has signed.
    pub fn until(&self) -> UnixMillis {
        self.until
    }

    /// The trust domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The root's certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The root's key, in PEM. Must be stored where only the issuer can read it.
    pub fn key(&self) -> Zeroizing<String> {
        self.issuer.key().serialize_pem().into()
    }

    /// Signs a certificate for a public key.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] if the library rejects the content.
    pub fn sign(&self, grant: &Grant, key: &impl PublicKeyData) -> Result<Chain, CertificateError> {
        let mut params = params(grant.id.workload().to_owned(), grant.from, grant.until);
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names.push(uri(grant.id.as_str())?);
        let hosts = CertificateParams::new(grant.hosts.clone()).map_err(refused)?;
        params.subject_alt_names.extend(hosts.subject_alt_names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if grant.uses == Uses::Workload {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(refused)?;
        Chain::new(vec![certificate.der().clone()])
    }

    /// Generates a key and signs a certificate for it.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn credentials(&self, grant: &Grant) -> Result<Credentials, CertificateError> {
        let (key, chain) = self.key_and_chain(grant)?;
        Credentials::from_pem(to_pem(chain.certificates()).as_bytes(), key.as_bytes())
    }

    /// Generates a key (PKCS #8 in PEM) and signs a certificate for it.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn key_and_chain(
        &self,
        grant: &Grant,
    ) -> Result<(Zeroizing<String>, Chain), CertificateError> {
        let key = KeyPair::generate().map_err(refused)?;
        let chain = self.sign(grant, &key)?;
        Ok((key.serialize_pem().into(), chain))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.domain)
    }
}

fn params(name: String, from: UnixMillis, until: UnixMillis) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = epoch + Duration::from_millis(from.0);
    params.not_after = epoch + Duration::from_millis(until.0);
    params
}

fn uri(uri: &str) -> Result<SanType, CertificateError> {
    Ok(SanType::URI(uri.try_into().map_err(refused)?))
}
