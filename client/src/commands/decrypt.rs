use anyhow::{Context, Result};
use hermesh_client::cli::Decrypt;
use hermesh_client::files;
use hermesh_client::keys::KeyDirectory;
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
    let secret = KeyDirectory::new(&options.keys).read_secret(&passphrase)?;
    let answers = Answers::decrypt(&model, &secret.client, &answer, &options.output)
        .with_context(|| format!("cannot decrypt {}", options.input.display()))?;
    spinner.finish_and_clear();
    answers.report(options.report.json, Map::new())
}
