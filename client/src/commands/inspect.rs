use anyhow::{Context, Result, bail};
use hermesh_client::cli::Inspect;
use hermesh_client::terminal::units;
use hermesh_client::{files, model};
use hermesh_compiler::{Artifact, MAX_MODEL_BYTES};
use hermesh_engine::{Answer, Error, EvaluationKey, Input, Outline};
use serde_json::{Value, json};

use super::{count, hex, print, print_json, report};

/// Magic numbers at the start of a file.
const MODEL: &[u8] = b"HMX\0";
const SEALED: &[u8] = b"age-encryption.org/";

pub(crate) fn run(options: &Inspect) -> Result<()> {
    let bytes = files::read(&options.file, MAX_MODEL_BYTES)?;
    let in_file = || format!("cannot use {}", options.file.display());
    if bytes.starts_with(MODEL) {
        let artifact = Artifact::decode(&bytes).with_context(in_file)?;
        let client = artifact.client();
        let whole = artifact.whole().is_some();
        return match options.report.json {
            true => print_json(&json!({
                "kind": if whole { "model" } else { "client's half of a model" },
                "program": hex(&client.outline().digest),
                "checks_rows": whole || client.vouches(),
                "report": client.report(),
            })),
            false => print(&report::full(client.report(), None)),
        };
    }
    if bytes.starts_with(SEALED) {
        return describe(
            options,
            "a secret client key, encrypted with a passphrase",
            json!({"kind": "secret key"}),
        );
    }
    match EvaluationKey::decode(&bytes) {
        Ok(key) => {
            let set = key.parameter_set();
            let size = units::bytes(bytes.len() as u64);
            let text = format!(
                "an evaluation key (public), {size}\nparameters  {}, {} bits of security\nSHA-256     {}",
                set.name,
                set.security_bits,
                hex(&key.digest())
            );
            let json = json!({
                "kind": "evaluation key",
                "parameter_set": set.name,
                "security_bits": set.security_bits,
                "bytes": bytes.len(),
                "digest": hex(&key.digest()),
            });
            describe(options, &text, json)
        }
        Err(Error::WrongKind { found, .. }) => {
            let Some(path) = &options.model else {
                bail!("{} is {found}: pass its model with --model", options.file.display());
            };
            let model = model::read(path)?;
            ciphertext(options, &bytes, model.client().outline()).with_context(in_file)
        }
        Err(Error::NotOurs { .. }) => bail!(
            "{}: expected a model, key, job or answer made by hermesh, found something else",
            options.file.display()
        ),
        Err(error) => Err(error).with_context(in_file),
    }
}

fn ciphertext(options: &Inspect, bytes: &[u8], program: &Outline) -> Result<()> {
    let size = bytes.len();
    match Input::decode(bytes, program) {
        Ok(input) => {
            let (rows, key) = (input.rows(), hex(&input.evaluation_key()));
            let text = format!(
                "a job of {}, {}\nevaluation key  {key}",
                count(rows, "encrypted row"),
                units::bytes(size as u64)
            );
            describe(
                options,
                &text,
                json!({"kind": "job", "rows": rows, "evaluation_key": key, "bytes": size}),
            )
        }
        Err(Error::WrongKind { .. }) => {
            Answer::decode(bytes, program)?;
            let text = format!("an encrypted answer, {}", units::bytes(size as u64));
            describe(options, &text, json!({"kind": "answer", "bytes": size}))
        }
        Err(error) => Err(error.into()),
    }
}

fn describe(options: &Inspect, text: &str, json: Value) -> Result<()> {
    match options.report.json {
        true => print_json(&json),
        false => print(&format!("{text}\n")),
    }
}
