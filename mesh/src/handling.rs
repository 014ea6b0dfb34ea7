//! Handling of one delivery: run the work under heartbeat, wait while the bus has no capacity, hand the delivery back
//! at shutdown, and settle it.

use std::{fmt, future::Future, pin::pin, time::Duration};

use tokio::time::sleep;
use tracing::Instrument as _;

use crate::{
    Error, Message,
    actor::{Environment, Stopping},
    bus::Delivery,
    telemetry,
    wire::{Context, Failure, FailureCode},
};

/// How long before a message that could not be handled is delivered again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Waiting times between retries: 0.1 s, doubling each time up to 5 s.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Duration::from_secs(5));
        now
    }
}

/// An error from a service's logic.
pub trait JobError: fmt::Display {
    /// The failure code on the wire, if the job has failed for good.
    fn code(&self) -> Option<FailureCode>;

    /// The mesh error behind it, if the message should be tried again.
    fn into_mesh(self) -> Option<Error>;
}

impl Environment {
    /// Ends the job if its error is permanent. Other errors are returned; the caller settles the delivery.
    pub async fn conclude<E: JobError>(
        &self,
        context: &Context,
        result: Result<(), E>,
    ) -> Result<(), Error> {
        let Err(error) = result else {
            return Ok(());
        };
        match error.code() {
            Some(code) => self.fail(&Failure::new(context, code, &error)).await.map(drop),
            None => Err(error.into_mesh().unwrap_or(Error::Stopped("the service"))),
        }
    }
}

/// How one service handles its deliveries.
#[derive(Clone)]
pub struct Handling {
    /// The service's bus, clock and metrics.
    pub environment: Environment,
    /// Interval between the heartbeats of a delivery in progress; well below the queue's `ack_wait`.
    pub heartbeat: Duration,
    /// The service's shutdown signal.
    pub stopping: Stopping,
}

impl Handling {
    /// Handles a delivery and settles it.
    ///
    /// Calls `handle` again while the bus has no capacity or a service asked has no time. Such retries happen within
    /// the same delivery and do not count as delivery attempts. `handle` itself must check whether a deadline has
    /// passed.
    pub async fn take(
        &self,
        delivery: Delivery,
        handle: &impl AsyncFn(&Message) -> Result<(), Error>,
    ) {
        let metrics = &self.environment.metrics;
        metrics.received(&delivery.message);
        let _in_hand = metrics.in_hand(&delivery.message);
        let span = telemetry::message_span(metrics.service(), &delivery.message);
        let work = async {
            let work = self.patiently(async || handle(&delivery.message).await);
            let result = tokio::select! {
                biased;
                result = with_heartbeat(&delivery, self.heartbeat, work) => result,
                () = self.stopping.over() => Err(Error::Stopped("the service")),
            };
            self.settle(delivery, result).await;
        };
        work.instrument(span).await;
    }

    async fn patiently(&self, work: impl AsyncFn() -> Result<(), Error>) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        loop {
            let error = match work().await {
                Err(error) if error.back_pressure() => error,
                result => return result,
            };
            let wait = backoff.next();
            tracing::info!(%error, ?wait, "waiting before handling a message again");
            tokio::select! {
                biased;
                () = self.stopping.begun() => return Err(error),
                () = sleep(wait) => {}
            }
        }
    }

    /// Acknowledges the delivery, hands it back for another try, or rejects it.
    async fn settle(&self, delivery: Delivery, result: Result<(), Error>) {
        let settled = match result {
            Ok(()) => delivery.ack().await,
            // Without delay: another process can take it at once.
            Err(error) if error.retryable() && self.stopping.has_begun() => {
                delivery.nak(Duration::ZERO, &self.reason(&error)).await
            }
            Err(error) => {
                tracing::warn!(?delivery, %error, "could not handle a message");
                let reason = self.reason(&error);
                if error.retryable() {
                    delivery.nak(RETRY_DELAY, &reason).await
                } else {
                    delivery.reject(&reason).await
                }
            }
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "could not settle a delivery; it will be delivered again");
        }
    }

    fn reason(&self, error: &Error) -> String {
        format!("{}: {error}", self.environment.metrics.service())
    }
}

/// Runs `work`, telling the bus every `interval` that the delivery is still in progress.
pub async fn with_heartbeat<T>(
    delivery: &Delivery,
    interval: Duration,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = sleep(interval) => {
                if let Err(error) = delivery.in_progress().await {
                    tracing::warn!(%error, "could not send a heartbeat");
                }
            }
        }
    }
}
