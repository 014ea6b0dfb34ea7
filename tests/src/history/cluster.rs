//! The processes of a history.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hermesh_mesh::nats_server::NatsServer;
use rustix::process::{Pid, Signal, kill_process};

use super::role::{Engine, Role};

/// How many processes of each service.
pub const REPLICAS: [(Role, usize); 4] = [
    (Role::KeyManagement, 2),
    (Role::Preprocessing, 2),
    (Role::Evaluation, 4),
    (Role::Aggregation, 2),
];

/// A nats-server and the services on it.
pub struct Cluster {
    /// The server.
    pub server: NatsServer,
    members: Vec<Member>,
    program: PathBuf,
    engine: Engine,
    logs: PathBuf,
}

struct Member {
    role: Role,
    // None while it is down.
    child: Option<Child>,
}

impl Cluster {
    /// Starts all processes of `program`, which is `crash-history`; they log into `logs`.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn start(
        server: NatsServer,
        program: &Path,
        engine: Engine,
        logs: &Path,
    ) -> io::Result<Self> {
        let (program, logs) = (program.to_owned(), logs.to_owned());
        let mut cluster = Self { server, members: Vec::new(), program, engine, logs };
        for (role, replicas) in REPLICAS {
            for _ in 0..replicas {
                cluster.members.push(Member { role, child: None });
                cluster.revive(cluster.members.len() - 1)?;
            }
        }
        Ok(cluster)
    }

    /// How many services there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The service of one member.
    pub fn role(&self, member: usize) -> Role {
        self.members[member].role
    }

    /// Starts a member that is down.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn revive(&mut self, member: usize) -> io::Result<()> {
        let (engine, url) = (self.engine, self.server.url());
        let member = &mut self.members[member];
        if member.child.is_none() {
            let mut command = Command::new(&self.program);
            command.args(["service", member.role.name(), engine.name(), &url]).arg(&self.logs);
            member.child = Some(command.stdin(Stdio::null()).spawn()?);
        }
        Ok(())
    }

    /// Kills a member where it stands.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self, member: usize) -> io::Result<()> {
        if let Some(mut child) = self.members[member].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a member as if its machine had frozen, or lets it go on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn freeze(&mut self, member: usize, frozen: bool) -> io::Result<()> {
        if let Some(child) = &self.members[member].child {
            let signal = if frozen { Signal::STOP } else { Signal::CONT };
            kill_process(Pid::from_child(child), signal)?;
        }
        Ok(())
    }

    /// Services that ended by themselves, which none should.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> io::Result<Vec<Role>> {
        let mut ended = Vec::new();
        for member in &mut self.members {
            if let Some(child) = &mut member.child
                && child.try_wait()?.is_some()
            {
                ended.push(member.role);
                member.child = None;
            }
        }
        Ok(ended)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            // Nothing is left to do if the system refuses.
            let _ = self.kill(member);
        }
    }
}
