//! Signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Bound, Error};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It finished or handed back what it had in hand.
    Drained,
    /// A second signal cut that short.
    Interrupted,
}

/// Runs a program until SIGTERM or SIGINT, drains it, and returns; at once on a second signal. SIGHUP
/// does nothing.
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
            tracing::info!("{name}: ending; a second one ends at once");
            stopper.stop();
        }
    }
    tokio::select! {
        ended = &mut ended => ended.map(|()| Ended::Drained),
        name = signals.next() => {
            tracing::warn!("{name} again: ending at once");
            Ok(Ended::Interrupted)
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    // Listened for, so that it does not end the process.
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
