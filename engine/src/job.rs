//! The four server steps of an inference: `begin`, `evaluate`, `advance`, `pack`. Each takes and returns bytes.

use crate::answer::Answer;
use crate::codec::{Kind, Reader, Writer};
use crate::error::short;
use crate::keys::{BootstrapKey, PackingKey};
use crate::lookup::{Switched, bootstrap, keyswitch, log_modulus, switch};
use crate::lwe::LweList;
use crate::parameters::Bootstrap;
use crate::share::Share;
use crate::timings::{Operator, Timings};
use crate::{Digest, Error, Input, Lookup, ParameterSet, Program};
use rayon::prelude::*;
use std::ops::Range;

/// A part of a stage's Lookups, which any evaluation worker can compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Input of [`evaluate`].
    pub bytes: Vec<u8>,
    /// Number of bootstraps, the cost of the shard. 0 if all its values pass.
    pub lookups: u32,
}

/// The result of a Linear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The Lookups of a stage. After all shards are evaluated, [`advance`] continues.
    Lookups {
        /// The stage.
        stage: u32,
        /// The shards, in the order of their values.
        shards: Vec<Shard>,
    },
    /// The outputs of the last stage: the input of [`pack`].
    Outputs(Vec<u8>),
}

/// Decodes an input, regenerates its masks and applies the first Linear. Returns shards of at most `lookups_per_shard`
/// bootstraps, or the outputs if the program has no Lookups.
///
/// # Errors
/// The bytes are not an input for this program.
pub fn begin(
    program: &Program,
    input: &[u8],
    lookups_per_shard: usize,
    timings: &Timings,
) -> Result<Step, Error> {
    let input = Input::decode(input, program)?;
    let linear = &program.stages()[0].linear;
    let dimension = program.parameter_set().lwe_dimension;
    let list = timings.count(Operator::Linear, input.rows() * program.inputs(), || {
        let expanded = input.expand();
        linear.apply(dimension, input.rows(), |row, column, to| expanded.extract(row, column, to))
    });
    Ok(step(program, input.evaluation_key(), 0, &list, lookups_per_shard))
}

fn step(program: &Program, key: Digest, stage: u32, list: &LweList, per_shard: usize) -> Step {
    let set = program.parameter_set();
    let Some(lookup) = &program.stages()[stage as usize].lookup else {
        let rows = list.len() / program.outputs();
        let mut writer = Writer::new(Kind::Outputs, set, 80 + list.data.len() * 4);
        write_names(&mut writer, key, program);
        writer.u32(rows as u32);
        writer.u32s(&list.data);
        return Step::Outputs(writer.finish());
    };
    // Stage 0 needs no keyswitch, so its values are modulus-switched to 2N here: two bytes per coefficient instead of
    // four.
    let switch_now = set.bootstrap.filter(|_| stage == 0);
    let width = list.width();
    let shards = cut(lookup, program.shares(stage as usize), list.len(), per_shard.max(1))
        .into_par_iter()
        .map(|(range, lookups)| {
            let lwes = &list.data[range.start * width..range.end * width];
            let mut writer = Writer::new(Kind::Shard, set, 96 + lwes.len() * 4);
            write_names(&mut writer, key, program);
            writer.u32(stage);
            writer.u32(range.start as u32);
            writer.u32(range.len() as u32);
            writer.u32(list.len() as u32);
            match &switch_now {
                Some(bootstrap) => {
                    for lwe in lwes.chunks_exact(width) {
                        writer.u16s(&switch(lwe, log_modulus(bootstrap)).coefficients);
                    }
                }
                None => writer.u32s(lwes),
            }
            Shard { bytes: writer.finish(), lookups: lookups as u32 }
        })
        .collect();
    Step::Lookups { stage, shards }
}

