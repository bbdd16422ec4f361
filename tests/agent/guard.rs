//! The agent ends at once unless it is PID 1 of a container: on a host, its `kill(-1)` would end every process. These
//! tests run it in containers only.

use crate::support::{containers_of_instance, engine, pool};
use bollard::models::HostConfig;
use dockerpool::engine::{Commands, ExecRequest};
use dockerpool::{ActiveExec, Error, ExecVia, ExitStatus, PoolBuilder};
use futures_util::StreamExt;

const AGENT: &str = "/.dockerpool-agent";

#[tokio::test]
async fn the_agent_ends_at_once_unless_it_is_pid_1() {
    let pool = pool("guard").exec_via(ExecVia::Agent).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mut bystander = c.command("sleep").arg("1000").spawn().await.unwrap();
    // The agent runs as a child of PID 1, as a grandchild and as a process from outside, with and without arguments.
    let script = format!("{AGENT}; echo $?; {AGENT} --version </dev/null; echo $?");
    for user in ["root", "nobody"] {
        let out = c.command(AGENT).user(user).stdin("dpag").output().await.unwrap();
        assert_eq!((out.status, &out.stdout[..]), (ExitStatus::Exited(125), &b""[..]));
        let out = c.command("sh").args(["-c", &script]).user(user).output().await.unwrap();
        assert_eq!(out.stdout_lossy(), "125\n125\n");
        // Here the engine starts it, from outside of the container.
        let mut request = ExecRequest::new(["sh", "-c", &script]);
        request.user = Some(user.to_owned());
        let session = engine().await.exec(c.id(), &request).await.unwrap();
        let printed: Vec<_> = session.output.map(|frame| frame.unwrap().data).collect().await;
        assert_eq!(printed.concat(), b"125\n125\n");
    }
    assert_eq!(bystander.try_wait().unwrap(), None);
    assert_eq!(c.process_count().await.unwrap(), 1);
    drop(bystander);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_agent_is_refused_where_it_would_not_be_safe() {
    let host = |change: fn(&mut HostConfig)| {
        let mut host = HostConfig::default();
        change(&mut host);
        host
    };
    let caps = |caps: &[&str]| HostConfig {
        cap_add: Some(caps.iter().map(|cap| (*cap).to_owned()).collect()),
        ..HostConfig::default()
    };
    let refused: Vec<(&str, PoolBuilder)> = vec![
        ("a command of their own", pool("a").cmd(["sleep", "1000"])),
        (
            "privileged",
            pool("b").host_config(host(|host| host.privileged = Some(true))),
        ),
        (
            "pid namespace",
            pool("c").host_config(host(|host| host.pid_mode = Some("host".to_owned()))),
        ),
        (
            "pid namespace",
            pool("d").host_config(host(|host| host.pid_mode = Some("container:x".to_owned()))),
        ),
        ("SYS_PTRACE", pool("e").host_config(caps(&["CAP_SYS_PTRACE"]))),
        ("SYS_PTRACE", pool("f").host_config(caps(&["NET_ADMIN", "sys_ptrace"]))),
        ("SYS_PTRACE", pool("g").host_config(caps(&["ALL"]))),
        ("another architecture", pool("h").platform("linux/s390x")),
    ];
    for (why, builder) in refused {
        let error = builder.exec_via(ExecVia::Agent).build().await.unwrap_err();
        let Error::Config(problems) = error else {
            panic!("{error:?}")
        };
        assert_eq!(problems[0].field(), "exec_via");
        assert!(problems[0].problem().contains(why), "{problems:?}");
    }
}

#[tokio::test]
async fn auto_falls_back_to_the_exec_api_and_the_status_says_why() {
    let own = pool("own")
        .cmd(["sleep", "1000"])
        .exec_via(ExecVia::Auto)
        .build()
        .await
        .unwrap();
    let ActiveExec::Docker { why } = own.status().exec else {
        panic!("{:?}", own.status())
    };
    assert!(why.contains("a command of their own"), "{why}");
    let c = own.acquire().await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    assert!(matches!(c.kill_all().await, Err(Error::Unsupported { .. })));
    drop(c);
    own.shutdown().await.unwrap();

    let asked = pool("asked").exec_via(ExecVia::Docker).build().await.unwrap();
    assert_eq!(
        asked.status().exec,
        ActiveExec::Docker {
            why: "it was asked for"
        }
    );
    asked.shutdown().await.unwrap();

    // The library tests with a container whether the engine sees the agent's file, and removes that container.
    let auto = pool("auto").exec_via(ExecVia::Auto).build().await.unwrap();
    assert_eq!(auto.status().exec, ActiveExec::Agent);
    assert_eq!(containers_of_instance(&*engine().await, auto.instance()).await, 0);
    auto.shutdown().await.unwrap();
    let elsewhere = pool("elsewhere")
        .agent_path("/no/such/agent")
        .exec_via(ExecVia::Auto)
        .build()
        .await
        .unwrap();
    let ActiveExec::Docker { why } = elsewhere.status().exec else {
        panic!("{:?}", elsewhere.status())
    };
    assert!(why.contains("does not run"), "{why}");
    elsewhere.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_the_agent_fails_the_build() {
    let pool = pool("no-agent")
        .agent_path("/bin/false")
        .min_idle(1)
        .exec_via(ExecVia::Agent);
    let error = pool.build().await.unwrap_err();
    assert!(matches!(error, Error::Engine { .. }), "{error:?}");
    let relative = crate::support::pool("relative")
        .agent_path("agent")
        .exec_via(ExecVia::Agent)
        .build()
        .await
        .unwrap_err();
    assert!(relative.to_string().contains("agent_path"), "{relative}");
}
