//! Files in and out of a container, by the agent: `write_1mib`, `read_1mib`, `write_100mib`, `read_100mib`, `metadata`, and
//! a tree of 1,000 files of 1 KiB in and out (`upload_1000`, `download_1000`). The files are in memory (tmpfs), so that no
//! disk is measured. The trees are in this machine's directory for temporary files.
//!
//! Lines at the end give the medians of plain timings, one call after the other. `cargo bench --bench files -- plain` makes
//! them alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use dockerpool::{Container, ContainerSpec, DockerEngine, ExecVia, FileLimits, Files, Running};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;

const MIB: usize = 1 << 20;

async fn container() -> Container<Running> {
    let engine = Arc::new(DockerEngine::connect().await.expect("an engine: ./dev engine start"));
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
    let spec = ContainerSpec::new(image)
        .exec_via(ExecVia::Agent)
        .tmpfs("/files", 512 << 20);
    let created = Container::create(engine, spec).await;
    created.expect("a container").start().await.expect("it starts")
}

/// Reads a file without keeping it. Returns its size.
async fn read(files: &Files<'_>, path: &str) -> usize {
    let mut reader = files.read(path).await.expect("it is there");
    let mut buf = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match reader.read(&mut buf).await.expect("it can be read") {
            0 => return size,
            len => size += len,
        }
    }
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let container = runtime.block_on(container());
    let files = container.files().limits(FileLimits {
        bytes: 1 << 30,
        ..FileLimits::default()
    });
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(20)
        .configure_from_args();
    let mut plain = String::new();

    let mut group = criterion.benchmark_group("files");
    for (name, size) in [("1mib", MIB), ("100mib", 100 * MIB)] {
        let data = vec![7; size];
        let path = format!("/files/{name}");
        group.throughput(Throughput::Bytes(size as u64)).sample_size(10);
        group.bench_function(format!("write_{name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || files.write(&path, &data).await.expect("it is written"));
        });
        group.bench_function(format!("read_{name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || assert_eq!(read(&files, &path).await, size));
        });
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..if size == MIB { 100 } else { 10 } {
            let begun = Instant::now();
            runtime.block_on(files.write(&path, &data)).expect("it is written");
            writes.push(begun.elapsed());
            let begun = Instant::now();
            assert_eq!(runtime.block_on(read(&files, &path)), size);
            reads.push(begun.elapsed());
        }
        for (what, mut times) in [("write", writes), ("read", reads)] {
            times.sort();
            let median = times[times.len() / 2];
            let speed = size as f64 / 1e6 / median.as_secs_f64();
            plain += &format!("{what}_{name}: {median:?}, {speed:.0} MB/s\n");
        }
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("metadata", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || files.metadata("/files").await.expect("it is there"));
    });

    let tree = tempfile::tempdir().expect("a directory");
    for i in 0..1000 {
        let dir = tree.path().join(format!("{}", i / 100));
        std::fs::create_dir_all(&dir).expect("it is made");
        std::fs::write(dir.join(format!("{i}")), [7; 1024]).expect("it is written");
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("upload_1000", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let done = files
                .upload_dir(tree.path(), "/files/tree")
                .await
                .expect("it is copied");
            assert_eq!(done.files, 1000);
        });
    });
    group.bench_function("download_1000", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let target = tempfile::tempdir().expect("a directory");
            let done = files
                .download_dir("/files/tree", target.path())
                .await
                .expect("it is copied");
            assert_eq!(done.files, 1000);
        });
    });
    group.finish();
    print!("{plain}");
    criterion.final_summary();
    runtime.block_on(container.remove()).expect("it is removed");
}
