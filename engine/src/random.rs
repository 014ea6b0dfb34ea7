//! Randomness from the processor and the operating system, combined by XOR so that neither has to be trusted alone.

use tfhe::core_crypto::commons::math::random::{Seed, Seeder};
use tfhe::core_crypto::prelude::new_seeder;
use zeroize::Zeroizing;

struct Mixed(Box<dyn Seeder>);

/// Seeds from `tfhe`'s default source (`RDSEED` if available), XORed with the operating system's.
pub(crate) fn seeder() -> impl Seeder {
    Mixed(new_seeder())
}

impl Seeder for Mixed {
    /// # Panics
    /// If the operating system provides no randomness, because continuing would be unsafe.
    fn seed(&mut self) -> Seed {
        let mut system = Zeroizing::new([0; 16]);
        getrandom::getrandom(&mut *system).expect("the operating system's randomness");
        Seed(self.0.seed().0 ^ u128::from_le_bytes(*system))
    }

    fn is_available() -> bool {
        true
    }
}
