//! One process of a history.

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// A process that can be started again with the same log, however often it is killed.
pub struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    // None while the process is down.
    child: Option<Child>,
}

impl Member {
    /// A process that is not started yet.
    pub fn new(
        name: impl Into<String>,
        program: PathBuf,
        arguments: Vec<OsString>,
        log: PathBuf,
    ) -> Self {
        Self { name: name.into(), program, arguments, log, child: None }
    }

    /// Starts it if it is down.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self) -> io::Result<()> {
        if self.child.is_none() {
            let log = File::options().create(true).append(true).open(&self.log)?;
            let mut command = Command::new(&self.program);
            command.args(&self.arguments).stdin(Stdio::null()).stderr(log);
            self.child = Some(command.spawn()?);
        }
        Ok(())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it as if its machine had frozen, or continues it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn freeze(&mut self, frozen: bool) -> io::Result<()> {
        if let Some(child) = &self.child {
            let signal = if frozen { Signal::STOP } else { Signal::CONT };
            kill_process(Pid::from_child(child), signal)?;
        }
        Ok(())
    }

    /// Checks that it has not ended by itself.
    ///
    /// # Errors
    /// It has, or the system returns an error.
    pub fn check(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            return Err(io::Error::other(format!("{} ended by itself: {status}", self.name)));
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Ignored: there is nothing else to do.
        let _ = self.kill();
    }
}