/// Cuts the values of a stage into shards of at most `per_shard` bootstraps. Returns each shard's values and its number
/// of bootstraps. Values that share a bootstrap stay in one shard. Values that pass stay with their neighbours, up to
/// about 2 · `per_shard` values per shard.
fn cut(
    lookup: &Lookup,
    shares: &[Share],
    values: usize,
    per_shard: usize,
) -> Vec<(Range<usize>, usize)> {
    let mut shards = Vec::new();
    let (mut start, mut lookups) = (0, 0);
    for value in 0..values {
        let place = value % shares.len();
        if shares[place].leader != place {
            continue;
        }
        let looked_up = usize::from(lookup.table(place).is_some());
        if lookups + looked_up > per_shard || value - start >= per_shard.saturating_mul(2) {
            shards.push((start..value, lookups));
            (start, lookups) = (value, 0);
        }
        lookups += looked_up;
    }
    shards.push((start..values, lookups));
    shards
}

fn write_names(writer: &mut Writer, key: Digest, program: &Program) {
    writer.bytes(&key);
    writer.bytes(&program.digest());
}

/// No size limit: the caller checks the exact length, and the bytes are already in memory.
const ANY_LENGTH: u64 = u64::MAX;

fn same_key(kind: Kind, expected: Digest, found: Digest) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (short(&expected), short(&found));
    Err(Error::WrongKey { what: kind.name(), expected, found })
}

/// The sender of a shard chooses the key's digest, and may choose a key of another parameter set.
fn right_set(program: &Program, key: &ParameterSet) -> Result<(), Error> {
    let (expected, found) = (program.parameter_set(), key);
    if expected == found {
        return Ok(());
    }
    let what = "the evaluation key";
    Err(Error::WrongParameterSet { what, expected: expected.name, found: found.name })
}

/// The position of some values in a stage. Checked to lie within it.
struct Place {
    stage: u32,
    first: usize,
    count: usize,
    /// Number of values of the whole stage, over all rows.
    total: usize,
}

fn read_place(reader: &mut Reader<'_>, program: &Program) -> Result<Place, Error> {
    let stage = reader.u32()?;
    let first = reader.u32()? as usize;
    let count = reader.u32()? as usize;
    let total = reader.u32()? as usize;
    let lookup = program.stages().get(stage as usize).and_then(|stage| stage.lookup.as_ref());
    let Some(values) = lookup.map(|lookup| lookup.table_of.len()) else {
        return Err(reader.malformed(format!("the program has no Lookups in stage {stage}")));
    };
    if !total.is_multiple_of(values) || total / values > program.max_rows() {
        return Err(reader.malformed(format!("{total} values are not those of stage {stage}")));
    }
    if count == 0 || first.saturating_add(count) > total {
        let why = format!("values {first}..+{count} are outside the {total} of stage {stage}");
        return Err(reader.malformed(why));
    }
    Ok(Place { stage, first, count, total })
}

