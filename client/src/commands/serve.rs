use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use hermesh_client::cli::Serve;
use hermesh_embedded::Embedded;
use hermesh_embedded::gateway::{Gateway, Options};
use tracing_subscriber::EnvFilter;

use super::{mesh, print};

/// Chooses what is logged.
const LOG: &str = "HERMESH_LOG";

pub(crate) fn run(options: &Serve) -> Result<()> {
    let filter = match std::env::var(LOG) {
        Ok(text) => EnvFilter::try_new(&text)
            .with_context(|| format!("{LOG}: expected a filter such as info, found {text:?}"))?,
        Err(_) => EnvFilter::new("info,actix_server=warn"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let embedded =
        Embedded::start(mesh::options(options.compute.threads)).context("cannot start the mesh")?;
    let asked = Options { listen: options.listen, signals: true, ..Options::default() };
    let gateway = Gateway::start(&embedded, &asked).context("cannot start the mesh")?;
    let url = format!("http://{}", gateway.address());
    let key = embedded.identity();
    print(&format!(
        "listening on  {url}\n\
         service key   {key}\n\
         \x20             signs the receipt of every answer; made anew at every start\n\
         use           hermesh infer --mesh {url} --service-key {key} \\\n\
         \x20               --model MODEL.hmx --keys DIR --input X\n\
         metrics       {url}/metrics\n\
         stop          Ctrl-C or SIGTERM\n"
    ))?;
    gateway.wait()?;
    embedded.stop();
    print("stopped\n")
}
