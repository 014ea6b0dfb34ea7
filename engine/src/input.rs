//! Inputs: values packed into seeded GLWE ciphertexts.

use crate::artifact::DIGEST_BYTES;
use crate::codec::{Kind, Reader, Writer};
use crate::lwe::round;
use crate::{ClientKey, Digest, Error, Outline, ParameterSet};
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

/// An encrypted input. Each row of `columns` values is ⌈`columns` / s⌉ GLWE ciphertexts of polynomial size s = 64 (32
/// if 64 does not divide *n*) under the client's input key of dimension *n*. All masks are generated from one seed, so
/// only the bodies are sent: 32 bits per value.
pub struct Input {
    set: &'static ParameterSet,
    key: Digest,
    program: Digest,
    rows: usize,
    columns: usize,
    seed: Seed,
    bodies: Vec<u32>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} × {}, {})", self.rows, self.columns, self.set.name)
    }
}

/// Encrypts rows of torus values (scaled by 2⁶⁴) for a program. The noise has standard deviation
/// 2^[`ParameterSet::lwe_noise_log2`] of the torus; [`crate::noise::fresh`] adds the rounding to 32 bits. Each call
/// draws a new seed and new noise from the randomness of the operating system and the processor.
///
/// # Errors
/// The rows do not have the program's width, there are none or more than [`crate::Program::max_rows`], or the key is
/// for another parameter set.
pub fn encrypt(
    key: &ClientKey,
    program: &impl AsRef<Outline>,
    rows: &[Vec<u64>],
) -> Result<Vec<u8>, Error> {
    let (set, program) = (key.parameter_set(), program.as_ref());
    if set != program.parameter_set {
        return Err(Error::WrongParameterSet {
            what: "the client key",
            expected: program.parameter_set.name,
            found: set.name,
        });
    }
    let columns = program.inputs;
    let malformed = |why| Error::Malformed { what: "the input", why };
    if !(1..=program.max_rows).contains(&rows.len()) {
        let most = program.max_rows;
        return Err(malformed(format!("{} rows are outside 1..={most}", rows.len())));
    }
    if let Some(row) = rows.iter().find(|row| row.len() != columns) {
        return Err(malformed(format!("a row has {} values, expected {columns}", row.len())));
    }
    let mut seeder = crate::random::seeder();
    let seed = seeder.seed();
    let size = set.input_packing_size();
    let padded = columns.next_multiple_of(size);
    let mut plain = Zeroizing::new(vec![0; rows.len() * padded]);
    for (to, from) in plain.chunks_exact_mut(padded).zip(rows) {
        to[..columns].copy_from_slice(from);
    }
    let mut list = SeededGlweCiphertextList::from_container(
        vec![0; plain.len()],
        glwe_size(set),
        PolynomialSize(size),
        seed.into(),
        CiphertextModulus::new_native(),
    );
    let plain = PlaintextList::from_container(plain.as_slice());
    encrypt_seeded_glwe_ciphertext_list(
        &key.input_key(),
        &mut list,
        &plain,
        set.lwe_noise(),
        &mut seeder,
    );
    let mut writer = Writer::new(Kind::Input, set, 96 + rows.len() * columns * 4);
    writer.bytes(&key.evaluation_key());
    writer.bytes(&program.digest);
    writer.u32(rows.len() as u32);
    writer.u32(columns as u32);
    writer.bytes(&seed.0.to_le_bytes());
    for row in list.into_container().chunks_exact(padded) {
        let bodies: Vec<u32> = row[..columns].iter().map(|&body| round(body)).collect();
        writer.u32s(&bodies);
    }
    Ok(writer.finish())
}

/// Header, digests, counts and seed; 32 bits per value; digest.
pub(crate) fn input_bytes(rows: usize, columns: usize) -> usize {
    10 + 64 + 8 + 16 + 4 * rows * columns + DIGEST_BYTES
}

fn glwe_size(set: &ParameterSet) -> GlweSize {
    GlweSize(set.lwe_dimension / set.input_packing_size() + 1)
}

