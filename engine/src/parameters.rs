//! The catalogue of parameter sets.
//!
//! A set is never edited. A better set gets a new name and a new identifier, so that keys and ciphertexts made under
//! the old one stay valid.

use tfhe::core_crypto::prelude::*;

/// Polynomial size of the GLWE ciphertexts of answers, and the largest one for inputs. The dimension of the secret keys
/// is a multiple of it. It is small because the size of the packing key is proportional to it, and masks are not sent
/// (inputs) or have the length of the key in any case (answers).
pub const PACKING_SIZE: usize = 64;

/// Dimension of the answer key, in every set.
pub const ANSWER_DIMENSION: usize = 1536;

/// Bits of each coefficient of an answer on the wire.
pub const ANSWER_BITS: usize = 24;

/// A gadget decomposition: `levels` digits of `base_log` bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decomposition {
    /// log₂ of the base.
    pub base_log: usize,
    /// Number of digits.
    pub levels: usize,
}

const fn digits(levels: usize, base_log: usize) -> Decomposition {
    Decomposition { base_log, levels }
}

/// Parameters of the programmable bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// GLWE dimension *k* of the accumulator.
    pub glwe_dimension: usize,
    /// Polynomial size *N* of the accumulator.
    pub polynomial_size: usize,
    /// Decomposition of the external product.
    pub product: Decomposition,
    /// Decomposition of the keyswitch from dimension *kN* to *n*.
    pub keyswitch: Decomposition,
}

/// A named, versioned set of parameters. All secret keys are binary. All noise is Gaussian; its standard deviation is
/// the smallest that `tfhe`'s published curve gives for 132 bits of security
/// (`core_crypto::commons::noise_formulas::secure_noise`) at ciphertext modulus 2⁶⁴.
#[derive(Debug, PartialEq)]
pub struct ParameterSet {
    /// The name, ending in the version.
    pub name: &'static str,
    /// The identifier on the wire.
    pub id: u16,
    /// LWE dimension *n* of the input key, which Lookups bootstrap from.
    pub lwe_dimension: usize,
    /// Standard deviation of fresh noise under the input key: log₂ of a fraction of the torus.
    pub lwe_noise_log2: f64,
    /// `None` in sets for programs without Lookups.
    pub bootstrap: Option<Bootstrap>,
    /// Standard deviation of fresh noise under the accumulator's key: log₂ of a fraction of the torus.
    pub glwe_noise_log2: f64,
    /// Decomposition of the keyswitch that packs answers.
    pub packing: Decomposition,
    /// Bits of security according to the curve.
    pub security_bits: u32,
    /// Cost of one Lookup, relative to the set `tfhe-2x1024-832/1`; measured in batches of 32 on one core with AVX-512.
    pub relative_cost: f64,
}

/// Standard deviation of noise under the answer key, as log₂ of a fraction of the torus: the curve at dimension 1536.
pub const ANSWER_NOISE_LOG2: f64 = -35.5759;

/// The catalogue, ordered by the cost of a Lookup, cheapest first.
pub static CATALOGUE: &[ParameterSet] = &[
    LINEAR1024,
    LINEAR,
    T3X512N640,
    T3X512,
    T4X512N640,
    T2X1024N640,
    T4X512,
    T2X1024,
    T1X2048N672,
    T1X2048,
    T1X2048N672L2,
    T1X4096N736,
    T1X4096,
    T1X8192N800,
];

/// For programs without Lookups. Its evaluation key is a third of the size of that of `lwe-2048/1`, and the key's size
/// determines the time.
pub const LINEAR1024: ParameterSet = ParameterSet {
    name: "lwe-1024/1",
    id: 11,
    lwe_dimension: 1024,
    lwe_noise_log2: -22.8312,
    bootstrap: None,
    glwe_noise_log2: -22.8312,
    packing: digits(2, 8),
    security_bits: 132,
    relative_cost: 0.0,
};

/// For programs without Lookups that need low noise: the input key has 2048 bits, and its noise is so low that rounding
/// and packing dominate. `exact` outputs have up to 11 bits.
pub const LINEAR: ParameterSet = ParameterSet {
    name: "lwe-2048/1",
    id: 1,
    lwe_dimension: 2048,
    lwe_noise_log2: -48.3203,
    bootstrap: None,
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 0.0,
};

/// The cheapest set with Lookups for several stages, for shallow networks. The noise of a Lookup's result has a
/// standard deviation of 2⁻⁹ of the torus.
pub const T3X512: ParameterSet = ParameterSet {
    name: "tfhe-3x512-768/1",
    id: 2,
    lwe_dimension: 768,
    lwe_noise_log2: -16.4592,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 3,
        polynomial_size: 512,
        product: digits(1, 17),
        keyswitch: digits(5, 3),
    }),
    glwe_noise_log2: -35.5759,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 0.57,
};

