//! The client key (secret), the evaluation key (public, as sent), and the evaluation key's two expanded forms on
//! servers.

use crate::artifact::DIGEST_BYTES;
use crate::codec::{Kind, Reader, Writer};
use crate::kernel::Vectors;
use crate::lwe::round;
use crate::parameters::{ANSWER_DIMENSION, ANSWER_NOISE_LOG2, Bootstrap, PACKING_SIZE, gaussian};
use crate::rotation::RotationKey;
use crate::{Digest, Error, ParameterSet};
use tfhe::core_crypto::commons::generators::MaskRandomGenerator;
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

const MODULUS: CiphertextModulus<u64> = CiphertextModulus::new_native();
pub(crate) const ANSWER_GLWE_SIZE: GlweSize = GlweSize(ANSWER_DIMENSION / PACKING_SIZE + 1);

/// The secret keys of a client. They never leave the client; [`ClientKey::encode`] is for the client's own disk,
/// encrypted under a passphrase.
pub struct ClientKey {
    set: &'static ParameterSet,
    evaluation_key: Digest,
    /// The input key: binary, of dimension *n*.
    input: Zeroizing<Vec<u64>>,
    /// The answer key: binary, of dimension [`ANSWER_DIMENSION`].
    answer: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientKey({}, secret)", self.set.name)
    }
}

/// Random bits directly from the seeder. A generator of `tfhe` would expand them from a seed that it stores and does
/// not zeroize.
fn secret_bits(seeder: &mut dyn Seeder, dimension: usize) -> Zeroizing<Vec<u64>> {
    let mut bits = Zeroizing::new(Vec::with_capacity(dimension));
    while bits.len() < dimension {
        let word = Zeroizing::new(seeder.seed().0);
        let left = dimension - bits.len();
        bits.extend((0..u128::BITS).map(|i| (*word >> i & 1) as u64).take(left));
    }
    bits
}

impl ClientKey {
    /// Generates a client key and its evaluation key. The accumulator's secret key (GLWE, used only to make the
    /// evaluation key) is dropped and zeroized before this returns.
    #[must_use]
    pub fn generate(set: &'static ParameterSet) -> (Self, EvaluationKey) {
        let seeder: &mut dyn Seeder = &mut crate::random::seeder();
        let input = secret_bits(seeder, set.lwe_dimension);
        let answer = secret_bits(seeder, ANSWER_DIMENSION);
        let mut writer = Writer::new(Kind::EvaluationKey, set, evaluation_key_bytes(set));
        match &set.bootstrap {
            None => write_packing_key(&mut writer, set, &input, &answer, seeder),
            Some(bootstrap) => {
                let accumulator = secret_bits(seeder, set.output_dimension());
                write_bootstrap_key(&mut writer, set, bootstrap, &input, &accumulator, seeder);
                write_keyswitch_key(&mut writer, set, bootstrap, &accumulator, &input, seeder);
                write_packing_key(&mut writer, set, &accumulator, &answer, seeder);
            }
        }
        let evaluation = EvaluationKey::assemble(set, writer.finish_named());
        let client = Self { set, evaluation_key: evaluation.digest, input, answer };
        (client, evaluation)
    }

    /// The parameter set of the keys.
    #[must_use]
    pub fn parameter_set(&self) -> &'static ParameterSet {
        self.set
    }

    /// Digest of the evaluation key that was generated with this key.
    #[must_use]
    pub fn evaluation_key(&self) -> Digest {
        self.evaluation_key
    }

    /// The key as bytes: **secret**.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let bits = self.input.len() + self.answer.len();
        let mut writer = Writer::new(Kind::ClientKey, self.set, 32 + bits);
        writer.bytes(&self.evaluation_key);
        for &bit in self.input.iter().chain(self.answer.iter()) {
            writer.bytes(&[bit as u8]);
        }
        Zeroizing::new(writer.finish())
    }

    /// Reads the bytes of [`Self::encode`].
    ///
    /// # Errors
    /// The bytes are not a well-formed client key.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::open(bytes, Kind::ClientKey, 1 << 16)?;
        let set = reader.set();
        let evaluation_key = reader.digest()?;
        reader.expect((set.lwe_dimension + ANSWER_DIMENSION) as u64)?;
        let bits = reader.rest();
        if bits.iter().any(|&bit| bit > 1) {
            return Err(reader.malformed("a key bit is neither 0 nor 1"));
        }
        let read = |bits: &[u8]| Zeroizing::new(bits.iter().map(|&b| u64::from(b)).collect());
        let (input, answer) = bits.split_at(set.lwe_dimension);
        Ok(Self { set, evaluation_key, input: read(input), answer: read(answer) })
    }

    pub(crate) fn input_key(&self) -> GlweSecretKey<&[u64]> {
        let size = PolynomialSize(self.set.input_packing_size());
        GlweSecretKey::from_container(self.input.as_slice(), size)
    }

    pub(crate) fn answer_key(&self) -> GlweSecretKey<&[u64]> {
        GlweSecretKey::from_container(self.answer.as_slice(), PolynomialSize(PACKING_SIZE))
    }
}

