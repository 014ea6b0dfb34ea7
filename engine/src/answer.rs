//! Answers: results packed into GLWE ciphertexts and modulus-switched to 24 bits.

use crate::artifact::DIGEST_BYTES;
use crate::codec::{Kind, Reader, Writer};
use crate::error::short;
use crate::kernel::Row;
use crate::keys::{ANSWER_GLWE_SIZE, PackingKey};
use crate::lwe::LweList;
use crate::parameters::{ANSWER_BITS, ANSWER_DIMENSION, PACKING_SIZE};
use crate::{ClientKey, Digest, Error, Outline, ParameterSet, Program};
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

const COEFFICIENT_BYTES: usize = ANSWER_BITS / 8;

/// An encrypted answer: `rows × outputs` values, packed in GLWE ciphertexts of up to 64 values under the client's
/// answer key, with 24 bits per coefficient.
pub struct Answer {
    set: &'static ParameterSet,
    key: Digest,
    program: Digest,
    rows: usize,
    outputs: usize,
    /// Mask and bodies of each ciphertext in turn, scaled by 2³².
    coefficients: Vec<u32>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} × {}, {})", self.rows, self.outputs, self.set.name)
    }
}

/// Packs LWE ciphertexts of *kN* + 1 coefficients into ⌈count / 64⌉ GLWE ciphertexts: Σᵢ *X*ⁱ · KS(ctᵢ), where KS is
/// the LWE-to-GLWE keyswitch (Chillotti et al. 2020, section 4.1). Slot *i* decrypts to the message of ctᵢ;
/// [`crate::noise::packing`] gives the noise that is added. Unused slots at the end are left out of the result.
pub(crate) fn pack_ciphertexts(key: &PackingKey, list: &LweList) -> Vec<u32> {
    let slots: Vec<&[u32]> = list.iter().collect();
    slots.chunks(PACKING_SIZE).flat_map(|slots| pack_one(key, slots)).collect()
}

fn pack_one(key: &PackingKey, slots: &[&[u32]]) -> Vec<u32> {
    let width = ANSWER_GLWE_SIZE.0 * PACKING_SIZE;
    let digits: Vec<Vec<i32>> = slots
        .par_iter()
        .map(|lwe| {
            let mask = lwe[..lwe.len() - 1].iter().map(|&c| u64::from(c) << 32);
            crate::decompose::digits(key.set.packing, mask)
        })
        .collect();
    let rows: Vec<Row<'_>> = digits.iter().map(|row| Row::Dense(row)).collect();
    let switched = key.rows.combine(&rows);
    let mut packed = vec![0u32; width];
    for (slot, (glwe, lwe)) in switched.chunks_exact(width).zip(slots).enumerate() {
        for (to, from) in packed.chunks_exact_mut(PACKING_SIZE).zip(glwe.chunks_exact(PACKING_SIZE))
        {
            // to −= X^slot · from, where X^64 = −1.
            for (i, &c) in from.iter().enumerate() {
                let at = (i + slot) % PACKING_SIZE;
                let wrapped = i + slot >= PACKING_SIZE;
                to[at] = if wrapped { to[at].wrapping_add(c) } else { to[at].wrapping_sub(c) };
            }
        }
        let body = &mut packed[ANSWER_DIMENSION + slot];
        *body = body.wrapping_add(lwe[lwe.len() - 1]);
    }
    packed.truncate(ANSWER_DIMENSION + slots.len());
    packed
}

fn coefficient_count(values: usize) -> usize {
    values.div_ceil(PACKING_SIZE) * ANSWER_DIMENSION + values
}

/// Header, digests and row count; 24 bits per coefficient; digest.
pub(crate) fn answer_bytes(rows: usize, outputs: usize) -> usize {
    10 + 64 + 4 + coefficient_count(rows * outputs) * COEFFICIENT_BYTES + DIGEST_BYTES
}

