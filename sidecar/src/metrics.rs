//! The sidecar's metrics. Labels are bounded: operators and reasons are fixed lists, and only the first 32
//! models get a label of their own.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hermesh_mesh::{UnixMillis, seal::HeaderBlock, wire::OperatorTime};
use prometheus::{
    CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector, exponential_buckets,
};

use crate::proxy::Rejection;

/// Models with a label of their own; all others share `other`.
const MODELS: usize = 32;
/// The engine's operators; all others are counted as `other`.
const OPERATORS: [&str; 4] = ["bootstrap", "keyswitch", "linear", "pack"];
/// Hexadecimal digits of a model's digest in its label.
const MODEL_DIGITS: usize = 12;

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the workload.
    In,
    /// From the workload.
    Out,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The kind of a message: a step of an inference, and its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    operator: &'static str,
    model: Arc<str>,
}

/// The metrics of one sidecar.
#[derive(Debug, Clone)]
pub struct Metrics {
    messages: IntCounterVec,
    bytes: IntCounterVec,
    queue_seconds: HistogramVec,
    service_seconds: HistogramVec,
    operator_seconds: CounterVec,
    operator_calls: IntCounterVec,
    rejections: IntCounterVec,
    connections: IntGauge,
    connections_ended: IntCounterVec,
    upstream_failures: IntCounterVec,
    certificate_expiry: Gauge,
    models: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl Metrics {
    /// Makes and registers the metrics of the sidecar of `workload`, for example `service/evaluation`.
    ///
    /// # Errors
    /// A metric's name is taken.
    pub fn new(workload: &str, registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| {
            Opts::new(format!("hermesh_sidecar_{name}"), help).const_label("workload", workload)
        };
        let counters = |name, help, labels: &[&str]| {
            register(registry, IntCounterVec::new(opts(name, help), labels)?)
        };
        let histograms = |name, help| {
            let opts = HistogramOpts::from(opts(name, help));
            // Buckets from a tenth of a millisecond to half an hour.
            let opts = opts.buckets(exponential_buckets(0.000_1, 4.0, 13)?);
            register(registry, HistogramVec::new(opts, &["operator", "model"])?)
        };
        let by_kind = ["direction", "operator", "model"];
        let metrics = Self {
            messages: counters("messages_total", "Messages let through.", &by_kind)?,
            bytes: counters("message_bytes_total", "Bytes of their bodies.", &by_kind)?,
            queue_seconds: histograms(
                "queue_seconds",
                "Seconds from the signing of a message to its delivery from a queue.",
            )?,
            service_seconds: histograms(
                "service_seconds",
                "Seconds from the delivery of a message from a queue to its acknowledgement.",
            )?,
            operator_seconds: register(
                registry,
                CounterVec::new(
                    opts("operator_seconds_total", "Seconds of computation that results report."),
                    &["operator", "model"],
                )?,
            )?,
            operator_calls: counters(
                "operator_calls_total",
                "Operators run that results report.",
                &["operator", "model"],
            )?,
            rejections: counters(
                "rejections_total",
                "Messages, subscriptions and connections rejected.",
                &["direction", "reason"],
            )?,
            connections: register(
                registry,
                IntGauge::with_opts(opts("connections", "Connections of the workload."))?,
            )?,
            connections_ended: counters(
                "connections_ended_total",
                "Connections of the workload that have ended.",
                &["reason"],
            )?,
            upstream_failures: counters(
                "upstream_failures_total",
                "Failed connections to the broker.",
                &["reason"],
            )?,
            certificate_expiry: register(
                registry,
                Gauge::with_opts(opts(
                    "certificate_expiry_timestamp_seconds",
                    "When the workload's certificate expires, in seconds since 1970.",
                ))?,
            )?,
            models: Arc::default(),
        };
        // Counters start at 0 instead of being absent until the first event.
        for reason in Rejection::NAMES {
            for direction in [Direction::In, Direction::Out] {
                metrics.rejections.with_label_values(&[direction.name(), reason]);
            }
        }
        Ok(metrics)
    }

    /// Returns the kind of a message.
    pub fn kind(&self, subject: &str, headers: Option<&HeaderBlock<'_>>) -> Kind {
        let model = headers.and_then(|headers| headers.get("Hermesh-Model"));
        // A client may name any model in a job, so only messages of services, which passed admission, add
        // labels.
        let learn = !subject.starts_with("hermesh.job.");
        Kind { operator: operator(subject), model: self.model(model, learn) }
    }

    fn model(&self, model: Option<&str>, learn: bool) -> Arc<str> {
        let hex = |text: &&str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let Some(model) = model.filter(hex).map(|model| &model[..MODEL_DIGITS]) else {
            return "".into();
        };
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = models.get(model) {
            return known.clone();
        }
        if !learn || models.len() >= MODELS {
            return "other".into();
        }
        let model: Arc<str> = model.into();
        models.insert(model.clone());
        model
    }

    /// Counts a message that was let through.
    pub fn message(&self, direction: Direction, kind: &Kind, bytes: usize) {
        let labels = [direction.name(), kind.operator, &kind.model];
        self.messages.with_label_values(&labels).inc();
        self.bytes.with_label_values(&labels).inc_by(bytes as u64);
    }

    /// Counts the computation that a result reports in its headers, if it does.
    pub fn computed(&self, kind: &Kind, headers: &HeaderBlock<'_>) {
        let times = headers.get("Hermesh-Times").unwrap_or_default().split(',');
        for time in times.take(OPERATORS.len()).filter_map(|time| time.parse::<OperatorTime>().ok())
        {
            let operator = OPERATORS.iter().find(|operator| **operator == time.operator);
            let labels = [*operator.unwrap_or(&"other"), &*kind.model];
            self.operator_seconds.with_label_values(&labels).inc_by(time.seconds);
            self.operator_calls.with_label_values(&labels).inc_by(time.calls);
        }
    }

    /// Records how long a message waited in a queue.
    pub fn waited(&self, kind: &Kind, time: Duration) {
        let labels = [kind.operator, &kind.model];
        self.queue_seconds.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// Records how long the workload processed a message.
    pub fn worked(&self, kind: &Kind, time: Duration) {
        let labels = [kind.operator, &kind.model];
        self.service_seconds.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// Counts a rejection.
    pub fn rejected(&self, direction: Direction, why: &Rejection) {
        self.rejections.with_label_values(&[direction.name(), why.name()]).inc();
    }

    /// The number of rejections for this reason.
    pub fn rejections(&self, direction: Direction, reason: &str) -> u64 {
        self.rejections.with_label_values(&[direction.name(), reason]).get()
    }

    /// The number of rejections towards the workload, for any reason.
    pub fn rejected_in_all(&self) -> u64 {
        Rejection::NAMES.iter().map(|reason| self.rejections(Direction::In, reason)).sum()
    }

    /// Counts a connection while the guard lives.
    pub fn connection(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// Counts the end of a connection.
    pub fn ended(&self, reason: &'static str) {
        self.connections_ended.with_label_values(&[reason]).inc();
    }

    /// Counts a failed connection to the broker.
    pub fn upstream_failed(&self, reason: &'static str) {
        self.upstream_failures.with_label_values(&[reason]).inc();
    }

    /// Records when the certificate expires.
    pub fn certificate(&self, until: UnixMillis) {
        self.certificate_expiry.set(until.0 as f64 / 1000.0);
    }
}

/// Counts a connection for as long as it exists.
#[derive(Debug)]
pub struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The step of an inference, or other purpose, that the subject names.
fn operator(subject: &str) -> &'static str {
    let Some(rest) = subject.strip_prefix("hermesh.") else {
        return if subject.starts_with("_INBOX.") { "reply" } else { "broker" };
    };
    match rest.split('.').next().unwrap_or_default() {
        "job" => "begin",
        "task" | "hold" => "lookup",
        "partial" | "arrived" | "joined" => "advance",
        "answer" => "answer",
        "status" => "status",
        "upload" | "key" | "model" => "object",
        "keys" | "cancel" => "request",
        "dead" => "dead",
        _ => "record",
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
