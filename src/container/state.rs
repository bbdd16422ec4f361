//! The states of a container, as types: [`State`] and its four types.

/// A state of a [`Container`](crate::Container), as a type: [`Created`], [`Running`], [`Paused`] or [`Exited`]. These types have
/// no values: a container enters a state only by a transition.
///
/// ```compile_fail,E0599
/// // A state cannot be made, and so neither can a container in that state.
/// let running = dockerpool::Running::new();
/// ```
pub trait State: sealed::Sealed + Send + Sync + 'static {
    /// The state's name, in lower case.
    const NAME: &'static str;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $state {}
        impl sealed::Sealed for $state {}
        impl State for $state {
            const NAME: &'static str = $name;
        }
    )*};
}

states! {
    /// The container is created, and not started yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// let created: Container<Created> = Container::create(engine, ContainerSpec::new("busybox:1.36")).await?;
    /// // The container has a name, and costs no memory yet.
    /// assert!(created.name().starts_with("dockerpool-"));
    /// # Ok(())
    /// # }
    /// ```
    Created = "created";
    /// The container runs: commands can be run in it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// async fn probe(c: &Container<Running>) -> Result<bool, dockerpool::Error> {
    ///     Ok(c.command("true").status().await?.success())
    /// }
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// assert!(probe(&running).await?);
    /// # Ok(())
    /// # }
    /// ```
    Running = "running";
    /// The container is frozen: none of its processes runs until it is unpaused.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// let paused: Container<Paused> = running.pause().await?;
    /// let running = paused.unpause().await?;
    /// assert!(running.command("true").status().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    Paused = "paused";
    /// PID 1 has ended, and every other process of the container with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// let exited: Container<Exited> = running.stop(Duration::from_secs(1)).await?;
    /// # assert_eq!(exited.taint(), None);
    /// let running = exited.start().await?; // again, with its files
    /// assert!(running.command("true").status().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    Exited = "exited";
}
