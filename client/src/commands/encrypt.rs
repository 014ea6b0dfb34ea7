use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::Encrypt;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::{progress, units};
use hermesh_client::{data, model};
use serde_json::json;

use super::{count, hex, note, print_json};

pub(crate) fn run(options: &Encrypt) -> Result<()> {
    let model = model::read(&options.model)?;
    let table = data::read_table(&options.input, options.data.limits())?;
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let spinner = progress::spinner("encrypting");
    let secret = KeyDirectory::new(&options.keys).read_secret(&passphrase)?;
    let start = Instant::now();
    let input = model::encrypt(&model, &secret.client, &table)
        .with_context(|| format!("cannot encrypt {}", options.input.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    files::write(&options.output, &input, Audience::Public, Existing::Replace)?;
    spinner.finish_and_clear();
    if options.report.json {
        return print_json(&json!({
            "rows": table.rows,
            "input_bytes": input.len(),
            "program": hex(&model.program().digest()),
            "evaluation_key_digest": hex(&secret.client.evaluation_key()),
            "seconds": seconds,
        }));
    }
    let (rows, size) = (count(table.rows, "row"), units::bytes(input.len() as u64));
    note(&format!("{}: {rows}, {size}", options.output.display()));
    Ok(())
}
