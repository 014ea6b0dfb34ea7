//! Decides which operation comes next: every operation of every process waits here for its turn.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hermesh_mesh::bus::{Delivery, memory::MemoryBus};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    fault::{Fault, Faults, Operation},
    history::{Event, History},
    plan::Sabotage,
};

/// One process, seen from the bus.
pub struct Process {
    /// `{service}-{replica}.{incarnation}`.
    pub name: Arc<str>,
    mortal: bool,
    // Set when it dies, to the time until the next one starts.
    death: watch::Sender<Option<Duration>>,
}

impl Process {
    /// A process that is alive.
    pub fn new(name: &str, mortal: bool) -> Arc<Self> {
        Arc::new(Self { name: name.into(), mortal, death: watch::Sender::new(None) })
    }

    /// Dies: from now on its operations have no effect, and no message reaches it.
    pub fn die(&self, restart_after: Duration) {
        self.death.send_if_modified(|death| {
            let alive = death.is_none();
            death.get_or_insert(restart_after);
            alive
        });
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.death.borrow().is_some()
    }

    /// Waits for its death, and returns the time after which the next one starts.
    pub async fn died(&self) -> Duration {
        let mut death = self.death.subscribe();
        let after = death.wait_for(Option::is_some).await.ok().and_then(|death| *death);
        after.unwrap_or_default()
    }
}

/// An operation that waits for its turn.
struct Waiting {
    process: Arc<Process>,
    operation: Operation,
    subject: String,
    fault: Option<Fault>,
    // Later tasks have greater ids; this orders tasks that do the same at the same time.
    task: Option<tokio::task::Id>,
    go: oneshot::Sender<Option<Fault>>,
}

enum Due {
    Operation(Waiting),
    /// The broker makes an acknowledgement durable.
    Ack(Delivery),
}

struct State {
    rng: StdRng,
    faults: Faults,
    /// For how long after an acknowledgement the broker may forget it.
    ack_lag: Duration,
    arrived: Vec<Waiting>,
    due: BTreeMap<(Instant, u64), Due>,
    next: u64,
    down_until: Instant,
}

/// One run of a schedule.
pub struct Simulation {
    /// The bus that stores and delivers.
    pub bus: MemoryBus,
    /// A deliberate defect of the bus, so that the invariants can fail.
    pub sabotage: Sabotage,
    started: Instant,
    state: Mutex<State>,
    history: Mutex<History>,
    arrival: Notify,
}

