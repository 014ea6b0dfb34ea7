//! The embedded mesh with the real engine: encrypt, submit, decrypt.

use std::{sync::OnceLock, time::Duration};

use hermesh_embedded::{Embedded, Error, Options, Tenant};
use hermesh_engine::{
    Answer, ClientKey, EvaluationKey, Noise, Precision, Program, Stage, decrypt, encrypt,
    parameters::{LINEAR, T3X512},
};
use hermesh_mesh::{
    Digest, Error as MeshError, SigningKey, telemetry::operator_times, wire::FailureCode,
};
use hermesh_tests::real::{INPUTS, linear};

const LIMIT: Duration = Duration::from_secs(600);

struct Keys {
    client: ClientKey,
    evaluation: EvaluationKey,
}

/// Made once, because it takes seconds.
fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let (client, evaluation) = ClientKey::generate(&T3X512);
        Keys { client, evaluation }
    })
}

fn rows(count: usize) -> Vec<Vec<u64>> {
    let value = |i: usize| ((i * 2_654_435_761) as u64 % 1024) << 52;
    let row = |row: usize| (0..INPUTS).map(|column| value(row * INPUTS + column)).collect();
    (0..count).map(row).collect()
}

fn tenant(mesh: &Embedded, name: &str) -> Tenant {
    let name = name.parse().expect("a valid name");
    let tenant = mesh.register_tenant(name, SigningKey::generate());
    tenant.expect("registers")
}

fn assert_close(program: &Program, key: &ClientKey, rows: &[Vec<u64>], answer: &[u8]) {
    let answer = Answer::decode(answer, program).expect("an answer");
    let decrypted = decrypt(key, &answer).expect("decrypts");
    assert_eq!(decrypted.len(), rows.len());
    let signed = |x: u64| x as i64 as f64 / 2f64.powi(64);
    let expected = rows.iter().map(|row| program.simulate(row, &mut Noise::Absent));
    let expected: Vec<u64> = expected.flatten().collect();
    let decrypted = decrypted.concat();
    assert_eq!(decrypted.len(), expected.len());
    // The bound for three stages. The answers must differ by much more, or any answer would pass.
    let bound = hermesh_tests::real::BOUND;
    let values = || expected.iter().copied().map(signed);
    let spread = values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min);
    assert!(spread > 4.0 * bound, "the test's answers are too alike: {spread}");
    for (got, expected) in decrypted.iter().zip(&expected) {
        let distance = signed(got.wrapping_sub(*expected));
        assert!(distance.abs() < bound, "off by {distance}");
    }
}

