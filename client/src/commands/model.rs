use anyhow::{Context, Result};
use hermesh_client::cli::{Model, ModelList, ModelRegister};
use hermesh_client::keys::Secret;
use hermesh_client::model;
use hermesh_client::terminal::{TextTable, units};
use hermesh_compiler::Artifact;
use hermesh_engine::Program;
use hermesh_mesh::{Bytes, Digest};
use serde_json::json;

use super::remote::{Remote, Upload, when};
use super::{hex, print, print_json};

pub(crate) fn run(command: &Model) -> Result<()> {
    match command {
        Model::Register(options) => register(options),
        Model::List(options) => list(options),
    }
}

fn register(options: &ModelRegister) -> Result<()> {
    let model = model::read_whole(&options.model)?;
    let program = model.program();
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    let resumed = send(&remote, &secret, program)?;
    if options.member.report.json {
        return print_json(&json!({
            "program": hex(&program.digest()),
            "program_bytes": program.encode().len(),
            "parameter_set": program.parameter_set().name,
            "resumed_at_bytes": resumed,
        }));
    }
    print(&format!("{}\n", hex(&program.digest())))
}

/// Uploads a model's program. Returns the number of bytes that the mesh had from an earlier upload.
pub(super) fn send(remote: &Remote, secret: &Secret, program: &Program) -> Result<usize> {
    let bytes = Bytes::copy_from_slice(program.encode());
    let mut shown = Upload::new(bytes.len(), "the model");
    let client = remote.client(secret);
    let offer = client.offer_model(bytes, |done, of| shown.show(done, of));
    remote.connection.run(offer).context("cannot register the model")?;
    Ok(shown.finish())
}

/// Uploads key and model, except what the mesh already has.
pub(super) fn prepare(
    remote: &Remote,
    secret: &Secret,
    evaluation: &hermesh_engine::EvaluationKey,
    model: &Artifact,
) -> Result<()> {
    let client = remote.client(secret);
    let (keys, models) = (remote.connection.run(client.list_keys())?, client.list_models());
    if !keys.iter().any(|known| known.key == Digest(evaluation.digest())) {
        super::key::send(remote, secret, evaluation, None)?;
    }
    let models = remote.connection.run(models)?;
    let digest = Digest(model.client().outline().digest);
    if !models.iter().any(|known| known.model == digest) {
        let whole = model.whole().with_context(|| {
            format!(
                "model {digest} is not registered with this mesh, and the client's half of it cannot be: its owner runs \
                 hermesh model register"
            )
        })?;
        send(remote, secret, whole.program())?;
    }
    Ok(())
}

fn list(options: &ModelList) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    let listed = remote.connection.run(remote.client(&secret).list_models())?;
    if options.member.report.json {
        return print_json(&listed);
    }
    let now = remote.now();
    let mut table = TextTable::new(["model", "parameters", "size", "registered", "first by"]);
    for model in &listed {
        table.push([
            model.model.to_string(),
            model.parameters.clone(),
            units::bytes(model.bytes),
            when(model.created, now),
            model.owner.to_string(),
        ]);
    }
    print(&table.to_string())
}
