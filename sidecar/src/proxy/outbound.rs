//! Checks what the workload sends against the policy, and signs it.

use std::{sync::Mutex, time::Duration};

use bytes::BytesMut;
use hermesh_mesh::{
    Digest,
    policy::{
        Rules,
        nats::{Publication, classify, listen},
    },
    seal::{Content, HeaderBlock, MAX_BATCH, SEAL, seal},
};
use tokio::time::Instant;

use super::{
    Rejection,
    gate::{Gate, View, lock},
    session::{Expected, Session},
};
use crate::{
    metrics::Direction,
    protocol::{self, ClientOp, Frame},
};

/// With `0`: the message is stored only if its subject has none.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Lets the broker recognise a repeated publish.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What to do with one operation.
enum Step {
    Pass,
    /// Sign the message, including the reply subject if it is part of the message.
    Seal {
        with_reply: bool,
    },
    Refuse(String),
    /// Forward nothing; the sidecar handles it itself.
    Nothing,
}

/// Forwards a batch of the workload's operations. Refusals go to `local`, in nats-server's words. Returns
/// how long to wait before reading more.
///
/// # Errors
/// The workload may not send at all.
pub(super) fn outbound(
    gate: &Gate,
    session: &Mutex<Session>,
    frames: &[Frame<ClientOp>],
    upstream: &mut BytesMut,
    local: &mut BytesMut,
) -> Result<Duration, Rejection> {
    let view = gate.view();
    let rules = view.rules()?;
    let verbose = lock(session).verbose;
    let mut sent = [0, 0];
    for frames in frames.chunks(MAX_BATCH) {
        let steps: Vec<Step> = {
            let mut session = lock(session);
            frames.iter().map(|frame| step(gate, rules, &mut session, &frame.op)).collect()
        };
        let mut seals = seals(&view, frames, &steps)?.into_iter();
        for (frame, step) in frames.iter().zip(steps) {
            // Refused operations count too: they cost others as much.
            if let ClientOp::Pub { .. } | ClientOp::Sub { .. } = frame.op {
                sent = [sent[0] + 1, sent[1] + frame.raw.len() as u64];
            }
            match step {
                Step::Pass => upstream.extend_from_slice(&frame.raw),
                Step::Seal { .. } => {
                    // Each message has one signature.
                    let value = seals.next().unwrap_or_default();
                    protocol::write_pub_sealed(upstream, &frame.op, SEAL, &value);
                }
                Step::Refuse(why) => {
                    protocol::write_err(local, &why);
                    continue;
                }
                Step::Nothing => {}
            }
            if verbose && !matches!(frame.op, ClientOp::Ping | ClientOp::Pong) {
                protocol::ok(local);
            }
        }
    }
    let limits = rules.limits();
    let per_second = [limits.messages_per_second.into(), limits.bytes_per_second];
    Ok(gate.rate.sent(sent, per_second, Instant::now()))
}

fn seals(
    view: &View,
    frames: &[Frame<ClientOp>],
    steps: &[Step],
) -> Result<Vec<String>, Rejection> {
    struct Part<'a> {
        subject: &'a str,
        reply: &'a str,
        headers: HeaderBlock<'a>,
        body: Digest,
    }
    let mut parts = Vec::new();
    for (frame, step) in frames.iter().zip(steps) {
        let (ClientOp::Pub { subject, reply, headers, payload }, Step::Seal { with_reply }) =
            (&frame.op, step)
        else {
            continue;
        };
        let reply = reply.as_deref().filter(|_| *with_reply).unwrap_or_default();
        // Cannot fail: `publish` parsed these headers before.
        let headers = HeaderBlock::parse(headers.as_deref().unwrap_or_default());
        let headers = headers.map_err(|bad| Rejection::Unreadable(bad.0))?;
        parts.push(Part { subject, reply, headers, body: Digest::of(payload) });
    }
    let contents: Vec<Content<'_>> = parts
        .iter()
        .map(|part| Content {
            subject: part.subject,
            reply: part.reply,
            headers: &part.headers,
            body: part.body,
        })
        .collect();
    Ok(seal(&view.identity.credentials, &contents, view.now)?)
}

