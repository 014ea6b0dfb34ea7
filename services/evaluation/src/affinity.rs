//! Key affinity: passes a task to an idle worker that already holds its evaluation key.
//!
//! Expanding a key takes seconds and much memory. So a worker that pulls a task without holding its key
//! sends a request on `hermesh.hold.{key}`, which the workers that hold the key serve. A worker that
//! accepts owns the delivery from then on. A busy worker declines at once, and the first worker loads the
//! key itself.
//!
//! If an acceptance is lost, both workers compute, and the second result is a duplicate without effect.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use hermesh_mesh::{
    Digest, Error, Message,
    actor::{Environment, Stopping},
    bus::{Delivery, Request},
    wire::{Accepted, FailureCode, Refusal, Task, Wire, accepted},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::{AbortHandle, spawn_local},
};

/// Header of a request: allows another worker to acknowledge the delivery.
const DELIVERY: &str = "Hermesh-Delivery";
/// Header of a request: the subject of the task.
const SUBJECT: &str = "Hermesh-Subject";
/// How long a worker that holds the key may take to reply.
const PATIENCE: Duration = Duration::from_millis(20);

fn subject(key: Digest) -> String {
    format!("hermesh.hold.{key}")
}

/// The slots of this worker that wait for work.
struct Idle {
    slots: RefCell<VecDeque<oneshot::Sender<Delivery>>>,
    /// Free places in the compute pool. A slot without a place would keep the task waiting.
    free: Rc<Semaphore>,
}

impl Idle {
    fn pop(&self) -> Option<oneshot::Sender<Delivery>> {
        let mut slots = self.slots.borrow_mut();
        slots.retain(|slot| !slot.is_closed());
        (self.free.available_permits() > 0).then(|| slots.pop_front())?
    }
}

/// One worker's side of key affinity.
pub(crate) struct Affinity {
    environment: Environment,
    stopping: Stopping,
    idle: Rc<Idle>,
    served: RefCell<HashMap<Digest, AbortHandle>>,
}

impl Affinity {
    pub(crate) fn new(environment: Environment, stopping: Stopping, free: Rc<Semaphore>) -> Self {
        let idle = Rc::new(Idle { slots: RefCell::default(), free });
        Self { environment, stopping, idle, served: RefCell::default() }
    }

    /// The next delivery: a task from another worker, or the result of `pull`. Dropping `pull` loses
    /// nothing.
    pub(crate) async fn next(
        &self,
        pull: impl Future<Output = Result<Delivery, Error>>,
    ) -> Result<Delivery, Error> {
        let (give, mut given) = oneshot::channel();
        {
            let mut slots = self.idle.slots.borrow_mut();
            slots.retain(|slot| !slot.is_closed());
            slots.push_back(give);
        }
        tokio::select! {
            biased;
            // The sender is dropped only together with the worker.
            Ok(delivery) = &mut given => Ok(delivery),
            pulled = pull => pulled,
        }
    }

    /// Offers the delivery to the workers that hold the key; returns it if none accepts.
    pub(crate) async fn offer(&self, key: Digest, delivery: Delivery) -> Option<Delivery> {
        let mut message = delivery.message.clone();
        let task = std::mem::replace(&mut message.subject, subject(key));
        let headers = &mut message.headers;
        let fits = headers.insert(DELIVERY, delivery.handle()).is_ok()
            && headers.insert(SUBJECT, task).is_ok();
        if !fits {
            return Some(delivery);
        }
        let reply = self.environment.bus.request(message, PATIENCE).await;
        match reply.and_then(|reply| accepted(&reply)) {
            Ok(()) => {
                self.environment.metrics.task_given();
                None
            }
            Err(error) => {
                tracing::debug!(%key, %error, "no holder takes the task");
                Some(delivery)
            }
        }
    }

    /// Serves requests for exactly these keys.
    pub(crate) fn hold(&self, keys: &[Digest]) {
        let mut served = self.served.borrow_mut();
        served.retain(|key, task| {
            let held = keys.contains(key);
            if !held {
                task.abort();
            }
            held
        });
        for key in keys {
            served.entry(*key).or_insert_with(|| {
                let (environment, idle) = (self.environment.clone(), self.idle.clone());
                let stopping = self.stopping.clone();
                spawn_local(serve(environment, idle, stopping, *key)).abort_handle()
            });
        }
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        self.served.borrow().values().for_each(AbortHandle::abort);
    }
}

async fn serve(environment: Environment, idle: Rc<Idle>, stopping: Stopping, key: Digest) {
    let mut requests = match environment.bus.serve(&subject(key)).await {
        Ok(requests) => requests,
        Err(error) => {
            // Not fatal: tasks of this key may still arrive by chance.
            tracing::warn!(%key, %error, "other workers cannot find out that this one holds the key");
            return;
        }
    };
    loop {
        let request = tokio::select! {
            biased;
            () = stopping.begun() => return,
            request = requests.next() => request,
        };
        let Some(request) = request else {
            return;
        };
        answer(&environment, &idle, request).await;
    }
}

async fn answer(environment: &Environment, idle: &Idle, request: Request) {
    let source = environment.metrics.service();
    let reply = match take(environment, idle, &request.message).await {
        Ok(true) => {
            environment.metrics.task_taken();
            Accepted.encode(source)
        }
        Ok(false) => no(FailureCode::Overloaded, "no slot is idle").encode(source),
        Err(error) => no(FailureCode::Malformed, error).encode(source),
    };
    if let Err(error) = request.reply(reply).await {
        tracing::debug!(%error, "the sender of the request did not wait for the reply");
    }
}

fn no(code: FailureCode, message: impl ToString) -> Refusal {
    let (message, retryable) = (message.to_string(), code.retryable());
    Refusal { code, message, retryable, retry_after: None }
}

/// Gives the task in a request to an idle slot, if there is one.
async fn take(environment: &Environment, idle: &Idle, request: &Message) -> Result<bool, Error> {
    let header = |header| {
        let value = request.headers.get(header);
        value.ok_or(Error::MissingHeader { message: "hermesh.task", header })
    };
    let (handle, subject) = (header(DELIVERY)?, header(SUBJECT)?);
    let Some(slot) = idle.pop() else {
        return Ok(false);
    };
    let mut message = request.clone();
    message.subject = subject.to_owned();
    // Check before adopting: the delivery to acknowledge must be that of a task.
    Task::receive(&message)?;
    let mut delivery = environment.bus.adopt(handle, message).await?;
    let mut slot = Some(slot);
    // A slot may have received a task of its own in the meantime.
    while let Some(next) = slot {
        match next.send(delivery) {
            Ok(()) => return Ok(true),
            Err(back) => delivery = back,
        }
        slot = idle.pop();
    }
    Ok(false)
}
