//! Where the agent's program is, for the engine to mount it: a file on its machine, or a volume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bollard::models::{Mount, MountType, MountVolumeOptions};
use parking_lot::Mutex;

use super::socket::Socket;
use crate::owner;

/// Where a file is in a container.
const TARGET: &str = "/.dockerpool-agent";

/// Where a volume is in a container, and the program in it.
const VOLUME_TARGET: &str = "/.dockerpool";
const VOLUME_PROGRAM: &str = "/.dockerpool/agent";

/// How the names of directories for it begin.
const DIR_PREFIX: &str = "dockerpool-";

/// The program. Cheap to clone; the library's own file is removed when nobody needs it any more, which takes it from no
/// container that runs.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile {
    place: Place,
    /// Shared by clones, so that one of them can let go for all.
    own: Arc<Mutex<Option<Arc<OwnDir>>>>,
}

#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Volume(AgentVolume),
}

/// A volume for the program, which the engine fills before it is used.
#[derive(Clone, Debug)]
pub(crate) struct AgentVolume {
    pub(crate) name: String,
    /// Whether it was, as far as we know; locked by whoever fills it.
    pub(crate) filled: Arc<tokio::sync::Mutex<bool>>,
}

impl AgentFile {
    /// One built elsewhere.
    pub(super) fn elsewhere(path: PathBuf) -> Self {
        Self {
            place: Place::File(path),
            own: Arc::default(),
        }
    }

    /// In a volume of this name.
    pub(super) fn in_volume(name: String) -> Self {
        Self {
            place: Place::Volume(AgentVolume {
                name,
                filled: Arc::default(),
            }),
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
            place: Place::File(dir.program()),
            own: Arc::new(Mutex::new(Some(dir))),
        })
    }

    /// No container will be started with it any more.
    pub(crate) fn release(&self) {
        self.own.lock().take();
    }

    /// The volume that it is in, if it is.
    pub(crate) fn volume(&self) -> Option<&AgentVolume> {
        match &self.place {
            Place::File(_) => None,
            Place::Volume(volume) => Some(volume),
        }
    }

    /// A socket for the agent of one container, where it is the library's own. Without one all goes through the engine.
    pub(crate) fn socket(&self) -> Option<Socket> {
        let dir = self.own.lock().clone()?;
        match Socket::bind(&dir.0) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%error, "there is no socket for an agent");
                None
            }
        }
    }

    /// How it comes into a container.
    pub(crate) fn mount(&self) -> Mount {
        match &self.place {
            Place::File(path) => bind(path, TARGET),
            Place::Volume(volume) => Mount {
                read_only: Some(true),
                ..volume.mount()
            },
        }
    }

    /// Where it is in a container.
    pub(crate) fn program(&self) -> &'static str {
        match &self.place {
            Place::File(_) => TARGET,
            Place::Volume(_) => VOLUME_PROGRAM,
        }
    }
}

/// A file of the engine's machine in a container, where nobody can change it.
pub(crate) fn bind(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Default::default()
    }
}

impl AgentVolume {
    /// How it is mounted where it is filled.
    pub(crate) fn mount(&self) -> Mount {
        Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.name.clone()),
            target: Some(VOLUME_TARGET.to_owned()),
            // What an image has there is none of ours.
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Where it is then.
    pub(crate) const TARGET: &str = VOLUME_TARGET;

    /// The name of the program in it.
    pub(crate) const PROGRAM: &str = "agent";
}

impl PartialEq for AgentFile {
    fn eq(&self, other: &Self) -> bool {
        self.mount() == other.mount()
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

        let name = format!("{DIR_PREFIX}{}-{:016x}", owner::label(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        // Fails where there is something of that name.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let dir = Self(path);
        dir.remove_those_of_the_dead();
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

    /// Removes what processes of the same user have left that were killed: their names tell whose they were.
    #[cfg(unix)]
    fn remove_those_of_the_dead(&self) {
        use std::os::unix::fs::MetadataExt;

        // Not that of a link.
        let owner_of = |path: &Path| Some(std::fs::symlink_metadata(path).ok()?.uid());
        let (own, folder) = (owner_of(&self.0), self.0.parent());
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
        for entry in entries.into_iter().flatten().flatten() {
            // Anybody can make a directory of any name here.
            if is_of_the_dead(&entry.file_name().to_string_lossy()) && owner_of(&entry.path()) == own {
                drop(Self(entry.path()));
            }
        }
    }

    fn program(&self) -> PathBuf {
        self.0.join("agent")
    }
}

/// Whether a directory of this name was made by a process that is proven dead.
#[cfg(unix)]
fn is_of_the_dead(name: &str) -> bool {
    let owner = name.strip_prefix(DIR_PREFIX).and_then(|rest| rest.rsplit_once('-'));
    let owner = owner.and_then(|(owner, _)| owner.parse::<owner::Owner>().ok());
    owner.is_some_and(|owner| owner.is_proven_dead())
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "could not remove the agent's directory");
        }
    }
}
