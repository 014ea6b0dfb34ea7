use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::Encrypt;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::outbox::{self, State};
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::{progress, units};
use hermesh_client::{data, model};
use hermesh_engine::Outline;
use hermesh_mesh::{Bytes, Clock as _, JobId, SystemClock};
use serde_json::json;

use super::jobs::sign;
use super::{count, hex, note, print_json, rows};

pub(crate) fn run(options: &Encrypt) -> Result<()> {
    let model = model::read(&options.model)?;
    let table = data::read_table(&options.input, options.data.limits())?;
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let spinner = progress::spinner("encrypting");
    let secret = KeyDirectory::new(&options.keys).read_secret(&passphrase)?;
    let start = Instant::now();
    let model::Encrypted { bytes: input, moved } =
        model::encrypt(&model, &secret.client, &table, options.rows.policy())
            .with_context(|| format!("cannot encrypt {}", options.input.display()))?;
    rows::warn(&model, moved, options.rows);
    let seconds = start.elapsed().as_secs_f64();
    files::write(&options.output, &input, Audience::Public, Existing::Replace)?;
    let size = input.len();
    let outline = model.client().outline();
    let signed = match options.sign {
        true => Some(write_headers(options, &secret, outline, input.into())?),
        false => None,
    };
    spinner.finish_and_clear();
    if options.report.json {
        let mut document = json!({
            "rows": table.rows,
            "input_bytes": size,
            "program": hex(&outline.digest),
            "evaluation_key_digest": hex(&secret.client.evaluation_key()),
            "seconds": seconds,
            "clamped_values": moved.clamped_values,
            "rows_out_of_frame": moved.rows_out_of_frame,
        });
        if let Some((job, path)) = signed {
            document["job"] = json!(job.to_string());
            document["headers"] = json!(path);
        }
        return print_json(&document);
    }
    let (rows, size) = (count(table.rows, "row"), units::bytes(size as u64));
    note(&format!("{}: {rows}, {size}", options.output.display()));
    if let Some((job, path)) = signed {
        note(&format!("{}: job {job}, signed", path.display()));
    }
    Ok(())
}

/// Signs the job, stores it in the outbox so that its answer can be verified, and writes the headers with which any
/// NATS client can publish it.
fn write_headers(
    options: &Encrypt,
    secret: &Secret,
    program: &Outline,
    input: Bytes,
) -> Result<(JobId, PathBuf)> {
    let now = SystemClock.now();
    let job = sign(secret, program, input, &options.terms, now);
    KeyDirectory::new(&options.keys).outbox().add(&job, State::Signed, now)?;
    let path = options.output.with_extension("headers");
    let headers = outbox::headers(&outbox::message(&job));
    files::write(&path, headers.as_bytes(), Audience::Public, Existing::Replace)?;
    Ok((job.context.job, path))
}
