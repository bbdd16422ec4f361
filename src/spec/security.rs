//! The comparison of what a sandbox asks for with what a container has: [`SecurityReport`].

use std::fmt;

/// Holds what a first container of a pool really has, beside what its [`Sandbox`](crate::Sandbox) asks for. Plain data, made by
/// `build()`; see [`Pool::security`](crate::Pool::security).
///
/// # Examples
///
/// ```no_run
/// use dockerpool::{Pool, Sandbox};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let pool = Pool::builder("untrusted").image("busybox:1.36").sandbox(Sandbox::strict()).build().await?;
/// let report = pool.security().expect("the pool has a sandbox");
/// // For people: a line for each item, and one for each warning.
/// println!("{report}");
/// let user = report.item("user").expect("every sandbox has a user");
/// assert_eq!((&*user.asked, &*user.found), ("65534", "65534"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityReport {
    /// What was asked for, item by item.
    pub items: Vec<SecurityItem>,
    /// What makes the sandbox weaker although everything that was asked for is in force, such as a runtime or a kernel that is
    /// older than a fix. Each warning names the fault and its advisory.
    pub warnings: Vec<String>,
}

/// Describes one item of a [`SecurityReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityItem {
    /// The name, e.g. `user`, `/tmp`, `memory` or `call af_alg`.
    pub name: String,
    /// What was asked for.
    pub asked: String,
    /// What the container has. Empty if that was [not seen](HowSeen::NotSeen).
    pub found: String,
    /// Where the library has looked.
    pub how_seen: HowSeen,
}

/// Tells where the library has seen an item of a [`SecurityReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HowSeen {
    /// Inside: a command in the container has read the kernel's files, or tried a system call.
    Inside,
    /// In the engine's description of the container.
    Inspect,
    /// Nowhere: the engine has taken the request, and nothing in the container shows what became of it. So it is for system
    /// calls where the [agent](crate::ExecVia) is not PID 1, and for limits where the kernel's files are not visible.
    NotSeen,
}

impl SecurityReport {
    /// Returns the item of this name.
    pub fn item(&self, name: &str) -> Option<&SecurityItem> {
        self.items.iter().find(|item| item.name == name)
    }
}

impl fmt::Display for SecurityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(f, "{item}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SecurityItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            asked,
            found,
            how_seen,
        } = self;
        match how_seen {
            HowSeen::Inside => write!(f, "{name}: {found} (asked: {asked}; seen inside)"),
            HowSeen::Inspect => write!(f, "{name}: {found} (asked: {asked}; seen by inspect)"),
            HowSeen::NotSeen => write!(f, "{name}: not seen (asked: {asked})"),
        }
    }
}
