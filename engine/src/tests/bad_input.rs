//! Bytes from outside: each kind of damage is a typed error, and nothing panics.

use super::*;
use crate::artifact::{append_digest, mend_digest};
use crate::parameters::{INSECURE_SMALL, INSECURE_TEST, T3X512};
use proptest::prelude::*;
use std::sync::LazyLock;

struct World {
    keys: Keys,
    program: Program,
    /// One specimen of each encoding, with a decoder.
    specimens: Vec<(Vec<u8>, Decoder)>,
}

type Decoder = fn(&World, &[u8]) -> Result<(), Error>;

fn small_program(set: &'static ParameterSet, weight: i32) -> Program {
    let matrix = |w| Matrix::Dense { rows: 2, columns: 2, weights: vec![w, 0, 0, 1] };
    let lookup = Lookup { tables: vec![vec![0, 1 << 60]], table_of: vec![0, 0] };
    let first = Linear { matrix: matrix(weight), bias: vec![0; 2] };
    let last = Linear { matrix: matrix(1), bias: vec![0; 2] };
    let stages =
        vec![Stage { linear: first, lookup: Some(lookup) }, Stage { linear: last, lookup: None }];
    Program::new(set, Precision::Approximate, stages).unwrap()
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys = Keys::generate(&INSECURE_TEST);
    let program = small_program(&INSECURE_TEST, 1);
    let timings = Timings::default();
    let input = encrypt(&keys.client, &program, &[vec![0, 1 << 61]]).unwrap();
    let Step::Lookups { shards, .. } = begin(&program, &input, 16, &timings).unwrap() else {
        panic!()
    };
    let partial =
        evaluate(&program, keys.bootstrap.as_ref().unwrap(), &shards[0].bytes, &timings).unwrap();
    let Step::Outputs(outputs) = advance(&program, 0, &[&partial], 16, &timings).unwrap() else {
        panic!()
    };
    let answer = pack(&program, &keys.packing, &outputs, &timings).unwrap();
    let specimens: Vec<(Vec<u8>, Decoder)> = vec![
        (program.encode().to_vec(), |_, b| Program::decode(b).map(drop)),
        (keys.client.encode().to_vec(), |_, b| ClientKey::decode(b).map(drop)),
        (keys.evaluation.encode().to_vec(), |_, b| EvaluationKey::decode(b).map(drop)),
        (input, |w, b| begin(&w.program, b, 16, &Timings::default()).map(drop)),
        (shards[0].bytes.clone(), |w, b| {
            evaluate(&w.program, w.keys.bootstrap.as_ref().unwrap(), b, &Timings::default())
                .map(drop)
        }),
        (partial, |w, b| advance(&w.program, 0, &[b], 16, &Timings::default()).map(drop)),
        (outputs, |w, b| pack(&w.program, &w.keys.packing, b, &Timings::default()).map(drop)),
        (answer, |w, b| decrypt(&w.keys.client, &Answer::decode(b, &w.program)?).map(drop)),
    ];
    World { keys, program, specimens }
});

