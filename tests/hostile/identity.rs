//! What code in a container can read about the machine and the process it belongs to.

use dockerpool::labels;

use crate::support::pool;
use crate::ways::{each, run};

/// All that tells something, as whoever may read it.
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

/// The words of a text in which a number stands for itself.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

#[tokio::test]
async fn nothing_in_a_container_tells_whose_it_is() {
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
        // The agent is mounted in each, and nobody is told from where.
        assert!(seen.contains("/.dockerpool-agent"), "{way:?} {user}: {seen}");
        let what = format!("{way:?} {user}: {seen}");
        assert!(!seen.contains(boot), "the boot: {what}");
        assert!(!words(&seen).any(|word| word == start), "the start: {what}");
        // A number as small as a pid may stand for other things, but in paths.
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
