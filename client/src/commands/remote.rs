//! Shared code of the commands for a mesh in other processes.

use anyhow::{Context, Result, ensure};
use hermesh_client::Error;
use hermesh_client::cli::Member;
use hermesh_client::connection::{Connection, MeshAddress};
use hermesh_client::keys::{KeyDirectory, Secret};
use hermesh_client::membership::{Membership, trusted};
use hermesh_client::passphrase::{self, Passphrase, Purpose};
use hermesh_client::terminal::progress::ProgressBar;
use hermesh_client::terminal::{progress, units};
use hermesh_mesh::client::Client;
use hermesh_mesh::{TenantId, UnixMillis, VerifyingKey};

use super::note;

/// A directory of keys and its mesh.
pub(super) struct Remote {
    pub(super) connection: Connection,
    pub(super) address: MeshAddress,
    pub(super) keys: KeyDirectory,
    /// The receipt signing keys to trust.
    pub(super) services: Vec<VerifyingKey>,
}

impl Remote {
    /// Connects to the mesh of `--mesh`, else to the registered one. The receipt signing keys must be stored or given.
    pub(super) fn open(member: &Member) -> Result<Self> {
        let remote = Self::connect(member)?;
        ensure!(!remote.services.is_empty(), Error::NotRegistered);
        Ok(remote)
    }

    /// Connects without receipt signing keys, for commands that verify no receipt.
    pub(super) fn connect(member: &Member) -> Result<Self> {
        Self::connect_as(None, member)
    }

    /// Connects as this tenant, which may not be registered yet. Other commands take the tenant's name from the
    /// registration, because here it is in the encrypted secret.
    pub(super) fn connect_as(tenant: Option<&TenantId>, member: &Member) -> Result<Self> {
        let options = &member.mesh;
        let keys = KeyDirectory::new(&member.keys);
        let stored = Membership::read(&keys)?;
        let tenant = tenant.or(stored.as_ref().map(|stored| &stored.tenant)).cloned();
        let address = match (&options.mesh, &stored) {
            (Some(address), _) => address.clone(),
            (None, Some(stored)) => stored.mesh.clone(),
            (None, None) => return Err(Error::NoMesh.into()),
        };
        let services = match options.service_keys.is_empty() {
            false => options.service_keys.clone(),
            true => stored.map(|stored| stored.service_keys).unwrap_or_default(),
        };
        let connection = Connection::open(&address, options.insecure_plaintext, tenant.as_ref())?;
        Ok(Self { connection, address, keys, services })
    }

    /// Registers the tenant, decides which receipt signing keys to trust, and stores both.
    pub(super) fn register(
        &mut self,
        secret: &Secret,
        pinned: &[VerifyingKey],
        accept_change: bool,
    ) -> Result<Membership> {
        let stated = self.connection.service_keys()?;
        let stored = Membership::read(&self.keys)?.map(|stored| stored.service_keys);
        let services = trusted(&stored.unwrap_or_default(), &stated, pinned, accept_change)?;
        self.connection
            .run(self.connection.client(secret, &[]).register())
            .with_context(|| format!("cannot register tenant {}", secret.tenant))?;
        let membership = Membership {
            mesh: self.address.clone(),
            tenant: secret.tenant.clone(),
            signing_key: secret.signing.verifying_key(),
            service_keys: services.clone(),
            registered: self.connection.now(),
        };
        membership.write(&self.keys)?;
        self.services = services;
        Ok(membership)
    }

    /// Decrypts the secret.
    pub(super) fn unlock(&self) -> Result<(Secret, Passphrase)> {
        unlock(&self.keys)
    }

    pub(super) fn client(&self, secret: &Secret) -> Client {
        self.connection.client(secret, &self.services)
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.connection.now()
    }
}

pub(super) fn unlock(keys: &KeyDirectory) -> Result<(Secret, Passphrase)> {
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let secret = keys.read_secret(&passphrase)?;
    Ok((secret, passphrase))
}

/// A progress bar over the bytes of an upload.
pub(super) struct Upload {
    bar: ProgressBar,
    resumed: Option<usize>,
}

impl Upload {
    pub(super) fn new(bytes: usize, what: &str) -> Self {
        let bar = progress::bar(bytes as u64, &format!("uploading {what}"), "bytes");
        Self { bar, resumed: None }
    }

    pub(super) fn show(&mut self, done: usize, of: usize) {
        if self.resumed.is_none() {
            self.resumed = Some(done);
            if done > 0 && done < of {
                let (done, of) = (units::bytes(done as u64), units::bytes(of as u64));
                note(&format!("continuing an earlier upload: {done} of {of} are there"));
            }
        }
        self.bar.set_position(done as u64);
    }

    /// The bytes that the mesh had before.
    pub(super) fn finish(self) -> usize {
        self.bar.finish_and_clear();
        self.resumed.unwrap_or(0)
    }
}

/// A time as text, relative to `now`.
pub(super) fn when(time: UnixMillis, now: UnixMillis) -> String {
    match time > now {
        true => format!("in {}", units::seconds(now.until(time).as_secs_f64())),
        false => format!("{} ago", units::seconds(time.until(now).as_secs_f64().round())),
    }
}
