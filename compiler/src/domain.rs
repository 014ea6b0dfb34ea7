//! The domain of a model's features: an interval for each.

use crate::Error;
use crate::error::Refusal;
use serde::{Deserialize, Serialize};

/// An interval for each feature of a row, and its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Smallest value of each feature.
    pub low: Vec<f64>,
    /// Largest value of each feature.
    pub high: Vec<f64>,
    /// The origin of the domain.
    pub source: Source,
}

/// The origin of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The model's owner declared it. Rows outside are refused.
    Declared,
    /// The calibration data are bytes, 0 to 255. Rows outside are refused.
    Bytes,
    /// The span of the calibration rows. Valid rows often leave it slightly, so rows outside are not refused for that
    /// alone.
    Observed,
}

impl Domain {
    /// The same interval for all of `features` features.
    #[must_use]
    pub fn same(features: usize, low: f64, high: f64, source: Source) -> Self {
        Self { low: vec![low; features], high: vec![high; features], source }
    }

    /// The span of rows.
    pub(crate) fn observed(rows: &[&[f64]]) -> Self {
        let features = rows.first().map_or(0, |row| row.len());
        let mut domain = Self::same(features, f64::INFINITY, f64::NEG_INFINITY, Source::Observed);
        for row in rows {
            for (i, &x) in row.iter().enumerate() {
                domain.low[i] = domain.low[i].min(x);
                domain.high[i] = domain.high[i].max(x);
            }
        }
        domain
    }

    /// Parses `LOW..HIGH` for all features, or a comma-separated list of one `LOW..HIGH` per feature.
    ///
    /// # Errors
    /// The text has another form or another number of intervals.
    pub fn parse(text: &str, features: usize) -> Result<Self, Error> {
        let malformed = |found: &str| Error::Domain {
            reason: format!(
                "expected LOW..HIGH with LOW below HIGH, such as 0..255, once or for each of the {features} features \
                 with commas in between; found `{}`",
                found.chars().take(40).collect::<String>()
            ),
        };
        let mut domain = Self { low: Vec::new(), high: Vec::new(), source: Source::Declared };
        for part in text.split(',') {
            let ends = part.trim().split_once("..").ok_or_else(|| malformed(part))?;
            let ends = [ends.0, ends.1].map(|end| end.trim().parse::<f64>().ok());
            let [Some(low), Some(high)] = ends else { return Err(malformed(part)) };
            if !(low.is_finite() && high.is_finite() && low <= high) {
                return Err(malformed(part));
            }
            domain.low.push(low);
            domain.high.push(high);
        }
        if domain.low.len() == 1 {
            return Ok(Self::same(features, domain.low[0], domain.high[0], Source::Declared));
        }
        domain.validate(features)?;
        Ok(domain)
    }

    /// Whether rows outside are refused.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.source != Source::Observed
    }

    pub(crate) fn validate(&self, features: usize) -> Result<(), Error> {
        if self.low.len() != features || self.high.len() != features {
            let found = self.low.len();
            let reason = format!("it has {found} intervals for a model of {features} features");
            return Err(Error::Domain { reason });
        }
        let ordered =
            |(low, high): (&f64, &f64)| low.is_finite() && high.is_finite() && low <= high;
        if !self.low.iter().zip(&self.high).all(ordered) {
            let reason = "an interval is not finite or has its ends reversed".into();
            return Err(Error::Domain { reason });
        }
        Ok(())
    }

    /// Refuses a row outside a strict domain.
    pub(crate) fn check(&self, row: &[f64]) -> Result<(), Refusal> {
        let outside = |&(i, &x): &(usize, &f64)| x < self.low[i] || x > self.high[i];
        match row.iter().enumerate().find(outside) {
            Some((feature, &value)) if self.is_strict() => Err(Refusal::OutsideDomain {
                feature,
                value,
                low: self.low[feature],
                high: self.high[feature],
            }),
            _ => Ok(()),
        }
    }

    /// The row with each feature moved into its interval.
    #[must_use]
    pub fn clamp(&self, row: &[f64]) -> Vec<f64> {
        row.iter().enumerate().map(|(i, x)| x.clamp(self.low[i], self.high[i])).collect()
    }

    /// The feature that is furthest outside its interval, relative to the interval's width, and its value.
    pub(crate) fn furthest(&self, row: &[f64]) -> Option<(usize, f64)> {
        let beyond = |i: usize, x: f64| {
            let range = (self.high[i] - self.low[i]).max(f64::MIN_POSITIVE);
            (self.low[i] - x).max(x - self.high[i]) / range
        };
        let all = row.iter().enumerate().map(|(i, &x)| (beyond(i, x), i, x));
        let most = all.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (most.0 > 0.0).then_some((most.1, most.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_read_and_refused() {
        let domain = Domain::parse("-1..2.5", 3).unwrap();
        assert_eq!((domain.low, domain.high), (vec![-1.0; 3], vec![2.5; 3]));
        let domain = Domain::parse("0..1, 5..5,-3..-2", 3).unwrap();
        assert_eq!((domain.low, domain.high), (vec![0.0, 5.0, -3.0], vec![1.0, 5.0, -2.0]));
        for bad in ["", "1", "2..1", "0..inf", "nan..1", "0..1,0..1", "0..1,0..1,0..1,0..1", "a..b"]
        {
            assert!(Domain::parse(bad, 3).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_strict_domain_refuses() {
        let mut domain = Domain::same(2, 0.0, 1.0, Source::Declared);
        assert!(domain.check(&[0.0, 1.0]).is_ok());
        assert!(matches!(
            domain.check(&[0.5, 1.5]),
            Err(Refusal::OutsideDomain { feature: 1, value: 1.5, .. })
        ));
        domain.source = Source::Observed;
        assert!(domain.check(&[0.5, 1.5]).is_ok());
        assert_eq!(domain.furthest(&[-0.5, 1.75]), Some((1, 1.75)));
        assert_eq!(domain.furthest(&[0.5, 1.0]), None);
        assert_eq!(domain.clamp(&[-0.5, 1.75]), [0.0, 1.0]);
    }
}