/// Keyswitches (except in stage 0), modulus-switches and bootstraps the values of a shard, on the current rayon pool.
/// Returns a partial result for [`advance`]: for each value an LWE ciphertext of *kN* + 1 coefficients of 32 bits, with
/// the noise of [`crate::noise::bootstrap`]. A value that passes is copied unchanged.
///
/// # Errors
/// The shard is not for this program or not for this key.
pub fn evaluate(
    program: &Program,
    key: &BootstrapKey,
    shard: &[u8],
    timings: &Timings,
) -> Result<Vec<u8>, Error> {
    let set = program.parameter_set();
    let (mut reader, name) = Reader::open_for(shard, Kind::Shard, ANY_LENGTH, program.outline())?;
    same_key(Kind::Shard, key.evaluation_key, name)?;
    right_set(program, key.set)?;
    let place = read_place(&mut reader, program)?;
    let lookup = program.stages()[place.stage as usize].lookup.as_ref();
    let lookup = lookup.ok_or(Error::BadStage { stage: place.stage, why: "no Lookup".into() })?;
    let groups = groups(lookup, program.shares(place.stage as usize), &place);
    let width = set.output_dimension() + 1;
    let (inputs, mut results) = if place.stage == 0 {
        let inputs =
            read_switched(&mut reader, place.count, set.lwe_dimension + 1, &key.bootstrap)?;
        (groups.iter().map(|group| inputs[group.value].clone()).collect(), Vec::new())
    } else {
        reader.expect(4 * (place.count * width) as u64)?;
        let data = reader.u32s(place.count * width)?;
        let list = LweList { dimension: set.output_dimension(), data };
        (switch_later(key, &list, &groups, timings), list.data)
    };
    // Values that pass are copied from the shard (none in stage 0).
    results.resize(place.count * width, 0);
    let looked_up: Vec<(&[u64], &[usize])> =
        groups.iter().map(|group| (group.table, group.ahead.as_slice())).collect();
    let bootstrapped = bootstrap(key, &inputs, &looked_up, timings);
    let places = groups.iter().flat_map(|group| group.value..group.value + group.ahead.len());
    for (value, result) in places.zip(bootstrapped.iter()) {
        results[value * width..(value + 1) * width].copy_from_slice(result);
    }
    let mut writer = Writer::new(Kind::Partial, set, 96 + results.len() * 4);
    write_names(&mut writer, name, program);
    for field in [place.stage, place.first as u32, place.count as u32, place.total as u32] {
        writer.u32(field);
    }
    writer.u32s(&results);
    Ok(writer.finish())
}

/// Consecutive values that share one bootstrap (a many-LUT bootstrap).
struct Group<'a> {
    /// Index in the shard of the first value.
    value: usize,
    table: &'a [u64],
    /// For each value: by how many entries its table is ahead of `table`.
    ahead: Vec<usize>,
}

/// Groups the values of a shard by bootstrap.
fn groups<'a>(lookup: &'a Lookup, shares: &[Share], place: &Place) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut open = None;
    for value in 0..place.count {
        let index = (place.first + value) % shares.len();
        let Some(table) = lookup.table(index) else {
            continue;
        };
        let Share { leader, ahead } = shares[index];
        match groups.last_mut() {
            // If another sender cut a group in two, each value of the second part gets its own bootstrap.
            Some(group) if leader != index && open == Some(leader) => group.ahead.push(ahead),
            _ => {
                open = (leader == index).then_some(leader);
                groups.push(Group { value, table, ahead: vec![0] });
            }
        }
    }
    groups
}

