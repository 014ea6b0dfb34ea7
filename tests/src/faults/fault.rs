//! Faults are data: the ways in which an operation can fail, and how often.

use std::{fmt, time::Duration};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::bus::Moment;

/// The operations of a process on its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A message is published.
    Publish,
    /// A message is emitted.
    Emit,
    /// A message from a queue is on its way to the process.
    Deliver,
    /// A delivery is acknowledged.
    Ack,
    /// A delivery is returned to its queue, or given up.
    Nak,
    /// A delivery is reported as in progress.
    Heartbeat,
    /// Subjects are read: the last message, whether one exists, or a list.
    Read,
    /// Subjects are purged.
    Purge,
    /// A request is made.
    Request,
    /// A message is on its way to a subscriber.
    Show,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It never takes effect.
    Drop,
    /// It takes effect, and its reply is lost.
    LoseReply,
    /// It takes effect later.
    Delay,
    /// It takes effect at once, and its reply comes later.
    Late,
    /// It happens twice.
    Duplicate,
    /// Later operations overtake it.
    Reorder,
    /// The process dies during it.
    Crash,
    /// The broker dies, and returns without the last acknowledgements.
    Restart,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Drop,
        Self::LoseReply,
        Self::Delay,
        Self::Late,
        Self::Duplicate,
        Self::Reorder,
        Self::Crash,
        Self::Restart,
    ];

    /// How often it is drawn, relative to the others.
    fn weight(self) -> u32 {
        match self {
            Self::Drop | Self::LoseReply | Self::Delay | Self::Late => 8,
            Self::Duplicate | Self::Reorder => 6,
            Self::Crash => 3,
            Self::Restart => 1,
        }
    }

    /// Whether it can affect such an operation.
    fn fits(self, operation: Operation) -> bool {
        use Operation::*;
        match self {
            Self::Drop | Self::Delay | Self::Restart => true,
            Self::LoseReply => matches!(operation, Publish | Ack | Nak | Purge | Request),
            Self::Late => matches!(operation, Publish | Ack | Read | Purge | Request),
            Self::Duplicate => matches!(operation, Publish | Emit | Request | Show),
            Self::Reorder => operation == Deliver,
            Self::Crash => !matches!(operation, Show | Heartbeat),
        }
    }
}

/// A fault with its random parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// See [`Kind::Drop`].
    Drop,
    /// See [`Kind::LoseReply`].
    LoseReply,
    /// See [`Kind::Delay`].
    Delay(Duration),
    /// See [`Kind::Late`].
    Late(Duration),
    /// See [`Kind::Duplicate`].
    Duplicate,
    /// See [`Kind::Reorder`].
    Reorder,
    /// See [`Kind::Crash`]; the next process starts after that time.
    Crash(Moment, Duration),
    /// See [`Kind::Restart`]; the broker is unreachable for that time.
    Restart(Duration),
}

impl Fault {
    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::Drop => Kind::Drop,
            Self::LoseReply => Kind::LoseReply,
            Self::Delay(_) => Kind::Delay,
            Self::Late(_) => Kind::Late,
            Self::Duplicate => Kind::Duplicate,
            Self::Reorder => Kind::Reorder,
            Self::Crash(..) => Kind::Crash,
            Self::Restart(_) => Kind::Restart,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => write!(f, "dropped"),
            Self::LoseReply => write!(f, "reply lost"),
            Self::Delay(by) => write!(f, "delayed by {by:?}"),
            Self::Late(by) => write!(f, "reply late by {by:?}"),
            Self::Duplicate => write!(f, "duplicated"),
            Self::Reorder => write!(f, "overtaken"),
            Self::Crash(Moment::Before, _) => write!(f, "process dies before it"),
            Self::Crash(Moment::After, _) => write!(f, "process dies after it"),
            Self::Restart(away) => write!(f, "broker dies for {away:?}"),
        }
    }
}

/// The faults of one schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The fraction of operations that a fault affects.
    pub rate: f64,
    /// The kinds of this schedule. Some schedules leave out most kinds, to show the effects of the rest.
    pub kinds: Vec<Kind>,
    /// When faults end, from the schedule's start.
    pub until: Duration,
}

impl Faults {
    /// Draws the faults of a schedule.
    pub fn draw(rng: &mut StdRng) -> Self {
        let rates = [0.0, 0.005, 0.02, 0.02, 0.05, 0.05, 0.1, 0.2];
        let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| rng.random_bool(0.6)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::Crash);
        }
        Self {
            rate: *rates.choose(rng).expect("some"),
            kinds,
            until: Duration::from_millis(rng.random_range(2_000..60_000)),
        }
    }

    /// Draws the fault of one operation, if any. A process that is not `mortal` does not crash.
    pub fn strike(&self, rng: &mut StdRng, operation: Operation, mortal: bool) -> Option<Fault> {
        if !rng.random_bool(self.rate) {
            return None;
        }
        let fitting: Vec<Kind> = self.kinds.iter().copied().filter(|k| k.fits(operation)).collect();
        let kind = *fitting.choose_weighted(rng, |kind| kind.weight()).ok()?;
        Some(match kind {
            Kind::Drop => Fault::Drop,
            Kind::LoseReply => Fault::LoseReply,
            Kind::Delay => Fault::Delay(delay(rng)),
            Kind::Late => Fault::Late(delay(rng)),
            Kind::Duplicate => Fault::Duplicate,
            Kind::Reorder => Fault::Reorder,
            Kind::Crash if !mortal => return None,
            Kind::Crash => {
                let moment = if rng.random() { Moment::Before } else { Moment::After };
                Fault::Crash(moment, Duration::from_millis(rng.random_range(1..5_000)))
            }
            Kind::Restart => Fault::Restart(Duration::from_millis(rng.random_range(1..3_000))),
        })
    }
}

/// Mostly short, of the order of the services' timeouts; now and then longer than a delivery may take.
fn delay(rng: &mut StdRng) -> Duration {
    let millis = match rng.random_range(0..20) {
        0 => rng.random_range(10_000..25_000),
        1..4 => rng.random_range(1_000..6_000),
        _ => rng.random_range(5..500),
    };
    Duration::from_millis(millis)
}
