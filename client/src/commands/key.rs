use anyhow::{Context, Result, ensure};
use hermesh_client::cli::{Key, KeyAudit, KeyList, KeyRevoke, KeyRotate, KeyUpload};
use hermesh_client::compute;
use hermesh_client::files::Existing;
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::terminal::{TextTable, progress, units};
use hermesh_engine::{ClientKey, EvaluationKey};
use hermesh_mesh::wire::{KeyStatus, Replaces};
use hermesh_mesh::{Bytes, Digest};
use serde_json::json;

use super::remote::{Remote, Upload, when};
use super::{note, print, print_json};

pub(crate) fn run(command: &Key) -> Result<()> {
    match command {
        Key::Upload(options) => upload(options),
        Key::Rotate(options) => rotate(options),
        Key::List(options) => list(options),
        Key::Revoke(options) => revoke(options),
        Key::Audit(options) => audit(options),
    }
}

fn upload(options: &KeyUpload) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let evaluation = remote.keys.read_evaluation_key()?;
    let (secret, _) = remote.unlock()?;
    check_pair(&remote.keys, &secret, &evaluation)?;
    let replaces = options.replaces.map(|key| Replaces { key, overlap: options.overlap });
    let resumed = send(&remote, &secret, &evaluation, replaces)?;
    report(&evaluation, resumed, options.member.report.json)
}

pub(super) fn check_pair(
    keys: &KeyDirectory,
    secret: &Secret,
    evaluation: &EvaluationKey,
) -> Result<()> {
    ensure!(
        secret.client.evaluation_key() == evaluation.digest(),
        "{} and evaluation.key beside it are not a pair: if a rotation was cut off, run hermesh key \
         rotate again, else make them anew with keygen --force",
        keys.client_key().display()
    );
    Ok(())
}

/// Uploads a key. Returns the number of bytes that the mesh had from an earlier upload.
pub(super) fn send(
    remote: &Remote,
    secret: &Secret,
    evaluation: &EvaluationKey,
    replaces: Option<Replaces>,
) -> Result<usize> {
    let bytes = Bytes::copy_from_slice(evaluation.encode());
    let mut shown = Upload::new(bytes.len(), "the evaluation key");
    let client = remote.client(secret);
    let offer = client.offer_key(bytes, replaces, |done, of| shown.show(done, of));
    remote.connection.run(offer).context("cannot upload the evaluation key")?;
    Ok(shown.finish())
}

fn report(evaluation: &EvaluationKey, resumed: usize, json: bool) -> Result<()> {
    let (digest, bytes) = (Digest(evaluation.digest()).to_string(), evaluation.encode().len());
    if json {
        return print_json(&json!({
            "evaluation_key_digest": digest,
            "evaluation_key_bytes": bytes,
            "resumed_at_bytes": resumed,
        }));
    }
    print(&format!("{digest}\n"))
}

fn rotate(options: &KeyRotate) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let keys = &remote.keys;
    keys.finish_install()?;
    let (current, passphrase) = remote.unlock()?;
    let old = Digest(current.client.evaluation_key());
    let next = keys.next();
    if next.is_complete() {
        note("continuing with the pair in next/ from an earlier rotation");
    } else {
        let spinner = progress::spinner("making keys");
        let set = current.client.parameter_set();
        let pool = compute::pool(options.compute.threads)?;
        let (client, evaluation) = pool.install(|| ClientKey::generate(set));
        let secret =
            Secret { client, signing: current.signing.clone(), tenant: current.tenant.clone() };
        // An incomplete pair is useless, so it is replaced.
        next.write(&secret, &evaluation, &passphrase, Existing::Replace)?;
        spinner.finish_and_clear();
    }
    let evaluation = next.read_evaluation_key()?;
    check_pair(&next, &next.read_secret(&passphrase)?, &evaluation)?;
    let replaces = Replaces { key: old, overlap: options.overlap };
    let resumed = send(&remote, &current, &evaluation, Some(replaces))?;
    keys.install_next(old)?;
    if !options.member.report.json {
        note(&format!(
            "the old evaluation key {old} retires in {}; its client key stays in {}",
            units::seconds(options.overlap.as_secs_f64()),
            options.member.keys.join("old").display()
        ));
        return report(&evaluation, resumed, false);
    }
    print_json(&json!({
        "evaluation_key_digest": Digest(evaluation.digest()).to_string(),
        "evaluation_key_bytes": evaluation.encode().len(),
        "resumed_at_bytes": resumed,
        "replaces": old.to_string(),
        "overlap_seconds": options.overlap.as_secs(),
    }))
}

fn list(options: &KeyList) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    let listed = remote.connection.run(remote.client(&secret).list_keys())?;
    if options.member.report.json {
        return print_json(&listed);
    }
    let now = remote.now();
    let mut table = TextTable::new(["key", "parameters", "version", "size", "created", "state"]);
    for key in &listed {
        let state = match key {
            KeyStatus { revoked: Some(at), .. } => format!("revoked {}", when(*at, now)),
            KeyStatus { retires: Some(at), .. } if *at <= now => {
                format!("retired {}", when(*at, now))
            }
            KeyStatus { retires: Some(at), .. } => format!("retires {}", when(*at, now)),
            _ => "in use".to_owned(),
        };
        table.push([
            key.key.to_string(),
            key.parameters.clone(),
            key.version.to_string(),
            units::bytes(key.bytes),
            when(key.created, now),
            state,
        ]);
    }
    print(&table.to_string())
}

fn revoke(options: &KeyRevoke) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    remote.connection.run(remote.client(&secret).revoke_key(options.key))?;
    if options.member.report.json {
        return print_json(&json!({"revoked": options.key.to_string()}));
    }
    note(&format!("{} is revoked: the mesh computes nothing with it any more", options.key));
    Ok(())
}

fn audit(options: &KeyAudit) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    let limit = options.limit.get().into();
    let entries = remote.connection.run(remote.client(&secret).read_audit(limit))?;
    if options.member.report.json {
        return print_json(&entries);
    }
    let now = remote.now();
    let mut table = TextTable::new(["when", "what", "key or model"]);
    for entry in &entries {
        let object = entry.object.map(|object| object.to_string()).unwrap_or_default();
        table.push([when(entry.at, now), entry.kind.to_string(), object]);
    }
    print(&table.to_string())
}
