//! A stand-in for the engine: the same steps on plain numbers, so that answers can be checked and no time
//! passes. It counts evaluations, and fails on request.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use hermesh_mesh::wire::{Computed, Refused, Shard, Step};
use hermesh_preprocessing::Weight;

/// A model of the stub: `stages` stages of `width` Lookups each, for one parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name of the parameter set.
    pub parameters: String,
    /// Number of Lookup stages.
    pub stages: u32,
    /// Lookups in each stage.
    pub width: usize,
}

impl Model {
    /// A model for the parameter set `p`.
    pub fn new(stages: u32, width: usize) -> Self {
        Self { parameters: "p".into(), stages, width }
    }

    /// The model as bytes.
    pub fn encode(&self) -> Vec<u8> {
        format!("model {} {} {}", self.parameters, self.stages, self.width).into_bytes()
    }

    /// An input for the model.
    pub fn input(&self, seed: u64) -> Vec<u8> {
        let value = |i| lookup(seed.wrapping_mul(1_000_003).wrapping_add(i));
        encode(&(0..self.width as u64).map(value).collect::<Vec<_>>())
    }

    /// The right answer to `input`.
    pub fn answer(&self, input: &[u8]) -> Vec<u8> {
        let mut values = linear(&decode(input).expect("the test's own input"));
        for _ in 0..self.stages {
            values = linear(&values.into_iter().map(lookup).collect::<Vec<_>>());
        }
        values.reverse();
        encode(&values)
    }

    /// Shards of one job.
    pub fn shards(&self, lookups_per_shard: usize) -> usize {
        self.stages as usize * self.width.div_ceil(lookups_per_shard)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["model", parameters, stages, width] => Ok(Self {
                parameters: parameters.into(),
                stages: stages.parse().map_err(|_| Refused("bad stages".into()))?,
                width: width.parse().map_err(|_| Refused("bad width".into()))?,
            }),
            _ => Err(Refused("not a model".into())),
        }
    }

    fn step(&self, stage: u32, values: &[u64], lookups_per_shard: usize) -> Step {
        if stage == self.stages {
            return Step::Outputs(encode(values));
        }
        let shard = |values: &[u64]| Shard { bytes: encode(values), lookups: values.len() as u32 };
        Step::Lookups { stage, shards: values.chunks(lookups_per_shard).map(shard).collect() }
    }
}

/// The bytes of an evaluation key of the stub.
pub fn key(parameters: &str, owner: &str) -> Vec<u8> {
    format!("key {parameters} {owner}").into_bytes()
}

fn key_parameters(bytes: &[u8]) -> Result<String, Refused> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match text.split(' ').collect::<Vec<_>>()[..] {
        ["key", parameters, _] => Ok(parameters.into()),
        _ => Err(Refused("not an evaluation key".into())),
    }
}

