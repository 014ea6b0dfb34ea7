use anyhow::{Result, ensure};
use hermesh_client::cli::Export;
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::model;
use hermesh_client::terminal::units;
use serde_json::json;

use super::{count, hex, note, print_json, warn};

pub(crate) fn run(options: &Export) -> Result<()> {
    let model = model::read_whole(&options.model)?;
    let client = model.client();
    let vouches = client.vouches();
    ensure!(
        vouches || options.unchecked,
        "the client model could not detect rows that would get wrong answers: compile the model with \
         --guarantee bounded (and --domain), or export it anyway with --unchecked"
    );
    let bytes = client.encode()?;
    files::write(&options.output, &bytes, Audience::Public, Existing::Replace)?;
    let revealed = client.revealed_layers();
    if options.report.json {
        return print_json(&json!({
            "program": hex(&client.outline().digest),
            "bytes": bytes.len(),
            "checks_rows": vouches,
            "revealed_layers": revealed,
        }));
    }
    note(&format!("{}: {}", options.output.display(), units::bytes(bytes.len() as u64)));
    if !revealed.is_empty() {
        note(&format!(
            "it contains {} that the client computes itself: {}",
            count(revealed.len(), "layer"),
            revealed.join(", ")
        ));
    }
    if !vouches {
        warn("clients with only this client model cannot detect rows that would get wrong answers");
    }
    Ok(())
}
