//! A process that dies at a chosen moment, seen from the bus: one publish never returns, and nothing
//! after it is heard.

use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use hermesh_mesh::{
    Bytes, Digest, Error, Message,
    bus::{Bucket, Bus, BusHandle, Delivery, Published, QueueOptions, Requests, Subscription},
    matches,
};
use tokio::sync::Notify;

/// When the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the publish reaches the bus.
    Before,
    /// After it is stored, before the process learns of it.
    After,
}

/// A handle on a bus whose holder dies in the middle of a publish.
pub struct DyingBus {
    inner: BusHandle,
    filter: &'static str,
    left: AtomicU32,
    moment: Moment,
    died: Notify,
}

impl DyingBus {
    /// Its holder publishes `publishes` messages under `filter` and dies with the next one.
    pub fn new(inner: BusHandle, filter: &'static str, publishes: u32, moment: Moment) -> Self {
        Self { inner, filter, left: AtomicU32::new(publishes), moment, died: Notify::new() }
    }

    /// Waits for the moment.
    pub async fn died(&self) {
        self.died.notified().await;
    }
}

#[async_trait]
impl Bus for DyingBus {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        let counted = matches(self.filter, &message.subject);
        let left = self.left.load(Ordering::SeqCst);
        if !counted || left > 0 {
            if counted {
                self.left.store(left - 1, Ordering::SeqCst);
            }
            return self.inner.publish(message).await;
        }
        if self.moment == Moment::After {
            self.inner.publish(message).await?;
        }
        self.died.notify_one();
        pending().await
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.inner.emit(message).await
    }

    async fn pull(&self, queue: &str) -> Result<Delivery, Error> {
        self.inner.pull(queue).await
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.inner.last(subject).await
    }

    async fn count(&self, filter: &str) -> Result<usize, Error> {
        self.inner.count(filter).await
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        self.inner.purge(filter).await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.inner.subscribe(filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        self.inner.request(message, timeout).await
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        self.inner.serve(filter).await
    }

    async fn put(&self, bucket: Bucket, bytes: Bytes) -> Result<Digest, Error> {
        self.inner.put(bucket, bytes).await
    }

    async fn get(&self, bucket: Bucket, digest: Digest, limit: usize) -> Result<Bytes, Error> {
        self.inner.get(bucket, digest, limit).await
    }

    async fn delete(&self, bucket: Bucket, digest: Digest) -> Result<(), Error> {
        self.inner.delete(bucket, digest).await
    }
}