const SEED_BYTES: usize = 16;
const HEADER_BYTES: usize = 10;

fn bootstrap_words(set: &ParameterSet, b: &Bootstrap) -> usize {
    set.lwe_dimension * (b.glwe_dimension + 1) * b.product.levels * b.polynomial_size
}

fn keyswitch_words(set: &ParameterSet, b: &Bootstrap) -> usize {
    set.output_dimension() * b.keyswitch.levels
}

fn packing_words(set: &ParameterSet) -> usize {
    set.output_dimension() * set.packing.levels * PACKING_SIZE
}

fn bootstrapping_bytes(set: &ParameterSet) -> usize {
    set.bootstrap
        .map_or(0, |b| 2 * SEED_BYTES + 8 * bootstrap_words(set, &b) + 4 * keyswitch_words(set, &b))
}

pub(crate) fn evaluation_key_bytes(set: &ParameterSet) -> usize {
    HEADER_BYTES + bootstrapping_bytes(set) + SEED_BYTES + 4 * packing_words(set) + DIGEST_BYTES
}

fn write_bootstrap_key(
    writer: &mut Writer,
    set: &ParameterSet,
    bootstrap: &Bootstrap,
    from: &[u64],
    to: &[u64],
    seeder: &mut dyn Seeder,
) {
    let seed = seeder.seed();
    let mut key = seeded_bootstrap_key(bootstrap, seed, vec![0; bootstrap_words(set, bootstrap)]);
    par_generate_seeded_lwe_bootstrap_key(
        &LweSecretKey::from_container(from),
        &GlweSecretKey::from_container(to, PolynomialSize(bootstrap.polynomial_size)),
        &mut key,
        set.glwe_noise(),
        seeder,
    );
    writer.bytes(&seed.0.to_le_bytes());
    writer.u64s(&key.into_container());
}

fn write_keyswitch_key(
    writer: &mut Writer,
    set: &ParameterSet,
    bootstrap: &Bootstrap,
    from: &[u64],
    to: &[u64],
    seeder: &mut dyn Seeder,
) {
    let seed = seeder.seed();
    let mut key =
        seeded_keyswitch_key(set, bootstrap, seed, vec![0; keyswitch_words(set, bootstrap)]);
    generate_seeded_lwe_keyswitch_key(
        &LweSecretKey::from_container(from),
        &LweSecretKey::from_container(to),
        &mut key,
        set.lwe_noise(),
        seeder,
    );
    writer.bytes(&seed.0.to_le_bytes());
    let bodies: Vec<u32> = key.into_container().into_iter().map(round).collect();
    writer.u32s(&bodies);
}

fn write_packing_key(
    writer: &mut Writer,
    set: &ParameterSet,
    from: &[u64],
    to: &[u64],
    seeder: &mut dyn Seeder,
) {
    let seed = seeder.seed();
    let mut key = seeded_packing_key(set, seed, vec![0; packing_words(set)]);
    generate_seeded_lwe_packing_keyswitch_key(
        &LweSecretKey::from_container(from),
        &GlweSecretKey::from_container(to, PolynomialSize(PACKING_SIZE)),
        &mut key,
        gaussian(ANSWER_NOISE_LOG2),
        seeder,
    );
    writer.bytes(&seed.0.to_le_bytes());
    let bodies: Vec<u32> = key.into_container().into_iter().map(round).collect();
    writer.u32s(&bodies);
}

fn seeded_bootstrap_key<C: Container<Element = u64>>(
    bootstrap: &Bootstrap,
    seed: Seed,
    bodies: C,
) -> SeededLweBootstrapKey<C> {
    SeededLweBootstrapKey::from_container(
        bodies,
        GlweSize(bootstrap.glwe_dimension + 1),
        PolynomialSize(bootstrap.polynomial_size),
        DecompositionBaseLog(bootstrap.product.base_log),
        DecompositionLevelCount(bootstrap.product.levels),
        seed.into(),
        MODULUS,
    )
}

fn seeded_keyswitch_key(
    set: &ParameterSet,
    bootstrap: &Bootstrap,
    seed: Seed,
    bodies: Vec<u64>,
) -> SeededLweKeyswitchKeyOwned<u64> {
    SeededLweKeyswitchKey::from_container(
        bodies,
        DecompositionBaseLog(bootstrap.keyswitch.base_log),
        DecompositionLevelCount(bootstrap.keyswitch.levels),
        LweSize(set.lwe_dimension + 1),
        seed.into(),
        MODULUS,
    )
}

