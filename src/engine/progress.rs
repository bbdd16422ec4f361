//! The steps of slow work: [`Progress`].

use std::sync::Arc;

/// Told of slow work as it goes on: see [`Progress`].
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// A step of the work `build()` does.
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
    /// The image is being pulled; the engine's own words.
    Pulling {
        /// The image.
        image: String,
        /// Which layer or step, and what is done with it.
        status: String,
    },
    /// The image is there.
    ImageReady {
        /// The image.
        image: String,
    },
    /// A container of the first warm-up is ready.
    Warming {
        /// How many are ready.
        ready: usize,
        /// How many there will be.
        wanted: usize,
    },
}
