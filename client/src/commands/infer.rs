use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hermesh_client::cli::Infer;
use hermesh_client::keys::KeyDirectory;
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::remote::{MeshUrl, Remote};
use hermesh_client::terminal::progress;
use hermesh_client::{data, model};
use hermesh_mesh::Digest;
use hermesh_mesh::wire::Status;
use serde_json::{Map, Value, json};

use super::answers::Answers;
use super::mesh::{PATIENCE, Session};
use super::note;

pub(crate) fn run(options: &Infer) -> Result<()> {
    let model = model::read(&options.model)?;
    let program = model.program();
    let table = data::read_table(&options.input, options.data.limits())?;
    let keys = KeyDirectory::new(&options.keys);
    let evaluation = keys.read_evaluation_key()?;
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let secret = keys.read_secret(&passphrase)?;
    // Said before the key travels.
    ensure!(
        secret.client.evaluation_key() == evaluation.digest(),
        "client.key and evaluation.key in {} are not a pair: make them again with keygen --force",
        options.keys.display()
    );

    let input = model::encrypt(&model, &secret.client, &table)
        .with_context(|| format!("cannot encrypt {}", options.input.display()))?;
    let input_bytes = input.len();
    let lookups = program.lookups_per_row() * table.rows;
    let bar = progress::bar(lookups as u64, "inferring", "bootstraps");
    let (name, signing) = (secret.tenant, secret.signing);
    let mesh = match &options.mesh {
        Some(url) => {
            let remote = Remote::connect(url.clone(), name, signing, options.service_key)?;
            let remote = Box::new(remote);
            if options.service_key.is_none() {
                bar.suspend(|| note(&trusted(url, &remote)));
            }
            let key = remote.upload_key(evaluation.encode())?;
            let model = remote.register_model(program.encode())?;
            Mesh::Remote { remote, model, key }
        }
        None => {
            let session =
                Session::start(options.compute.threads, name, signing, &evaluation, program)
                    .context("cannot start the embedded mesh")?;
            Mesh::Embedded(Box::new(session))
        }
    };
    let start = Instant::now();
    let answer = mesh.infer(input, |status| bar.set_position(status.done))?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let answers = Answers::decrypt(&model, &secret.client, &answer, &options.output)?;
    let mut more = Map::new();
    let mut add = |name: &str, value: Value| more.insert(name.to_owned(), value);
    add("bootstraps", json!(lookups));
    add("seconds", json!(seconds));
    add("input_bytes", json!(input_bytes));
    add("answer_bytes", json!(answer.len()));
    if let (Some(url), Mesh::Remote { remote, .. }) = (&options.mesh, &mesh) {
        add("mesh", json!(url.to_string()));
        add("service_key", json!(remote.service_key().to_string()));
        add("service_key_pinned", json!(options.service_key.is_some()));
    }
    answers.report(options.report.json, more)
}

/// Who computes.
enum Mesh {
    Embedded(Box<Session>),
    Remote { remote: Box<Remote>, model: Digest, key: Digest },
}

impl Mesh {
    fn infer(&self, input: Vec<u8>, progress: impl FnMut(&Status)) -> Result<Vec<u8>> {
        match self {
            Self::Embedded(session) => session.infer(input, progress),
            Self::Remote { remote, model, key } => {
                Ok(remote.infer(*model, *key, input, PATIENCE, progress)?)
            }
        }
    }
}

fn trusted(url: &MeshUrl, remote: &Remote) -> String {
    format!(
        "receipts are checked against the key that {url} states itself, on trust;\n\
         to pin it: --service-key {}",
        remote.service_key()
    )
}
