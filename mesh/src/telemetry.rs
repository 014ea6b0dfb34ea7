//! Metrics of one service, in a registry that the caller owns.

use std::collections::BTreeMap;

use prometheus::{CounterVec, IntCounterVec, Opts, Registry, core::Collector};

use crate::{Message, wire::OperatorTime};

/// What every service counts. Labels are bounded: operators and codes are fixed lists, classes are
/// the first two tokens of a subject.
#[derive(Clone, Debug)]
pub struct Metrics {
    service: &'static str,
    seconds: CounterVec,
    calls: IntCounterVec,
    messages: IntCounterVec,
    bytes: IntCounterVec,
    failures: IntCounterVec,
}

impl Metrics {
    /// Metrics of `service`, registered; services may share a registry.
    pub fn new(service: &'static str, registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("service", service);
        let integers = |name, help, labels| -> Result<_, prometheus::Error> {
            register(registry, IntCounterVec::new(opts(name, help), labels)?)
        };
        Ok(Self {
            service,
            seconds: register(
                registry,
                CounterVec::new(
                    opts("hermesh_operator_seconds_total", "Seconds spent, summed over cores."),
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

    /// Adds operators' times.
    pub fn operators(&self, times: &[OperatorTime]) {
        for time in times {
            let label = [time.operator.as_str()];
            self.seconds.with_label_values(&label).inc_by(time.seconds);
            self.calls.with_label_values(&label).inc_by(time.calls);
        }
    }

    /// Counts a message taken in.
    pub fn received(&self, message: &Message) {
        self.message(message, "in");
    }

    /// Counts a message sent out.
    pub fn sent(&self, message: &Message) {
        self.message(message, "out");
    }

    /// Counts a refusal or failure.
    pub fn failed(&self, code: crate::wire::FailureCode) {
        self.failures.with_label_values(&[code.as_str()]).inc();
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
