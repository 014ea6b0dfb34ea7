//! The Fourier transform in which polynomials modulo *X*^N + 1 are multiplied point by point.
//!
//! The two halves of a real polynomial are the real and imaginary parts of *N*/2 complex numbers. Their Fourier
//! transform, after a twist by powers of a 2*N*-th root of unity, is the polynomial at half of the roots of *X*^N + 1;
//! for a real polynomial, the other half are conjugates. Klemsa, *Fast and Error-Free Negacyclic Integer Convolution
//! using Extended Fourier Transform* (2021), section 3. The points are in the algorithm's own order.

use crate::roots::cos_sin;
use aligned_vec::{AVec, ConstAlign};
use dyn_stack::{PodBuffer, PodStack};
use tfhe_fft::c64;
use tfhe_fft::ordered::FftAlgo;
use tfhe_fft::unordered::{Method, Plan};

/// A vector aligned to cache lines, for loads of the widest registers.
pub(crate) type Aligned<T> = AVec<T, ConstAlign<64>>;

/// Transforms of up to this many points use one base transform.
const LONGEST: usize = 1024;

/// One turn in the 64-bit representation of the torus.
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// Transforms polynomials of one size.
pub(crate) struct Transform {
    plan: Plan,
    /// Real and imaginary parts of the twist.
    re: Aligned<f64>,
    im: Aligned<f64>,
}

impl Transform {
    pub(crate) fn new(polynomial_size: usize) -> Self {
        let points = polynomial_size / 2;
        // A fixed algorithm, so that answers do not depend on which one was fastest at start. It is the fastest or
        // within 5 % of it.
        let base_n = if points <= LONGEST { points } else { LONGEST / 2 };
        let method = Method::UserProvided { base_algo: FftAlgo::Dif4, base_n };
        let (mut re, mut im) = (AVec::with_capacity(0, points), AVec::with_capacity(0, points));
        for (cos, sin) in (0..points).map(|j| cos_sin(j, polynomial_size)) {
            re.push(cos);
            im.push(sin);
        }
        Self { plan: Plan::new(points, method), re, im }
    }

    /// Points of a transformed polynomial: half its coefficients.
    pub(crate) fn points(&self) -> usize {
        self.re.len()
    }

    /// Scratch memory for transforms.
    pub(crate) fn memory(&self) -> PodBuffer {
        PodBuffer::new(self.plan.fft_scratch())
    }

    /// Transforms integers.
    #[inline(always)]
    pub(crate) fn forward(&self, integers: &[i32], out: &mut [c64], memory: &mut PodStack) {
        let (low, high) = integers.split_at(self.points());
        let twist = self.re.iter().zip(self.im.iter());
        for (((out, &low), &high), (&re, &im)) in out.iter_mut().zip(low).zip(high).zip(twist) {
            let (low, high) = (f64::from(low), f64::from(high));
            *out = c64::new(low * re - high * im, low * im + high * re);
        }
        self.plan.fwd(out, memory);
    }

    /// Transforms a polynomial of torus elements, scaled such that [`Self::add_backward`] takes its products with
    /// transformed integers.
    pub(crate) fn forward_torus(&self, torus: &[u64], out: &mut [c64], memory: &mut PodStack) {
        let turn = 1.0 / (TURN * self.points() as f64);
        let (low, high) = torus.split_at(self.points());
        let twist = self.re.iter().zip(self.im.iter());
        for (((out, &low), &high), (&re, &im)) in out.iter_mut().zip(low).zip(high).zip(twist) {
            let value = c64::new(low as i64 as f64, high as i64 as f64) * turn;
            *out = value * c64::new(re, im);
        }
        self.plan.fwd(out, memory);
    }

    /// Transforms back and adds the result, rounded to 32 bits, to torus elements.
    #[inline(always)]
    pub(crate) fn add_backward(&self, values: &mut [c64], to: &mut [u32], memory: &mut PodStack) {
        self.plan.inv(values, memory);
        let (low, high) = to.split_at_mut(self.points());
        let twist = self.re.iter().zip(self.im.iter());
        for (((value, low), high), (&re, &im)) in values.iter().zip(low).zip(high).zip(twist) {
            *low = low.wrapping_add(torus(value.re * re + value.im * im));
            *high = high.wrapping_add(torus(value.im * re - value.re * im));
        }
    }
}

/// Converts turns to a torus element scaled by 2³², modulo one turn. The least bit of an `f64` near 1.5·2⁵² is worth
/// one, so adding that number rounds to an integer, which is in the low half of the sum: a conversion without branches,
/// for all instruction sets. Valid up to 2⁵⁰ turns.
#[inline(always)]
fn torus(turns: f64) -> u32 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let whole = (turns + ROUND) - ROUND;
    ((turns - whole) * 4_294_967_296.0 + ROUND).to_bits() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn turns_are_taken_modulo_one_and_rounded() {
        assert_eq!(torus(0.25), 1 << 30);
        assert_eq!(torus(-0.25), 3 << 30);
        assert_eq!(torus(123_456_789.5), 1 << 31);
        assert_eq!(torus(-7.5), 1 << 31);
        assert_eq!(torus(0.4 / 4_294_967_296.0), 0);
        assert_eq!(torus(0.6 / 4_294_967_296.0), 1);
        assert_eq!(torus(-0.6 / 4_294_967_296.0), u32::MAX);
        assert_eq!(torus(1.0 - 0.4 / 4_294_967_296.0), 0);
    }

    #[test]
    fn products_are_those_of_polynomials_modulo_x_to_the_n_plus_one() {
        let mut rng = StdRng::seed_from_u64(1);
        for size in [512, 1024, 2048, 4096, 8192] {
            let transform = Transform::new(size);
            let mut memory = transform.memory();
            let stack = PodStack::new(&mut memory);
            let integers: Vec<i32> = (0..size).map(|_| rng.random_range(-64..64)).collect();
            let torus: Vec<u64> = (0..size).map(|_| rng.random()).collect();
            let before: Vec<u32> = (0..size).map(|_| rng.random()).collect();
            let zero = c64::new(0.0, 0.0);
            let (mut a, mut b) = (vec![zero; size / 2], vec![zero; size / 2]);
            transform.forward(&integers, &mut a, stack);
            transform.forward_torus(&torus, &mut b, stack);
            a.iter_mut().zip(&b).for_each(|(a, b)| *a *= b);
            let mut sum = before.clone();
            transform.add_backward(&mut a, &mut sum, stack);
            for at in [0, 1, size / 2 - 1, size / 2, size - 1] {
                let terms = (0..size).map(|i| {
                    let other = torus[(size + at - i) % size];
                    let term = other.wrapping_mul(i64::from(integers[i]) as u64);
                    if i <= at { term } else { term.wrapping_neg() }
                });
                let exact = crate::lwe::round(terms.fold(0, u64::wrapping_add));
                let error = sum[at].wrapping_sub(before[at]).wrapping_sub(exact) as i32;
                assert!(error.abs() <= 1, "size {size}, coefficient {at}: off by {error}");
            }
        }
    }
}
