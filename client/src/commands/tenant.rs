use anyhow::{Result, bail};
use hermesh_client::cli::{Tenant, TenantRegister, TenantShow};
use hermesh_client::connection::Connection;
use hermesh_client::keys::KeyDirectory;
use hermesh_client::membership::Membership;
use hermesh_client::terminal::progress;
use hermesh_mesh::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::remote::{Remote, unlock, when};
use super::{print, print_json};

pub(crate) fn run(command: &Tenant) -> Result<()> {
    match command {
        Tenant::Register(options) => register(options),
        Tenant::Show(options) => show(options),
    }
}

fn register(options: &TenantRegister) -> Result<()> {
    let (secret, _) = unlock(&KeyDirectory::new(&options.member.keys))?;
    let mut remote = Remote::connect_as(Some(&secret.tenant), &options.member)?;
    let spinner = progress::spinner("registering");
    let pinned = &options.member.mesh.service_keys;
    let membership = remote.register(&secret, pinned, options.accept_new_keys)?;
    spinner.finish_and_clear();
    report(&membership, &remote.connection, options.member.report.json)
}

fn report(membership: &Membership, connection: &Connection, json: bool) -> Result<()> {
    if json {
        return print_json(&document(membership));
    }
    print(&text(membership, connection.now()))
}

fn show(options: &TenantShow) -> Result<()> {
    let keys = KeyDirectory::new(&options.keys);
    let Some(membership) = Membership::read(&keys)? else {
        bail!(
            "{} is not registered with a mesh: run hermesh tenant register --mesh nats://HOST:PORT",
            options.keys.display()
        );
    };
    match options.report.json {
        true => print_json(&document(&membership)),
        false => print(&text(&membership, SystemClock.now())),
    }
}

fn document(membership: &Membership) -> Value {
    let services: Vec<String> = membership.service_keys.iter().map(ToString::to_string).collect();
    json!({
        "tenant": membership.tenant.as_str(),
        "signing_key": membership.signing_key.to_string(),
        "mesh": membership.mesh.to_string(),
        "service_keys": services,
        "registered": membership.registered,
    })
}

fn text(membership: &Membership, now: hermesh_mesh::UnixMillis) -> String {
    let Membership { mesh, tenant, signing_key, service_keys, registered } = membership;
    let services: String = service_keys.iter().map(|key| format!("trusts       {key}\n")).collect();
    format!(
        "tenant       {tenant}\nsigning key  {signing_key}\nmesh         {mesh}\n\
         registered   {}\n{services}",
        when(*registered, now)
    )
}
