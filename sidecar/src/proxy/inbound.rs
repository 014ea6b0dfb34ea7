//! Verifies messages for the workload: the signer, its permission, and that the workload asked for them.

use std::{borrow::Cow, sync::Mutex, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::BytesMut;
use hermesh_mesh::{
    Digest,
    policy::{
        Verb,
        nats::{Publication, classify, replies_to},
    },
    seal::{Content, HeaderBlock, Sealed},
};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Rejection, fresh,
    fresh::Live,
    gate::{Gate, View, lock},
    session::{Claim, Session},
};
use crate::{
    metrics::Direction,
    protocol::{self, Frame, ServerOp, Str},
};

/// Acknowledges a delivery that can never be accepted.
const TERM: &[u8] = b"+TERM";
/// The first and the longest delay before a rejected delivery comes again. Each delivery counts, and the
/// workload gets ten of them, so the delays must add up to hours.
const PUT_OFF: Duration = Duration::from_secs(10);
const PUT_OFF_MOST: Duration = Duration::from_secs(3600);

const NO_MESSAGE: &str = concat!(
    r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","#,
    r#""error":{"code":404,"err_code":10037,"description":"no message found"}}"#
);
const NOT_FOUND: &[u8] = b"NATS/1.0 404 Message Not Found\r\n\r\n";
const NOTHING_NOW: &[u8] = b"NATS/1.0 408 Request Timeout\r\n\r\n";

/// The parts of a message that arrived.
struct Arrived<'a> {
    subject: &'a Str,
    sid: &'a Str,
    reply: Option<&'a Str>,
    headers: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Arrived<'a> {
    fn reply(&self) -> &'a str {
        self.reply.map_or("", Str::as_str)
    }
}

/// A message that passes.
struct Good {
    /// Its signature; none if the broker itself sent it.
    sealed: Option<Sealed>,
    /// Whether the reply subject belongs to the message.
    with_reply: bool,
}

impl Good {
    const BROKERS: Self = Self { sealed: None, with_reply: true };
}

impl From<Sealed> for Good {
    fn from(sealed: Sealed) -> Self {
        Self { sealed: Some(sealed), with_reply: true }
    }
}

/// Output to both sides.
pub(super) struct Out<'a> {
    /// To the workload.
    pub(super) local: &'a mut BytesMut,
    /// To the broker.
    pub(super) upstream: &'a mut BytesMut,
}

/// Forwards a message to the workload. A rejected message is replaced by a reply that its reader can
/// handle, and the broker is told what to do with the delivery.
pub(super) fn inbound(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    frame: &Frame<ServerOp>,
    mut out: Out<'_>,
) {
    let out = &mut out;
    let message = match &frame.op {
        // A tab in the line: clients that split at spaces only would read another subscription.
        ServerOp::Msg { sid, reply, .. } if is_ambiguous(&frame.raw) => {
            return malformed(gate, view, session, sid, reply.as_ref(), out);
        }
        ServerOp::Msg { subject, sid, reply, headers, payload } => Arrived {
            subject,
            sid,
            reply: reply.as_ref(),
            headers: headers.as_deref().unwrap_or_default(),
            payload,
        },
        ServerOp::Malformed { sid, reply } => {
            return malformed(gate, view, session, sid, reply.as_ref(), out);
        }
        _ => return,
    };
    let claim = lock(session).claim(gate, view, message.sid, message.subject);
    let headers = HeaderBlock::parse(message.headers);
    let judged = match (&claim, &headers) {
        (Err(why), _) => Err(why.clone()),
        (_, Err(bad)) => Err(Rejection::Unreadable(bad.0)),
        (Ok(claim), Ok(headers)) => judge(gate, view, session, claim, &message, headers),
    };
    match judged {
        Ok(good) => {
            passed(gate, view, session, &claim, &message, headers.ok().as_ref(), &good);
            match good.with_reply || message.reply.is_none() {
                true => out.local.extend_from_slice(&frame.raw),
                false => {
                    write(out.local, message.subject, message.sid, message.headers, message.payload)
                }
            }
        }
        // An unsubscribed client may still receive messages for a moment; this is not an error.
        Err(Rejection::Unasked) if claim.is_err() => {
            tracing::debug!(subject = %message.subject, "after the end of a subscription");
        }
        Err(why) => {
            gate.metrics.rejected(Direction::In, &why);
            let (identity, subject) = (gate.own(), message.subject);
            if gate.complains() {
                tracing::warn!(%identity, %subject, %why, "a message was refused");
            }
            refuse(gate, view, session, claim.ok().as_ref(), &message, &why, out);
        }
    }
    lock(session).received(message.sid);
}

