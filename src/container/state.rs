//! The states of a container, as types: [`State`].

/// The states a [`Container`](crate::Container) can be in, as types. They have no values: a container gets into a state only by a
/// transition.
///
/// ```compile_fail,E0599
/// // There is no way to make a state, and so none to make a container of it.
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
    /// Created, not started yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// let created: Container<Created> = Container::create(engine, ContainerSpec::new("busybox:1.36")).await?;
    /// // It has a name already, and costs no memory yet.
    /// assert!(created.name().starts_with("dockerpool-"));
    /// # Ok(())
    /// # }
    /// ```
    Created = "created";
    /// Running: commands can be run in it.
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
    /// Frozen; nothing in it runs until it is unpaused.
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
    /// Its PID 1 has ended, and everything in it with it.
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
    /// let running = exited.start().await?; // anew, with the files that it had
    /// assert!(running.command("true").status().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    Exited = "exited";
}
