//! Blind rotation, which takes nearly all the time of an inference.
//!
//! For each key bit sᵢ, the accumulator (a GLWE ciphertext) is multiplied by *X*^(aᵢ·sᵢ), where aᵢ is the input's mask
//! coefficient. The key bits stay encrypted, as GGSW ciphertexts. Chillotti, Gama, Georgieva and Izabachène, *TFHE*
//! (2020), sections 3.3 and 4.3.
//!
//! Accumulators have 32 bits per coefficient, like all other ciphertexts here. The rounding is part of the noise
//! ([`crate::noise::bootstrap`]): a negligible part with one level of decomposition, a sixth with two. Each key bit is
//! read once for all inputs of a batch.

use crate::lookup::Switched;
use crate::parameters::Bootstrap;
use crate::transform::{Aligned, Transform};
use aligned_vec::{AVec, avec};
use dyn_stack::PodStack;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use tfhe_fft::c64;

/// Points of a transformed polynomial that are adjacent in the key: a cache line or two, and a whole number of
/// registers of every instruction set.
const BLOCK: usize = 8;

const ZERO: c64 = c64::new(0.0, 0.0);

/// GGSW encryptions of the bits of a key, in the Fourier domain.
pub(crate) struct RotationKey {
    shape: Bootstrap,
    transform: Transform,
    /// For each bit, for each block of points, for each row and column of the GGSW matrix: the points of the block.
    bits: Aligned<c64>,
}

impl RotationKey {
    /// A key without bits, with capacity for `bits` bits.
    pub(crate) fn with_capacity(shape: &Bootstrap, bits: usize) -> Self {
        let transform = Transform::new(shape.polynomial_size);
        let points = rows(shape) * columns(shape) * transform.points();
        Self { shape: *shape, bits: AVec::with_capacity(0, bits * points), transform }
    }

    /// Appends key bits: consecutive GGSW ciphertexts in `tfhe`'s layout, *k* + 1 GLWE ciphertexts for each level,
    /// least digit first. Runs on the current rayon pool.
    pub(crate) fn extend(&mut self, ciphertexts: &[u64]) {
        let Self { shape, transform, bits } = self;
        let polynomials = rows(shape) * columns(shape);
        let ggsw = polynomials * shape.polynomial_size;
        let from = bits.len();
        bits.resize(from + ciphertexts.len() / 2, ZERO);
        let pairs =
            bits[from..].par_chunks_exact_mut(ggsw / 2).zip(ciphertexts.par_chunks_exact(ggsw));
        pairs.for_each(|(to, from)| {
            let mut memory = transform.memory();
            let mut points = vec![ZERO; transform.points()];
            for (p, polynomial) in from.chunks_exact(shape.polynomial_size).enumerate() {
                transform.forward_torus(polynomial, &mut points, PodStack::new(&mut memory));
                let blocks = to.chunks_exact_mut(polynomials * BLOCK);
                for (block, points) in blocks.zip(points.chunks_exact(BLOCK)) {
                    block[p * BLOCK..][..BLOCK].copy_from_slice(points);
                }
            }
        });
    }

    /// Multiplies each accumulator (*k* + 1 polynomials) by *X*^(Σᵢ aᵢ·sᵢ), where aᵢ are the mask coefficients of its
    /// input and sᵢ the key bits. The caller has divided it by *X*^body before, so together it is multiplied by
    /// *X*^(−phase), where phase = body − Σᵢ aᵢ·sᵢ is what the input decrypts to.
    pub(crate) fn rotate(&self, accumulators: &mut [u32], inputs: &[Switched]) {
        let size = self.shape.polynomial_size;
        let width = columns(&self.shape) * size;
        let ggsw = rows(&self.shape) * width / 2;
        let stride = self.transform.points() + BLOCK;
        let mut digits: Aligned<i32> = avec![[64]| 0; self.shape.product.levels * size];
        let mut points: Aligned<c64> = avec![[64]| ZERO; rows(&self.shape) * stride];
        let mut memory = self.transform.memory();
        let arch = Arch::new();
        for (i, bit) in self.bits.chunks_exact(ggsw).enumerate() {
            for (accumulator, input) in accumulators.chunks_exact_mut(width).zip(inputs) {
                arch.dispatch(Step {
                    key: self,
                    bit,
                    degree: input.coefficients[i].into(),
                    accumulator,
                    digits: &mut digits,
                    points: &mut points,
                    memory: PodStack::new(&mut memory),
                });
            }
        }
    }