fn seeded_packing_key(
    set: &ParameterSet,
    seed: Seed,
    bodies: Vec<u64>,
) -> SeededLwePackingKeyswitchKeyOwned<u64> {
    SeededLwePackingKeyswitchKey::from_container(
        bodies,
        DecompositionBaseLog(set.packing.base_log),
        DecompositionLevelCount(set.packing.levels),
        ANSWER_GLWE_SIZE,
        PolynomialSize(PACKING_SIZE),
        seed.into(),
        MODULUS,
    )
}

/// The evaluation key as it is sent: seeds of the masks, and bodies. It is public. It contains, encrypted under one
/// another, the secret keys:
/// - bootstrapping key: GGSW encryptions of the bits of the input key under the accumulator's key (GLWE dimension *k*,
///   polynomial size *N*), with bodies of 64 bits
/// - keyswitching key: from the accumulator's key (dimension *kN*) to the input key (dimension *n*), with bodies of 32
///   bits
/// - packing key: from the accumulator's key to the answer key, with bodies of 32 bits
///
/// Sets without Lookups have the packing key only, from the input key. Computing needs this key; decrypting needs the
/// client key.
#[derive(Clone)]
pub struct EvaluationKey {
    set: &'static ParameterSet,
    bytes: Vec<u8>,
    digest: Digest,
}

impl std::fmt::Debug for EvaluationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvaluationKey({}, {})", self.set.name, crate::error::short(&self.digest))
    }
}

impl EvaluationKey {
    fn assemble(set: &'static ParameterSet, (bytes, digest): (Vec<u8>, Digest)) -> Self {
        Self { set, bytes, digest }
    }

    /// Checks the header, the digest and the length that the parameter set implies.
    ///
    /// # Errors
    /// The bytes are not an evaluation key of a set in the catalogue.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let largest = crate::parameters::CATALOGUE.iter().map(evaluation_key_bytes).max();
        let reader = Reader::open(bytes, Kind::EvaluationKey, largest.unwrap_or(0) as u64)?;
        let set = reader.set();
        reader.expect((evaluation_key_bytes(set) - HEADER_BYTES - DIGEST_BYTES) as u64)?;
        Ok(Self::assemble(set, (bytes.to_vec(), reader.name())))
    }

    /// The key as bytes.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Self::encode`], which identifies the key. A key of an earlier format keeps the bytes that it was
    /// decoded from, and so its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The parameter set of the key.
    #[must_use]
    pub fn parameter_set(&self) -> &'static ParameterSet {
        self.set
    }

    fn reader(&self) -> Result<Reader<'_>, Error> {
        Reader::reopen(&self.bytes, Kind::EvaluationKey)
    }
}

fn seed(reader: &mut Reader<'_>) -> Result<Seed, Error> {
    reader.array().map(|bytes| Seed(u128::from_le_bytes(bytes)))
}

/// Key bits whose masks are regenerated at a time. All at once would take as much memory as the expanded key.
const PIECE: usize = 32;

/// The rows of a key of `bits` bits with `levels` rows of `width` coefficients each, rounded to 32 bits and laid out
/// for the kernel. `expand` takes the next bodies, in `tfhe`'s representation, and adds the masks.
fn rows<C: AsRef<[u64]>>(
    bodies: &[u32],
    bits: usize,
    levels: usize,
    width: usize,
    mut expand: impl FnMut(Vec<u64>) -> C,
) -> Vectors {
    let mut rows = Vectors::zeros(bits * levels, width);
    for (i, bodies) in bodies.chunks(PIECE * bodies.len() / bits).enumerate() {
        let expanded = expand(bodies.iter().map(|&body| u64::from(body) << 32).collect());
        let rounded: Vec<u32> = expanded.as_ref().iter().map(|&c| round(c)).collect();
        rows.set(i * PIECE * levels, &rounded);
    }
    rows
}

/// The bootstrapping and keyswitching keys, expanded for [`crate::evaluate`].
pub struct BootstrapKey {
    pub(crate) set: &'static ParameterSet,
    pub(crate) evaluation_key: Digest,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) rotation: RotationKey,
    /// `kN × levels` rows of `n + 1` coefficients.
    pub(crate) keyswitch: Vectors,
}

impl std::fmt::Debug for BootstrapKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootstrapKey({})", crate::error::short(&self.evaluation_key))
    }
}

