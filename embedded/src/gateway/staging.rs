//! Uploads that nobody has asked to check yet.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use hermesh_mesh::Digest;

/// Remembers the newest uploads, so that abandoned ones do not fill the store for good.
pub(super) struct Staging {
    limit: usize,
    uploads: Mutex<VecDeque<(Digest, usize)>>,
}

impl Staging {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, uploads: Mutex::default() }
    }

    /// Notes an upload, and returns older ones that have to go for it. Those that have been checked
    /// meanwhile are no uploads any more; deleting them again does no harm.
    pub(super) fn add(&self, digest: Digest, size: usize) -> Vec<Digest> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.retain(|(other, _)| *other != digest);
        uploads.push_back((digest, size));
        let mut bytes: usize = uploads.iter().map(|(_, size)| size).sum();
        let mut gone = Vec::new();
        while uploads.len() > 1 && (bytes > self.limit || uploads.len() > MAX_COUNT) {
            let Some((oldest, size)) = uploads.pop_front() else { break };
            bytes -= size;
            gone.push(oldest);
        }
        gone
    }
}

/// Bounds the list itself.
const MAX_COUNT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go() {
        let staging = Staging::new(10);
        let [a, b, c] = [1, 2, 3].map(|n| Digest([n; 32]));
        assert_eq!(staging.add(a, 4), []);
        assert_eq!(staging.add(b, 4), []);
        assert_eq!(staging.add(a, 4), [], "the same again is the newest");
        assert_eq!(staging.add(c, 4), [b]);
        assert_eq!(staging.add(b, 10), [a, c]);
        assert_eq!(staging.add(c, 99), [b], "the newest stays, however large");
    }

    #[test]
    fn their_number_is_bounded() {
        let staging = Staging::new(10);
        let gone = (0..2000u16).map(|n| staging.add(Digest::of(&n.to_le_bytes()), 0).len());
        assert_eq!(gone.sum::<usize>(), 2000 - MAX_COUNT);
    }
}