impl Simulation {
    /// A simulation that starts now. Must be called inside a tokio runtime.
    pub fn new(seed: u64, faults: Faults, ack_lag: Duration, sabotage: Sabotage) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            bus: MemoryBus::default(),
            sabotage,
            started: now,
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(seed),
                faults,
                ack_lag,
                arrived: Vec::new(),
                due: BTreeMap::new(),
                next: 0,
                down_until: now,
            }),
            history: Mutex::default(),
            arrival: Notify::new(),
        })
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The history so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of an operation, or another event.
    pub fn note(
        &self,
        process: &Arc<str>,
        what: impl Into<String>,
        fault: Option<Fault>,
        result: &'static str,
    ) {
        let (at, process, what) = (self.now(), process.clone(), what.into());
        self.history().note(Event { at, process, what, fault, result });
    }

    /// Waits for the operation's turn, and returns its fault. A dead process waits for ever.
    pub async fn turn(
        &self,
        process: &Arc<Process>,
        operation: Operation,
        subject: &str,
    ) -> Option<Fault> {
        let (go, turn) = oneshot::channel();
        if !process.is_dead() {
            let (process, subject) = (process.clone(), subject.to_owned());
            let task = tokio::task::try_id();
            let waiting = Waiting { process, operation, subject, fault: None, task, go };
            self.state().arrived.push(waiting);
            self.arrival.notify_one();
        } else {
            drop(go);
        }
        match turn.await {
            Ok(fault) => fault,
            Err(_) => std::future::pending().await,
        }
    }

    /// Acknowledges: the broker confirms at once, and may forget it for a while.
    pub async fn acknowledge(&self, delivery: Delivery) {
        let lag = self.state().ack_lag;
        if lag.is_zero() {
            // Cannot fail: the in-memory bus always accepts it.
            let _ = delivery.ack().await;
            return;
        }
        let mut state = self.state();
        let at = Instant::now() + lag;
        state.push(at, Due::Ack(delivery));
        self.arrival.notify_one();
    }

    /// Lets one operation after the other proceed, for ever.
    pub async fn drive(&self) {
        loop {
            // Paused time advances only when no task can do anything else. So all consequences of the last
            // operation have arrived by then, in any order.
            sleep(Duration::from_millis(1)).await;
            let next = {
                let mut state = self.state();
                state.admit(Instant::now(), self.now());
                state.due.first_key_value().map(|((at, _), _)| *at)
            };
            match next {
                None => self.arrival.notified().await,
                Some(at) if at > Instant::now() => {
                    let _ = timeout_at(at, self.arrival.notified()).await;
                }
                Some(_) => self.release().await,
            }
        }
    }

    async fn release(&self) {
        let Some((_, due)) = self.state().due.pop_first() else {
            return;
        };
        let waiting = match due {
            Due::Ack(delivery) => {
                let _ = delivery.ack().await;
                return;
            }
            Due::Operation(waiting) => waiting,
        };
        if waiting.process.is_dead() || waiting.go.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut fault = waiting.fault;
        if let Some(Fault::Restart(away)) = fault {
            self.restart(now + away).await;
        }
        let down_until = self.state().down_until;
        let away = down_until > now;
        if away && !matches!(fault, Some(Fault::Restart(_) | Fault::Crash(..))) {
            if waiting.operation == Operation::Deliver {
                self.state().push(down_until, Due::Operation(waiting));
                return;
            }
            fault = Some(Fault::Drop);
        }
        if let Some(Fault::Crash(crate::bus::Moment::Before, after)) = fault {
            let what = format!("{:?} {}", waiting.operation, waiting.subject);
            self.note(&waiting.process.name, what, fault, "");
            waiting.process.die(after);
            return;
        }
        // Ignored: the process no longer waits.
        let _ = waiting.go.send(fault);
    }

    /// The broker dies, forgets the acknowledgements that are not durable, and is unreachable for a while.
    async fn restart(&self, down_until: Instant) {
        let mut forgotten = Vec::new();
        {
            let mut state = self.state();
            state.down_until = down_until;
            let acks: Vec<_> = state
                .due
                .iter()
                .filter(|(_, due)| matches!(due, Due::Ack(_)))
                .map(|(key, _)| *key)
                .collect();
            for key in acks {
                if let Some(Due::Ack(delivery)) = state.due.remove(&key) {
                    let at_once = state.rng.random_bool(0.5);
                    forgotten.push((delivery, at_once));
                }
            }
        }
        for (delivery, at_once) in forgotten {
            if at_once {
                let _ = delivery.nak(Duration::ZERO, "the broker forgot").await;
            }
        }
    }
}

impl State {
    fn push(&mut self, at: Instant, due: Due) {
        self.next += 1;
        self.due.insert((at, self.next), due);
    }

    /// Draws when the arrived operations proceed, and their faults.
    fn admit(&mut self, now: Instant, since_start: Duration) {
        // Tasks may arrive in any order; sorting by content makes the order deterministic.
        self.arrived.sort_by(|a, b| {
            let key = |w: &Waiting| (w.process.name.clone(), w.operation);
            key(a).cmp(&key(b)).then_with(|| a.subject.cmp(&b.subject)).then(a.task.cmp(&b.task))
        });
        for mut waiting in std::mem::take(&mut self.arrived) {
            let mut at = now + Duration::from_millis(self.rng.random_range(0..4));
            if since_start < self.faults.until {
                let mortal = waiting.process.mortal;
                waiting.fault = self.faults.strike(&mut self.rng, waiting.operation, mortal);
            }
            if let Some(Fault::Delay(by)) = waiting.fault {
                at += by;
            }
            self.push(at, Due::Operation(waiting));
        }
    }
}
