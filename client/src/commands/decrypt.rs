use anyhow::{Context, Result};
use hermesh_client::cli::Decrypt;
use hermesh_client::files;
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::model::{self, MAX_CIPHERTEXT};
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::progress;
use serde_json::Map;

use super::answers::Answers;

pub(crate) fn run(options: &Decrypt) -> Result<()> {
    let model = model::read(&options.model)?;
    let answer = files::read(&options.input, MAX_CIPHERTEXT)?;
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let spinner = progress::spinner("decrypting");
    let keys = KeyDirectory::new(&options.keys);
    let decrypt =
        |secret: Secret| Answers::decrypt(&model, &secret.client, &answer, &options.output);
    let mut answers = decrypt(keys.read_secret(&passphrase)?);
    // It may be of a job under a key that has been replaced since.
    for key in keys.replaced()? {
        if !answers.as_ref().is_err_and(is_another_key) {
            break;
        }
        answers = decrypt(keys.read_secret_for(key, &passphrase)?);
    }
    let answers = answers.with_context(|| format!("cannot decrypt {}", options.input.display()))?;
    spinner.finish_and_clear();
    answers.report(options.report.json, Map::new())
}

fn is_another_key(error: &anyhow::Error) -> bool {
    use hermesh_client::Error;
    use hermesh_engine::Error as Engine;
    matches!(error.downcast_ref(), Some(Error::Engine(Engine::WrongKey { .. })))
}
