//! Runs a program until a signal ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Bound, Error};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It finished its work in hand or returned it to the queues.
    Drained,
    /// A second signal interrupted that.
    Interrupted,
}

/// Runs a program until SIGTERM or SIGINT, drains it, and returns; at once on a second signal. Ignores
/// SIGHUP.
///
/// # Errors
/// [`Error::Service`] if it could not start.
pub async fn run(bound: Bound) -> Result<Ended, Error> {
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let stopper = bound.stopper();
    let mut ended = std::pin::pin!(bound.ended());
    tokio::select! {
        ended = &mut ended => return ended.map(|()| Ended::Drained),
        name = signals.next() => {
            tracing::info!("{name}: draining; a second one exits at once");
            stopper.stop();
        }
    }
    tokio::select! {
        ended = &mut ended => ended.map(|()| Ended::Drained),
        name = signals.next() => {
            tracing::warn!("{name} again: exiting at once");
            Ok(Ended::Interrupted)
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    // Handled, so that SIGHUP does not end the process.
    _hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
