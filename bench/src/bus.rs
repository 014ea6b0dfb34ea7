//! Measures each operation of the bus against a real nats-server.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use hermesh_mesh::{
    Bytes, Message,
    bus::{
        Bus as _, Overflow, QueueOptions, Retention,
        nats::{NatsBus, NatsOptions},
    },
    nats_server::{NatsServer, NatsServerOptions},
};

const WORK: &str = "work";

/// `hermesh-bench bus`
#[derive(Args)]
pub(crate) struct BusCosts {
    /// Number of subjects in the stream that is read.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10_000..))]
    subjects: u32,
}

/// Measures, and returns a table.
pub(crate) fn run(options: &BusCosts) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options.subjects as usize))
}

struct Table(String);

impl Table {
    fn row(&mut self, what: &str, count: usize, started: Instant) {
        let each = started.elapsed().as_secs_f64() / count as f64;
        let (rate, each) = (1.0 / each, each * 1000.0);
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "| {what} | {rate:.0}/s | {each:.2} ms |");
    }
}

fn queue(name: &str, retention: Retention) -> QueueOptions {
    QueueOptions {
        name: name.into(),
        filter: format!("bench.{name}.>"),
        retention,
        unique: retention == Retention::LastPerSubject,
        ack_wait: Duration::from_secs(15),
        max_deliver: 10,
        max_messages: 1 << 21,
        max_per_subject: None,
        max_bytes: 1 << 32,
        max_message_bytes: 1 << 20,
        max_age: None,
        dedup_window: Duration::from_secs(120),
        overflow: Overflow::Refuse,
        direct: false,
    }
}

async fn measure(subjects: usize) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let server = NatsServer::start(NatsServerOptions::new(directory.path())).await?;
    let options = NatsOptions { url: server.url(), ..NatsOptions::default() };
    let bus = &NatsBus::connect(options).await?;
    bus.declare(&queue(WORK, Retention::WorkQueue)).await?;
    bus.declare(&queue("kept", Retention::LastPerSubject)).await?;
    let body = Bytes::from(vec![7; 1000]);
    let mut table = Table("| operation | | each |\n|---|---|---|\n".into());

    let send = async |number: usize| {
        let message = Message::new(format!("bench.{WORK}.{number}"), body.clone());
        bus.publish(message.with_id(number)).await.map(drop)
    };
    let started = Instant::now();
    for number in 0..3000 {
        send(number).await?;
    }
    table.row("publish 1 KB, one at a time", 3000, started);
    let started = Instant::now();
    stream::iter(3000..10_000).map(Ok).try_for_each_concurrent(64, send).await?;
    table.row("publish 1 KB, 64 at a time", 7000, started);
    let pulls = async |count: usize| {
        for _ in 0..count {
            bus.pull(&[WORK]).await?.ack().await?;
        }
        Ok::<_, hermesh_mesh::Error>(())
    };
    let started = Instant::now();
    pulls(2000).await?;
    table.row("pull and acknowledge, 1 loop", 2000, started);
    let started = Instant::now();
    try_join_all((0..16).map(|_| pulls(500))).await?;
    table.row("pull and acknowledge, 16 loops", 8000, started);

    // A hundred subjects under each prefix.
    let subject = |number: usize| format!("bench.kept.{}.{}", number / 100, number % 100);
    let store = async |number: usize| {
        bus.publish(Message::new(subject(number), body.clone())).await.map(drop)
    };
    let started = Instant::now();
    stream::iter(0..subjects).map(Ok).try_for_each_concurrent(64, store).await?;
    table.row("publish unique 1 KB, 64 at a time", subjects, started);
    let started = Instant::now();
    for number in 0..100 {
        ensure!(bus.last(&subject(number * 99)).await?.is_some(), "a stored message is missing");
    }
    table.row("last", 100, started);
    let started = Instant::now();
    for number in 0..100 {
        let found = bus.subjects(&format!("bench.kept.{number}.*")).await?;
        ensure!(found.len() == 100, "expected 100 subjects, got {}", found.len());
    }
    table.row("subjects, 100 of them", 100, started);
    let started = Instant::now();
    for number in 0..50 {
        bus.purge(&format!("bench.kept.{number}.>")).await?;
    }
    table.row("purge, 100 of them", 50, started);
    Ok(table.0)
}
