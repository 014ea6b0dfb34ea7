//! A bound on the memory and the time of an import, whatever the file says.

use crate::Error;

/// Numbers that an import may create, over all nodes: half a gigabyte of them.
const MAX_ELEMENTS: u64 = 1 << 26;

/// Multiplications that an import may make: a minute or so.
const MAX_WORK: u64 = 1 << 36;

pub(super) struct Budget {
    elements: u64,
    work: u64,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { elements: MAX_ELEMENTS, work: MAX_WORK }
    }

    /// A smaller one.
    #[cfg(test)]
    pub(super) fn of(elements: u64, work: u64) -> Budget {
        Budget { elements, work }
    }

    /// Asks for room for as many numbers as the product of `sizes`, before they are allocated.
    pub(super) fn allocate(&mut self, sizes: &[usize]) -> Result<usize, Error> {
        let count = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let left = count.and_then(|count| self.elements.checked_sub(count));
        let left =
            left.ok_or(Error::TooLarge { what: "numbers in the model are", limit: MAX_ELEMENTS })?;
        let count = (self.elements - left) as usize;
        self.elements = left;
        Ok(count)
    }

    /// Asks for `multiplications`, before they are made.
    pub(super) fn work(&mut self, multiplications: u64) -> Result<(), Error> {
        let left = self.work.checked_sub(multiplications);
        self.work = left.ok_or(Error::TooLarge {
            what: "multiplications to fold the model are",
            limit: MAX_WORK,
        })?;
        Ok(())
    }
}
