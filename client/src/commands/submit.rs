use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use hermesh_client::cli::Submit;
use hermesh_client::model::Moved;
use hermesh_client::model::{self, MAX_CIPHERTEXT};
use hermesh_client::outbox::State;
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::progress;
use hermesh_client::{data, files};
use hermesh_compiler::Artifact;
use hermesh_engine::Input;
use hermesh_mesh::Bytes;
use hermesh_mesh::wire::Job;
use serde_json::{Map, json};

use super::answers::Answers;
use super::jobs::{decrypt, sign};
use super::remote::Remote;
use super::{note, print, print_json, rows};

pub(crate) fn run(options: &Submit) -> Result<()> {
    if options.pending {
        return pending(options);
    }
    let Some(path) = &options.model else {
        bail!("expected the compiled model, found none: pass it with --model");
    };
    let model = model::read(path)?;
    let outline = model.client().outline();
    let remote = match options.wait {
        true => Remote::open(&options.member)?,
        false => Remote::connect(&options.member)?,
    };
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let secret = remote.keys.read_secret(&passphrase)?;
    let (input, rows, moved) = match &options.job {
        Some(path) => {
            let input = files::read(path, MAX_CIPHERTEXT)?;
            let decoded = Input::decode(&input, outline)
                .with_context(|| format!("cannot use {}", path.display()))?;
            ensure!(
                decoded.evaluation_key() == secret.client.evaluation_key(),
                "{} was encrypted under another key than client.key: encrypt the input again",
                path.display()
            );
            let rows = decoded.rows();
            (input, rows, Moved::default())
        }
        None => encrypt(options, &model, &secret.client)?,
    };
    if options.wait {
        Answers::check(&remote.keys, &secret.client, model.client(), rows, &options.output)?;
    }
    let job = sign(&secret, outline, Bytes::from(input), &options.terms, remote.now());
    remote.keys.outbox().add(&job, State::Pending, remote.now())?;
    if !options.wait {
        remote.send(&secret, job.context.job)?;
        return submitted(options, &[job], moved);
    }
    let (id, context, input_bytes) = (job.context.job, job.context.clone(), job.input.len());
    note(&format!("job {id}"));
    let lookups = outline.lookups_per_row * rows;
    let bar = progress::bar(lookups as u64, "waiting", "bootstraps");
    let start = Instant::now();
    let answer = remote.ask(&secret, job, |status| bar.set_position(status.done))?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    // May differ from the first job, if the mesh refused that for lack of capacity.
    let context = hermesh_mesh::wire::Context { job: answer.receipt.job, ..context };
    let (keys, body, output) = (&remote.keys, &answer.body, &options.output);
    let answers = decrypt(keys, &context, model.client(), &passphrase, body, output)?;
    let mut more = Map::new();
    more.insert("job".into(), json!(context.job.to_string()));
    more.insert("bootstraps".into(), json!(lookups));
    more.insert("seconds".into(), json!(seconds));
    more.insert("input_bytes".into(), json!(input_bytes));
    more.insert("answer_bytes".into(), json!(answer.body.len()));
    more.insert("clamped_values".into(), json!(moved.clamped_values));
    more.insert("rows_out_of_frame".into(), json!(moved.rows_out_of_frame));
    answers.report(&remote.keys, options.member.report.json, more)
}

fn encrypt(
    options: &Submit,
    model: &Artifact,
    key: &hermesh_engine::ClientKey,
) -> Result<(Vec<u8>, usize, Moved)> {
    let Some(path) = &options.input else {
        bail!("expected inputs, found none: pass them with --input, or a job with --job");
    };
    let table = data::read_table(path, options.data.limits())?;
    let model::Encrypted { bytes, moved } =
        model::encrypt(model, key, &table, options.rows.policy())
            .with_context(|| format!("cannot encrypt {}", path.display()))?;
    rows::warn(model, moved, options.rows);
    Ok((bytes, table.rows, moved))
}

/// Sends the pending jobs of earlier commands. The mesh treats the same message twice as one job.
fn pending(options: &Submit) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let entries = remote.keys.outbox().list()?;
    let waiting: Vec<_> =
        entries.into_iter().filter(|entry| entry.state == State::Pending).collect();
    if waiting.is_empty() {
        note("nothing in the outbox is pending");
        return submitted(options, &[], Moved::default());
    }
    let (secret, _) = remote.unlock()?;
    for entry in &waiting {
        remote.send(&secret, entry.id())?;
    }
    let jobs: Vec<Job> = waiting.into_iter().map(|entry| entry.job).collect();
    submitted(options, &jobs, Moved::default())
}

fn submitted(options: &Submit, jobs: &[Job], moved: Moved) -> Result<()> {
    let ids = jobs.iter().map(|job| job.context.job.to_string());
    if !options.member.report.json {
        return print(&ids.map(|id| id + "\n").collect::<String>());
    }
    match (options.pending, jobs) {
        (false, [job]) => print_json(&json!({
            "job": job.context.job.to_string(),
            "deadline": job.context.deadline,
            "input_bytes": job.input.len(),
            "clamped_values": moved.clamped_values,
            "rows_out_of_frame": moved.rows_out_of_frame,
        })),
        _ => print_json(&json!({"jobs": ids.collect::<Vec<_>>()})),
    }
}
