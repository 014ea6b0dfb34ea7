//! Names of workloads.

use std::{fmt, str::FromStr};

use crate::Error;

/// A workload's name: `spiffe://{trust domain}/{kind}/{name}`, such as
/// `spiffe://hermesh.local/service/evaluation` or `spiffe://hermesh.local/tenant/acme`. Of what SPIFFE
/// allows, these are the names of two segments of `a-z`, `0-9` and `-`: so each is also a place for
/// answers, see [`Self::inbox`].
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

    /// The name of `workload`, `service/evaluation` say, in a trust domain.
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

    /// The domain of trust.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.domain_end]
    }

    /// What kind of workload it is: `service`, `tenant`, …
    pub fn kind(&self) -> &str {
        &self.text[self.domain_end + 1..self.kind_end]
    }

    /// Which of its kind.
    pub fn name(&self) -> &str {
        &self.text[self.kind_end + 1..]
    }

    /// Kind and name, `service/evaluation` say: what policies call it.
    pub fn workload(&self) -> &str {
        &self.text[self.domain_end + 1..]
    }

    /// Where answers to it go, and where nobody else may listen: `_INBOX.service.evaluation`.
    pub fn inbox(&self) -> String {
        inbox(self.kind(), self.name())
    }
}

/// Where answers to a workload go.
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
        // What was read must be what was written: one name, one way to write it.
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
