//! Bounds the memory and the time of an import, whatever the file contains.

use crate::Error;

/// Maximum number of numbers that an import creates, over all nodes: half a gigabyte.
const MAX_ELEMENTS: u64 = 1 << 26;

/// Maximum number of multiplications of an import: about a minute.
const MAX_WORK: u64 = 1 << 36;

pub(super) struct Budget {
    elements: u64,
    work: u64,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { elements: MAX_ELEMENTS, work: MAX_WORK }
    }

    /// A smaller budget.
    #[cfg(test)]
    pub(super) fn of(elements: u64, work: u64) -> Budget {
        Budget { elements, work }
    }

    /// Charges for as many numbers as the product of `sizes`, before they are allocated. Returns their count.
    pub(super) fn allocate(&mut self, sizes: &[usize]) -> Result<usize, Error> {
        let count = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let left = count.and_then(|count| self.elements.checked_sub(count));
        let left =
            left.ok_or(Error::TooLarge { what: "numbers in the model are", limit: MAX_ELEMENTS })?;
        let count = (self.elements - left) as usize;
        self.elements = left;
        Ok(count)
    }

    /// Charges for `multiplications`, before they are done.
    pub(super) fn work(&mut self, multiplications: u64) -> Result<(), Error> {
        let left = self.work.checked_sub(multiplications);
        self.work = left.ok_or(Error::TooLarge {
            what: "multiplications to fold the model are",
            limit: MAX_WORK,
        })?;
        Ok(())
    }
}
