//! The information about the machine and the owner that code in a container can read.

use dockerpool::labels;

use crate::support::pool;
use crate::ways::{each, run};

/// Prints all files and links that may reveal the owner, as far as the user may read them.
const LOOK: &str = r#"
import os, socket
def show(name, read):
    try: print(name, read(), flush=True)
    except OSError: pass
show('hostname', socket.gethostname)
show('env', lambda: dict(os.environ))
for pid in ['self'] + [p for p in os.listdir('/proc') if p.isdigit()]:
    for file in ('mountinfo', 'mounts', 'cmdline', 'environ', 'cgroup', 'maps'):
        show(pid + file, lambda: open('/proc/%s/%s' % (pid, file)).read())
    for link in ('exe', 'root', 'cwd'):
        show(pid + link, lambda: os.readlink('/proc/%s/%s' % (pid, link)))
show('unix', lambda: open('/proc/net/unix').read())
"#;

/// Splits a text into words, so that a number is found only as a whole word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

#[tokio::test]
async fn a_container_does_not_reveal_its_owner() {
    let owner = {
        let pool = pool("whose").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let owner = c
            .labels()
            .find(|(name, _)| *name == labels::OWNER)
            .unwrap()
            .1
            .to_owned();
        drop(c);
        pool.shutdown().await.unwrap();
        owner
    };
    let parts: Vec<_> = owner.split('.').collect();
    let [boot, _namespace, pid, start] = parts[..] else {
        panic!("{owner}")
    };
    each("identity", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let out = run(&c, user, LOOK).await.unwrap();
        let seen = out.stdout_lossy();
        assert!(
            out.status.success() && seen.contains("selfmountinfo"),
            "{way:?} {user}: {out:?}"
        );
        // Each container mounts the agent. The mount must not reveal its source.
        assert!(seen.contains("/.dockerpool-agent"), "{way:?} {user}: {seen}");
        let what = format!("{way:?} {user}: {seen}");
        assert!(!seen.contains(boot), "the boot: {what}");
        assert!(!words(&seen).any(|word| word == start), "the start: {what}");
        // A number as small as a pid can have other meanings, so only paths are searched.
        let paths = seen.split_whitespace().filter(|word| word.contains("dockerpool"));
        for path in paths {
            assert!(!words(path).any(|word| word == pid), "the pid in {path}: {what}");
        }
        assert!(
            !seen.contains(pool.instance()) && !seen.contains(&pool.instance()[..12]),
            "the pool: {what}"
        );
        assert!(!seen.contains(pool.name()), "the pool's name: {what}");
        drop(c);
    })
    .await;
}
