//! The policy applied to NATS and JetStream: classifies single publishes and subscriptions, and derives nats-server's
//! permissions.
//!
//! Both derive from one table, `Call`, so the sidecar and the server agree. They differ only where the body of a
//! JetStream request matters, which the server cannot see: its filter may be wider than the subject, so the sidecar
//! parses the body or compares it with the one that the bus would send.
//!
//! The reply subject is not part of the classification: the component that forwards a publish must check it with
//! [`replies_to`].

mod bodies;
mod permissions;
mod render;

pub use self::{
    permissions::{Permissions, permissions},
    render::{ServerOptions, render},
};
use super::{Denied, QUEUES, Rules, Verb, covers, queue_named, queue_of, rules::is_filter};
use crate::{
    bus::{
        QueueOptions,
        nats::{
            convert::check_subject,
            streams::{queue_name, stream_name},
            watch::{GROUP, INBOXES},
        },
    },
    identity::SpiffeId,
};

/// The meaning of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// A message that a queue stores.
    Stored {
        /// The queue.
        queue: &'static str,
    },
    /// A message that no queue stores: a request.
    Live,
    /// A request for the next message of a queue.
    Next {
        /// The queue.
        queue: &'static str,
    },
    /// A request for the message stored under a subject, returned as JSON.
    Get {
        /// The subject.
        subject: String,
    },
    /// A request for the message stored under a subject, returned as it is.
    DirectGet {
        /// The subject.
        subject: String,
    },
    /// Another request to JetStream; the server itself replies.
    Api,
    /// The acknowledgement of a delivery.
    Ack {
        /// The queue of the delivery.
        queue: &'static str,
    },
    /// A message to the identity's own inbox.
    OwnInbox,
    /// A reply to another identity. The caller must check that it replies to a request.
    Answer,
}

/// The purpose of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Replies to this identity.
    OwnInbox,
    /// Requests to reply to.
    Requests,
    /// Messages as they are published.
    Live,
}

const API: &str = "$JS.API.";
const ACK: &str = "$JS.ACK.";
const DIRECT_GET: &str = "$JS.API.DIRECT.GET.";
/// The inboxes of possible requesters.
const ANSWERED: [&str; 2] = ["_INBOX.tenant.*.>", "_INBOX.service.*.>"];

/// Requests to JetStream about one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Create,
    Info,
    Get,
    Purge,
    ConsumerInfo,
    ConsumerCreate,
    ConsumerDelete,
    Next,
}

impl Call {
    const ALL: [Self; 8] = [
        Self::Create,
        Self::Info,
        Self::Get,
        Self::Purge,
        Self::ConsumerInfo,
        Self::ConsumerCreate,
        Self::ConsumerDelete,
        Self::Next,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "STREAM.CREATE",
            Self::Info => "STREAM.INFO",
            Self::Get => "STREAM.MSG.GET",
            Self::Purge => "STREAM.PURGE",
            Self::ConsumerInfo => "CONSUMER.INFO",
            Self::ConsumerCreate => "CONSUMER.DURABLE.CREATE",
            Self::ConsumerDelete => "CONSUMER.DELETE",
            Self::Next => "CONSUMER.MSG.NEXT",
        }
    }

    fn of_consumer(self) -> bool {
        self.name().starts_with("CONSUMER")
    }

    fn subject(self, queue: &QueueOptions) -> String {
        let (name, stream) = (self.name(), stream_name(&queue.name));
        match self.of_consumer() {
            true => format!("{API}{name}.{stream}.{}", queue.name),
            false => format!("{API}{name}.{stream}"),
        }
    }

    fn parse(subject: &str) -> Option<(Self, &'static QueueOptions)> {
        let rest = subject.strip_prefix(API)?;
        Self::ALL.into_iter().find_map(|call| {
            let rest = rest.strip_prefix(call.name())?.strip_prefix('.')?;
            let (stream, consumer) = match call.of_consumer() {
                true => rest.split_once('.').map(|(stream, consumer)| (stream, Some(consumer)))?,
                false => (rest, None),
            };
            let queue = queue_named(queue_name(stream)?)?;
            consumer.is_none_or(|consumer| consumer == queue.name).then_some((call, queue))
        })
    }

    /// Whether the request is allowed with at least one body.
    fn allowed(self, rules: &Rules, queue: &QueueOptions) -> bool {
        let name = &queue.name;
        match self {
            Self::Create => rules.allows(Verb::Declare, name),
            Self::Info => {
                rules.allows(Verb::Declare, name)
                    || rules.allows(Verb::Pull, name)
                    || rules.lists(&queue.filter)
            }
            Self::Get => rules.lists(&queue.filter),
            Self::Purge => {
                let filters = rules.entries(Verb::Purge).iter();
                filters.map(|entry| &entry.allowed).any(|filter| covers(&queue.filter, filter))
            }
            Self::ConsumerInfo | Self::ConsumerCreate | Self::ConsumerDelete | Self::Next => {
                rules.allows(Verb::Pull, name)
            }
        }
    }

    /// The verb that the policy would have to allow.
    fn verb(self) -> Verb {
        match self {
            Self::Create => Verb::Declare,
            Self::Info | Self::Get => Verb::Read,
            Self::Purge => Verb::Purge,
            _ => Verb::Pull,
        }
    }
}