impl BootstrapKey {
    /// Regenerates the masks and transforms the bootstrapping key to the Fourier domain, on the current rayon pool.
    /// Takes some tenths of a second.
    ///
    /// # Errors
    /// The key is for a set without Lookups.
    pub fn expand(key: &EvaluationKey) -> Result<Self, Error> {
        let set = key.set;
        let mut reader = key.reader()?;
        let bootstrap = set.bootstrap.ok_or_else(|| {
            reader.malformed(format!("parameter set {} has no bootstrapping key", set.name))
        })?;
        let bootstrap_seed = seed(&mut reader)?;
        let bodies = reader.u64s(bootstrap_words(set, &bootstrap))?;
        let mut masks = MaskRandomGenerator::<DefaultRandomGenerator>::new(bootstrap_seed);
        let mut rotation = RotationKey::with_capacity(&bootstrap, set.lwe_dimension);
        for bodies in bodies.chunks(PIECE * bodies.len() / set.lwe_dimension) {
            let seeded = seeded_bootstrap_key(&bootstrap, bootstrap_seed, bodies);
            let mut ciphertexts = LweBootstrapKey::new(
                0u64,
                seeded.glwe_size(),
                seeded.polynomial_size(),
                seeded.decomposition_base_log(),
                seeded.decomposition_level_count(),
                seeded.input_lwe_dimension(),
                MODULUS,
            );
            par_decompress_seeded_lwe_bootstrap_key_with_pre_seeded_generator(
                &mut ciphertexts,
                &seeded,
                &mut masks,
            );
            rotation.extend(ciphertexts.as_ref());
        }
        drop(bodies);

        let keyswitch_seed = seed(&mut reader)?;
        let bodies = reader.u32s(keyswitch_words(set, &bootstrap))?;
        let mut masks = MaskRandomGenerator::<DefaultRandomGenerator>::new(keyswitch_seed);
        let (bits, levels) = (set.output_dimension(), bootstrap.keyswitch.levels);
        let keyswitch = rows(&bodies, bits, levels, set.lwe_dimension + 1, |bodies| {
            let seeded = seeded_keyswitch_key(set, &bootstrap, keyswitch_seed, bodies);
            let mut rows = LweKeyswitchKey::new(
                0u64,
                seeded.decomposition_base_log(),
                seeded.decomposition_level_count(),
                seeded.input_key_lwe_dimension(),
                seeded.output_key_lwe_dimension(),
                MODULUS,
            );
            decompress_seeded_lwe_keyswitch_key_with_pre_seeded_generator(
                &mut rows, &seeded, &mut masks,
            );
            rows
        });
        Ok(Self { set, evaluation_key: key.digest, bootstrap, rotation, keyswitch })
    }

    /// For tests: a key made from two known secrets.
    #[cfg(test)]
    pub(crate) fn from_secrets(set: &'static ParameterSet, small: &[u64], large: &[u64]) -> Self {
        let mut seeder = crate::random::seeder();
        let bootstrap = set.bootstrap.unwrap();
        let mut writer = Writer::new(Kind::EvaluationKey, set, 0);
        write_bootstrap_key(&mut writer, set, &bootstrap, small, large, &mut seeder);
        write_keyswitch_key(&mut writer, set, &bootstrap, large, small, &mut seeder);
        Self::expand(&EvaluationKey::assemble(set, writer.finish_named())).unwrap()
    }

    /// Memory that the key takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rotation.memory_bytes() + self.keyswitch.memory_bytes()
    }
}

/// The packing key, expanded for [`crate::pack`].
pub struct PackingKey {
    pub(crate) set: &'static ParameterSet,
    pub(crate) evaluation_key: Digest,
    /// `output dimension × levels` GLWE ciphertexts.
    pub(crate) rows: Vectors,
}

impl std::fmt::Debug for PackingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackingKey({})", crate::error::short(&self.evaluation_key))
    }
}

impl PackingKey {
    /// Regenerates the masks.
    ///
    /// # Errors
    /// Only if the key was not made by [`EvaluationKey::decode`] or [`ClientKey::generate`].
    pub fn expand(key: &EvaluationKey) -> Result<Self, Error> {
        let set = key.set;
        let mut reader = key.reader()?;
        reader.skip(bootstrapping_bytes(set))?;
        let packing_seed = seed(&mut reader)?;
        let bodies = reader.u32s(packing_words(set))?;
        let mut masks = MaskRandomGenerator::<DefaultRandomGenerator>::new(packing_seed);
        let (bits, levels) = (set.output_dimension(), set.packing.levels);
        let rows = rows(&bodies, bits, levels, ANSWER_GLWE_SIZE.0 * PACKING_SIZE, |bodies| {
            seeded_packing_key(set, packing_seed, bodies)
                .decompress_to_lwe_packing_keyswitch_key_with_pre_seeded_generator(&mut masks)
        });
        Ok(Self { set, evaluation_key: key.digest, rows })
    }

    /// Memory that the key takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
    }
}
