//! A bus that records its process's operations on shards and answers in a file, which survives the process.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use hermesh_mesh::{
    Clock as _, Error, Message, SystemClock,
    bus::{Bus, BusHandle, Delivery, Published, QueueOptions, Requests, Subscription},
};

/// Forwards to another bus.
pub struct Recorder {
    inner: BusHandle,
    log: File,
    who: String,
}

impl Recorder {
    /// Appends to `log` under the name `who`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn new(inner: BusHandle, log: &Path, who: String) -> std::io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        Ok(Self { inner, log, who })
    }

    /// One write, so that a kill never leaves half a line.
    fn note(&self, what: &str, subject: &str) {
        let line = format!("{what} {} {} {subject}\n", SystemClock.now().0, self.who);
        (&self.log).write_all(line.as_bytes()).expect("writes the history");
    }
}

fn of_interest(subject: &str) -> bool {
    subject.starts_with("hermesh.partial.") || subject.starts_with("hermesh.answer.")
}

#[async_trait]
impl Bus for Recorder {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, message: Message) -> Result<Published, Error> {
        let subject = message.subject.clone();
        if !of_interest(&subject) {
            return self.inner.publish(message).await;
        }
        self.note("publishing", &subject);
        let published = self.inner.publish(message).await?;
        match published {
            Published::Stored => self.note("stored", &subject),
            Published::Duplicate => self.note("duplicate", &subject),
        }
        Ok(published)
    }

    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.inner.emit(message).await
    }

    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        let delivery = self.inner.pull(queues).await?;
        if delivery.message.subject.starts_with("hermesh.task.") {
            self.note("pulled", &delivery.message.subject);
        }
        Ok(delivery)
    }

    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        // The process that hands over the delivery has recorded it.
        self.note("adopted", &message.subject);
        self.inner.adopt(handle, message).await
    }

    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.inner.last(subject).await
    }

    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        if subject.starts_with("hermesh.partial.") {
            self.note("looked", subject);
        }
        self.inner.exists(subject).await
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        self.inner.subjects(filter).await
    }

    async fn purge(&self, filter: &str) -> Result<(), Error> {
        self.inner.purge(filter).await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.inner.subscribe(filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        self.inner.request(message, timeout).await
    }

    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        self.inner.serve(filter).await
    }
}
