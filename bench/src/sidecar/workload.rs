//! The workload on each kind of connection: one message at a time for latency, many for throughput.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, Semaphore},
    time::Instant,
};

use super::client::{Client, Received};

/// Number of publishes that wait for an acknowledgement, and of waiting pulls, at the same time.
const WINDOW: usize = 32;
/// Number of messages in flight without acknowledgement: 4 MiB of 16 KiB each.
const FLOW: usize = 256;
/// The subscription that receives acknowledgements.
const ACKS: &str = "acks";
const NEXT: &str = "$JS.API.CONSUMER.MSG.NEXT.hermesh-tasks-normal.tasks-normal";
/// The bus's request for one message.
const PULL: &[u8] = br#"{"batch":1,"expires":5000000000}"#;
const PUBLISHER: &str = "_INBOX.service.preprocessing.acks";
const WORKER: &str = "_INBOX.service.evaluation.acks";
const PULLS: &str = "_INBOX.service.evaluation.pulls";
/// Subjects received directly: their stream does not exist here, so nothing stores the messages.
const HEARD: &str = "hermesh.status.acme";

/// A message of the mesh.
#[derive(Clone)]
pub(super) struct Letter {
    headers: Bytes,
    body: Bytes,
}

impl Letter {
    pub(super) fn new(size: usize) -> Self {
        let digest = "5b".repeat(32);
        let mut headers = String::from("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n");
        for (name, value) in [
            ("Hermesh-Tenant", "acme"),
            ("Hermesh-Job", &digest[..32]),
            ("Hermesh-Model", &digest),
            ("Hermesh-Key", &digest),
            ("Hermesh-Deadline", "1800000000000"),
            ("Hermesh-Lane", "normal"),
            ("Hermesh-Stage", "1"),
            ("Hermesh-Shard", "3"),
            ("Hermesh-Of", "8"),
            ("Hermesh-Lookups", "24"),
            ("Hermesh-Stage-Lookups", "192"),
            ("Hermesh-Done-Before", "128"),
            ("Hermesh-Total", "320"),
            ("ce-specversion", "1.0"),
            ("ce-type", "hermesh.task"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ] {
            headers += &format!("{name}: {value}\r\n");
        }
        headers += "\r\n";
        Self { headers: headers.into(), body: vec![7; size].into() }
    }
}

/// A client that one task at a time uses.
type Shared = Arc<Mutex<Client>>;
type Taken = OwnedMutexGuard<Client>;

/// Three workloads, connected in the same way.
pub(super) struct Way {
    /// Preprocessing.
    publisher: Shared,
    /// Evaluation.
    worker: Shared,
    /// A tenant.
    listener: Shared,
    /// Distinguishes the messages of this kind of connection from the other's.
    name: &'static str,
    sent: usize,
}

impl Way {
    pub(super) async fn new(name: &'static str, clients: [Client; 3]) -> Result<Self> {
        let [mut publisher, mut worker, mut listener] = clients;
        publisher.subscribe(&format!("{PUBLISHER}.{name}.*"), ACKS)?;
        worker.subscribe(&format!("{WORKER}.{name}.*"), ACKS)?;
        listener.subscribe(&format!("{HEARD}.{name}"), "heard")?;
        let [publisher, worker, listener] =
            [publisher, worker, listener].map(|client| Arc::new(Mutex::new(client)));
        let way = Self { publisher, worker, listener, name, sent: 0 };
        way.settle().await?;
        Ok(way)
    }

