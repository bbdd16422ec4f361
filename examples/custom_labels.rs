//! Custom labels beside the library's own, and finding containers by them: from here, or with `docker ps --filter
//! label=...`.
//!
//! ```sh
//! cargo run --example custom_labels
//! ```

use std::sync::Arc;

use dockerpool::engine::Selector;
use dockerpool::{DockerEngine, Engine, Error, Pool, labels};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect().await?);
    let team = format!("examples-{}", std::process::id());
    let builder = Pool::builder("labels")
        .engine(engine.clone())
        .image(image)
        .min_idle(2)
        .label("com.example.team", &team)
        .label("com.example.tier", "free");

    // The names of the library's own labels are refused.
    if let Err(Error::Config(problems)) = builder.clone().label(labels::POOL, "another").build().await {
        println!("refused: {}", problems[0]);
    }

    let pool = builder.build().await?;
    let ours = engine.list(&Selector::label("com.example.team", &team)).await?;
    println!("with our label: {}", ours.len());
    for name in ["com.example.tier", labels::MANAGED_BY, labels::POOL] {
        println!("{name} = {}", ours[0].labels[name]);
    }
    println!(
        "the instance is this pool: {}",
        ours.iter().all(|c| c.labels[labels::INSTANCE] == pool.instance())
    );

    pool.shutdown().await?;
    let left = engine.list(&Selector::label("com.example.team", &team)).await?;
    println!("left: {}", left.len());
    Ok(())
}