/// For `approximate` networks of any depth: noise of 2⁻⁸ of the torus (standard deviation) at the inputs of Lookups,
/// 2⁻¹⁵ at their outputs.
pub const T4X512: ParameterSet = ParameterSet {
    name: "tfhe-4x512-768/1",
    id: 3,
    lwe_dimension: 768,
    lwe_noise_log2: -16.4592,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 4,
        polynomial_size: 512,
        product: digits(1, 23),
        keyswitch: digits(5, 3),
    }),
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 0.79,
};

/// Half the input noise of `tfhe-4x512-768/1`. `exact` accumulators have up to 3 bits (here and below: where the
/// 2-norms of the weights are small).
pub const T2X1024: ParameterSet = ParameterSet {
    name: "tfhe-2x1024-832/1",
    id: 4,
    lwe_dimension: 832,
    lwe_noise_log2: -18.0523,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 2,
        polynomial_size: 1024,
        product: digits(1, 23),
        keyswitch: digits(5, 3),
    }),
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 1.0,
};

/// `exact` accumulators of up to 4 bits, and `approximate` programs that need the lowest noise.
pub const T1X2048: ParameterSet = ParameterSet {
    name: "tfhe-1x2048-896/1",
    id: 5,
    lwe_dimension: 896,
    lwe_noise_log2: -19.6453,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 2048,
        product: digits(1, 23),
        keyswitch: digits(6, 3),
    }),
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 1.4,
};

/// For `approximate` networks with one hidden layer (one stage of Lookups): a shorter input key than
/// `tfhe-3x512-768/1`. Keyswitching to so short a key, as a second stage needs, is too noisy.
pub const T3X512N640: ParameterSet = ParameterSet {
    name: "tfhe-3x512-640/1",
    id: 7,
    lwe_dimension: 640,
    lwe_noise_log2: -13.2730,
    relative_cost: 0.47,
    ..T3X512
};

/// For one stage of Lookups with less noise in the results. Relates to `tfhe-3x512-640/1` as `tfhe-4x512-768/1` does to
/// `tfhe-3x512-768/1`.
pub const T4X512N640: ParameterSet = ParameterSet {
    name: "tfhe-4x512-640/1",
    id: 12,
    lwe_dimension: 640,
    lwe_noise_log2: -13.2730,
    relative_cost: 0.69,
    ..T4X512
};

/// For one stage of Lookups with `exact` accumulators of up to 3 bits: deep trees.
pub const T2X1024N640: ParameterSet = ParameterSet {
    name: "tfhe-2x1024-640/1",
    id: 8,
    lwe_dimension: 640,
    lwe_noise_log2: -13.2730,
    packing: digits(5, 5),
    relative_cost: 0.72,
    ..T2X1024
};

/// For one stage of Lookups with `exact` accumulators of up to 4 bits: trees of depth 3.
pub const T1X2048N672: ParameterSet = ParameterSet {
    name: "tfhe-1x2048-672/1",
    id: 9,
    lwe_dimension: 672,
    lwe_noise_log2: -14.0695,
    packing: digits(5, 5),
    relative_cost: 1.1,
    ..T1X2048
};

/// `tfhe-1x2048-672/1` with less noise in the results, for sums of many Lookups that need more bits: regressions.
pub const T1X2048N672L2: ParameterSet = ParameterSet {
    name: "tfhe-1x2048-672-2/1",
    id: 10,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 2048,
        product: digits(2, 15),
        keyswitch: digits(6, 3),
    }),
    packing: digits(6, 4),
    relative_cost: 2.1,
    ..T1X2048N672
};

/// `exact` accumulators of up to 5 bits. The evaluation key has 126 MB.
pub const T1X4096: ParameterSet = ParameterSet {
    name: "tfhe-1x4096-960/1",
    id: 6,
    lwe_dimension: 960,
    lwe_noise_log2: -21.2384,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 4096,
        product: digits(2, 15),
        keyswitch: digits(6, 3),
    }),
    glwe_noise_log2: -62.0,
    packing: digits(3, 7),
    security_bits: 132,
    relative_cost: 6.5,
};

/// For one stage of Lookups with `exact` accumulators of up to 5 bits: networks with one hidden layer.
pub const T1X4096N736: ParameterSet = ParameterSet {
    name: "tfhe-1x4096-736/1",
    id: 20,
    lwe_dimension: 736,
    lwe_noise_log2: -15.6627,
    relative_cost: 5.0,
    ..T1X4096
};

