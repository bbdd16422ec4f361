//! The steps of slow work: [`Progress`].

use std::sync::Arc;

/// Receives the steps of slow work: see [`Progress`].
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Describes a step of the work of `build()`.
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, Progress};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let (tell, told) = std::sync::mpsc::channel();
/// let pool = Pool::builder("runner")
///     .image("busybox:1.36")
///     .min_idle(2)
///     .on_progress(move |step| {
///         let _ = tell.send(step);
///     })
/// #     .engine(engine)
///     .build()
///     .await?;
/// assert_eq!(told.try_iter().last(), Some(Progress::Warming { ready: 2, wanted: 2 }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The engine pulls the image.
    Pulling {
        /// The name of the image.
        image: String,
        /// The engine's words: which layer or step, and what happens to it.
        status: String,
    },
    /// The image is on the engine.
    ImageReady {
        /// The name of the image.
        image: String,
    },
    /// A container of the first warm-up is ready.
    Warming {
        /// How many containers are ready.
        ready: usize,
        /// How many containers the warm-up makes.
        wanted: usize,
    },
}