fn code(result: Result<hermesh_mesh::wire::Answer, Error>) -> FailureCode {
    match result {
        Err(Error::Mesh(MeshError::Failed(failure))) => failure.code,
        Err(Error::Mesh(MeshError::Refused(refusal))) => refusal.code,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn encrypted_rows_come_back_right_with_a_receipt() {
    let mesh = Embedded::start(Options::default()).expect("starts");
    let acme = tenant(&mesh, "acme");
    let program = hermesh_tests::real::program(2);
    let model = acme.register_model(program.encode().to_vec()).expect("registers");
    assert_eq!(model, Digest(program.digest()));
    let key = acme.upload_key(keys().evaluation.encode().to_vec()).expect("uploads");
    assert_eq!(key, Digest(keys().evaluation.digest()));

    let rows = rows(9);
    let input = encrypt(&keys().client, &program, &rows).expect("encrypts");
    let mut progress = Vec::new();
    let answer = acme.infer(model, key, input, LIMIT, |s| progress.push((s.done, s.total)));
    let answer = answer.expect("an answer");
    assert_close(&program, &keys().client, &rows, &answer.body);
    assert_eq!(answer.receipt.service, mesh.identity());
    let lookups = 9 * program.lookups_per_row() as u64;
    assert_eq!(progress.first(), Some(&(0, lookups)));
    assert_eq!(progress.last(), Some(&(lookups, lookups)));
    let times = operator_times(mesh.registry());
    assert_eq!(times["bootstrap"].1, lookups);
    assert!(times["linear"].0 > 0.0 && times["pack"].0 > 0.0);
    mesh.stop();
}

/// Shared bootstraps and values that pass a stage count at their actual cost, here and in every message.
#[test]
fn values_that_share_and_values_that_pass_come_back_right() {
    let mesh = Embedded::start(Options::default()).expect("starts");
    let acme = tenant(&mesh, "acme");
    let program = hermesh_tests::real::passing();
    // First 8 values nine times each, by one bootstrap; then 8 again, and 64 that pass.
    assert_eq!(program.lookups_per_row(), 16);
    let model = acme.register_model(program.encode().to_vec()).expect("registers");
    let key = acme.upload_key(keys().evaluation.encode().to_vec()).expect("uploads");
    let rows = rows(3);
    let input = encrypt(&keys().client, &program, &rows).expect("encrypts");
    let mut progress = Vec::new();
    let answer = acme.infer(model, key, input, LIMIT, |s| progress.push((s.done, s.total)));
    assert_close(&program, &keys().client, &rows, &answer.expect("an answer").body);
    assert_eq!(progress.last(), Some(&(48, 48)));
    assert_eq!(operator_times(mesh.registry())["bootstrap"].1, 48);
    mesh.stop();
}

#[test]
fn a_model_without_lookups_comes_back_right() {
    let mesh = Embedded::start(Options::default()).expect("starts");
    let acme = tenant(&mesh, "acme");
    let stage = Stage { linear: linear(66, INPUTS, 0), lookup: None };
    let program = Program::new(&LINEAR, Precision::Approximate, vec![stage]).expect("valid");
    let (client, evaluation) = ClientKey::generate(&LINEAR);
    let model = acme.register_model(program.encode().to_vec()).expect("registers");
    let key = acme.upload_key(evaluation.encode().to_vec()).expect("uploads");
    let rows = rows(2);
    let input = encrypt(&client, &program, &rows).expect("encrypts");
    let answer = acme.infer(model, key, input, LIMIT, |_| {}).expect("an answer");
    assert_close(&program, &client, &rows, &answer.body);
}

#[test]
fn bad_input_is_refused_and_leaves_the_service_working() {
    let mesh = Embedded::start(Options::default()).expect("starts");
    let acme = tenant(&mesh, "acme");
    let program = hermesh_tests::real::program(2);
    let good_key = keys().evaluation.encode();
    let refused = |upload: Result<Digest, Error>| match upload {
        Err(Error::Mesh(MeshError::Refused(refusal))) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    };
    // Keys and models: truncated, altered, of the wrong kind.
    let cut = good_key[..good_key.len() - 1].to_vec();
    assert_eq!(refused(acme.upload_key(cut)), FailureCode::Malformed);
    let mut altered = good_key.to_vec();
    altered[0] ^= 1;
    assert_eq!(refused(acme.upload_key(altered)), FailureCode::Malformed);
    let model = program.encode();
    assert_eq!(refused(acme.upload_key(model.to_vec())), FailureCode::Malformed);
    let cut = model[..model.len() - 1].to_vec();
    assert_eq!(refused(acme.register_model(cut)), FailureCode::Malformed);
    assert_eq!(refused(acme.register_model(good_key.to_vec())), FailureCode::Malformed);

    // Inputs.
    let model = acme.register_model(model.to_vec()).expect("registers");
    let key = acme.upload_key(good_key.to_vec()).expect("uploads");
    let rows = rows(9);
    let input = encrypt(&keys().client, &program, &rows).expect("encrypts");
    let infer = |input: Vec<u8>| acme.infer(model, key, input, LIMIT, |_| {});
    assert_eq!(code(infer(input[..input.len() - 1].to_vec())), FailureCode::Malformed);
    assert_eq!(code(infer(Vec::new())), FailureCode::Malformed);
    // Encrypted under another key than the one that the job names: the worker's engine detects it.
    let (stranger, other) = ClientKey::generate(&T3X512);
    let foreign = encrypt(&stranger, &program, &rows).expect("encrypts");
    assert_eq!(code(infer(foreign)), FailureCode::Computation);
    drop(other);
    let answer = infer(input).expect("an answer");
    assert_close(&program, &keys().client, &rows, &answer.body);
}
