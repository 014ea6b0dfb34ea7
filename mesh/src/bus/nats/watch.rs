//! Messages and requests as they are published, without a queue.

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    BUFFER,
    convert::{from_nats, to_nats},
};
use crate::{
    Error, Message,
    bus::{Request, Requests, Subscription},
};

/// All servers of one filter are one group, and share its requests.
const GROUP: &str = "hermesh";

fn refused(filter: &str) -> impl FnOnce(async_nats::client::SubscribeError) -> Error {
    let what = format!("a subscription to {filter}");
    move |error| Error::Broker { what, code: 0, why: error.to_string() }
}

pub(super) async fn subscribe(client: &Client, filter: &str) -> Result<Subscription, Error> {
    let messages = client.subscribe(filter.to_owned()).await.map_err(refused(filter))?;
    Ok(Subscription(forward(messages, |message, _| Some(message))))
}

pub(super) async fn serve(client: &Client, filter: &str) -> Result<Requests, Error> {
    let group = GROUP.to_owned();
    let requests =
        client.queue_subscribe(filter.to_owned(), group).await.map_err(refused(filter))?;
    let client = client.clone();
    let requests = forward(requests, move |message, reply| {
        let (client, asker) = (client.clone(), reply?);
        let reply = move |answer: Message| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let (got, limit) = (answer.size(), client.max_payload());
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

/// Hands messages on until nobody wants them. What does not fit into the buffer is lost, as promised.
fn forward<T: Send + 'static>(
    mut messages: Subscriber,
    mut make: impl FnMut(Message, Option<async_nats::Subject>) -> Option<T> + Send + 'static,
) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(BUFFER);
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
                    tracing::debug!(subject = kept.subject, %error, "an unreadable message");
                }
            }
        }
    });
    receiver
}
