//! Settling deliveries on NATS.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::AckKind;
use async_trait::async_trait;
use tokio::time::timeout;

use super::{NatsBus, streams};
use crate::{
    Error, Message,
    bus::{DEAD_LETTERS, QueueOptions, Settle, dead_letter},
};

/// The subject that acknowledges a delivery: `$JS.ACK.{stream}.{consumer}.{delivered}.{sequence}.…`; newer servers put
/// domain and account before the stream.
#[derive(Debug, Clone)]
pub(super) struct AckSubject {
    subject: String,
    pub(super) queue: String,
    pub(super) attempt: u32,
    /// Identifies the stored message within its queue.
    sequence: u64,
}

impl AckSubject {
    pub(super) fn parse(subject: &str) -> Option<Self> {
        super::check_subject(subject).ok()?;
        let tokens: Vec<&str> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        let tokens = match tokens.len() {
            7 => &tokens[..],
            9.. => &tokens[2..],
            _ => return None,
        };
        Some(Self {
            subject: subject.to_owned(),
            queue: streams::queue_name(tokens[0])?.to_owned(),
            attempt: tokens[2].parse().ok()?,
            sequence: tokens[3].parse().ok()?,
        })
    }
}

/// Settles one delivery.
pub(super) struct NatsSettle {
    pub(super) bus: NatsBus,
    pub(super) queue: Arc<QueueOptions>,
    pub(super) ack: AckSubject,
    pub(super) message: Message,
}

impl NatsSettle {
    /// Sends an acknowledgement and waits until the server has processed it.
    async fn tell(&self, kind: AckKind) -> Result<(), Error> {
        let told = self.bus.0.asker.ask(&self.ack.subject, None, kind.into()).await;
        told.map(drop).map_err(|error| error.into_error(&self.ack.subject))
    }

    /// Gives the message up: stores the dead letter first and removes the original second, so a crash in between loses
    /// nothing. If the dead-letter queue is full, the message is delivered and buried again later. A message is lost
    /// only if it is too large even without its body.
    pub(super) async fn bury(&self, reason: &str) -> Result<(), Error> {
        let queue = &*self.queue.name;
        tracing::warn!(queue, subject = self.message.subject, reason, "dead letter");
        if queue != DEAD_LETTERS {
            match self.publish_dead_letter(reason).await {
                Ok(()) => {}
                Err(error @ Error::TooLarge { .. }) => {
                    tracing::error!(queue, %error, "a dead letter was lost");
                }
                Err(error) => return Err(error),
            }
        }
        self.tell(AckKind::Term).await
    }

    async fn publish_dead_letter(&self, reason: &str) -> Result<(), Error> {
        let mut dead = dead_letter(&self.queue.name, &self.message, reason);
        let id = format!("{}.{}.dead", self.queue.name, self.ack.sequence);
        match self.bus.store(&dead, &id).await {
            Err(Error::TooLarge { .. }) => {
                dead.body.clear();
                self.bus.store(&dead, &id).await.map(drop)
            }
            stored => stored.map(drop),
        }
    }
}

#[async_trait]
impl Settle for NatsSettle {
    fn handle(&self) -> String {
        self.ack.subject.clone()
    }

    async fn ack(&self) -> Result<(), Error> {
        self.tell(AckKind::Ack).await
    }

    async fn nak(&self, delay: Duration, reason: &str) -> Result<(), Error> {
        if self.ack.attempt >= self.queue.max_deliver {
            return self.bury(reason).await;
        }
        self.tell(AckKind::Nak(Some(delay))).await
    }

    async fn reject(&self, reason: &str) -> Result<(), Error> {
        self.bury(reason).await
    }

    async fn in_progress(&self) -> Result<(), Error> {
        let asker = &self.bus.0.asker;
        let sending = asker.client.publish(self.ack.subject.clone(), AckKind::Progress.into());
        match timeout(asker.request_timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped("the connection to NATS")),
            Err(_) => Err(Error::Timeout(asker.request_timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_ack_subjects() {
        for subject in [
            "$JS.ACK.hermesh-jobs.jobs.3.100.7.1790230470084404000.42",
            "$JS.ACK._.account.hermesh-jobs.jobs.3.100.7.1790230470084404000.42.token",
            "$JS.ACK.domain.account.hermesh-jobs.jobs.3.100.7.1790230470084404000.42",
        ] {
            let ack = AckSubject::parse(subject).expect("is one");
            assert_eq!((&*ack.queue, ack.attempt, ack.sequence), ("jobs", 3, 100));
        }
        for nonsense in [
            "nonsense",
            "$JS.ACK.",
            "$JS.ACK.other.jobs.3.100.7.1.42",
            "$JS.ACK.hermesh-jobs.jobs.x.100.7.1.42",
            "$JS.ACK.hermesh-jobs.jobs.3.100.7.1.*",
            "$JS.ACK.hermesh-jobs.jobs.3.100",
        ] {
            assert!(AckSubject::parse(nonsense).is_none(), "{nonsense}");
        }
    }
}