impl Answer {
    pub(crate) fn new(key: &PackingKey, program: &Program, rows: usize, list: &LweList) -> Self {
        Self {
            set: key.set,
            key: key.evaluation_key,
            program: program.digest(),
            rows,
            outputs: program.outputs(),
            coefficients: pack_ciphertexts(key, list),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = self.coefficients.len() * COEFFICIENT_BYTES;
        let mut writer = Writer::new(Kind::Answer, self.set, 80 + bytes);
        writer.bytes(&self.key);
        writer.bytes(&self.program);
        writer.u32(self.rows as u32);
        for &c in &self.coefficients {
            let rounded = c.wrapping_add(1 << (31 - ANSWER_BITS)) >> (32 - ANSWER_BITS);
            writer.bytes(&rounded.to_le_bytes()[..COEFFICIENT_BYTES]);
        }
        writer.finish()
    }

    /// Decodes an answer to `program`.
    ///
    /// # Errors
    /// The bytes are not an answer to this program.
    pub fn decode(bytes: &[u8], program: &impl AsRef<Outline>) -> Result<Self, Error> {
        let program = program.as_ref();
        let (outputs, most) = (program.outputs, program.max_rows);
        let limit = answer_bytes(most, outputs) as u64;
        let (mut reader, key) = Reader::open_for(bytes, Kind::Answer, limit, program)?;
        let rows = reader.u32()? as usize;
        if !(1..=most).contains(&rows) {
            return Err(reader.malformed(format!("{rows} rows are outside 1..={most}")));
        }
        let count = coefficient_count(rows * outputs);
        reader.expect((count * COEFFICIENT_BYTES) as u64)?;
        let (chunks, _) = reader.rest().as_chunks::<COEFFICIENT_BYTES>();
        let coefficients =
            chunks.iter().map(|&[a, b, c]| u32::from_le_bytes([0, a, b, c])).collect();
        let (set, program) = (program.parameter_set, program.digest);
        Ok(Self { set, key, program, rows, outputs, coefficients })
    }

    /// Digest of the program that computed the answer.
    #[must_use]
    pub fn program(&self) -> Digest {
        self.program
    }
}

/// Decrypts an answer to `rows × outputs` torus values, scaled by 2⁶⁴, noise included. They are zeroized on drop.
///
/// Do not publish unrounded values of an `approximate` program: their noise depends on the secret key (Li and
/// Micciancio, *On the Security of Homomorphic Encryption on Approximate Numbers*, 2021). As few as 1536 of them reveal
/// the answer key, by linear algebra. [`crate::reveal`] bounds what rounded values reveal.
///
/// # Errors
/// The answer belongs to another key.
pub fn decrypt(key: &ClientKey, answer: &Answer) -> Result<Zeroizing<Vec<Vec<u64>>>, Error> {
    if answer.key != key.evaluation_key() {
        return Err(Error::WrongKey {
            what: Kind::Answer.name(),
            expected: short(&key.evaluation_key()),
            found: short(&answer.key),
        });
    }
    let secret = key.answer_key();
    // Allocated in full, because growing would move the vector and leave a copy behind.
    let mut values = Zeroizing::new(Vec::with_capacity(answer.rows * answer.outputs));
    let mut plain = Zeroizing::new([0u64; PACKING_SIZE]);
    for packed in answer.coefficients.chunks(ANSWER_DIMENSION + PACKING_SIZE) {
        let used = packed.len() - ANSWER_DIMENSION;
        let mut full: Vec<u64> = packed.iter().map(|&c| u64::from(c) << 32).collect();
        full.resize(ANSWER_DIMENSION + PACKING_SIZE, 0);
        let size = PolynomialSize(PACKING_SIZE);
        let glwe = GlweCiphertext::from_container(full, size, CiphertextModulus::new_native());
        let mut list = PlaintextList::from_container(plain.as_mut_slice());
        decrypt_glwe_ciphertext(&secret, &glwe, &mut list);
        values.extend_from_slice(&plain[..used]);
    }
    Ok(Zeroizing::new(values.chunks(answer.outputs).map(<[u64]>::to_vec).collect()))
}
