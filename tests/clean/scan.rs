//! What a lease can find in its container, as text: see `scan.py`.

use std::collections::BTreeSet;
use std::time::Duration;

use dockerpool::PooledContainer;

const PROGRAM: &str = include_str!("scan.py");

/// A look at a container.
pub struct Scan(String);

impl Scan {
    /// Looks at the container as a user. Fails if the container does not let the look come to its end.
    pub async fn try_take(c: &PooledContainer, user: &str, mark: &str) -> Result<Self, String> {
        let mut command = c.command("python3");
        // Without `-B`, Python would store compiled files.
        command.args(["-ISB", "-c", PROGRAM, mark]).user(user);
        command.timeout(Duration::from_secs(60)).output_limit(None);
        let output = command.output().await.map_err(|error| error.to_string())?;
        let text = output.stdout_lossy().into_owned();
        match text.ends_with("\nend\n") {
            true => Ok(Self(text)),
            false => Err(format!("{} {}", output.status, output.stderr_lossy())),
        }
    }

    /// Looks at a container that must be whole.
    pub async fn take(c: &PooledContainer, user: &str, mark: &str) -> Self {
        let scan = Self::try_take(c, user, mark).await;
        scan.unwrap_or_else(|why| panic!("the container cannot be looked at after {mark}: {why}"))
    }

    /// Returns the lines in which two looks differ, at most 20.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        if self.0 == later.0 {
            return Vec::new();
        }
        let (before, after): (BTreeSet<_>, BTreeSet<_>) = (self.0.lines().collect(), later.0.lines().collect());
        let gone = before.difference(&after).map(|line| format!("- {line}"));
        let new = after.difference(&before).map(|line| format!("+ {line}"));
        gone.chain(new).take(20).collect()
    }

    /// Returns the places where the mark was found.
    pub fn marks(&self) -> Vec<&str> {
        self.0.lines().filter(|line| line.starts_with("mark:")).collect()
    }
}