fn step(gate: &Gate, rules: &Rules, session: &mut Session, op: &ClientOp) -> Step {
    match op {
        ClientOp::Pub { subject, reply, headers, payload } => {
            let headers = HeaderBlock::parse(headers.as_deref().unwrap_or_default());
            let reply = reply.as_deref();
            let step = match &headers {
                Err(bad) => Err(Rejection::Unreadable(bad.0)),
                Ok(headers) if headers.is_sealed() => {
                    Err(Rejection::Unreadable("it already has a message signature"))
                }
                Ok(headers) if !headers.status().is_empty() => {
                    Err(Rejection::Unreadable("it has a status, which only brokers send"))
                }
                Ok(headers) => publish(gate, rules, session, subject, reply, headers, payload),
            };
            let headers = headers.unwrap_or_default();
            match step {
                Ok(step) => {
                    let kind = gate.metrics.kind(subject, Some(&headers));
                    gate.metrics.message(Direction::Out, &kind, payload.len());
                    gate.metrics.computed(&kind, &headers);
                    step
                }
                Err(why) => {
                    gate.metrics.rejected(Direction::Out, &why);
                    if gate.complains() {
                        tracing::warn!(identity = %gate.own(), %subject, %why, "a publish was refused");
                    }
                    Step::Refuse(format!("Permissions Violation for Publish to \"{subject}\""))
                }
            }
        }
        ClientOp::Sub { subject, queue, sid } => {
            let allowed = listen(rules, gate.own(), subject, queue.as_deref());
            let allowed = allowed.map_err(|_| Rejection::Denied);
            let Err(why) = allowed.and_then(|_| session.subscribe(sid, subject)) else {
                return Step::Pass;
            };
            gate.metrics.rejected(Direction::Out, &why);
            if gate.complains() {
                tracing::warn!(identity = %gate.own(), %subject, %why, "a subscription was refused");
            }
            let queue = queue.as_deref().map(|queue| format!(" using queue \"{queue}\""));
            let queue = queue.unwrap_or_default();
            Step::Refuse(format!("Permissions Violation for Subscription to \"{subject}\"{queue}"))
        }
        ClientOp::Unsub { sid, max } => {
            session.unsubscribe(sid, *max);
            Step::Pass
        }
        ClientOp::Ping | ClientOp::Pong => Step::Pass,
        // The sidecar has already sent its own CONNECT; a second one would change nothing.
        ClientOp::Connect(_) => Step::Nothing,
    }
}

fn publish(
    gate: &Gate,
    rules: &Rules,
    session: &mut Session,
    subject: &str,
    reply: Option<&str>,
    headers: &HeaderBlock<'_>,
    body: &[u8],
) -> Result<Step, Rejection> {
    if reply.is_some_and(|reply| !gate.is_own_inbox(reply)) {
        return Err(Rejection::ForeignInbox);
    }
    let publication = classify(rules, gate.own(), subject, body).map_err(|_| Rejection::Denied)?;
    let (expected, step) = match publication {
        Publication::Stored { .. } => {
            steers(gate, subject, headers)?;
            (Expected::Broker, Step::Seal { with_reply: false })
        }
        Publication::Live => {
            (Expected::Answer(subject.to_owned()), Step::Seal { with_reply: true })
        }
        Publication::Next { queue } => {
            session.pulls(queue);
            (Expected::Delivery, Step::Pass)
        }
        Publication::Get { subject } => (Expected::Stored(subject), Step::Pass),
        Publication::DirectGet { subject } => (Expected::Direct(subject), Step::Pass),
        Publication::Api => (Expected::Broker, Step::Pass),
        Publication::Ack { .. } => {
            // `+WPI` reports progress and does not end the work.
            if body != b"+WPI"
                && let Some(work) = session.ends(subject)
            {
                gate.metrics.worked(&work.kind, work.since.elapsed());
            }
            (Expected::Broker, Step::Pass)
        }
        Publication::OwnInbox => return Ok(Step::Seal { with_reply: true }),
        Publication::Answer if session.answers(subject) => {
            return Ok(Step::Seal { with_reply: true });
        }
        Publication::Answer => return Err(Rejection::Unasked),
    };
    if let Some(reply) = reply {
        session.expect(reply, expected);
    }
    Ok(step)
}

/// Checks the headers that control how a message is stored: only the topology decides whether a subject
/// takes one message, not the publisher.
fn steers(gate: &Gate, subject: &str, headers: &HeaderBlock<'_>) -> Result<(), Rejection> {
    let known = |name: &[u8]| name == EXPECTED.as_bytes() || name == MESSAGE_ID.as_bytes();
    let unique = gate.queue_of(subject).is_some_and(|queue| queue.unique);
    match headers.brokers().all(known) && (!unique || headers.get(EXPECTED) == Some("0")) {
        true => Ok(()),
        false => Err(Rejection::Unreadable("its headers do not fit how its queue stores messages")),
    }
}