impl Input {
    /// Decodes an input for a program.
    ///
    /// # Errors
    /// The bytes are not an input for this program of 1 to [`crate::Program::max_rows`] rows.
    pub fn decode(bytes: &[u8], program: &impl AsRef<Outline>) -> Result<Self, Error> {
        let program = program.as_ref();
        let (columns, most) = (program.inputs, program.max_rows);
        let limit = input_bytes(most, columns) as u64;
        let (mut reader, key) = Reader::open_for(bytes, Kind::Input, limit, program)?;
        let rows = reader.u32()? as usize;
        if !(1..=most).contains(&rows) {
            return Err(reader.malformed(format!("{rows} rows are outside 1..={most}")));
        }
        let claimed = reader.u32()? as usize;
        if claimed != columns {
            let why = format!("rows of {claimed} values, the program takes {columns}");
            return Err(reader.malformed(why));
        }
        let seed = Seed(u128::from_le_bytes(reader.array()?));
        reader.expect(4 * (rows * columns) as u64)?;
        let bodies = reader.u32s(rows * columns)?;
        let (set, program) = (program.parameter_set, program.digest);
        Ok(Self { set, key, program, rows, columns, seed, bodies })
    }

    /// Digest of the evaluation key that belongs to the client key of this input.
    #[must_use]
    pub fn evaluation_key(&self) -> Digest {
        self.key
    }

    /// Digest of the program that the input is for.
    #[must_use]
    pub fn program(&self) -> Digest {
        self.program
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Regenerates the masks from the seed.
    pub(crate) fn expand(&self) -> Expanded {
        let size = self.set.input_packing_size();
        let padded = self.columns.next_multiple_of(size);
        let mut bodies = vec![0; self.rows * padded];
        let rows = self.bodies.chunks_exact(self.columns);
        for (to, from) in bodies.chunks_exact_mut(padded).zip(rows) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = u64::from(from) << 32;
            }
        }
        let list = SeededGlweCiphertextList::from_container(
            bodies,
            glwe_size(self.set),
            PolynomialSize(size),
            self.seed.into(),
            CiphertextModulus::new_native(),
        )
        .decompress_into_glwe_ciphertext_list();
        Expanded { list, per_row: padded / size }
    }
}

/// An input with its masks.
pub(crate) struct Expanded {
    list: GlweCiphertextListOwned<u64>,
    /// Ciphertexts per row.
    per_row: usize,
}

/// Bytes of an [`Expanded`] input. The values of one GLWE ciphertext share its mask.
pub(crate) fn expanded_bytes(set: &ParameterSet, rows: usize, columns: usize) -> usize {
    8 * glwe_size(set).0 * rows * columns.next_multiple_of(set.input_packing_size())
}

impl Expanded {
    /// Extracts the value of a row and column as an LWE ciphertext of *n* + 1 coefficients of 32 bits (sample
    /// extraction, Chillotti et al. 2020, section 4.2). A dot product of extracted ciphertexts with clear weights is
    /// term by term the same sum as extracting one coefficient of the polynomial product.
    pub(crate) fn extract(&self, row: usize, column: usize, to: &mut [u32]) {
        let size = self.list.polynomial_size().0;
        let glwe = self.list.get(row * self.per_row + column / size);
        let width = LweSize(to.len());
        let mut lwe = LweCiphertext::new(0u64, width, CiphertextModulus::new_native());
        extract_lwe_sample_from_glwe_ciphertext(&glwe, &mut lwe, MonomialDegree(column % size));
        // The rounding of the mask is centred (see `lookup::switch`). All ciphertexts extracted from one GLWE share it,
        // so its mean would accumulate in a sum.
        let (mask, body) = (lwe.get_mask(), lwe.get_body());
        let moved = |&c: &u64| (u64::from(round(c)) << 32).wrapping_sub(c) as i64;
        let moved: i64 = mask.as_ref().iter().map(moved).sum();
        for (to, &c) in to.iter_mut().zip(mask.as_ref()) {
            *to = round(c);
        }
        to[width.0 - 1] = round(body.data.wrapping_add((moved / 2) as u64));
    }
}
