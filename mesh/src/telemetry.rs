//! Metrics of one service, in a registry owned by the caller, and tracing spans of its messages.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector, exponential_buckets,
};
use tracing::Span;

use crate::{
    Message,
    wire::{OperatorTime, TraceParent},
};

/// Makes a span the child of a span in another process.
pub type SpanLinker = fn(&Span, &TraceParent);

// Global, like the tracing subscriber that it serves.
static SPAN_LINKER: OnceLock<SpanLinker> = OnceLock::new();

/// Links the span of every message to the span named in its `traceparent`. Only the first linker is
/// kept; returns whether this is it.
pub fn set_span_linker(linker: SpanLinker) -> bool {
    SPAN_LINKER.set(linker).is_ok()
}

/// The span in which a service handles a message.
pub(crate) fn message_span(service: &'static str, message: &Message) -> Span {
    let header = |name| message.headers.get(name);
    let trace = header("traceparent");
    let span = tracing::info_span!(
        "message",
        service,
        class = message.class(),
        tenant = header("Hermesh-Tenant"),
        job = header("Hermesh-Job"),
        stage = header("Hermesh-Stage"),
        shard = header("Hermesh-Shard"),
        traceparent = trace,
    );
    if let (Some(linker), Some(Ok(trace))) = (SPAN_LINKER.get(), trace.map(str::parse)) {
        linker(&span, &trace);
    }
    span
}

/// Metrics of every service. Labels are bounded: operators and codes are fixed lists, and a class
/// is the first two tokens of a subject.
#[derive(Clone, Debug)]
pub struct Metrics {
    service: &'static str,
    seconds: CounterVec,
    calls: IntCounterVec,
    messages: IntCounterVec,
    bytes: IntCounterVec,
    failures: IntCounterVec,
    in_hand: IntGaugeVec,
    cache_bytes: IntGaugeVec,
    cache_lookups: IntCounterVec,
    delegated: IntCounterVec,
    job_seconds: HistogramVec,
}

/// Counts a message as in progress until dropped.
#[derive(Debug)]
pub struct InHand(IntGauge);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Metrics of `service`, registered; services may share a registry.
    pub fn new(service: &'static str, registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("service", service);
        let integers = |name, help, labels| -> Result<_, prometheus::Error> {
            register(registry, IntCounterVec::new(opts(name, help), labels)?)
        };
        let gauges = |name, help, labels| -> Result<_, prometheus::Error> {
            register(registry, IntGaugeVec::new(opts(name, help), labels)?)
        };
        let job_seconds = HistogramOpts::new(
            "hermesh_job_seconds",
            "Seconds from the admission of a job to its end.",
        );
        let job_seconds = job_seconds
            .const_label("service", service)
            .buckets(exponential_buckets(0.01, 2.0, 18)?);
        Ok(Self {
            service,
            in_hand: gauges("hermesh_in_hand", "Messages in progress.", &["class"])?,
            cache_bytes: gauges("hermesh_cache_bytes", "Bytes held.", &["cache"])?,
            cache_lookups: integers(
                "hermesh_cache_lookups_total",
                "Cache hits and misses.",
                &["cache", "result"],
            )?,
            delegated: integers(
                "hermesh_delegated_tasks_total",
                "Tasks given to or taken from another worker because of key affinity.",
                &["direction"],
            )?,
            job_seconds: register(registry, HistogramVec::new(job_seconds, &["outcome"])?)?,
            seconds: register(
                registry,
                CounterVec::new(
                    opts("hermesh_operator_seconds_total", "Time in seconds, summed over cores."),
                    &["operator"],
                )?,
            )?,
            calls: integers("hermesh_operator_calls_total", "Operators run.", &["operator"])?,
            messages: integers("hermesh_messages_total", "Messages.", &["class", "direction"])?,
            bytes: integers("hermesh_message_bytes_total", "Bytes.", &["class", "direction"])?,
            failures: integers("hermesh_failures_total", "Refusals and failures.", &["code"])?,
        })
    }

    /// The service that counts.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Adds the times of operators.
    pub fn operators(&self, times: &[OperatorTime]) {
        for time in times {
            let label = [time.operator.as_str()];
            self.seconds.with_label_values(&label).inc_by(time.seconds);
            self.calls.with_label_values(&label).inc_by(time.calls);
        }
    }

    /// Counts a received message.
    pub fn received(&self, message: &Message) {
        self.message(message, "in");
    }

    /// Counts a sent message.
    pub fn sent(&self, message: &Message) {
        self.message(message, "out");
    }

    /// Counts a refusal or failure.
    pub fn failed(&self, code: crate::wire::FailureCode) {
        self.failures.with_label_values(&[code.as_str()]).inc();
    }

    /// Counts a message as in progress until the guard is dropped.
    pub fn in_hand(&self, message: &Message) -> InHand {
        let gauge = self.in_hand.with_label_values(&[message.class()]);
        gauge.inc();
        InHand(gauge)
    }

    /// Sets how many bytes a cache holds.
    pub fn cache_bytes(&self, cache: &'static str, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.cache_bytes.with_label_values(&[cache]).set(bytes);
    }

    /// Counts a cache hit or miss.
    pub fn cache_lookup(&self, cache: &'static str, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        self.cache_lookups.with_label_values(&[cache, result]).inc();
    }

    /// Counts a task that this worker gave to another worker, which has the task's key loaded.
    pub fn task_given(&self) {
        self.delegated.with_label_values(&["given"]).inc();
    }

    /// Counts a task that this worker took over from another, because it has the task's key loaded.
    pub fn task_taken(&self) {
        self.delegated.with_label_values(&["taken"]).inc();
    }

    /// Records the time from a job's admission to its end.
    pub fn job_ended(&self, answered: bool, took: Duration) {
        let outcome = if answered { "answer" } else { "failure" };
        self.job_seconds.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    fn message(&self, message: &Message, direction: &str) {
        let labels = [message.class(), direction];
        self.messages.with_label_values(&labels).inc();
        self.bytes.with_label_values(&labels).inc_by(message.size() as u64);
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Time per operator over all services of a registry: name → (seconds, calls).
pub fn operator_times(registry: &Registry) -> BTreeMap<String, (f64, u64)> {
    let mut times = BTreeMap::<String, (f64, u64)>::new();
    for family in registry.gather() {
        for metric in family.get_metric() {
            let labels = metric.get_label();
            let Some(label) = labels.iter().find(|label| label.name() == "operator") else {
                continue;
            };
            let entry = times.entry(label.value().to_owned()).or_default();
            let value = metric.get_counter().get_value();
            match family.name() {
                "hermesh_operator_seconds_total" => entry.0 += value,
                "hermesh_operator_calls_total" => entry.1 += value as u64,
                _ => {}
            }
        }
    }
    times
}
