//! The domain of a model's features: an interval for each.

use crate::Error;
use crate::bounded;
use crate::error::Refusal;
use hermesh_engine::MAX_WIDTH;
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
    /// Features that are indices, in ascending order. Whatever the origin of the domain, rows in which one of them is
    /// not a whole number in its limits are refused.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_WIDTH>")]
    pub(crate) indices: Vec<Index>,
}

/// A feature that is an index, of a table for example, and the whole numbers that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// The feature.
    pub feature: u32,
    /// Smallest index.
    pub low: f64,
    /// Largest index.
    pub high: f64,
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

impl Index {
    /// Checks that indices are features in ascending order, with limits.
    pub(crate) fn validate(indices: &[Self], features: usize) -> Result<(), Error> {
        let valid = |index: &Self| (index.feature as usize) < features && index.low <= index.high;
        if indices.is_sorted_by(|a, b| a.feature < b.feature) && indices.iter().all(valid) {
            return Ok(());
        }
        let reason = "its indices are not features in ascending order, or have no values".into();
        Err(Error::Domain { reason })
    }
}

impl Domain {
    /// The same interval for all of `features` features.
    #[must_use]
    pub fn same(features: usize, low: f64, high: f64, source: Source) -> Self {
        Self { low: vec![low; features], high: vec![high; features], source, indices: Vec::new() }
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
        let mut domain = Self::same(0, 0.0, 0.0, Source::Declared);
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

    /// Makes features indices. In an observed domain, the interval of an index is that of its table, also where the rows
    /// do not have all of it.
    pub(crate) fn restrict(&mut self, indices: &[Index]) -> Result<(), Error> {
        for &Index { feature, low, high } in indices {
            let feature = feature as usize;
            let known = (&mut self.low[feature], &mut self.high[feature]);
            let of_table = high - low < MAX_WIDTH as f64;
            if self.source == Source::Observed && of_table {
                (*known.0, *known.1) = (low, high);
            } else if high < *known.0 || *known.1 < low {
                let reason = format!(
                    "feature {feature} is an index from {low} to {high}, but its domain is {} to {}",
                    known.0, known.1
                );
                return Err(Error::Domain { reason });
            }
        }
        self.indices = indices.to_vec();
        Ok(())
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
        Index::validate(&self.indices, features)
    }

    /// Refuses a row whose indices are not within their limits.
    fn check_indices(&self, row: &[f64]) -> Result<(), Refusal> {
        for &Index { feature, low, high } in &self.indices {
            let value = row[feature as usize];
            if value.fract() != 0.0 || value < low || value > high {
                return Err(Refusal::NoIndex { feature: feature as usize, value, low, high });
            }
        }
        Ok(())
    }

    /// Refuses a row outside a strict domain.
    pub(crate) fn check(&self, row: &[f64]) -> Result<(), Refusal> {
        self.check_indices(row)?;
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

    /// The row with each feature moved into its interval. Indices stay: a neighbouring one means something else.
    #[must_use]
    pub fn clamp(&self, row: &[f64]) -> Vec<f64> {
        let clamp = |(i, x): (usize, &f64)| x.clamp(self.low[i], self.high[i]);
        let mut clamped: Vec<f64> = row.iter().enumerate().map(clamp).collect();
        for index in &self.indices {
            clamped[index.feature as usize] = row[index.feature as usize];
        }
        clamped
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

    #[test]
    fn indices_are_strict_in_every_domain() {
        let index = |feature, high| Index { feature, low: 0.0, high };
        let mut observed = Domain::observed(&[&[0.0, 2.0, 3.0], &[1.0, 4.0, 3.0]]);
        observed.restrict(&[index(1, 9.0), index(2, 3.0)]).unwrap();
        // Indices that the rows did not have are known; leaving the span of another feature is no reason to refuse.
        assert_eq!((observed.low[1], observed.high[1]), (0.0, 9.0));
        assert!(observed.check(&[7.5, 9.0, 0.0]).is_ok());
        for value in [-1.0, 0.5, 10.0, 1e300] {
            let expected = Refusal::NoIndex { feature: 1, value, low: 0.0, high: 9.0 };
            assert_eq!(observed.check(&[0.5, value, 0.0]), Err(expected));
            assert_eq!(observed.clamp(&[7.5, value, 0.0]), [1.0, value, 0.0]);
        }

        // A domain of another model, with indices of its own.
        observed.restrict(&[index(1, f64::INFINITY)]).unwrap();
        assert_eq!((observed.low[1], observed.high[1]), (0.0, 9.0));
        assert!(observed.check(&[0.5, 1e9, 9.0]).is_ok());

        let mut declared = Domain::parse("0..1,2..20,0..3", 3).unwrap();
        declared.restrict(&[index(1, 9.0)]).unwrap();
        for (value, refused) in [(1.0, true), (2.0, false), (9.0, false), (10.0, true)] {
            assert_eq!(declared.check(&[0.5, value, 0.0]).is_err(), refused, "{value}");
        }
        let mut beyond = Domain::parse("0..1,10..20,0..3", 3).unwrap();
        let error = beyond.restrict(&[index(1, 9.0)]).unwrap_err().to_string();
        assert!(error.contains("feature 1 is an index from 0 to 9"), "{error}");

        for bad in [&[index(3, 1.0)][..], &[index(1, 1.0), index(1, 1.0)], &[index(0, -1.0)]] {
            let domain =
                Domain { indices: bad.to_vec(), ..Domain::same(3, 0.0, 1.0, Source::Observed) };
            assert!(domain.validate(3).is_err());
        }
    }
}
