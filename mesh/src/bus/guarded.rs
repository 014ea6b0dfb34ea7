//! A bus that enforces the policy on one identity. Services in one process use it in place of sidecars.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Bus, BusHandle, Delivery, Published, QueueOptions, Requests, Subscription, nats::convert,
};
use crate::{
    Error, Message,
    identity::SpiffeId,
    policy::{Denied, Policy, Verb},
};

/// Passes on what the policy allows one identity, and refuses the rest.
#[derive(Clone)]
pub struct GuardedBus {
    bus: BusHandle,
    policy: Arc<Policy>,
    id: SpiffeId,
}

impl GuardedBus {
    /// Wraps `bus` for the identity `id`.
    pub fn new(bus: BusHandle, policy: Arc<Policy>, id: SpiffeId) -> Self {
        Self { bus, policy, id }
    }

    fn check(&self, verb: Verb, what: &str) -> Result<(), Error> {
        Self::told(self.policy.check(&self.id, verb, what))
    }

    /// Rejects wildcards, which would name several subjects, and then checks the policy.
    fn check_subject(&self, verb: Verb, subject: &str) -> Result<(), Error> {
        convert::check_subject(subject)?;
        self.check(verb, subject)
    }

    fn told(checked: Result<(), Denied>) -> Result<(), Error> {
        checked.map_err(|denied| {
            tracing::warn!(%denied, "denied");
            denied.into()
        })
    }
}

#[async_trait]
impl Bus for GuardedBus {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        self.check(Verb::Declare, &queue.name)?;
        self.bus.declare(queue).await
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        self.check_subject(Verb::Publish, &message.subject)?;
        self.bus.publish(message).await
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.check_subject(Verb::Publish, &message.subject)?;
        self.bus.emit(message).await
    }

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        for queue in queues {
            self.check(Verb::Pull, queue)?;
        }
        self.bus.pull(queues).await
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        // The bus verifies that the handle belongs to the queue that catches the subject.
        let queue = crate::policy::queue_of(&message.subject);
        let queue = queue.ok_or_else(|| Error::NoQueue { subject: message.subject.clone() })?;
        self.check(Verb::Pull, &queue.name)?;
        self.bus.adopt(handle, message).await
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.check_subject(Verb::Read, subject)?;
        self.bus.last(subject).await
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        self.check_subject(Verb::Read, subject)?;
        self.bus.exists(subject).await
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        Self::told(self.policy.check_listing(&self.id, filter))?;
        self.bus.subjects(filter).await
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        self.check(Verb::Purge, filter)?;
        self.bus.purge(filter).await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.check(Verb::Subscribe, filter)?;
        self.bus.subscribe(filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        self.check_subject(Verb::Publish, &message.subject)?;
        self.bus.request(message, timeout).await
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        self.check(Verb::Serve, filter)?;
        self.bus.serve(filter).await
    }
}