/// Classifies the publish of `body` to `subject` by `own`.
///
/// # Errors
/// [`Denied`], if the policy does not allow it.
pub fn classify(
    rules: &Rules,
    own: &SpiffeId,
    subject: &str,
    body: &[u8],
) -> Result<Publication, Denied> {
    let denied = |verb, why: &str| Err(Denied::new(own, verb, subject, why));
    if let Err(error) = check_subject(subject) {
        return denied(Verb::Publish, &error.to_string());
    }
    if let Some(rest) = subject.strip_prefix(DIRECT_GET) {
        return direct_get(rules, own, rest, body);
    }
    if subject.starts_with(API) {
        let Some((call, queue)) = Call::parse(subject) else {
            return denied(Verb::Publish, "this JetStream request is not allowed to any identity");
        };
        if !call.allowed(rules, queue) {
            return denied(call.verb(), "no rule gives it this queue");
        }
        return bodies::check(call, queue, rules, body)
            .or_else(|why| denied(call.verb(), &format!("its body: expected {why}")));
    }
    if subject.starts_with(ACK) {
        let Some(queue) = acknowledged(subject) else {
            return denied(Verb::Pull, "expected the reply subject of a delivery");
        };
        rules.check(own, Verb::Pull, &queue.name)?;
        return match body.len() <= bodies::LARGEST {
            true => Ok(Publication::Ack { queue: &queue.name }),
            false => denied(Verb::Pull, "its body is longer than any acknowledgement"),
        };
    }
    if replies_to(own, subject) {
        return match rules.on_the_bus() {
            true => Ok(Publication::OwnInbox),
            false => denied(Verb::Publish, "no rule lets it use the bus"),
        };
    }
    if subject.starts_with(INBOXES) {
        if rules.entries(Verb::Serve).is_empty() {
            return denied(Verb::Serve, "it answers no requests");
        }
        return match ANSWERED.iter().any(|inboxes| covers(inboxes, subject)) {
            true => Ok(Publication::Answer),
            false => denied(Verb::Serve, "expected the inbox of a tenant or a service"),
        };
    }
    rules.check(own, Verb::Publish, subject)?;
    Ok(match queue_of(subject) {
        Some(queue) => Publication::Stored { queue: &queue.name },
        None => Publication::Live,
    })
}

/// Classifies a subscription of `own` to `filter`, optionally as a member of a queue group.
///
/// # Errors
/// [`Denied`], if the policy does not allow it.
pub fn listen(
    rules: &Rules,
    own: &SpiffeId,
    filter: &str,
    group: Option<&str>,
) -> Result<Listening, Denied> {
    let denied = |verb, why| Err(Denied::new(own, verb, filter, why));
    if !is_filter(filter) {
        return denied(Verb::Subscribe, "expected printable tokens separated by dots");
    }
    match group {
        None if rules.on_the_bus() && covers(&own_inbox(own), filter) => Ok(Listening::OwnInbox),
        None => rules.check(own, Verb::Subscribe, filter).map(|()| Listening::Live),
        // Servers share requests in one queue group; outside of it, a subscriber would overhear them.
        Some(GROUP) => rules.check(own, Verb::Serve, filter).map(|()| Listening::Requests),
        Some(_) => denied(Verb::Serve, "requests are shared by the queue group hermesh only"),
    }
}

/// Whether replies to publishes of `own` may go to this subject. A reply is sent with the rights of the replying party,
/// so a requester must not direct it anywhere else.
pub fn replies_to(own: &SpiffeId, reply: &str) -> bool {
    check_subject(reply).is_ok() && covers(&own_inbox(own), reply)
}

fn own_inbox(own: &SpiffeId) -> String {
    format!("{}.>", own.inbox())
}

fn direct_get(
    rules: &Rules,
    own: &SpiffeId,
    rest: &str,
    body: &[u8],
) -> Result<Publication, Denied> {
    let denied = |why| Err(Denied::new(own, Verb::Read, rest, why));
    let parts = rest.split_once('.').and_then(|(stream, subject)| {
        let queue = queue_named(queue_name(stream)?)?;
        covers(&queue.filter, subject).then_some(subject)
    });
    let Some(subject) = parts else {
        return denied("expected a stream of hermesh and one of its subjects");
    };
    rules.check(own, Verb::Read, subject)?;
    match body {
        [] => Ok(Publication::DirectGet { subject: subject.to_owned() }),
        _ => denied("its body: expected none, because the subject says what is requested"),
    }
}

/// The queue of the delivery that is acknowledged at `subject`: `$JS.ACK.{stream}.{consumer}.{five numbers}`, or with
/// domain and account before the stream and possibly more tokens at the end.
fn acknowledged(subject: &str) -> Option<&'static QueueOptions> {
    let tokens: Vec<&str> = subject.strip_prefix(ACK)?.split('.').collect();
    let tokens = match tokens.len() {
        7 => &tokens[..],
        9.. => &tokens[2..],
        _ => return None,
    };
    let queue = queue_named(queue_name(tokens[0])?)?;
    let number = |token: &&str| token.bytes().all(|byte| byte.is_ascii_digit());
    (tokens[1] == queue.name && tokens[2..7].iter().all(number)).then_some(queue)
}
