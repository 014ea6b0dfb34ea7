use anyhow::{Context, Result};
use hermesh_client::cli::Decrypt;
use hermesh_client::files;
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::model::{self, MAX_CIPHERTEXT};
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::progress;
use hermesh_mesh::Digest;
use serde_json::Map;

use super::answers::Answers;
use super::jobs::{self, is_another_key};

pub(crate) fn run(options: &Decrypt) -> Result<()> {
    let model = model::read(&options.model)?;
    let model = model.client();
    let answer = files::read(&options.input, MAX_CIPHERTEXT)?;
    jobs::check_intact(&answer, model)
        .with_context(|| format!("cannot decrypt {}", options.input.display()))?;
    let keys = KeyDirectory::new(&options.keys);
    let entry = match options.job {
        Some(id) => Some(keys.outbox().get(id)?),
        None => keys.outbox().of_answer(Digest::of(&answer))?,
    };
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let spinner = progress::spinner("decrypting");
    let decrypt =
        |secret: Secret| Answers::decrypt(model, &secret.client, &answer, &options.output);
    let answers = match entry {
        Some(entry) => {
            let (job, output) = (&entry.job.context, &options.output);
            jobs::decrypt(&keys, job, model, &passphrase, &answer, output)
        }
        None => {
            let mut answers = decrypt(keys.read_secret(&passphrase)?);
            // The job may have used a key that has been replaced since.
            for key in keys.replaced()? {
                if !answers.as_ref().is_err_and(is_another_key) {
                    break;
                }
                answers = decrypt(keys.read_secret_for(key, &passphrase)?);
            }
            answers.context(
                "this file is not known as the answer of a job in the outbox; if it is one, name the job \
                 with --job, so that its input is never sent again",
            )
        }
    };
    let answers = answers.with_context(|| format!("cannot decrypt {}", options.input.display()))?;
    spinner.finish_and_clear();
    let seconds = ("seconds".to_owned(), answers.seconds().into());
    answers.report(&keys, options.report.json, Map::from_iter([seconds]))
}
