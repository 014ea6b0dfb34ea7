//! What a service does with a delivery: works on it under heartbeat, waits where the bus has no room,
//! hands it back when the service ends, and settles it.

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

/// How long a message waits that could not be handled.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long to wait before the next try: a tenth of a second, then twice as long each time, at most
/// five.
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

/// An error of a service's logic.
pub trait JobError: fmt::Display {
    /// The code on the wire, if the job fails for good.
    fn code(&self) -> Option<FailureCode>;

    /// The error of the mesh in it, if the message is to be tried again.
    fn into_mesh(self) -> Option<Error>;
}

impl Environment {
    /// Ends the job if its error is for good; other errors are left to whoever settles.
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
    /// The service.
    pub environment: Environment,
    /// How often a delivery in work is reported as such; well below the queue's `ack_wait`.
    pub heartbeat: Duration,
    /// When the service ends.
    pub stopping: Stopping,
}

impl Handling {
    /// Handles a delivery and settles it.
    ///
    /// While the bus has no room, or a service asked has no time, `handle` is called again: that is
    /// nobody's fault and uses up no delivery. It is for `handle` to find out that a deadline has
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
            tracing::info!(%error, ?wait, "a message waits");
            tokio::select! {
                biased;
                () = self.stopping.begun() => return Err(error),
                () = sleep(wait) => {}
            }
        }
    }

    /// Done, to be tried again, or hopeless.
    async fn settle(&self, delivery: Delivery, result: Result<(), Error>) {
        let settled = match result {
            Ok(()) => delivery.ack().await,
            // Another process can go on at once.
            Err(error) if error.retryable() && self.stopping.has_begun() => {
                delivery.nak(Duration::ZERO, &self.reason(&error)).await
            }
            Err(error) => {
                tracing::warn!(?delivery, %error, "a message was not handled");
                let reason = self.reason(&error);
                if error.retryable() {
                    delivery.nak(RETRY_DELAY, &reason).await
                } else {
                    delivery.reject(&reason).await
                }
            }
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "a delivery was not settled and will come again");
        }
    }

    fn reason(&self, error: &Error) -> String {
        format!("{}: {error}", self.environment.metrics.service())
    }
}

/// Runs `work`, telling the bus every `interval` that the delivery is still in hand.
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
                    tracing::warn!(%error, "a heartbeat was not taken");
                }
            }
        }
    }
}
