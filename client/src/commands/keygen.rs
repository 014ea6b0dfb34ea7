use std::time::Instant;

use anyhow::Result;
use hermesh_client::cli::Keygen;
use hermesh_client::files::Existing;
use hermesh_client::keys::{KeyDirectory, Secret, default_tenant};
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::{progress, units};
use hermesh_client::{compute, model};
use hermesh_engine::ClientKey;
use hermesh_mesh::SigningKey;
use serde_json::json;

use super::{hex, note, print_json};

pub(crate) fn run(options: &Keygen) -> Result<()> {
    let model = model::read(&options.model)?;
    let keys = KeyDirectory::new(&options.out);
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    if existing == Existing::Keep {
        keys.check_free()?;
    }
    let passphrase = passphrase::obtain(Purpose::Create)?;
    let spinner = progress::spinner("making keys");
    let set = model.client().outline().parameter_set;
    let pool = compute::pool(options.compute.threads)?;
    let start = Instant::now();
    let (client, evaluation) = pool.install(|| ClientKey::generate(set));
    let seconds = start.elapsed().as_secs_f64();
    let signing = SigningKey::generate();
    let tenant = match &options.tenant {
        Some(tenant) => tenant.clone(),
        None => default_tenant(&signing)?,
    };
    let secret = Secret { client, signing, tenant };
    let start = Instant::now();
    keys.write(&secret, &evaluation, &passphrase, existing)?;
    let write_seconds = start.elapsed().as_secs_f64();
    spinner.finish_and_clear();
    let bytes = evaluation.encode().len();
    if options.report.json {
        return print_json(&json!({
            "parameter_set": set.name,
            "security_bits": set.security_bits,
            "tenant": secret.tenant.as_str(),
            "client_key": keys.client_key(),
            "evaluation_key": keys.evaluation_key(),
            "evaluation_key_digest": hex(&evaluation.digest()),
            "evaluation_key_bytes": bytes,
            "seconds": seconds,
            // Most of it is the derivation from the passphrase, which is slow on purpose.
            "write_seconds": write_seconds,
        }));
    }
    note(&format!(
        "{}: secret, keep the file and its passphrase\n{}: public, {}",
        keys.client_key().display(),
        keys.evaluation_key().display(),
        units::bytes(bytes as u64)
    ));
    Ok(())
}