    /// Waits until no message is in flight.
    async fn settle(&self) -> Result<()> {
        for client in [&self.publisher, &self.worker, &self.listener] {
            client.lock().await.settle().await?;
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Tasks {
        let first = self.sent;
        self.sent += count;
        Tasks { name: self.name, next: first, end: self.sent }
    }

    /// Milliseconds from a publish to its arrival at a subscription, message by message.
    pub(super) async fn heard_latency(
        &mut self,
        letter: &Letter,
        count: usize,
    ) -> Result<Vec<f64>> {
        let subject = format!("{HEARD}.{}", self.name);
        let mut times = Vec::with_capacity(count);
        let (mut publisher, mut listener) =
            (self.publisher.lock().await, self.listener.lock().await);
        for _ in 0..count {
            let started = Instant::now();
            publisher.publish(&subject, None, Some(&letter.headers), &letter.body)?;
            publisher.send().await?;
            letter.expect(&listener.message().await?)?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    }

    /// The same through a queue on which a worker waits.
    pub(super) async fn queue_latency(
        &mut self,
        letter: &Letter,
        count: usize,
    ) -> Result<Vec<f64>> {
        let tasks = self.take(count);
        let mut times = Vec::with_capacity(count);
        let (mut publisher, mut worker) = (self.publisher.lock().await, self.worker.lock().await);
        for task in tasks {
            pull(&mut worker, &task.inbox)?;
            worker.settle().await?;
            let started = Instant::now();
            letter.store(&mut publisher, &task)?;
            publisher.send().await?;
            let delivery = worker.message().await?;
            letter.expect(&delivery)?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            acknowledge(&mut worker, &delivery, &task.inbox)?;
            worker.send().await?;
            worker.message().await?;
            stored(&publisher.message().await?)?;
        }
        Ok(times)
    }

    /// Messages per second through a queue: stored and acknowledged to the publisher, pulled one by one and
    /// acknowledged by the worker, as on the bus.
    pub(super) async fn queue_rate(&mut self, letter: &Letter, count: usize) -> Result<f64> {
        let tasks = self.take(count);
        let publisher = self.publisher.clone().lock_owned().await;
        let worker = self.worker.clone().lock_owned().await;
        let started = Instant::now();
        // Separate tasks, because they are separate processes in a mesh.
        let published = tokio::spawn(publish_all(publisher, letter.clone(), tasks));
        let worked = tokio::spawn(work_off(worker, letter.clone(), count, self.name));
        published.await??;
        worked.await??;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.settle().await?;
        Ok(rate)
    }

    /// Messages per second to a subscription, without storage or acknowledgement.
    pub(super) async fn heard_rate(&self, letter: &Letter, count: usize) -> Result<f64> {
        let subject = format!("{HEARD}.{}", self.name);
        let flow = Arc::new(Semaphore::new(FLOW));
        let publisher = self.publisher.clone().lock_owned().await;
        let listener = self.listener.clone().lock_owned().await;
        let started = Instant::now();
        let told = tell_all(publisher, letter.clone(), subject, count, flow.clone());
        let told = tokio::spawn(told);
        let heard = tokio::spawn(hear_all(listener, letter.clone(), count, flow));
        told.await??;
        heard.await??;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.settle().await?;
        Ok(rate)
    }
}

/// A subject and a reply subject, each used once and by one kind of connection only.
struct Task {
    subject: String,
    inbox: String,
}

struct Tasks {
    name: &'static str,
    next: usize,
    end: usize,
}

impl Iterator for Tasks {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        let Self { name, next, end } = *self;
        self.next += 1;
        (next < end).then(|| Task {
            subject: format!("hermesh.task.normal.acme.{name}.1.{next}"),
            inbox: format!("{name}.{next}"),
        })
    }
}

impl Letter {
    fn store(&self, client: &mut Client, task: &Task) -> Result<()> {
        let Task { subject, inbox } = task;
        client.publish(
            subject,
            Some(&format!("{PUBLISHER}.{inbox}")),
            Some(&self.headers),
            &self.body,
        )
    }

    fn expect(&self, received: &Received) -> Result<()> {
        ensure!(received.payload.len() == self.body.len(), "a different message came");
        Ok(())
    }
}

fn stored(answer: &Received) -> Result<()> {
    let answer = String::from_utf8_lossy(&answer.payload);
    ensure!(answer.contains("\"seq\""), "a message was not stored: {answer}");
    Ok(())
}

/// Requests one message as the bus does, with a new reply subject each time.
fn pull(worker: &mut Client, name: &str) -> Result<()> {
    let inbox = format!("{PULLS}.{name}");
    worker.subscribe(&inbox, name)?;
    worker.only_one(name)?;
    worker.publish(NEXT, Some(&inbox), None, PULL)
}

fn acknowledge(worker: &mut Client, delivery: &Received, name: &str) -> Result<()> {
    let ack = delivery.reply.as_ref().context("a delivery without a subject to acknowledge")?;
    worker.publish(ack, Some(&format!("{WORKER}.{name}")), None, b"+ACK")
}

async fn publish_all(mut client: Taken, letter: Letter, mut tasks: Tasks) -> Result<()> {
    let mut waiting = 0;
    loop {
        while waiting < WINDOW
            && let Some(task) = tasks.next()
        {
            letter.store(&mut client, &task)?;
            waiting += 1;
        }
        if waiting == 0 {
            return Ok(());
        }
        client.send().await?;
        let mut answer = Some(client.message().await?);
        while let Some(found) = answer {
            stored(&found)?;
            waiting -= 1;
            answer = client.here()?;
        }
    }
}

async fn work_off(
    mut client: Taken,
    letter: Letter,
    count: usize,
    name: &'static str,
) -> Result<()> {
    let (mut pulls, mut deliveries, mut done) = (0, 0, 0);
    let mut ask = |client: &mut Client| {
        pulls += 1;
        pull(client, &format!("{name}.{pulls}"))
    };
    let mut left = count;
    while left > 0 && count - left < WINDOW {
        ask(&mut client)?;
        left -= 1;
    }
    while done < count {
        client.send().await?;
        let mut message = Some(client.message().await?);
        while let Some(found) = message {
            if found.sid.as_str() == ACKS {
                done += 1;
                if left > 0 {
                    ask(&mut client)?;
                    left -= 1;
                }
            } else if found.headers.starts_with(b"NATS/1.0 4") {
                ask(&mut client)?;
            } else {
                letter.expect(&found)?;
                deliveries += 1;
                acknowledge(&mut client, &found, &format!("{name}.{deliveries}"))?;
            }
            message = client.here()?;
        }
    }
    Ok(())
}

async fn tell_all(
    mut client: Taken,
    letter: Letter,
    subject: String,
    count: usize,
    flow: Arc<Semaphore>,
) -> Result<()> {
    let mut left = count;
    while left > 0 {
        flow.acquire().await?.forget();
        let more = flow.forget_permits(WINDOW.min(left) - 1);
        for _ in 0..=more {
            client.publish(&subject, None, Some(&letter.headers), &letter.body)?;
        }
        client.send().await?;
        left -= more + 1;
    }
    Ok(())
}

async fn hear_all(
    mut client: Taken,
    letter: Letter,
    count: usize,
    flow: Arc<Semaphore>,
) -> Result<()> {
    for _ in 0..count {
        letter.expect(&client.message().await?)?;
        flow.add_permits(1);
    }
    Ok(())
}
