//! Files of hermesh 0.1.0 are read, or refused with the version that reads them and the command that makes them again.
//! The files were written by its commands and must not change.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::{fs, iter};

use common::*;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::membership::Membership;
use hermesh_client::outbox::State;
use hermesh_engine::{Answer, Error, Input};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1.0").join(name)
}

/// A copy of its directory of keys, with the permissions that git does not keep.
fn keys(name: &str) -> (PathBuf, KeyDirectory) {
    let directory = scratch(name);
    let entries = fs::read_dir(golden("outbox")).unwrap();
    let entries = entries.map(|entry| format!("outbox/{}", entry.unwrap().file_name().display()));
    fs::create_dir(directory.join("outbox")).unwrap();
    for name in iter::once("client.key".into()).chain(["mesh.json".into()]).chain(entries) {
        let bytes = fs::read(golden(&name)).unwrap();
        files::write(&directory.join(name), &bytes, Audience::Owner, Existing::Keep).unwrap();
    }
    let keys = KeyDirectory::new(&directory);
    (directory, keys)
}

#[test]
fn keys_open_even_under_a_weak_passphrase() {
    let (_directory, keys) = keys("older-keys");
    let secret = keys.read_secret(&"a".to_owned().into()).unwrap();
    assert_eq!(secret.tenant.as_str(), "acme");
    assert_eq!(secret.client.parameter_set().name, "lwe-1024/1");
    // Written again, it names the same evaluation key.
    let again = hermesh_engine::ClientKey::decode(&secret.client.encode()).unwrap();
    assert_eq!(again.evaluation_key(), secret.client.evaluation_key());
}

#[test]
fn the_mesh_and_the_jobs_are_remembered() {
    let (directory, keys) = keys("older-memory");
    let membership = Membership::read(&keys).unwrap().unwrap();
    assert_eq!(membership.mesh.to_string(), "nats://127.0.0.1:24222");
    assert_eq!((membership.tenant.as_str(), membership.service_keys.len()), ("acme", 1));
    membership.write(&keys).unwrap();
    assert_eq!(Membership::read(&keys).unwrap(), Some(membership));
    assert!(fs::read_to_string(keys.membership()).unwrap().contains("\"version\": 2"));

    let outbox = keys.outbox();
    let entries = outbox.list().unwrap();
    let states: Vec<State> = entries.iter().map(|entry| entry.state).collect();
    assert_eq!(states, [State::Signed, State::Submitted]);
    // Changed entries are written in the current format, with the same ciphertext.
    let (id, input) = (entries[0].id(), fs::read(golden("job.ct")).unwrap());
    outbox.set(id, State::Pending, entries[0].since).unwrap();
    let text = fs::read(directory.join(format!("outbox/{id}.job"))).unwrap();
    assert!(text.starts_with(b"Outbox: 2 pending ") && text.ends_with(&input));
    assert_eq!(outbox.to_send(id).unwrap().input, input);
}

#[test]
fn models_are_refused_with_what_reads_them_and_what_makes_them_again() {
    let path = golden("model.hmx");
    for arguments in [
        &["inspect", path.to_str().unwrap()][..],
        &["keygen", "--model", path.to_str().unwrap(), "--out", "unused"],
    ] {
        let message = fails(arguments);
        for part in ["model.hmx", "format 3", "hermesh 0.1.0 reads it", "`hermesh compile` again"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
    }
}

/// They belong to the model as compiled then; its bytes, and so its digest, are different now.
#[test]
fn jobs_and_answers_name_the_model_that_they_are_of() {
    let model = regression().read_model();
    let job = fs::read(golden("job.ct")).unwrap();
    let answer = fs::read(golden("answer.ct")).unwrap();
    let refused = [
        Input::decode(&job, model.program()).map(drop),
        Answer::decode(&answer, model.program()).map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::WrongProgram { .. })), "{refused:?}");
    }
}
