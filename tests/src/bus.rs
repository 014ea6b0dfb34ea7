//! A bus whose process dies at a chosen moment: one publish never returns, and no operation after it has
//! any effect.

use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use hermesh_mesh::{
    Error, Message,
    bus::{Bus, BusHandle, Delivery, Published, QueueOptions, Requests, Subscription},
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

/// A bus handle whose process dies in the middle of a publish.
pub struct DyingBus {
    inner: BusHandle,
    filter: &'static str,
    left: AtomicU32,
    moment: Moment,
    died: Notify,
}

impl DyingBus {
    /// The process publishes `publishes` messages under `filter` and dies with the next one.
    pub fn new(inner: BusHandle, filter: &'static str, publishes: u32, moment: Moment) -> Self {
        Self { inner, filter, left: AtomicU32::new(publishes), moment, died: Notify::new() }
    }

    /// Waits until the process has died.
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

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        self.inner.pull(queues).await
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        self.inner.adopt(handle, message).await
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.inner.last(subject).await
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        self.inner.exists(subject).await
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        self.inner.subjects(filter).await
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
}