#[test]
fn good_bytes_are_accepted_and_every_truncation_is_not() {
    let world = &*WORLD;
    for (bytes, decode) in &world.specimens {
        decode(world, bytes).unwrap();
        for length in (0..bytes.len().min(200)).chain([bytes.len() - 1]) {
            assert!(decode(world, &bytes[..length]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(world, &longer).is_err());
    }
}

/// Flips thousands of bits of small specimens, and a few of a key of megabytes.
#[test]
fn a_flipped_bit_is_an_error_of_its_own() {
    let world = &*WORLD;
    for (bytes, decode) in &world.specimens {
        let bits = 8 * bytes.len();
        let tried = (10_000_000 / bytes.len()).clamp(20, 4000);
        let behind_the_header = (80..bits).step_by((bits / tried).max(1));
        for bit in (0..80).chain(behind_the_header).chain([bits - 1]) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode(world, &damaged).unwrap_err();
            let right = match bit / 8 {
                0..4 => matches!(error, Error::NotOurs { .. }),
                4 => matches!(error, Error::WrongKind { .. }),
                5 => matches!(error, Error::WrongVersion { .. }),
                _ => matches!(error, Error::Damaged { .. }),
            };
            assert!(right, "bit {bit}: {error}");
        }
    }
}

#[test]
fn each_kind_is_refused_as_any_other() {
    let world = &*WORLD;
    for (i, (bytes, _)) in world.specimens.iter().enumerate() {
        for (j, (_, decode)) in world.specimens.iter().enumerate() {
            if i != j {
                // A key may be too large for the decoder of a small specimen.
                let error = decode(world, bytes).unwrap_err();
                assert!(
                    matches!(error, Error::WrongKind { .. } | Error::TooLarge { .. }),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn wrong_key_program_and_set_are_told_apart() {
    let world = &*WORLD;
    let timings = Timings::default();
    let other = small_program(&INSECURE_TEST, 2);
    let secure = small_program(&T3X512, 1);
    let input = &world.specimens[3].0;
    let wrong = |result: Result<Step, Error>| result.unwrap_err();
    assert!(matches!(wrong(begin(&other, input, 16, &timings)), Error::WrongProgram { .. }));
    assert!(matches!(wrong(begin(&secure, input, 16, &timings)), Error::WrongParameterSet { .. }));
    let rows = [vec![0, 0]];
    assert!(matches!(
        encrypt(&world.keys.client, &secure, &rows),
        Err(Error::WrongParameterSet { .. })
    ));
    let stranger = Keys::generate(&INSECURE_TEST);
    let key = stranger.bootstrap.as_ref().unwrap();
    let shard = &world.specimens[4].0;
    assert!(matches!(evaluate(&world.program, key, shard, &timings), Err(Error::WrongKey { .. })));
    let outputs = &world.specimens[6].0;
    assert!(matches!(
        pack(&world.program, &stranger.packing, outputs, &timings),
        Err(Error::WrongKey { .. })
    ));
    // A shard may name a key of another set than its program's.
    let small = Keys::generate(&INSECURE_SMALL);
    let program = small_program(&INSECURE_SMALL, 1);
    let input = encrypt(&small.client, &program, &rows).unwrap();
    let Step::Lookups { shards, .. } = begin(&program, &input, 16, &timings).unwrap() else {
        panic!()
    };
    let mut shard = shards[0].bytes.clone();
    let named = small.client.evaluation_key();
    let at = shard.windows(32).position(|bytes| bytes == named).unwrap();
    shard[at..at + 32].copy_from_slice(&stranger.client.evaluation_key());
    let shard = mend_digest(shard);
    assert!(matches!(
        evaluate(&program, key, &shard, &timings),
        Err(Error::WrongParameterSet { .. })
    ));
    let answer = Answer::decode(&world.specimens[7].0, &world.program).unwrap();
    assert!(matches!(decrypt(&stranger.client, &answer), Err(Error::WrongKey { .. })));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let world = &*WORLD;
    for rows in [vec![], vec![vec![0]], vec![vec![0, 0]; world.program.max_rows() + 1]] {
        let result = encrypt(&world.keys.client, &world.program, &rows);
        assert!(matches!(result, Err(Error::Malformed { .. })));
    }
}

#[test]
fn partials_must_make_a_whole_stage() {
    let world = &*WORLD;
    let timings = Timings::default();
    let partial = world.specimens[5].0.as_slice();
    let go = |stage, partials: &[&[u8]]| advance(&world.program, stage, partials, 16, &timings);
    assert!(go(0, &[partial]).is_ok());
    let two = encrypt(&world.keys.client, &world.program, &[vec![0, 0], vec![0, 0]]).unwrap();
    let Step::Lookups { shards, .. } = begin(&world.program, &two, 2, &timings).unwrap() else {
        panic!()
    };
    let key = world.keys.bootstrap.as_ref().unwrap();
    let halves: Vec<Vec<u8>> = shards
        .iter()
        .map(|shard| evaluate(&world.program, key, &shard.bytes, &timings).unwrap())
        .collect();
    let (a, b) = (halves[0].as_slice(), halves[1].as_slice());
    assert!(go(0, &[a, b]).is_ok());
    // One of two rows would look like a complete stage, except for the total that it carries.
    for partials in [vec![a], vec![b], vec![b, a], vec![a, partial]] {
        assert!(matches!(go(0, &partials), Err(Error::BadStage { .. })));
    }
    for (stage, partials) in
        [(0, vec![]), (0, vec![partial, partial]), (1, vec![partial]), (7, vec![partial])]
    {
        assert!(matches!(go(stage, &partials), Err(Error::BadStage { .. })), "{stage}");
    }
}

#[test]
fn malformed_programs_are_refused() {
    let good = || small_program(&INSECURE_TEST, 1).stages().to_vec();
    let refused = |change: fn(&mut Vec<Stage>)| {
        let mut stages = good();
        change(&mut stages);
        let result = Program::new(&INSECURE_TEST, Precision::Approximate, stages);
        assert!(matches!(result, Err(Error::Malformed { .. })));
    };
    refused(Vec::clear);
    refused(|s| s[0].lookup = None);
    refused(|s| s[1].lookup = s[0].lookup.clone());
    refused(|s| s[0].linear.bias.push(0));
    refused(|s| s[1].linear.matrix = Matrix::Dense { rows: 2, columns: 3, weights: vec![0; 6] });
    refused(|s| s[0].linear.matrix = Matrix::Dense { rows: 2, columns: 2, weights: vec![0; 3] });
    refused(|s| s[0].linear.matrix = Matrix::Dense { rows: 0, columns: 2, weights: vec![] });
    refused(|s| s[0].lookup.as_mut().unwrap().tables[0] = vec![0; 3]);
    refused(|s| s[0].lookup.as_mut().unwrap().tables[0] = vec![0; 4096]);
    refused(|s| s[0].lookup.as_mut().unwrap().tables[0].clear());
    refused(|s| s[0].lookup.as_mut().unwrap().tables.push(vec![0; 4]));
    refused(|s| s[0].lookup.as_mut().unwrap().tables.resize(3, vec![0, 1 << 60]));
    refused(|s| s[0].lookup.as_mut().unwrap().table_of[0] = 1);
    let sparse = |offsets: &[u32], indices: &[u32], weights: &[i32]| {
        let mut stages = good();
        stages[0].linear.matrix = Matrix::Sparse {
            columns: 2,
            offsets: offsets.to_vec(),
            indices: indices.to_vec(),
            weights: weights.to_vec(),
        };
        Program::new(&INSECURE_TEST, Precision::Approximate, stages).is_ok()
    };
    assert!(sparse(&[0, 1, 3], &[1, 0, 1], &[1, 2, 3]));
    assert!(!sparse(&[0, 1, 3], &[1, 1, 0], &[1, 2, 3]));
    assert!(!sparse(&[0, 1, 3], &[1, 0, 2], &[1, 2, 3]));
    assert!(!sparse(&[0, 3, 1], &[1, 0, 1], &[1, 2, 3]));
    assert!(!sparse(&[1, 1, 3], &[1, 0, 1], &[1, 2, 3]));
    assert!(!sparse(&[0, 1, 2], &[1, 0, 1], &[1, 2, 3]));
    assert!(!sparse(&[], &[], &[]));
}

#[test]
fn a_few_bytes_do_not_ask_for_many_tables() {
    let mut stages = small_program(&INSECURE_TEST, 1).stages().to_vec();
    // Tables of one entry take one byte each in this encoding, and a hundred in memory.
    stages[0].lookup.as_mut().unwrap().tables = vec![vec![0]; MAX_WIDTH + 1];
    let many = postcard::to_stdvec(&stages[0]).map(|b| postcard::from_bytes::<Stage>(&b));
    assert_eq!(many, Ok(Err(postcard::Error::SerdeDeCustom)));
    stages[0].lookup.as_mut().unwrap().tables.truncate(MAX_WIDTH);
    let fewer = postcard::to_stdvec(&stages[0]).map(|b| postcard::from_bytes::<Stage>(&b));
    assert_eq!(fewer, Ok(Ok(stages.remove(0))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn altered_bytes_never_panic(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        early in any::<bool>(),
        mend in any::<bool>(),
    ) {
        let world = &*WORLD;
        let (bytes, decode) = &world.specimens[which];
        let mut bytes = bytes.clone();
        for (at, value) in changes {
            // Half of the changes are in the header and the counts, which matter most.
            let range = if early { bytes.len().min(110) } else { bytes.len() };
            let at = at.index(range);
            bytes[at] = value;
        }
        // An attacker recomputes the digest, so decoders must be as careful behind a valid one.
        let bytes = if mend { mend_digest(bytes) } else { bytes };
        let _ = decode(world, &bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(which in 0usize..8, bytes in prop::collection::vec(any::<u8>(), 0..300), ours in any::<bool>()) {
        let world = &*WORLD;
        let (specimen, decode) = &world.specimens[which];
        let bytes = if ours { append_digest([&specimen[..10], &bytes].concat()) } else { bytes };
        let _ = decode(world, &bytes);
    }
}