fn lookup(x: u64) -> u64 {
    (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn linear(values: &[u64]) -> Vec<u64> {
    let next = values.iter().cycle().skip(1);
    let pairs = values.iter().zip(next);
    pairs.map(|(a, b)| a.wrapping_mul(3).wrapping_add(*b)).collect()
}

fn encode(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Result<Vec<u64>, Refused> {
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Refused(format!("{} bytes are not whole values", bytes.len())));
    }
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// What the stub does with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// Compute it.
    #[default]
    Well,
    /// Reject it.
    Refusing,
    /// Panic.
    Panicking,
}

/// The stub.
#[derive(Debug, Default)]
pub struct Stub {
    /// What it does with shards.
    pub mood: Mood,
    evaluated: Mutex<BTreeMap<Vec<u8>, usize>>,
    loads: AtomicUsize,
    started: AtomicUsize,
    gate: Option<Mutex<mpsc::Receiver<()>>>,
}

impl Stub {
    /// A stub that treats shards in this way.
    pub fn new(mood: Mood) -> Self {
        Self { mood, ..Self::default() }
    }

    /// A stub that evaluates one shard per message, and all of them once the sender is dropped.
    pub fn gated() -> (Self, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        (Self { gate: Some(gate.into()), ..Self::default() }, open)
    }

    /// How many keys it has loaded for evaluation.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// How many shards it has begun to evaluate, including those that wait at the gate.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// How many shards it has evaluated, and the largest number of evaluations of a single one.
    pub fn evaluated(&self) -> (usize, usize) {
        let evaluated = self.evaluated.lock();
        let evaluated = evaluated.unwrap_or_else(PoisonError::into_inner);
        let most = evaluated.values().max();
        (evaluated.values().sum(), most.copied().unwrap_or(0))
    }
}

fn computed<T>(value: T) -> Computed<T> {
    Computed { value, times: Vec::new() }
}

impl hermesh_key_management::Inspect for Stub {
    fn key(&self, bytes: &[u8]) -> Result<String, Refused> {
        key_parameters(bytes)
    }

    fn model(&self, bytes: &[u8]) -> Result<String, Refused> {
        Ok(Model::decode(bytes)?.parameters)
    }
}

impl hermesh_preprocessing::Prepare for Stub {
    type Model = Model;

    fn model(&self, bytes: &[u8]) -> Result<(Model, usize), Refused> {
        Ok((Model::decode(bytes)?, bytes.len()))
    }

    fn weigh(&self, model: &Model, input: &[u8]) -> Result<Weight, Refused> {
        let values = decode(input)?;
        if values.len() != model.width {
            let (width, got) = (model.width, values.len());
            return Err(Refused(format!("expected {width} values, got {got}")));
        }
        let lookups = u64::from(model.stages) * model.width as u64;
        Ok(Weight { lookups, work: lookups, bytes: input.len() as u64, memory: 0 })
    }

    fn begin(
        &self,
        model: &Model,
        input: &[u8],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused> {
        Ok(computed(model.step(0, &linear(&decode(input)?), lookups_per_shard)))
    }
}

impl hermesh_evaluation::Compute for Stub {
    type Key = String;
    type Model = Model;

    fn key(&self, bytes: &[u8]) -> Result<(String, usize), Refused> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok((key_parameters(bytes)?, bytes.len()))
    }

    fn model(&self, bytes: &[u8]) -> Result<(Model, usize), Refused> {
        Ok((Model::decode(bytes)?, bytes.len()))
    }

    fn evaluate(&self, _: &Model, _: &String, shard: &[u8]) -> Result<Computed<Vec<u8>>, Refused> {
        match self.mood {
            Mood::Well => {}
            Mood::Refusing => return Err(Refused("the stub does not like this shard".into())),
            Mood::Panicking => panic!("the stub panics, as the test wants it to"),
        }
        self.started.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        let values = decode(shard)?;
        let evaluated = self.evaluated.lock();
        let mut evaluated = evaluated.unwrap_or_else(PoisonError::into_inner);
        *evaluated.entry(shard.to_vec()).or_default() += 1;
        Ok(computed(encode(&values.into_iter().map(lookup).collect::<Vec<_>>())))
    }
}

impl hermesh_aggregation::Join for Stub {
    type Key = String;
    type Model = Model;

    fn key(&self, bytes: &[u8]) -> Result<(String, usize), Refused> {
        Ok((key_parameters(bytes)?, bytes.len()))
    }

    fn model(&self, bytes: &[u8]) -> Result<(Model, usize), Refused> {
        Ok((Model::decode(bytes)?, bytes.len()))
    }

    fn advance(
        &self,
        model: &Model,
        stage: u32,
        partials: &[&[u8]],
        lookups_per_shard: usize,
    ) -> Result<Computed<Step>, Refused> {
        let values = decode(&partials.concat())?;
        Ok(computed(model.step(stage + 1, &linear(&values), lookups_per_shard)))
    }

    fn pack(&self, _: &Model, _: &String, outputs: &[u8]) -> Result<Computed<Vec<u8>>, Refused> {
        let mut values = decode(outputs)?;
        values.reverse();
        Ok(computed(encode(&values)))
    }
}
