//! Permissions of one identity in nats-server.

use super::{ACK, ANSWERED, Call, DIRECT_GET, GROUP, QUEUES, own_inbox};
use crate::{
    bus::nats::streams::stream_name,
    identity::SpiffeId,
    policy::{Rules, Verb, queue_of},
};

/// The permissions of one user of nats-server; everything else is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Subjects that it may publish to.
    pub publish: Vec<String>,
    /// Subjects that it may subscribe to. A second word names the queue group that it must join.
    pub subscribe: Vec<String>,
}

/// The permissions for `own`: at least everything that [`super::classify`] and [`super::listen`] allow. nats-server
/// cannot check bodies, so only the sidecar restricts an identity to the part of a stream that it may purge or list.
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
        // The number of tokens is fixed. With `>`, the identity could settle deliveries of other queues.
        let delivery = format!("{stream}.{queue}.*.*.*.*.*");
        publish.push(format!("{ACK}{delivery}"));
        // Newer servers add domain and account, and possibly tokens at the end.
        publish.push(format!("{ACK}*.*.{delivery}"));
        publish.push(format!("{ACK}*.*.{delivery}.>"));
    }
    let mut subscribe = filters(Verb::Subscribe);
    subscribe.push(own_inbox(own));
    let served = filters(Verb::Serve);
    if !served.is_empty() {
        // Not `allow_responses`: an identity that sends a request to itself could then publish anywhere.
        publish.extend(ANSWERED.map(str::to_owned));
    }
    subscribe.extend(served.iter().map(|filter| format!("{filter} {GROUP}")));
    Permissions { publish, subscribe }
}
