//! The processes of a history.

use std::{
    fs::{self, File},
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

/// Where the processes note what they do.
pub const EVENTS: &str = "events";
/// Where the processes log.
pub const LOGS: &str = "logs";

/// A nats-server and the services on it.
pub struct Cluster {
    /// The server.
    pub server: NatsServer,
    members: Vec<Member>,
    program: PathBuf,
    engine: Engine,
    directory: PathBuf,
}

struct Member {
    role: Role,
    // None while it is down.
    child: Option<Child>,
}

impl Cluster {
    /// Starts all processes of `program`, which is `crash-history`. Under `directory` they note what they
    /// do in `events`, and log into `logs`.
    ///
    /// # Errors
    /// A process cannot be started, or a directory cannot be made.
    pub fn start(
        server: NatsServer,
        program: &Path,
        engine: Engine,
        directory: &Path,
    ) -> io::Result<Self> {
        let (program, directory) = (program.to_owned(), directory.to_owned());
        for part in [EVENTS, LOGS] {
            fs::create_dir_all(directory.join(part))?;
        }
        let mut cluster = Self { server, members: Vec::new(), program, engine, directory };
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
        let (number, member) = (member, &mut self.members[member]);
        if member.child.is_none() {
            let role = member.role.name();
            let log = self.directory.join(LOGS).join(format!("{role}-{number}.log"));
            let log = File::options().create(true).append(true).open(log)?;
            let mut command = Command::new(&self.program);
            command.args(["service", role, engine.name(), &url]).arg(self.directory.join(EVENTS));
            member.child = Some(command.stdin(Stdio::null()).stderr(log).spawn()?);
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

    /// Makes sure that no service ended by itself.
    ///
    /// # Errors
    /// One did, or the system does not say.
    pub fn check(&mut self) -> io::Result<()> {
        for member in &mut self.members {
            if let Some(child) = &mut member.child
                && let Some(status) = child.try_wait()?
            {
                let role = member.role.name();
                return Err(io::Error::other(format!("{role} ended by itself: {status}")));
            }
        }
        Ok(())
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
