//! Names of workloads (SPIFFE IDs).

use std::{fmt, str::FromStr};

use crate::Error;

/// A workload's name: `spiffe://{trust domain}/{kind}/{name}`, such as `spiffe://hermesh.local/service/evaluation` or
/// `spiffe://hermesh.local/tenant/acme`. Of the names that SPIFFE allows, only those with two segments of `a-z`, `0-9`
/// and `-` are accepted, so that each name can also be used as a reply subject; see [`Self::inbox`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: String,
    domain_end: usize,
    kind_end: usize,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The longest name.
    pub const MAX_LEN: usize = 512;
    /// The longest segment.
    pub const MAX_SEGMENT: usize = 64;

    /// The name of `workload`, for example `service/evaluation`, in a trust domain.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn new(domain: &str, workload: &str) -> Result<Self, Error> {
        format!("{SCHEME}{domain}/{workload}").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.domain_end]
    }

    /// What kind of workload it is: `service`, `tenant`, …
    pub fn kind(&self) -> &str {
        &self.text[self.domain_end + 1..self.kind_end]
    }

    /// The name within its kind.
    pub fn name(&self) -> &str {
        &self.text[self.kind_end + 1..]
    }

    /// Kind and name, for example `service/evaluation`, as in policies.
    pub fn workload(&self) -> &str {
        &self.text[self.domain_end + 1..]
    }

    /// The subject prefix of replies to this workload, for example `_INBOX.service.evaluation`. No other workload may
    /// subscribe there.
    pub fn inbox(&self) -> String {
        inbox(self.kind(), self.name())
    }
}

/// The subject prefix of replies to a workload.
pub fn inbox(kind: &str, name: &str) -> String {
    format!("_INBOX.{kind}.{name}")
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed {
            what: "SPIFFE ID",
            expected: "spiffe://TRUST-DOMAIN/KIND/NAME, kind and name of 1 to 64 of a-z, 0-9 and -",
        };
        if text.len() > Self::MAX_LEN {
            return Err(malformed());
        }
        let id = spiffe::SpiffeId::new(text).map_err(|_| malformed())?;
        // The text must be the canonical form, so that each name has only one spelling.
        if id.to_string() != text {
            return Err(malformed());
        }
        let segments: Vec<&str> = id.path().split('/').collect();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = |segment: &str| {
            (1..=Self::MAX_SEGMENT).contains(&segment.len()) && segment.bytes().all(allowed)
        };
        match segments[..] {
            ["", kind, name] if fits(kind) && fits(name) => {
                let domain_end = SCHEME.len() + id.trust_domain_name().len();
                let kind_end = domain_end + 1 + kind.len();
                Ok(Self { text: text.to_owned(), domain_end, kind_end })
            }
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_three_parts() {
        let id: SpiffeId = "spiffe://hermesh.local/service/key-management".parse().expect("is one");
        assert_eq!(
            (id.trust_domain(), id.kind(), id.name(), id.workload()),
            ("hermesh.local", "service", "key-management", "service/key-management")
        );
        assert_eq!(id.inbox(), "_INBOX.service.key-management");
        assert_eq!(SpiffeId::new("hermesh.local", "service/key-management"), Ok(id));
    }

    #[test]
    fn what_could_be_mistaken_is_no_name() {
        for bad in [
            "",
            "service/evaluation",
            "https://hermesh.local/service/evaluation",
            "spiffe:///service/evaluation",
            "spiffe://hermesh.local",
            "spiffe://hermesh.local/service",
            "spiffe://hermesh.local/service/",
            "spiffe://hermesh.local//evaluation",
            "spiffe://hermesh.local/service/evaluation/1",
            "spiffe://hermesh.local/service/../evaluation",
            "spiffe://hermesh.local/service/evalu.ation",
            "spiffe://hermesh.local/service/*",
            "spiffe://hermesh.local/service/>",
            "spiffe://hermesh.local/Service/evaluation",
            "SPIFFE://hermesh.local/service/evaluation",
            "spiffe://Hermesh.local/service/evaluation",
            "spiffe://hermesh.local:1/service/evaluation",
            "spiffe://me@hermesh.local/service/evaluation",
            "spiffe://hermesh.local/service/evaluation?x",
            "spiffe://hermesh.local/service/evaluation#x",
            "spiffe://hermesh.local/service/eval uation",
            " spiffe://hermesh.local/service/evaluation",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        let long = format!("spiffe://d/service/{}", "x".repeat(65));
        assert!(long.parse::<SpiffeId>().is_err());
    }
}
