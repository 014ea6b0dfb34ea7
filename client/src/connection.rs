//! The connection to a mesh in other processes, over NATS.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use hermesh_mesh::bus::BusHandle;
use hermesh_mesh::bus::nats::{NatsBus, NatsOptions};
use hermesh_mesh::client::{self, Client, Pending};
use hermesh_mesh::identity::inbox;
use hermesh_mesh::wire::Job;
use hermesh_mesh::{Clock, SystemClock, TenantId, UnixMillis, VerifyingKey};
use tokio::runtime::{Builder, Runtime};

use crate::keys::Secret;
use crate::{Error, Result};

const SCHEME: &str = "nats://";
const DEFAULT_PORT: u16 = 4222;

/// Address of a mesh: `nats://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshAddress {
    host: String,
    port: u16,
}

impl MeshAddress {
    /// True if traffic to this address stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        // `localhost` always resolves to a loopback address (RFC 6761).
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for MeshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}", self.host, self.port)
    }
}

impl FromStr for MeshAddress {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = |why: &str| format!("expected nats://HOST:PORT, {why}");
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| {
            expected("the address of a NATS server, or of a sidecar or tunnel that connects to one with TLS")
        })?;
        if rest.contains('@') {
            return Err(expected("without user and password: other users can read a command line"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // The last colon of an IPv6 address is in its brackets.
        let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            None => (rest, DEFAULT_PORT),
            Some((host, port)) => {
                (host, port.parse().map_err(|_| expected("with a port from 1 to 65535"))?)
            }
        };
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let of_name = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                !host.is_empty() && host.bytes().all(of_name)
            }
        };
        if !valid || port == 0 {
            return Err(expected("such as nats://127.0.0.1:4222"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A connection. Its methods block.
pub struct Connection {
    runtime: Runtime,
    bus: NatsBus,
    clock: Arc<dyn Clock>,
}

impl Connection {
    /// Connects. Without `plaintext`, which states that the network in between is trusted, only loopback addresses are
    /// accepted, because the connection is not encrypted. Replies go to the inbox of this tenant: a mesh that
    /// authenticates clients lets it subscribe to no other.
    ///
    /// # Errors
    /// [`Error::Plaintext`], [`Error::Io`], or [`Error::Mesh`] if there is no server at the address.
    pub fn open(address: &MeshAddress, plaintext: bool, tenant: Option<&TenantId>) -> Result<Self> {
        if !address.is_loopback() && !plaintext {
            return Err(Error::Plaintext { address: address.to_string() });
        }
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(Error::io("start a thread for the connection"))?;
        let options = NatsOptions {
            url: address.to_string(),
            name: "hermesh".into(),
            inbox: tenant.map(|tenant| inbox("tenant", tenant.as_str())),
            direct: true,
            ..NatsOptions::default()
        };
        let bus = runtime.block_on(NatsBus::connect(options))?;
        Ok(Self { runtime, bus, clock: Arc::new(SystemClock) })
    }

    /// Blocks until an exchange with the mesh is done.
    ///
    /// # Errors
    /// Those of `future`.
    pub fn run<T, E>(&self, future: impl Future<Output = std::result::Result<T, E>>) -> Result<T>
    where
        Error: From<E>,
    {
        Ok(self.runtime.block_on(future)?)
    }

    /// Blocks on any other future that needs the connection's runtime, such as a timer.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A mesh client that signs with the tenant's key.
    pub fn client(&self, secret: &Secret, services: &[VerifyingKey]) -> Client {
        let (tenant, signing) = (secret.tenant.clone(), secret.signing.clone());
        // A placeholder, replaced by `services`: a tenant does not sign receipts.
        let own = signing.verifying_key();
        Client::new(self.bus(), self.clock.clone(), tenant, signing, own)
            .trusting(services.to_vec())
    }

    /// Waits for a job that was submitted before. Needs no secret.
    ///
    /// # Errors
    /// [`Error::Mesh`].
    pub fn attach(&self, job: &Job, services: &[VerifyingKey]) -> Result<Pending> {
        let (context, signature) = (job.context.clone(), job.signature);
        let services = services.to_vec();
        self.run(Pending::attach(self.bus(), &*self.clock, services, context, signature))
    }

    /// The receipt signing keys that the mesh states.
    ///
    /// # Errors
    /// [`Error::Mesh`].
    pub fn service_keys(&self) -> Result<Vec<VerifyingKey>> {
        self.run(client::service_keys(&self.bus))
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn bus(&self) -> BusHandle {
        Arc::new(self.bus.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.runtime.block_on(self.bus.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, loopback) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222", true),
            ("nats://127.8.9.1", "nats://127.8.9.1:4222", true),
            ("nats://localhost:1/", "nats://localhost:1", true),
            ("nats://[::1]:7", "nats://[::1]:7", true),
            ("nats://[::1]", "nats://[::1]:4222", true),
            ("nats://10.0.0.1:4222", "nats://10.0.0.1:4222", false),
            ("nats://localhost.evil.example", "nats://localhost.evil.example:4222", false),
            ("nats://[2001:db8::1]:4222", "nats://[2001:db8::1]:4222", false),
        ] {
            let address: MeshAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (shown, loopback));
        }
        for text in [
            "127.0.0.1:4222",
            "tls://127.0.0.1:4222",
            "nats://",
            "nats://:4222",
            "nats://me:secret@127.0.0.1:4222",
            "nats://127.0.0.1:0",
            "nats://127.0.0.1:99999",
            "nats://a b:1",
            "nats://a,b:1",
            "nats://::1:4222",
            "nats://[x]:1",
        ] {
            assert!(text.parse::<MeshAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn plain_text_does_not_leave_the_machine() {
        let address = "nats://192.0.2.1:4222".parse().unwrap();
        assert!(matches!(Connection::open(&address, false, None), Err(Error::Plaintext { .. })));
    }
}
