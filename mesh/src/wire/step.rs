//! The results of a computation, and the messages that carry them on.

use std::{fmt, str::FromStr};

use super::{Arrived, Context, Lane, Partial, Position, Task, Wire as _};
use crate::{Error, Message};

/// One unit of work for evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The encoded shard, opaque to the mesh.
    pub bytes: Vec<u8>,
    /// Its cost in Lookups.
    pub lookups: u32,
}

/// How a job continues after a Linear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// With the Lookups of a stage.
    Lookups {
        /// The stage.
        stage: u32,
        /// Its shards, in order.
        shards: Vec<Shard>,
    },
    /// With packing: no Lookups are left.
    Outputs(Vec<u8>),
}

/// The result of a computation and where its time went.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed<T> {
    /// The result.
    pub value: T,
    /// Time by operator.
    pub times: Vec<OperatorTime>,
}

/// Why a computation rejected its input; text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Step {
    /// The messages that continue the job. Their ids depend only on the job and the position in it,
    /// so publishing them twice changes nothing. `next_stage` is the stage number of the outputs,
    /// which count as a completed stage of one shard.
    pub fn messages(
        self,
        context: &Context,
        lane: Lane,
        next_stage: u32,
        done_before: u64,
        total: u64,
        source: &str,
    ) -> Result<Vec<Message>, Error> {
        let position = |stage, shard, of, lookups, stage_lookups| Position {
            lane,
            stage,
            shard,
            of,
            lookups,
            stage_lookups,
            done_before,
            total,
        };
        let (stage, shards) = match self {
            Self::Outputs(body) => {
                let outputs = Partial {
                    context: context.clone(),
                    position: position(next_stage, 0, 1, 0, 0),
                    outputs: true,
                    times: Vec::new(),
                    body: body.into(),
                };
                let Partial { context, position, .. } = outputs.clone();
                let arrived = Arrived { context, position };
                return Ok(vec![outputs.encode(source), arrived.encode(source)]);
            }
            Self::Lookups { stage, shards } => (stage, shards),
        };
        let of = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        if of == 0 || of > Position::MAX_SHARDS {
            return Err(Error::TooLarge {
                what: "the number of shards of one stage",
                got: shards.len(),
                limit: Position::MAX_SHARDS as usize,
            });
        }
        let stage_lookups = shards.iter().map(|shard| u64::from(shard.lookups)).sum();
        let task = |(number, shard): (u32, Shard)| {
            let task = Task {
                context: context.clone(),
                position: position(stage, number, of, shard.lookups, stage_lookups),
                body: shard.bytes.into(),
            };
            task.encode(source)
        };
        Ok((0..of).zip(shards).map(task).collect())
    }
}

/// Time that one operator took.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorTime {
    /// The operator's name: letters and dashes.
    pub operator: String,
    /// Seconds, summed over all cores.
    pub seconds: f64,
    /// How many times it ran.
    pub calls: u64,
}

impl OperatorTime {
    /// Collects `(operator, seconds, calls)`, leaving out operators that did not run.
    pub fn collect(times: impl Iterator<Item = (&'static str, f64, u64)>) -> Vec<Self> {
        times
            .filter(|(_, _, calls)| *calls > 0)
            .map(|(operator, seconds, calls)| Self {
                operator: operator.to_owned(),
                seconds,
                calls,
            })
            .collect()
    }
}

impl fmt::Display for OperatorTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:.6}:{}", self.operator, self.seconds, self.calls)
    }
}

impl FromStr for OperatorTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = |s: &str| {
            s.len() <= 32 && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
        };
        let parse = || {
            let (operator, rest) =
                text.split_once(':').filter(|(o, _)| !o.is_empty() && name(o))?;
            let (seconds, calls) = rest.split_once(':')?;
            let seconds: f64 = seconds.parse().ok()?;
            (seconds.is_finite() && seconds >= 0.0).then_some(Self {
                operator: operator.to_owned(),
                seconds,
                calls: calls.parse().ok()?,
            })
        };
        parse().ok_or(Error::Malformed { what: "operator time", expected: "name:seconds:calls" })
    }
}
