//! Published messages and requests that bypass queues.

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    BUFFER, HEADER_ROOM,
    convert::{check_subject, from_nats, to_nats},
};
use crate::{
    Error, Message,
    bus::{Request, Requests, Subscription},
};

/// All servers of one filter form one queue group and share its requests.
pub(crate) const GROUP: &str = "hermesh";
/// Prefix of the subjects where NATS clients wait for replies. A reply is published with the rights of the server that
/// replies, so a requester must not be able to direct it anywhere else: to a stream, the server's API or the
/// acknowledgement of a delivery.
pub(crate) const INBOXES: &str = "_INBOX.";
/// The largest request body. A worker that offers a task includes its shard; all other requests are small.
const MAX_REQUEST: usize = 512 << 10;
/// How many requests may wait for one server. With [`MAX_REQUEST`]: at most 32 MiB for every filter served.
const REQUESTS: usize = 64;

fn refused(filter: &str) -> impl FnOnce(async_nats::client::SubscribeError) -> Error {
    let what = format!("a subscription to {filter}");
    move |error| Error::Broker { what, code: 0, why: error.to_string() }
}

pub(super) async fn subscribe(client: &Client, filter: &str) -> Result<Subscription, Error> {
    let messages = client.subscribe(filter.to_owned()).await.map_err(refused(filter))?;
    Ok(Subscription(forward(messages, BUFFER, |message, _| Some(message))))
}

pub(super) async fn serve(client: &Client, filter: &str) -> Result<Requests, Error> {
    let group = GROUP.to_owned();
    let requests =
        client.queue_subscribe(filter.to_owned(), group).await.map_err(refused(filter))?;
    let client = client.clone();
    let requests = forward(requests, REQUESTS, move |message, reply| {
        let (client, asker) = (client.clone(), reply?);
        if !is_inbox(&asker) || message.body.len() > MAX_REQUEST {
            let (subject, bytes) = (&message.subject, message.body.len());
            tracing::debug!(subject, bytes, reply = %asker, "ignoring an invalid request");
            return None;
        }
        let reply = move |answer: Message| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let (got, limit) = (answer.size() + HEADER_ROOM, client.max_payload());
                if got > limit {
                    return Err(Error::TooLarge { what: "reply", got, limit });
                }
                let headers = to_nats(&answer.headers);
                let sent = client.publish_with_headers(asker, headers, answer.body).await;
                sent.map_err(|_| Error::Stopped("the connection to NATS"))
            })
        };
        Some(Request::new(message, Box::new(reply)))
    });
    Ok(Requests(requests))
}

/// Whether replies may be sent to this subject or to subjects below it.
pub fn is_inbox(subject: &str) -> bool {
    subject.starts_with(INBOXES) && check_subject(subject).is_ok()
}

/// Forwards messages until the receiver is dropped. Messages that do not fit into the buffer are lost, as the contract
/// allows.
fn forward<T: Send + 'static>(
    mut messages: Subscriber,
    buffer: usize,
    mut make: impl FnMut(Message, Option<async_nats::Subject>) -> Option<T> + Send + 'static,
) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(buffer);
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = sender.closed() => None,
            };
            let Some(message) = message else {
                return;
            };
            match from_nats(&message.subject, message.headers.as_ref(), message.payload) {
                Ok(read) => {
                    if let Some(made) = make(read, message.reply) {
                        let _ = sender.try_send(made);
                    }
                }
                Err((kept, error)) => {
                    tracing::debug!(subject = kept.subject, %error, "ignoring an unreadable message");
                }
            }
        }
    });
    receiver
}
