//! A pool of PostgreSQL with a schema.

use std::time::Duration;

use crate::support::{Capability, lacks, postgres as image, unique_name};
use dockerpool::{EngineErrorKind, Network, Pool, PoolBuilder, PooledContainer, Ready, Return, Reuse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn builder(name: &str) -> PoolBuilder {
    Pool::builder(name)
        .image(image())
        .supervise_command(true)
        .memory(512 << 20)
        .network(Network::create(unique_name("dockerpool-test-postgres")).remove_on_shutdown())
        .publish(5432)
        .ready_when(Ready::tcp(5432))
        .ready_when(Ready::command(["pg_isready", "--quiet"]))
        .acquire_timeout(Duration::from_secs(120))
        .min_idle(0)
}

async fn sql(c: &PooledContainer, statement: &str) -> String {
    let mut psql = c.command("psql");
    psql.args(["--no-align", "--tuples-only", "--command", statement]);
    psql.output()
        .await
        .unwrap()
        .check()
        .unwrap()
        .stdout_lossy()
        .trim()
        .to_owned()
}

#[tokio::test]
async fn a_database_has_its_schema_when_it_is_lent_and_no_rows_of_others() {
    if lacks(Capability::Servers) {
        return;
    }
    let pool = builder("postgres")
        .max_total(1)
        .reuse(Reuse::AsIs)
        .on_create(async |c| {
            let table = ["psql", "--quiet", "--command", "CREATE TABLE seen (who TEXT)"];
            let _ = c.exec(table).await?.check()?;
            Ok(())
        })
        .on_return(async |c| match c.exec(["psql", "--command", "TRUNCATE seen"]).await {
            Ok(out) if out.status.success() => Return::Keep,
            _ => Return::Discard,
        })
        .build()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for who in ["ada", "grace"] {
        let c = pool.acquire().await.unwrap();
        assert_eq!(sql(&c, "SELECT count(*) FROM seen").await, "0");
        assert_eq!(
            sql(&c, &format!("INSERT INTO seen VALUES ('{who}') RETURNING who"))
                .await
                .lines()
                .next(),
            Some(who)
        );
        // The server answers the first packet of its protocol, whether it has TLS: no.
        let mut server = TcpStream::connect(c.port(5432).unwrap()).await.unwrap();
        server.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'N');
        ids.push(c.id().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_fails_the_build_with_the_servers_words() {
    if lacks(Capability::Servers) {
        return;
    }
    let failing = builder("postgres-schema").min_idle(1).on_create(async |c| {
        let _ = c.exec(["psql", "--command", "CREATE TABEL seen"]).await?.check()?;
        Ok(())
    });
    let error = failing.build().await.unwrap_err();
    let source = error.engine_error().unwrap();
    assert_eq!(source.kind(), EngineErrorKind::HookFailed, "{source}");
    assert!(source.to_string().contains("on_create() failed: `psql`"), "{source}");

    // The server says on its standard error why it does not begin.
    let wrong =
        builder("postgres-setting")
            .min_idle(1)
            .cmd(["docker-entrypoint.sh", "postgres", "-c", "no_such_setting=1"]);
    let error = wrong.build().await.unwrap_err();
    let words = error.engine_error().unwrap().to_string();
    assert!(words.contains("no_such_setting"), "{words}");
}
