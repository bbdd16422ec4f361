//! Connections by ssh, through a real sshd on loopback, with keys made by the test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::child::child;
use crate::proxy::real_socket;
use crate::support::eventually_now;

/// Runs an sshd that accepts one key, for the user of this process. Ends when dropped.
struct Sshd {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Sshd {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host_key", "user_key", "other_key"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
        }
        // This port is free now. sshd would not report a port that it chose itself.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Root's sshd needs this directory for its privilege separation, and no service may have made it.
        if user() == "root" {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nSetEnv DOCKER_HOST=unix://{}\n",
            path("host_key"),
            path("user_key.pub"),
            // On the far side, the Docker command line takes its engine from the environment of the login.
            real_socket().await,
        );
        fs::write(path("sshd_config"), config).unwrap();
        let host_key = fs::read_to_string(path("host_key.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        fs::write(path("no_hosts"), "").unwrap();
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stderr(fs::File::create(path("log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .expect("sshd is needed: apt-get install openssh-server");
        eventually_now("sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Self { process, port, folder }
    }

    /// Creates a directory with an `ssh` that takes its configuration from here and not from the user's home. Returns
    /// a PATH.
    fn client(&self, key: &str, known_hosts: &str) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let bin = self.folder.path().join(format!("{key}-{known_hosts}"));
        fs::create_dir(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F none -o IdentitiesOnly=yes -o IdentityFile={} -o UserKnownHostsFile={} \
             -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes \"$@\"\n",
            path(key),
            path(known_hosts)
        );
        let program = bin.join("ssh");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_engine_reached_by_ssh_works() {
    let sshd = Sshd::start().await;
    let host = format!("ssh://{}@127.0.0.1:{}", user(), sshd.port);
    let environment = |path: String| [("DOCKER_HOST", host.clone()), ("PATH", path)];
    let said = async |what: &str, path: String| {
        let environment = environment(path);
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        child(what, &environment).await
    };
    let log = || fs::read_to_string(sshd.folder.path().join("log")).unwrap();
    let text = said("command", sshd.client("user_key", "known_hosts")).await;
    assert_eq!(text, format!("connected {host}"), "{}", log());

    // The error contains the message of ssh.
    let text = said("connect", sshd.client("other_key", "known_hosts")).await;
    assert!(text.contains(&host) && text.contains("Permission denied"), "{text}");
    let text = said("connect", sshd.client("user_key", "no_hosts")).await;
    assert!(text.contains("Host key verification failed"), "{text}");
    let nowhere = sshd.folder.path().join("nowhere");
    let text = said("connect", nowhere.display().to_string()).await;
    assert!(text.contains("`ssh` cannot be run"), "{text}");
}
