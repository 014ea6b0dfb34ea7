//! The policy file, read again when it changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hermesh_mesh::policy::{Policy, PolicyError};
use tokio::{io::AsyncReadExt as _, sync::watch, time::sleep};

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(1);
/// The maximum size of a policy, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; expected a policy, such as hermesh policy default prints", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a valid policy.
    #[error("{}: {source}", .file.display())]
    Policy {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: PolicyError,
    },
}

/// Reads the policy and follows the file for as long as a receiver exists. A change takes effect within two
/// seconds; an invalid file changes nothing.
///
/// # Errors
/// The file has no valid policy now.
pub async fn follow(file: &Path) -> Result<watch::Receiver<Arc<Policy>>, Error> {
    let mut text = read(file).await?;
    let (sender, receiver) = watch::channel(Arc::new(parse(file, &text)?));
    let file = file.to_owned();
    tokio::spawn(async move {
        let mut complaint = String::new();
        while !sender.is_closed() {
            sleep(EVERY).await;
            let found = match read(&file).await {
                Ok(found) if found == text => continue,
                Ok(found) => parse(&file, &found).map(|policy| (policy, found)),
                Err(error) => Err(error),
            };
            match found {
                Ok((policy, found)) => {
                    tracing::info!(file = %file.display(), "the policy has changed");
                    (text, complaint) = (found, String::new());
                    sender.send_replace(Arc::new(policy));
                }
                Err(error) if error.to_string() == complaint => {}
                Err(error) => {
                    complaint = error.to_string();
                    tracing::error!(%error, "the policy stays as it was");
                }
            }
        }
    });
    Ok(receiver)
}

async fn read(file: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { file: file.to_owned(), source };
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let mut text = String::new();
    opened.take(MAX_BYTES + 1).read_to_string(&mut text).await.map_err(unreadable)?;
    Ok(text)
}

fn parse(file: &Path, text: &str) -> Result<Policy, Error> {
    Policy::parse(text).map_err(|source| Error::Policy { file: file.to_owned(), source })
}
