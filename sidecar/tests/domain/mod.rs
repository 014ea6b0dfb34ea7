//! A trust domain for tests, and certificates that no issuer would sign.

#![allow(clippy::unwrap_used, dead_code)]

use std::time::Duration;

use hermesh_mesh::{
    Clock as _, SystemClock, UnixMillis,
    identity::{Credentials, SpiffeId, Trust},
    issuer::{Authority, Grant, Uses},
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) const DOMAIN: &str = "hermesh.local";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn now() -> UnixMillis {
    SystemClock.now()
}

/// One day ago, and one day from now.
pub(crate) fn today() -> (UnixMillis, UnixMillis) {
    (UnixMillis(now().0 - DAY.as_millis() as u64), now().plus(DAY))
}

pub(crate) fn id(workload: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, workload).unwrap()
}

/// A root and its certificates.
pub(crate) struct Domain(pub(crate) Authority);

impl Domain {
    pub(crate) fn new() -> Self {
        let (from, until) = today();
        Self(Authority::create(DOMAIN, from, until).unwrap())
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_pem(DOMAIN, self.0.certificate().as_bytes()).unwrap()
    }

    pub(crate) fn credentials(&self, workload: &str) -> Credentials {
        let (from, until) = today();
        let hosts = vec!["localhost".to_owned()];
        let grant = Grant { id: id(workload), hosts, uses: Uses::Workload, from, until };
        self.0.credentials(&grant).unwrap()
    }

    /// A certificate signed by the root, with any contents.
    pub(crate) fn certificate(&self, params: &CertificateParams) -> Shown {
        let root_key = KeyPair::from_pem(&self.0.key()).unwrap();
        let root = Issuer::from_ca_cert_pem(self.0.certificate(), root_key).unwrap();
        let key = KeyPair::generate().unwrap();
        Shown::new(params.signed_by(&key, &root).unwrap().der().clone(), &key)
    }
}

/// A chain and key to present in TLS.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Shown {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { chain: vec![certificate], key }
    }

    /// A self-signed certificate.
    pub(crate) fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::new(params.self_signed(&key).unwrap().der().clone(), &key)
    }
}

/// The contents of a workload's certificate, with these URIs as names.
pub(crate) fn params(uris: &[&str]) -> CertificateParams {
    let (from, until) = today();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let uris = uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap()));
    params.subject_alt_names.extend(uris);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    valid(&mut params, from, until);
    params
}

pub(crate) fn valid(params: &mut CertificateParams, from: UnixMillis, until: UnixMillis) {
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_millis(from.0);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_millis(until.0);
}
