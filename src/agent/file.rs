//! Where the agent's program is, for the engine to mount it: a file on its machine, or a volume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bollard::models::{Mount, MountType, MountVolumeOptions};
use parking_lot::Mutex;

use super::dir::OwnDir;
use super::socket::Socket;

/// Where a file is in a container.
pub(crate) const TARGET: &str = "/.dockerpool-agent";

/// Where a volume is in a container, and the program in it.
const VOLUME_TARGET: &str = "/.dockerpool";
const VOLUME_PROGRAM: &str = "/.dockerpool/agent";

/// The program. Cheap to clone; the library's own file is removed when nobody needs it any more, which takes it from no
/// container that runs.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile(Place);

#[derive(Clone, Debug)]
enum Place {
    /// The user's.
    Elsewhere(PathBuf),
    /// The library's. Shared by clones, so that one of them can let go for all.
    Own(Arc<Mutex<Option<Arc<Own>>>>),
    Volume(AgentVolume),
}

/// The library's own program, and where it is now.
#[derive(Debug)]
struct Own {
    program: &'static [u8],
    /// Shared with creations that use it.
    dir: Mutex<Arc<OwnDir>>,
}

/// Keeps the directory that a container is made with.
#[derive(Debug, Default)]
pub(crate) struct InUse(#[allow(dead_code)] Option<Arc<OwnDir>>);

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
        Self(Place::Elsewhere(path))
    }

    /// In a volume of this name.
    pub(crate) fn in_volume(name: String) -> Self {
        Self(Place::Volume(AgentVolume {
            name,
            filled: Arc::default(),
        }))
    }

    /// The embedded one, written once for all who use it at the same time.
    pub(super) fn embedded(program: &'static [u8]) -> io::Result<Self> {
        static CURRENT: Mutex<Weak<Own>> = Mutex::new(Weak::new());

        let mut current = CURRENT.lock();
        let own = match current.upgrade() {
            Some(own) => own,
            None => {
                let dir = Mutex::new(Arc::new(OwnDir::new(program)?));
                let own = Arc::new(Own { program, dir });
                *current = Arc::downgrade(&own);
                own
            }
        };
        Ok(Self(Place::Own(Arc::new(Mutex::new(Some(own))))))
    }

    /// No container will be started with it any more.
    pub(crate) fn release(&self) {
        if let Place::Own(own) = &self.0 {
            own.lock().take();
        }
    }

    /// Makes sure that the library's own file is there, and what it should be: else it is written anew, where that may be
    /// now. To be called before each creation of a container. What it gives is kept until the container has started: another
    /// creation may find the directory changed meanwhile, and replace it. A volume is the engine's to look after.
    pub(crate) fn ensure(&self) -> io::Result<InUse> {
        let own = self.own();
        Ok(InUse(own.map(|own| own.ensure()).transpose()?))
    }

    /// The volume that it is in, if it is.
    pub(crate) fn volume(&self) -> Option<&AgentVolume> {
        match &self.0 {
            Place::Volume(volume) => Some(volume),
            _ => None,
        }
    }

    /// A socket for the agent of one container, where it is the library's own. Without one all goes through the engine.
    pub(crate) fn socket(&self) -> Option<Socket> {
        let own = self.own()?;
        let dir = own.dir.lock();
        match Socket::bind(dir.path()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%error, "there is no socket for an agent");
                None
            }
        }
    }

    /// Whether it is a file of the library's own, of which nobody else has any use.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.0, Place::Own(_))
    }

    fn own(&self) -> Option<Arc<Own>> {
        match &self.0 {
            Place::Own(own) => own.lock().clone(),
            _ => None,
        }
    }

    /// Where it is on this machine, for what is remembered of that: the place of the library's own directories, of which
    /// each has another name.
    pub(super) fn place(&self) -> Option<PathBuf> {
        match &self.0 {
            Place::Elsewhere(path) => Some(path.clone()),
            Place::Own(_) => Some(self.own()?.dir.lock().path().parent()?.to_owned()),
            Place::Volume(_) => None,
        }
    }

    /// How it comes into a container.
    pub(crate) fn mount(&self) -> Mount {
        match &self.0 {
            Place::Elsewhere(path) => bind(path, TARGET),
            Place::Own(_) => {
                let path = self.own().map(|own| own.dir.lock().program());
                // When it was let go of nothing is started with it any more.
                bind(&path.unwrap_or_default(), TARGET)
            }
            Place::Volume(volume) => Mount {
                read_only: Some(true),
                ..volume.mount()
            },
        }
    }

    /// Where it is in a container.
    pub(crate) fn program(&self) -> &'static str {
        match &self.0 {
            Place::Elsewhere(_) | Place::Own(_) => TARGET,
            Place::Volume(_) => VOLUME_PROGRAM,
        }
    }
}

impl Own {
    fn ensure(&self) -> io::Result<Arc<OwnDir>> {
        let mut dir = self.dir.lock();
        if !dir.is_whole() {
            tracing::warn!(path = %dir.path().display(), "somebody has changed the agent's directory: it is made anew");
            *dir = Arc::new(OwnDir::new(self.program)?);
        }
        Ok(dir.clone())
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_is_replaced_stays_until_creations_that_use_it_are_through() {
        let dir = Mutex::new(Arc::new(OwnDir::new(b"program").unwrap()));
        let own = Own {
            program: b"program",
            dir,
        };
        let file = AgentFile(Place::Own(Arc::new(Mutex::new(Some(Arc::new(own))))));
        let path = || file.own().unwrap().dir.lock().path().to_owned();
        let in_use = file.ensure().unwrap();
        let first = path();
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(file.ensure().unwrap());
        let second = path();
        assert_ne!(first, second);
        assert!(first.join("agent").exists() && second.exists());
        drop(in_use);
        assert!(!first.exists() && second.exists());
        file.release();
        assert!(!second.exists());
    }
}