fn judge(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    claim: &Claim,
    message: &Arrived<'_>,
    headers: &HeaderBlock<'_>,
) -> Result<Good, Rejection> {
    let content =
        |subject, reply| Content { subject, reply, headers, body: Digest::of(message.payload) };
    // A status must come alone. With a body or reply subject it is an ordinary message, whatever its
    // headers say.
    let alone = message.payload.is_empty() && message.reply.is_none();
    let status = headers.status().get(..3).filter(|_| alone);
    match claim {
        Claim::Broker => Ok(Good::BROKERS),
        Claim::Own if status.is_some() && lock(session).awaits_delivery(message.subject) => {
            Ok(Good::BROKERS)
        }
        Claim::Own => {
            let content = content(message.subject, message.reply());
            let own = view.sealed(&content, |peer, _| peer.id == *gate.own());
            // An unexpected message in the workload's own inbox may only come from the workload itself.
            let own = own.map_err(|_| Rejection::Unasked)?;
            gate.live().request(&own, view.now)?;
            Ok(own.into())
        }
        // The broker reports that nothing is stored (404), or that JetStream is unavailable (503, while
        // nats-server reloads its configuration). The workload distinguishes the two.
        Claim::Stored(_) | Claim::Direct(_) if status.is_some() && headers.is_bare() => {
            Ok(Good::BROKERS)
        }
        Claim::Stored(subject) => stored(gate, view, subject, message.payload),
        Claim::Direct(subject) => {
            if headers.get("Nats-Subject").is_some_and(|of| of != subject) {
                return Err(Rejection::Readdressed);
            }
            Ok(kept(gate, view, &content(subject, ""))?.into())
        }
        // 503: no subscriber to answer. With further headers it could be read as an answer.
        Claim::Answer(_) if status == Some(b"503") && headers.is_bare() => Ok(Good::BROKERS),
        Claim::Answer(asked) => {
            let content = content(message.subject, message.reply());
            let sealed = view.sealed(&content, |_, rules| rules.allows(Verb::Serve, asked))?;
            Live::answer(sealed.time, view.now)?;
            Ok(sealed.into())
        }
        Claim::Delivery => {
            if !acknowledges(gate, view, message.reply()) {
                return Err(Rejection::Readdressed);
            }
            Ok(kept(gate, view, &content(message.subject, ""))?.into())
        }
        Claim::Heard if gate.queue_of(message.subject).is_some() => {
            let sealed = Some(kept(gate, view, &content(message.subject, ""))?);
            // This reply subject is for the publisher's PubAck. It is not part of the message and not
            // signed.
            Ok(Good { sealed, with_reply: false })
        }
        Claim::Heard => {
            let content = content(message.subject, message.reply());
            let sealed = view.published(&content, message.subject)?;
            if message.reply.is_some() && !replies_to(&sealed.peer.id, message.reply()) {
                return Err(Rejection::ForeignInbox);
            }
            gate.live().request(&sealed, view.now)?;
            Ok(sealed.into())
        }
    }
}

/// Verifies a message that a queue stores.
fn kept(gate: &Gate, view: &View, content: &Content<'_>) -> Result<Sealed, Rejection> {
    let queue = gate.queue_of(content.subject).ok_or(Rejection::Readdressed)?;
    let sealed = view.published(content, content.subject)?;
    fresh::stored(sealed.time, queue.max_age, view.now)?;
    Ok(sealed)
}

/// JetStream's reply to a request for a stored message. Unknown fields are rejected: a name that differs in
/// case only, or comes twice, could be read differently by other parsers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    #[serde(borrow)]
    message: Option<StoredMessage<'a>>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMessage<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(rename = "seq")]
    _seq: IgnoredAny,
    #[serde(borrow)]
    hdrs: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(rename = "time")]
    _time: IgnoredAny,
}

fn stored(gate: &Gate, view: &View, subject: &str, json: &[u8]) -> Result<Good, Rejection> {
    let answer = serde_json::from_slice::<Answer<'_>>(json);
    let answer = answer.map_err(|_| Rejection::Unreadable("an answer that is not JetStream's"))?;
    let message = match (answer.message, answer.error) {
        (None, Some(_)) => return Ok(Good::BROKERS),
        (Some(message), None) => message,
        _ => return Err(Rejection::Unreadable("neither a message nor an error")),
    };
    if message.subject != subject {
        return Err(Rejection::Readdressed);
    }
    let bytes = |text: Option<Cow<'_, str>>| {
        let bytes = BASE64_STANDARD.decode(text.as_deref().unwrap_or_default());
        bytes.map_err(|_| Rejection::Unreadable("a stored message that is no base64"))
    };
    let (headers, body) = (bytes(message.hdrs)?, bytes(message.data)?);
    let headers = HeaderBlock::parse(&headers).map_err(|bad| Rejection::Unreadable(bad.0))?;
    let content = Content { subject, reply: "", headers: &headers, body: Digest::of(&body) };
    Ok(kept(gate, view, &content)?.into())
}