/// Keyswitches and modulus-switches the first value of each group. Only for stages after the first.
fn switch_later(
    key: &BootstrapKey,
    list: &LweList,
    groups: &[Group<'_>],
    timings: &Timings,
) -> Vec<Switched> {
    let width = list.width();
    let of = |group: &Group<'_>| &list.data[group.value * width..(group.value + 1) * width];
    let data = groups.iter().flat_map(of).copied().collect();
    let looked_up = LweList { dimension: list.dimension, data };
    timings.count(Operator::Keyswitch, groups.len(), || {
        let switched = keyswitch(key, &looked_up);
        let log_modulus = log_modulus(&key.bootstrap);
        switched.iter().map(|lwe| switch(lwe, log_modulus)).collect()
    })
}

fn read_switched(
    reader: &mut Reader<'_>,
    count: usize,
    width: usize,
    bootstrap: &Bootstrap,
) -> Result<Vec<Switched>, Error> {
    reader.expect(2 * (count * width) as u64)?;
    let log_modulus = log_modulus(bootstrap);
    let all = reader.u16s(count * width)?;
    if all.iter().any(|&c| usize::from(c) >> log_modulus != 0) {
        return Err(reader.malformed(format!("a coefficient is not below 2^{log_modulus}")));
    }
    let switched = |c: &[u16]| Switched { coefficients: c.to_vec() };
    Ok(all.chunks_exact(width).map(switched).collect())
}

/// Joins the partial results of a stage, in the order of their shards, and applies the next Linear. Returns the next
/// stage's shards, or the outputs.
///
/// # Errors
/// The partial results do not cover this stage exactly.
pub fn advance(
    program: &Program,
    stage: u32,
    partials: &[&[u8]],
    lookups_per_shard: usize,
    timings: &Timings,
) -> Result<Step, Error> {
    let dimension = program.parameter_set().output_dimension();
    let mut stored = Stored { width: dimension + 1, parts: Vec::with_capacity(partials.len()) };
    let mut whole = None;
    let mut next = 0;
    for partial in partials {
        let (mut reader, key) =
            Reader::open_for(partial, Kind::Partial, ANY_LENGTH, program.outline())?;
        let place = read_place(&mut reader, program)?;
        let (name, total) = *whole.get_or_insert((key, place.total));
        same_key(Kind::Partial, name, key)?;
        if place.stage != stage || place.first != next || place.total != total {
            let why = format!(
                "expected values from {next} of {total} in stage {stage}, found {} of {} in stage {}",
                place.first, place.total, place.stage
            );
            return Err(Error::BadStage { stage, why });
        }
        next += place.count;
        reader.expect(4 * (place.count * (dimension + 1)) as u64)?;
        stored.parts.push((place.first, reader.rest()));
    }
    let Some((name, _)) = whole.filter(|&(_, total)| total == next) else {
        let total = whole.map_or(0, |(_, total)| total);
        let why = format!("{next} values instead of {total}: partials are missing");
        return Err(Error::BadStage { stage, why });
    };
    let linear = &program.stages()[stage as usize + 1].linear;
    let columns = linear.matrix.columns();
    let list = timings.count(Operator::Linear, next, || {
        linear.apply(dimension, next / columns, |group, column, to| {
            stored.read(group * columns + column, to);
        })
    });
    Ok(step(program, name, stage + 1, &list, lookups_per_shard))
}

/// The values of a stage, borrowed from its partial results. Not copied, because they can be hundreds of megabytes.
struct Stored<'a> {
    width: usize,
    /// For each partial result, ascending: its first value, and the coefficients of its values.
    parts: Vec<(usize, &'a [u8])>,
}

impl Stored<'_> {
    /// Reads a value, which must be present.
    fn read(&self, value: usize, to: &mut [u32]) {
        let after = self.parts.partition_point(|&(first, _)| first <= value);
        let (first, bytes) = self.parts[after - 1];
        let (words, _) = bytes.as_chunks();
        let words = &words[(value - first) * self.width..][..self.width];
        for (to, &word) in to.iter_mut().zip(words) {
            *to = u32::from_le_bytes(word);
        }
    }
}

/// Packs the outputs into an [`Answer`], encrypted under the client's answer key. [`crate::noise::packing`] gives the
/// noise that is added.
///
/// # Errors
/// The outputs are not of this program or not for this key.
pub fn pack(
    program: &Program,
    key: &PackingKey,
    outputs: &[u8],
    timings: &Timings,
) -> Result<Vec<u8>, Error> {
    let dimension = program.parameter_set().output_dimension();
    let (mut reader, name) =
        Reader::open_for(outputs, Kind::Outputs, ANY_LENGTH, program.outline())?;
    same_key(Kind::Outputs, key.evaluation_key, name)?;
    right_set(program, key.set)?;
    let rows = reader.u32()? as usize;
    let most = program.max_rows();
    if !(1..=most).contains(&rows) {
        return Err(reader.malformed(format!("{rows} rows are outside 1..={most}")));
    }
    let words = rows * program.outputs() * (dimension + 1);
    reader.expect(4 * words as u64)?;
    let list = LweList { dimension, data: reader.u32s(words)? };
    Ok(timings
        .count(Operator::Pack, list.len(), || Answer::new(key, program, rows, &list).encode()))
}
