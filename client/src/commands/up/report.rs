//! The report of a mesh that is ready.

use std::path::Path;

use hermesh_client::cli::Up;
use hermesh_mesh::nats_server::NatsServer;
use serde_json::{Value, json};

use super::Stack;
use super::process::Process;
use super::secure::{Secure, Sidecar};

pub(super) fn document(stack: &Stack, directory: &Path) -> Value {
    let process = |process: &Process| {
        json!({
            "name": process.name(),
            "pid": process.pid(),
            "health": format!("http://{}", process.address()),
            "log": process.log(),
        })
    };
    let mut document = json!({
        "mesh": address(stack),
        "directory": directory,
        "nats_pid": stack.nats.as_ref().map(NatsServer::pid),
        "services": stack.services.iter().map(process).collect::<Vec<_>>(),
    });
    if let Some(secure) = &stack.secure {
        let sidecar = |(sidecar, beside): (&Sidecar, &Process)| {
            let mut document = process(beside);
            document["mesh"] = json!(sidecar.url());
            document["https"] = json!(sidecar.https());
            document["tenant"] = json!(sidecar.tenant.as_ref().map(|tenant| tenant.as_str()));
            document
        };
        let sidecars = stack.sidecars.iter().zip(&stack.beside).map(sidecar);
        document["sidecars"] = sidecars.collect();
        document["nats_monitoring"] = json!(secure.monitoring());
    }
    document
}

pub(super) fn text(stack: &Stack, options: &Up, directory: &Path, temporary: bool) -> String {
    let kept = match temporary {
        true => "removed at the end; use --dir to keep it",
        false => "kept",
    };
    let (url, workers, directory) = (address(stack), options.workers, directory.display());
    let plural = if workers.get() == 1 { "" } else { "s" };
    let mut text = format!(
        "mesh  {url}, with {workers} evaluation worker{plural}\n\
         data  {directory} ({kept}), logs in logs/\n",
    );
    let mut first = None;
    if stack.secure.is_some() {
        text += &format!(
            "rules {directory}/policy.toml, reread when it changes\n\
             watch prometheus --config.file={directory}/prometheus.yml\n",
        );
        for sidecar in &stack.sidecars {
            if let Some(tenant) = &sidecar.tenant {
                text += &format!("for   {tenant}: {}\n", sidecar.url());
                first.get_or_insert((sidecar.url(), tenant));
            }
        }
    }
    let (mesh, keygen) = match first {
        Some((url, tenant)) => (
            url,
            format!("hermesh keygen          --model model.hmx --out keys --tenant {tenant}\n"),
        ),
        None => (url, String::new()),
    };
    text + &format!(
        "\nexport HERMESH_MESH={mesh}\n\
         {keygen}\
         hermesh tenant register --keys keys\n\
         hermesh key upload      --keys keys\n\
         hermesh model register model.hmx --keys keys\n\
         hermesh submit --model model.hmx --keys keys --input x.npy --wait\n\n\
         Ctrl-C stops the mesh.\n",
    )
}

/// Address of the NATS server. In a secure mesh only sidecars can connect to it.
fn address(stack: &Stack) -> String {
    match (&stack.secure, &stack.nats) {
        (Some(secure), _) => format!("tls://127.0.0.1:{}", Secure::port(secure)),
        (None, Some(nats)) => nats.url(),
        (None, None) => String::new(),
    }
}
