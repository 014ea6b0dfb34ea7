//! The policy file, which the user may edit while the mesh runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use hermesh_mesh::TenantId;
use hermesh_mesh::policy::Policy;

/// File name in the mesh's directory.
pub(super) const FILE: &str = "policy.toml";

/// The line of the default policy that lists tenants.
const NO_TENANTS: &str = "\ntenants = []\n";

pub(super) struct PolicyFile {
    path: PathBuf,
    text: String,
    policy: Policy,
}

impl PolicyFile {
    /// Opens the existing policy, which must admit these tenants, or writes a new one that does.
    pub(super) fn open(directory: &Path, tenants: &[TenantId]) -> Result<Self> {
        let path = directory.join(FILE);
        if !path.exists() {
            super::write(&path, &with_tenants(tenants)?)?;
        }
        let text = read(&path)?;
        let policy = parse(&path, &text)?;
        for tenant in tenants {
            ensure!(
                policy.tenants().any(|admitted| admitted == tenant),
                "{} does not admit {tenant}: add it to `tenants` in that file",
                path.display()
            );
        }
        Ok(Self { path, text, policy })
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Reads the file again. Returns true if it has changed.
    pub(super) fn look(&mut self) -> Result<bool> {
        let text = read(&self.path)?;
        if text == self.text {
            return Ok(false);
        }
        self.policy = parse(&self.path, &text)?;
        self.text = text;
        Ok(true)
    }
}

fn with_tenants(tenants: &[TenantId]) -> Result<String> {
    let default = Policy::default_text();
    let names: Vec<String> = tenants.iter().map(|tenant| format!("\"{tenant}\"")).collect();
    match default.split_once(NO_TENANTS) {
        Some((before, after)) => Ok(format!("{before}\ntenants = [{}]\n{after}", names.join(", "))),
        None => bail!("the default policy lists no tenants; this is a defect"),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse(path: &Path, text: &str) -> Result<Policy> {
    Policy::parse(text).with_context(|| path.display().to_string())
}
