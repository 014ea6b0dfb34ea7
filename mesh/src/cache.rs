//! A cache of decoded objects, bounded in bytes.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Digest, Error,
    actor::blocking,
    bus::Bus,
    locks::Locks,
    objects::{self, Bucket},
    telemetry::Metrics,
    wire::Refused,
};

/// A least-recently-used cache with a bound in bytes.
#[derive(Debug)]
pub struct Lru<K, V> {
    limit: usize,
    bytes: usize,
    clock: u64,
    entries: HashMap<K, Entry<V>>,
    by_use: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Lru<K, V> {
    /// An empty cache that holds at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, clock: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// Returns the value and marks it as used.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.by_use.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.by_use.insert(entry.used, *key);
        Some(entry.value.clone())
    }

    /// Inserts a value and evicts the least recently used until all fit. A value larger than the whole cache is not
    /// kept.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.limit {
            return;
        }
        while self.bytes + bytes > self.limit
            && let Some((_, oldest)) = self.by_use.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
        self.clock += 1;
        self.bytes += bytes;
        self.by_use.insert(self.clock, key);
        let used = self.clock;
        self.entries.insert(key, Entry { value, bytes, used });
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A shared cache of decoded objects by digest. Concurrent requests for a missing object share one load, and loads of
/// different objects do not wait for each other.
pub struct Cache<V> {
    name: &'static str,
    metrics: Option<Metrics>,
    held: Mutex<Lru<Digest, Arc<V>>>,
    loading: Locks<Digest>,
}

impl<V> Cache<V> {
    /// An empty cache that holds at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let held = Mutex::new(Lru::new(limit));
        Self { name: "", metrics: None, held, loading: Locks::default() }
    }

    /// Reports hits, misses and bytes to `metrics` under this name.
    #[must_use]
    pub fn counted(self, name: &'static str, metrics: &Metrics) -> Self {
        Self { name, metrics: Some(metrics.clone()), ..self }
    }

    /// Returns the value. If it is not cached, reads the object from the bus and decodes it off this thread. `decode`
    /// also returns the size of the value in bytes.
    pub async fn fetch<D>(
        &self,
        bus: &dyn Bus,
        (bucket, digest): (&Bucket, Digest),
        limit: usize,
        decode: D,
    ) -> Result<Arc<V>, Error>
    where
        V: Send + Sync + 'static,
        D: FnOnce(&[u8]) -> Result<(V, usize), Refused> + Send + 'static,
    {
        let load = async {
            let bytes = objects::get(bus, bucket, digest, limit).await?;
            let work = move || decode(&bytes).map_err(|why| Error::Undecodable { digest, why });
            blocking(work).await?
        };
        self.get_or_load(digest, load).await
    }

    /// Returns the cached value, or the result of `load`, which also returns the size of the value in bytes.
    pub async fn get_or_load<E>(
        &self,
        digest: Digest,
        load: impl Future<Output = Result<(V, usize), E>>,
    ) -> Result<Arc<V>, E> {
        if let Some(value) = self.look_up(&digest) {
            return Ok(value);
        }
        let _one_at_a_time = self.loading.lock(digest).await;
        if let Some(value) = self.held().get(&digest) {
            return Ok(value);
        }
        let (value, bytes) = load.await?;
        let value = Arc::new(value);
        self.change(|held| held.insert(digest, value.clone(), bytes));
        Ok(value)
    }

    /// Whether the value is cached.
    pub fn holds(&self, digest: &Digest) -> bool {
        self.held().entries.contains_key(digest)
    }

    /// Digests of the cached values, in no particular order.
    pub fn digests(&self) -> Vec<Digest> {
        self.held().entries.keys().copied().collect()
    }

    /// Removes a value.
    pub fn remove(&self, digest: &Digest) {
        self.change(|held| held.remove(digest));
    }

    fn look_up(&self, digest: &Digest) -> Option<Arc<V>> {
        let value = self.held().get(digest);
        if let Some(metrics) = &self.metrics {
            metrics.cache_lookup(self.name, value.is_some());
        }
        value
    }

    fn change(&self, change: impl FnOnce(&mut Lru<Digest, Arc<V>>)) {
        let mut held = self.held();
        change(&mut held);
        if let Some(metrics) = &self.metrics {
            metrics.cache_bytes(self.name, held.bytes());
        }
    }

    fn held(&self) -> MutexGuard<'_, Lru<Digest, Arc<V>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_in_bytes_holds_and_the_least_used_goes_first() {
        let mut lru = Lru::new(10);
        lru.insert('a', 1, 4);
        lru.insert('b', 2, 4);
        assert_eq!(lru.get(&'a'), Some(1));
        lru.insert('c', 3, 4);
        assert_eq!((lru.get(&'a'), lru.get(&'b'), lru.get(&'c')), (Some(1), None, Some(3)));
        assert_eq!(lru.bytes(), 8);
        lru.insert('d', 4, 11);
        assert_eq!(lru.get(&'d'), None);
        assert_eq!(lru.bytes(), 8);
        lru.insert('e', 5, 10);
        assert_eq!((lru.get(&'e'), lru.bytes()), (Some(5), 10));
        lru.insert('e', 6, 1);
        assert_eq!((lru.get(&'e'), lru.bytes()), (Some(6), 1));
        lru.remove(&'e');
        assert_eq!((lru.get(&'e'), lru.bytes()), (None, 0));
    }

    #[tokio::test]
    async fn what_is_missing_is_loaded_once() {
        let cache = Cache::new(10);
        let loads = std::sync::atomic::AtomicU32::new(0);
        let load = || async {
            loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, ()>((7, 1))
        };
        let digest = Digest([0; 32]);
        let (one, two) =
            tokio::join!(cache.get_or_load(digest, load()), cache.get_or_load(digest, load()));
        assert_eq!((one, two), (Ok(Arc::new(7)), Ok(Arc::new(7))));
        assert_eq!(loads.into_inner(), 1);
    }

    #[tokio::test]
    async fn one_load_does_not_wait_for_another() {
        let cache = Cache::new(10);
        let never = cache.get_or_load(Digest([0; 32]), std::future::pending::<Result<_, ()>>());
        let quick = cache.get_or_load(Digest([1; 32]), async { Ok::<_, ()>((7, 1)) });
        tokio::select! {
            biased;
            _ = never => panic!("loaded"),
            value = quick => assert_eq!(value, Ok(Arc::new(7))),
        }
        assert_eq!(cache.digests(), [Digest([1; 32])]);
    }
}
