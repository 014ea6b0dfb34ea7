//! JetStream as the policy sees it: what one publish means, and what nats-server is told to allow.
//!
//! Both directions follow from one table, `Call`, so that a sidecar and the server do not differ but
//! in what only a sidecar can see: the body of a request to JetStream. There a filter may widen what the
//! subject narrows, so each is read, or compared with the one that the bus would send.
//!
//! What neither sees is where an answer goes: whoever forwards a publish must insist on [`replies_to`].

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

/// What a publish is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// A message that a queue stores.
    Stored {
        /// The queue.
        queue: &'static str,
    },
    /// A message that nothing stores: a request.
    Live,
    /// A request for the next message of a queue.
    Next {
        /// The queue.
        queue: &'static str,
    },
    /// A request for the message stored under a subject, which comes as JSON.
    Get {
        /// The subject.
        subject: String,
    },
    /// A request for the message stored under a subject, which comes as it is.
    DirectGet {
        /// The subject.
        subject: String,
    },
    /// Another request to JetStream, whose answer is the server's own.
    Api,
    /// What became of a delivery.
    Ack {
        /// The queue it came from.
        queue: &'static str,
    },
    /// A message to oneself.
    OwnInbox,
    /// An answer to somebody else. Whether that one has asked is for the caller to know.
    Answer,
}

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Answers to oneself.
    OwnInbox,
    /// Requests to answer.
    Requests,
    /// Messages as they are published.
    Live,
}

const API: &str = "$JS.API.";
const ACK: &str = "$JS.ACK.";
const DIRECT_GET: &str = "$JS.API.DIRECT.GET.";
/// The inboxes of those who ask.
const ANSWERED: [&str; 2] = ["_INBOX.tenant.*.>", "_INBOX.service.*.>"];

/// What may be asked of JetStream about one queue.
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

    /// Whether there is a body with which it is allowed.
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

    /// What the policy would have to allow.
    fn verb(self) -> Verb {
        match self {
            Self::Create => Verb::Declare,
            Self::Info | Self::Get => Verb::Read,
            Self::Purge => Verb::Purge,
            _ => Verb::Pull,
        }
    }
}

/// What the publish of `body` to `subject` by `own` means.
///
/// # Errors
/// It is not allowed.
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
            return denied(Verb::Publish, "nobody may ask this of JetStream");
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

/// What a subscription of `own` to `filter`, perhaps as one of a queue group, is for.
///
/// # Errors
/// It is not allowed.
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
        // Requests are shared by all who serve; outside of the group they would be overheard.
        Some(GROUP) => rules.check(own, Verb::Serve, filter).map(|()| Listening::Requests),
        Some(_) => denied(Verb::Serve, "requests are shared by the queue group hermesh only"),
    }
}

/// Whether the answers to what `own` publishes may go to this subject. Whoever answers does so with
/// rights of its own, so none may be asked to answer elsewhere.
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
        _ => denied("its body: expected none, for the subject says what is wanted"),
    }
}

/// The queue of a delivery that is acknowledged at `subject`:
/// `$JS.ACK.{stream}.{consumer}.{five numbers}`, or with domain and account before the stream and
/// perhaps more behind.
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