    /// Memory that the key takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.bits.as_slice())
    }
}

/// Rows of a GGSW matrix.
fn rows(shape: &Bootstrap) -> usize {
    shape.product.levels * columns(shape)
}

/// Columns of a GGSW matrix: polynomials of a GLWE ciphertext.
fn columns(shape: &Bootstrap) -> usize {
    shape.glwe_dimension + 1
}

/// The CMUX of one key bit: adds the external product of the encrypted bit and `(X^degree - 1) * accumulator` to the
/// accumulator.
struct Step<'a> {
    key: &'a RotationKey,
    bit: &'a [c64],
    degree: usize,
    accumulator: &'a mut [u32],
    /// Digits of one polynomial, level by level.
    digits: &'a mut [i32],
    /// A transformed polynomial for each row of the matrix. Their distance is slightly more than their length: at a
    /// power of two they would compete for the same cache lines.
    points: &'a mut [c64],
    memory: &'a mut PodStack,
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { key, bit, degree, accumulator, digits, points, memory } = self;
        let Bootstrap { polynomial_size, product, .. } = key.shape;
        let (rows, columns) = (rows(&key.shape), columns(&key.shape));
        let length = key.transform.points();
        let stride = length + BLOCK;
        for (p, polynomial) in accumulator.chunks_exact(polynomial_size).enumerate() {
            rotated_digits(polynomial, degree, product.base_log, product.levels, digits);
            for (level, digits) in digits.chunks_exact(polynomial_size).enumerate() {
                let points = &mut points[(level * columns + p) * stride..][..length];
                key.transform.forward(digits, points, memory);
            }
        }
        match columns {
            2 => multiply::<S, 2>(simd, bit, points, rows, stride),
            3 => multiply::<S, 3>(simd, bit, points, rows, stride),
            4 => multiply::<S, 4>(simd, bit, points, rows, stride),
            5 => multiply::<S, 5>(simd, bit, points, rows, stride),
            _ => unreachable!("no set of the catalogue has a GLWE dimension of {}", columns - 1),
        }
        let polynomials = accumulator.chunks_exact_mut(polynomial_size);
        for (polynomial, points) in polynomials.zip(points.chunks_exact_mut(stride)) {
            key.transform.add_backward(&mut points[..length], polynomial, memory);
        }
    }
}

/// Decomposes `(X^degree - 1) * polynomial` into `levels` polynomials of signed digits, the least digits first.
#[inline(always)]
fn rotated_digits(
    polynomial: &[u32],
    degree: usize,
    base_log: usize,
    levels: usize,
    digits: &mut [i32],
) {
    let size = polynomial.len();
    let shift = degree % size;
    // X^N = -1: coefficients that are shifted past the end return negated, and from degree N on all are negated once
    // more. With all bits of `sign` set, `^` and `-` negate; with none, they do nothing.
    let sign = if degree < size { 0 } else { u32::MAX };
    let drop = 32 - base_log * levels;
    // Ties round to even. If they always rounded up, the errors of all coefficients would accumulate.
    let below_half = (1 << (drop - 1)) - 1;
    let (digits, rest) = digits.split_at_mut((levels - 1) * size);
    let (stay, go_over) = polynomial.split_at(size - shift);
    let (to_low, to_high) = rest.split_at_mut(shift);
    let (low, high) = polynomial.split_at(shift);
    let parts = [(to_low, go_over, low, !sign), (to_high, stay, high, sign)];
    for (to, rotated, same, sign) in parts {
        for ((to, &rotated), &same) in to.iter_mut().zip(rotated).zip(same) {
            let difference = (rotated ^ sign).wrapping_sub(sign).wrapping_sub(same);
            let odd = difference >> drop & 1;
            *to = difference.wrapping_add(below_half + odd) as i32 >> drop;
        }
    }
    // `rest` ends as the greatest digit, which is stored last.
    for digits in digits.chunks_exact_mut(size) {
        for (digit, rest) in digits.iter_mut().zip(rest.iter_mut()) {
            *digit = *rest << (32 - base_log) >> (32 - base_log);
            *rest = (*rest - *digit) >> base_log;
        }
    }
}

