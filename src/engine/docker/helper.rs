//! Credential helpers: programs named `docker-credential-…` that read a query for a login from standard input.

use std::path::PathBuf;
use std::process::Stdio;
use std::{env, fs};

use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The maximum length of each of a helper's outputs, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// Docker's user name for an identity token in place of a password.
const TOKEN_USER: &str = "<token>";

/// Asks a helper, by its name in the configuration, for the login to a server. Dropping the future kills the helper: the
/// caller sets the deadline.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<DockerCredentials>, String> {
    // Other characters would lead to programs outside the `PATH`.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(format!("`{name}` is no name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let path = find(&program).ok_or_else(|| format!("{program} is not on the PATH"))?;
    let failed = |what: &'static str| {
        let program = program.clone();
        move |error: std::io::Error| format!("{program} could not be {what}: {error}")
    };
    // The helper stays in the caller's process group, so that it can ask its user on the terminal.
    let mut helper = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed("run"))?;
    let stdin = helper.stdin.take();
    let (stdout, stderr) = (helper.stdout.take(), helper.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input still answers.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        Ok(())
    };
    let (stdout, stderr, ()) = tokio::try_join!(bounded(stdout), bounded(stderr), tell).map_err(failed("read"))?;
    let status = helper.wait().await.map_err(failed("waited for"))?;
    if !status.success() {
        // All helpers print these words, on standard output, if they have no credentials.
        if String::from_utf8_lossy(&stdout).contains("credentials not found") {
            return Ok(None);
        }
        // The error leaves out standard output, which may contain secrets.
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&stderr).trim()));
    }
    let answer: Value = serde_json::from_slice(&stdout).unwrap_or_default();
    match (answer["Username"].as_str(), answer["Secret"].as_str()) {
        (Some(TOKEN_USER), Some(secret)) => Ok(Some(DockerCredentials {
            identitytoken: Some(secret.to_owned()),
            ..Default::default()
        })),
        (Some(user), Some(secret)) => Ok(Some(DockerCredentials {
            username: Some(user.to_owned()),
            password: Some(secret.to_owned()),
            ..Default::default()
        })),
        _ => Err(format!("{program} gave an answer that cannot be understood")),
    }
}

/// Looks a program up in the absolute directories of the `PATH`: one in the working directory is not trusted.
fn find(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&file))
        .find(|path| fs::metadata(path).is_ok_and(|found| can_be_run(&found)))
}

fn can_be_run(found: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        found.is_file() && found.permissions().mode() & 0o111 != 0
    }
    #[cfg(not(unix))]
    found.is_file()
}

/// Reads an output to its end, up to the limit.
async fn bounded(output: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(output) = output {
        output.take(MAX_OUTPUT + 1).read_to_end(&mut read).await?;
    }
    if read.len() as u64 > MAX_OUTPUT {
        return Err(std::io::Error::other(format!("it prints more than {MAX_OUTPUT} bytes")));
    }
    Ok(read)
}
