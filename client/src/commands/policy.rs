use std::path::Path;

use anyhow::{Context, Result, bail};
use hermesh_client::cli::{Policy as Command, PolicyCheck, PolicyExplain, PolicyRender};
use hermesh_client::files;
use hermesh_client::terminal::TextTable;
use hermesh_mesh::identity::SpiffeId;
use hermesh_mesh::policy::nats::{ServerOptions, render};
use hermesh_mesh::policy::{Limits, Policy, Verb};
use serde_json::json;

use super::{count, print, print_json};

/// The largest message that nats-server accepts, in bytes.
const LARGEST_PAYLOAD: u64 = 64 << 20;

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Default => print(Policy::default_text()),
        Command::Check(options) => check(options),
        Command::Explain(options) => explain(options),
        Command::Render(options) => render_server(options),
    }
}

fn read(file: Option<&Path>) -> Result<Policy> {
    let Some(file) = file else {
        return Ok(Policy::parse(Policy::default_text())?);
    };
    let in_file = || format!("{} is not a valid policy", file.display());
    let text = String::from_utf8(files::read(file, Policy::MAX_BYTES as u64)?);
    Policy::parse(&text.with_context(in_file)?).with_context(in_file)
}

fn check(options: &PolicyCheck) -> Result<()> {
    let policy = read(options.file.as_deref())?;
    let rules = || policy.identities().filter_map(|id| Some((id, policy.rules(id)?)));
    if options.report.json {
        let identities = rules().map(|(id, rules)| {
            let Limits { max_payload_bytes, messages_per_second, bytes_per_second, connections } =
                rules.limits();
            json!({
                "identity": id.as_str(),
                "limits": {
                    "max_payload_bytes": max_payload_bytes,
                    "messages_per_second": messages_per_second,
                    "bytes_per_second": bytes_per_second,
                    "connections": connections,
                },
            })
        });
        return print_json(&json!({
            "trust_domain": policy.trust_domain(),
            "identities": identities.collect::<Vec<_>>(),
            "tenants": policy.tenants().map(ToString::to_string).collect::<Vec<_>>(),
            "revocations": policy.revocations(),
        }));
    }
    let mut table = TextTable::new(["workload", "may"]);
    for (id, rules) in rules() {
        let verbs = Verb::ALL.into_iter().filter(|verb| rules.has(*verb));
        let verbs: Vec<&str> = verbs.map(Verb::as_str).collect();
        table.push([id.workload().to_owned(), verbs.join(", ")]);
    }
    print(&format!(
        "valid policy of trust domain {}: {}, {} and {}\n\n{table}",
        policy.trust_domain(),
        count(policy.identities().len(), "workload"),
        count(policy.tenants().len(), "tenant"),
        count(policy.revocations(), "revocation"),
    ))
}

fn explain(options: &PolicyExplain) -> Result<()> {
    let (file, what) = options.file_and_subject();
    let policy = read(file)?;
    let id = match options.identity.contains("://") {
        true => options.identity.parse(),
        false => SpiffeId::new(policy.trust_domain(), &options.identity),
    };
    let explanation = policy.explain(&id?, options.verb, what);
    match options.report.json {
        true => print_json(&explanation),
        false => print(&format!("{explanation}\n")),
    }
}

fn render_server(options: &PolicyRender) -> Result<()> {
    let policy = read(options.file.as_deref())?;
    if options.max_payload > LARGEST_PAYLOAD {
        bail!("--max-payload is {}, but nats-server accepts at most 64MiB", options.max_payload);
    }
    print(&render(
        &policy,
        &ServerOptions {
            listen: options.listen,
            monitoring: options.monitoring,
            certificate: options.certificate.clone(),
            key: options.key.clone(),
            roots: options.roots.clone(),
            store: options.store.clone(),
            log: options.log.clone(),
            max_payload: usize::try_from(options.max_payload)?,
            handshake_first: options.handshake_first,
            sync_always: options.sync_always,
        },
    ))
}