/// Records a message that was let through.
fn passed(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    claim: &Result<Claim, Rejection>,
    message: &Arrived<'_>,
    headers: Option<&HeaderBlock<'_>>,
    good: &Good,
) {
    let kind = gate.metrics.kind(message.subject, headers);
    gate.metrics.message(Direction::In, &kind, message.payload.len());
    match claim {
        Ok(Claim::Delivery) => {
            if let Some(sealed) = &good.sealed {
                let waited: Duration = sealed.time.until(view.now);
                gate.metrics.waited(&kind, waited);
            }
            lock(session).begins(message.reply(), kind);
        }
        Ok(Claim::Answer(_)) => lock(session).answered(message.subject),
        Ok(Claim::Heard) if good.with_reply && message.reply.is_some() => {
            lock(session).asked(message.reply());
        }
        _ => {}
    }
}

/// Sends a substitute for a rejected message, so that the reader does not wait in vain.
fn refuse(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    claim: Option<&Claim>,
    message: &Arrived<'_>,
    why: &Rejection,
    out: &mut Out<'_>,
) {
    let Arrived { subject, sid, reply, .. } = *message;
    match claim {
        Some(Claim::Stored(_)) => write(out.local, subject, sid, b"", NO_MESSAGE.as_bytes()),
        Some(Claim::Direct(_)) => write(out.local, subject, sid, NOT_FOUND, b""),
        // A message on an inbox without a claim may have answered a pull that waits.
        Some(Claim::Delivery) | None => give_back(gate, view, session, sid, reply, why, out),
        _ => {}
    }
}

/// Whether the frame's line could be split in two ways.
fn is_ambiguous(raw: &[u8]) -> bool {
    raw.iter().take_while(|byte| **byte != b'\r').any(|byte| *byte == b'\t')
}

/// Rejects a message that no honest client published.
fn malformed(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    sid: &Str,
    reply: Option<&Str>,
    out: &mut Out<'_>,
) {
    let why = Rejection::Unreadable("a subject that is none");
    gate.metrics.rejected(Direction::In, &why);
    if gate.complains() {
        tracing::warn!(identity = %gate.own(), %why, "a message was refused");
    }
    give_back(gate, view, session, sid, reply, &why, out);
    lock(session).received(sid);
}

/// Tells the broker what to do with a delivery, and ends the waiting pull with an empty result.
fn give_back(
    gate: &Gate,
    view: &View,
    session: &Mutex<Session>,
    sid: &Str,
    reply: Option<&Str>,
    why: &Rejection,
    out: &mut Out<'_>,
) {
    if let Some(ack) = reply.filter(|reply| acknowledges(gate, view, reply)) {
        match why.passing() {
            true => {
                let delay = put_off(ack).as_nanos();
                let nak = format!("-NAK {{\"delay\":{delay}}}");
                protocol::write_pub(out.upstream, ack, None, None, nak.as_bytes());
            }
            false => protocol::write_pub(out.upstream, ack, None, None, TERM),
        }
    }
    let pull = lock(session).pull_of(gate, sid).and_then(Str::new);
    if let Some(subject) = pull {
        write(out.local, &subject, sid, NOTHING_NOW, b"");
    }
}

/// Whether the subject acknowledges a delivery of a consumer that the workload may use.
fn acknowledges(gate: &Gate, view: &View, reply: &str) -> bool {
    let ack = |rules| classify(rules, gate.own(), reply, b"");
    view.rules().is_ok_and(|rules| matches!(ack(rules), Ok(Publication::Ack { .. })))
}

/// The delay before the next delivery, from the count of deliveries in the subject:
/// `$JS.ACK.{stream}.{consumer}.{delivered}.…`, perhaps with domain and account before the stream.
fn put_off(ack: &str) -> Duration {
    let tokens: Vec<&str> = ack.split('.').collect();
    let delivered = if tokens.len() <= 9 { tokens.get(4) } else { tokens.get(6) };
    let delivered: u32 = delivered.and_then(|text| text.parse().ok()).unwrap_or(1);
    PUT_OFF.saturating_mul(1 << delivered.saturating_sub(1).min(16)).min(PUT_OFF_MOST)
}

fn write(local: &mut BytesMut, subject: &Str, sid: &Str, headers: &[u8], payload: &[u8]) {
    let headers = Some(headers).filter(|headers| !headers.is_empty());
    protocol::write_msg(local, subject, sid, None, headers, payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_deliveries_last_for_more_than_an_hour() {
        let ack = |tries: u32| format!("$JS.ACK.hermesh-jobs.jobs.{tries}.7.7.1.0");
        let with_domain = |tries: u32| format!("$JS.ACK._.x.hermesh-jobs.jobs.{tries}.7.7.1.0.y");
        assert_eq!((put_off(&ack(1)), put_off(&with_domain(3))), (PUT_OFF, 4 * PUT_OFF));
        let all: Duration = (1..10).map(|tries| put_off(&ack(tries))).sum();
        assert!(all > Duration::from_secs(3600), "{all:?}");
        assert_eq!(put_off(&ack(1_000_000)), PUT_OFF_MOST);
        assert_eq!(put_off("nonsense"), PUT_OFF);
    }
}
