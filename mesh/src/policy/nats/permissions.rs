//! What nats-server is to allow to one identity.

use super::{ACK, ANSWERED, Call, DIRECT_GET, GROUP, QUEUES, own_inbox};
use crate::{
    bus::nats::streams::stream_name,
    identity::SpiffeId,
    policy::{Rules, Verb, queue_of},
};

/// What one user of nats-server may do; everything else is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Where it may publish.
    pub publish: Vec<String>,
    /// Where it may subscribe; with a second word, only as one of that queue group.
    pub subscribe: Vec<String>,
}

/// What nats-server is to allow to `own`: at least everything that [`super::classify`] and
/// [`super::listen`] do. It cannot look into bodies, so who may purge, or list, a part of a stream is
/// held to that part by its sidecar only.
pub fn permissions(rules: &Rules, own: &SpiffeId) -> Permissions {
    if !rules.on_the_bus() {
        return Permissions::default();
    }
    let filters =
        |verb| rules.entries(verb).iter().map(|entry| entry.allowed.clone()).collect::<Vec<_>>();
    let mut publish = filters(Verb::Publish);
    publish.push(own_inbox(own));
    for queue in QUEUES.iter() {
        let calls = Call::ALL.into_iter().filter(|call| call.allowed(rules, queue));
        publish.extend(calls.map(|call| call.subject(queue)));
    }
    for filter in filters(Verb::Read) {
        let queue = queue_of(&filter).map(|queue| stream_name(&queue.name));
        publish.extend(queue.map(|stream| format!("{DIRECT_GET}{stream}.{filter}")));
    }
    for queue in filters(Verb::Pull) {
        let stream = stream_name(&queue);
        // No more and no fewer tokens, or it would settle deliveries of queues whose names it can choose.
        let delivery = format!("{stream}.{queue}.*.*.*.*.*");
        publish.push(format!("{ACK}{delivery}"));
        // With domain and account, as newer servers have it, and perhaps more behind.
        publish.push(format!("{ACK}*.*.{delivery}"));
        publish.push(format!("{ACK}*.*.{delivery}.>"));
    }
    let mut subscribe = filters(Verb::Subscribe);
    subscribe.push(own_inbox(own));
    let served = filters(Verb::Serve);
    if !served.is_empty() {
        // Not `allow_responses`: whoever asks itself could then publish anywhere.
        publish.extend(ANSWERED.map(str::to_owned));
    }
    subscribe.extend(served.iter().map(|filter| format!("{filter} {GROUP}")));
    Permissions { publish, subscribe }
}