/// For one stage of Lookups with `exact` accumulators of up to 6 bits: networks with one hidden layer without loss of
/// accuracy. The evaluation key has 216 MB. The costs of this set and of `tfhe-1x4096-736/1` are derived from that of
/// `tfhe-1x4096-960/1` by operation counts.
pub const T1X8192N800: ParameterSet = ParameterSet {
    name: "tfhe-1x8192-800/1",
    id: 21,
    lwe_dimension: 800,
    lwe_noise_log2: -17.2558,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 8192,
        product: digits(2, 15),
        keyswitch: digits(6, 3),
    }),
    relative_cost: 12.3,
    ..T1X4096
};

/// INSECURE. A small set for quick tests that do not depend on security.
#[cfg(test)]
pub(crate) const INSECURE_TEST: ParameterSet = ParameterSet {
    name: "INSECURE-test/1",
    id: 0xffff,
    lwe_dimension: 128,
    lwe_noise_log2: -30.0,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 2048,
        product: digits(1, 23),
        keyswitch: digits(4, 4),
    }),
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 0,
    relative_cost: 0.2,
};

/// INSECURE. Its keys are small enough to be stored as files in the repository.
#[cfg(test)]
pub(crate) const INSECURE_SMALL: ParameterSet = ParameterSet {
    name: "INSECURE-small/1",
    id: 0xfffe,
    lwe_dimension: 64,
    lwe_noise_log2: -30.0,
    bootstrap: Some(Bootstrap {
        glwe_dimension: 1,
        polynomial_size: 512,
        product: digits(1, 23),
        keyswitch: digits(4, 4),
    }),
    glwe_noise_log2: -48.3203,
    packing: digits(3, 7),
    security_bits: 0,
    relative_cost: 0.2,
};

impl ParameterSet {
    /// The set with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        known().find(|set| set.name == name)
    }

    /// The set with this identifier.
    #[must_use]
    pub fn by_id(id: u16) -> Option<&'static Self> {
        known().find(|set| set.id == id)
    }

    /// LWE dimension of a Lookup's result: *kN*. For sets without Lookups, that of the inputs.
    #[must_use]
    pub fn output_dimension(&self) -> usize {
        self.bootstrap.map_or(self.lwe_dimension, |b| b.glwe_dimension * b.polynomial_size)
    }

    /// Bytes of an evaluation key on the wire.
    #[must_use]
    pub fn evaluation_key_bytes(&self) -> usize {
        crate::keys::evaluation_key_bytes(self)
    }

    /// Polynomial size of the GLWE ciphertexts of inputs: the largest power of two, up to [`PACKING_SIZE`], that
    /// divides *n*.
    pub(crate) fn input_packing_size(&self) -> usize {
        PACKING_SIZE.min(1 << self.lwe_dimension.trailing_zeros())
    }

    pub(crate) fn lwe_noise(&self) -> Gaussian<f64> {
        gaussian(self.lwe_noise_log2)
    }

    pub(crate) fn glwe_noise(&self) -> Gaussian<f64> {
        gaussian(self.glwe_noise_log2)
    }
}

pub(crate) fn gaussian(std_log2: f64) -> Gaussian<f64> {
    Gaussian::from_dispersion_parameter(StandardDev(std_log2.exp2()), 0.0)
}

/// The sets that can be decoded: the catalogue and, in this crate's own tests, the insecure sets.
pub(crate) fn known() -> impl Iterator<Item = &'static ParameterSet> {
    #[cfg(test)]
    static TESTS: &[ParameterSet] = &[INSECURE_TEST, INSECURE_SMALL];
    #[cfg(not(test))]
    static TESTS: &[ParameterSet] = &[];
    CATALOGUE.iter().chain(TESTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfhe::core_crypto::commons::noise_formulas::secure_noise::minimal_lwe_variance_for_132_bits_security_gaussian as curve;

    #[test]
    fn noise_is_at_least_what_the_published_curve_asks_for() {
        let least = |dimension: usize| curve(LweDimension(dimension), 2f64.powi(64)).0.log2() / 2.0;
        for set in CATALOGUE {
            assert!(set.lwe_noise_log2 >= least(set.lwe_dimension), "{}", set.name);
            assert!(set.glwe_noise_log2 >= least(set.output_dimension()), "{}", set.name);
            assert_eq!(set.security_bits, 132);
            assert!(set.input_packing_size() >= 32, "{}", set.name);
        }
        assert!(ANSWER_NOISE_LOG2 >= least(ANSWER_DIMENSION));
    }

    #[test]
    fn names_and_identifiers_are_unique() {
        for (i, a) in CATALOGUE.iter().enumerate() {
            for b in &CATALOGUE[..i] {
                assert!(a.name != b.name && a.id != b.id);
            }
            assert_eq!(ParameterSet::by_name(a.name), Some(a));
            assert_eq!(ParameterSet::by_id(a.id), Some(a));
        }
    }
}
