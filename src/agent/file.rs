//! The agent's program as a file that the engine can mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The file. Cheap to clone; the library's own is removed when nobody needs it any more, which takes it from no container
/// that runs.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile {
    path: PathBuf,
    /// Shared by clones, so that one of them can let go for all.
    own: Arc<Mutex<Option<Arc<OwnDir>>>>,
}

impl AgentFile {
    /// One built elsewhere.
    pub(super) fn elsewhere(path: PathBuf) -> Self {
        Self {
            path,
            own: Arc::default(),
        }
    }

    /// The embedded one, written once for all who use it at the same time.
    pub(super) fn embedded(program: &[u8]) -> io::Result<Self> {
        static CURRENT: Mutex<Weak<OwnDir>> = Mutex::new(Weak::new());

        let mut current = CURRENT.lock();
        let dir = match current.upgrade() {
            Some(dir) => dir,
            None => {
                let dir = Arc::new(OwnDir::new(program)?);
                *current = Arc::downgrade(&dir);
                dir
            }
        };
        Ok(Self {
            path: dir.program(),
            own: Arc::new(Mutex::new(Some(dir))),
        })
    }

    /// No container will be started with it any more.
    pub(crate) fn release(&self) {
        self.own.lock().take();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for AgentFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// A directory that nobody else can look into.
#[derive(Debug)]
struct OwnDir(PathBuf);

impl OwnDir {
    #[cfg(unix)]
    fn new(program: &[u8]) -> io::Result<Self> {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};

        let path = std::env::temp_dir().join(format!("dockerpool-{:032x}", fastrand::u128(..)));
        // Fails where there is something of that name.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let dir = Self(path);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o555).open(dir.program())?;
        file.write_all(program)?;
        // Whatever the umask is: the container's user must be able to run it.
        file.set_permissions(std::fs::Permissions::from_mode(0o555))?;
        Ok(dir)
    }

    #[cfg(not(unix))]
    fn new(_program: &[u8]) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn program(&self) -> PathBuf {
        self.0.join("agent")
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "could not remove the agent's directory");
        }
    }
}