/// Multiplies the vector of `points` by the matrix `bit`, at each point. The result overwrites the first `COLUMNS`
/// polynomials of `points`.
#[inline(always)]
fn multiply<S: Simd, const COLUMNS: usize>(
    simd: S,
    bit: &[c64],
    points: &mut [c64],
    rows: usize,
    stride: usize,
) {
    let (bit, _) = S::as_simd_c64s(bit);
    let (points, _) = S::as_mut_simd_c64s(points);
    let lanes = size_of::<S::c64s>() / size_of::<c64>();
    let (registers, stride) = (BLOCK / lanes, stride / lanes);
    for (b, block) in bit.chunks_exact(rows * COLUMNS * registers).enumerate() {
        for r in 0..registers {
            let at = b * registers + r;
            let mut sums = [simd.splat_c64s(ZERO); COLUMNS];
            for (row, matrix) in block.chunks_exact(COLUMNS * registers).enumerate() {
                let point = points[row * stride + at];
                for (column, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add_c64s(point, matrix[column * registers + r], *sum);
                }
            }
            for (column, sum) in sums.into_iter().enumerate() {
                points[column * stride + at] = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::known;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn all_sets_have_shapes_that_are_computed() {
        for shape in known().filter_map(|set| set.bootstrap) {
            assert!((2..=5).contains(&columns(&shape)));
            assert!(shape.product.base_log * shape.product.levels < 32);
            assert!((shape.polynomial_size / 2).is_multiple_of(BLOCK));
        }
    }

    #[test]
    fn digits_are_those_of_the_rotated_difference_without_bias() {
        const SIZE: usize = 64;
        let mut rng = StdRng::seed_from_u64(1);
        let polynomial: Vec<u32> = (0..SIZE).map(|_| rng.random()).collect();
        for (base_log, levels) in [(17, 1), (23, 1), (15, 2), (7, 4)] {
            let mut digits = vec![0; levels * SIZE];
            let drop = 32 - base_log * levels;
            let mut errors = 0.0;
            for degree in 0..2 * SIZE {
                rotated_digits(&polynomial, degree, base_log, levels, &mut digits);
                for j in 0..SIZE {
                    let from = (j + 2 * SIZE - degree) % (2 * SIZE);
                    let rotated = polynomial[from % SIZE];
                    let rotated = if from < SIZE { rotated } else { rotated.wrapping_neg() };
                    let most = 1 << (base_log - 1);
                    let whole = (0..levels).fold(0u32, |whole, level| {
                        let digit = digits[level * SIZE + j];
                        assert!((-most..=most).contains(&digit), "{digit}");
                        whole.wrapping_add((digit as u32) << (drop + level * base_log))
                    });
                    let error = whole.wrapping_sub(rotated.wrapping_sub(polynomial[j])) as i32;
                    assert!(error.unsigned_abs() <= 1 << (drop - 1), "{error}");
                    errors += f64::from(error);
                }
            }
            let count = (2 * SIZE * SIZE) as f64;
            let deviation = f64::from(1 << drop) / 12f64.sqrt() / (SIZE as f64).sqrt();
            assert!((errors / count).abs() < 5.0 * deviation, "{}", errors / count);
        }
    }

    #[test]
    fn every_instruction_set_multiplies_by_the_matrix() {
        const STRIDE: usize = 2 * BLOCK;
        let mut rng = StdRng::seed_from_u64(2);
        let mut random = |count: usize| {
            let of = |_| c64::new(rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0));
            Aligned::<c64>::from_iter(0, (0..count).map(of))
        };
        // Two levels, two columns, one block.
        let (bit, points) = (random(4 * 2 * BLOCK), random(4 * STRIDE));
        let mut scalar = points.clone();
        multiply::<_, 2>(pulp::Scalar, &bit, &mut scalar, 4, STRIDE);
        let mut best = points.clone();
        Arch::new().dispatch(Multiply(&bit, &mut best));
        let mut narrow = points.clone();
        narrow_registers(Multiply(&bit, &mut narrow));
        for column in 0..2 {
            for at in 0..BLOCK {
                let term =
                    |row: usize| points[row * STRIDE + at] * bit[(row * 2 + column) * BLOCK + at];
                let expected: c64 = (0..4).map(term).sum();
                for result in [&scalar, &narrow, &best] {
                    assert!((result[column * STRIDE + at] - expected).norm() < 1e-12);
                }
            }
        }

        /// On 256-bit registers, also on machines that have wider ones.
        fn narrow_registers(work: Multiply<'_>) {
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, work);
            }
            Arch::new().dispatch(work);
        }

        struct Multiply<'a>(&'a [c64], &'a mut [c64]);

        impl WithSimd for Multiply<'_> {
            type Output = ();

            fn with_simd<S: Simd>(self, simd: S) {
                multiply::<S, 2>(simd, self.0, self.1, 4, STRIDE);
            }
        }
    }
}
