use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::{Infer, Terms};
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::outbox::State;
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::progress;
use hermesh_client::{data, model};
use hermesh_compiler::Artifact;
use hermesh_engine::EvaluationKey;
use hermesh_mesh::topology;
use hermesh_mesh::wire::{Priority, Status};
use serde_json::{Map, Value, json};

use super::answers::Answers;
use super::jobs::{decrypt, sign};
use super::key::check_pair;
use super::mesh::Session;
use super::remote::Remote;
use super::{note, rows};

enum Where {
    /// Services in this process.
    Embedded(Box<Session>),
    /// A mesh in other processes.
    Remote(Box<Remote>),
}

pub(crate) fn run(options: &Infer) -> Result<()> {
    let model = model::read(&options.model)?;
    let table = data::read_table(&options.input, options.data.limits())?;
    let keys = KeyDirectory::new(&options.member.keys);
    let evaluation = keys.read_evaluation_key()?;
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let secret = keys.read_secret(&passphrase)?;
    Answers::check(&keys, &secret.client, model.client(), table.rows, &options.output)?;
    // Checked before the evaluation key is uploaded.
    check_pair(&keys, &secret, &evaluation)?;

    let model::Encrypted { bytes: input, moved } =
        model::encrypt(&model, &secret.client, &table, options.rows.policy())
            .with_context(|| format!("cannot encrypt {}", options.input.display()))?;
    rows::warn(&model, moved, options.rows);
    let input_bytes = input.len();
    let lookups = model.client().outline().lookups_per_row * table.rows;
    let bar = progress::bar(lookups as u64, "inferring", "bootstraps");
    let prepared = match &options.member.mesh.mesh {
        Some(_) => Where::Remote(Box::new(prepare(options, &secret, &evaluation, &model)?)),
        None => Where::Embedded(Box::new(
            Session::start(
                options.compute.threads,
                secret.tenant.clone(),
                secret.signing.clone(),
                &evaluation,
                model.whole().ok_or(hermesh_compiler::Error::ClientHalf)?.program(),
            )
            .context("cannot start the embedded mesh")?,
        )),
    };
    let start = Instant::now();
    let show = |status: &Status| bar.set_position(status.done);
    let (answer_bytes, answers, seconds) = match prepared {
        Where::Embedded(session) => {
            let answer = session.infer(input, show)?;
            let seconds = start.elapsed().as_secs_f64();
            let answers =
                Answers::decrypt(model.client(), &secret.client, &answer, &options.output)?;
            (answer.len(), answers, seconds)
        }
        Where::Remote(remote) => {
            let terms = Terms { deadline: topology::MAX_DEADLINE / 2, priority: Priority::Normal };
            let job = sign(&secret, model.client().outline(), input.into(), &terms, remote.now());
            remote.keys.outbox().add(&job, State::Pending, remote.now())?;
            let context = job.context.clone();
            let answer = remote.ask(&secret, job, show)?;
            let seconds = start.elapsed().as_secs_f64();
            let context = hermesh_mesh::wire::Context { job: answer.receipt.job, ..context };
            let (keys, body, output) = (&remote.keys, &answer.body, &options.output);
            let answers = decrypt(keys, &context, model.client(), &passphrase, body, output)?;
            (answer.body.len(), answers, seconds)
        }
    };
    bar.finish_and_clear();

    let mut more = Map::new();
    let mut add = |name: &str, value: Value| more.insert(name.to_owned(), value);
    add("bootstraps", json!(lookups));
    add("seconds", json!(seconds));
    add("input_bytes", json!(input_bytes));
    add("answer_bytes", json!(answer_bytes));
    add("clamped_values", json!(moved.clamped_values));
    add("rows_out_of_frame", json!(moved.rows_out_of_frame));
    answers.report(&keys, options.member.report.json, more)
}

/// Registers tenant, key and model with a mesh. On first use, stores the receipt signing keys to trust.
fn prepare(
    options: &Infer,
    secret: &Secret,
    evaluation: &EvaluationKey,
    model: &Artifact,
) -> Result<Remote> {
    let mut remote = Remote::connect_as(Some(&secret.tenant), &options.member)?;
    let first = remote.services.is_empty();
    remote.register(secret, &options.member.mesh.service_keys, false)?;
    if first {
        for key in &remote.services {
            note(&format!("trusting receipts signed with {key} from now on"));
        }
    }
    super::model::prepare(&remote, secret, evaluation, model)?;
    Ok(remote)
}
