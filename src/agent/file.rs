//! Where the agent's program is, for the engine to mount it: a file on its machine, or a volume.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::EMBEDDED;
use super::dir::OwnDir;
use super::socket::Socket;
use crate::engine::{Mount, MountSource, ProgramVolume};

/// The path of the file in a container.
pub(crate) const TARGET: &str = "/.dockerpool-agent";

/// The path of the volume in a container, and of the program in it.
const VOLUME_TARGET: &str = "/.dockerpool";
const VOLUME_FILE: &str = "agent";
const VOLUME_PROGRAM: &str = "/.dockerpool/agent";

/// The agent's program. Cheap to clone. The library's own file is removed with the last clone; containers that run keep it.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile(Place);

#[derive(Clone, Debug)]
enum Place {
    /// A file that the user named.
    Elsewhere(PathBuf),
    /// The library's file. Shared by clones, so that one of them can release it for all.
    Own(Arc<Mutex<Option<Arc<Own>>>>),
    Volume(String),
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

impl AgentFile {
    /// Names a program that was built elsewhere.
    pub(crate) fn elsewhere(path: PathBuf) -> Self {
        Self(Place::Elsewhere(path))
    }

    /// Places the embedded program in a volume of this name.
    pub(crate) fn in_volume(name: String) -> Self {
        Self(Place::Volume(name))
    }

    /// Writes the embedded program to this machine, once for all that use it at the same time.
    pub(crate) fn embedded(program: &'static [u8]) -> io::Result<Self> {
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

    /// Releases the file. No container is started with it after that.
    pub(crate) fn release(&self) {
        if let Place::Own(own) = &self.0 {
            own.lock().take();
        }
    }

    /// Makes sure that the library's own file is there and unchanged; else writes it anew, in the best place that there is
    /// now. To be called before each creation of a container. What it gives is kept until the container has started: another
    /// creation may find the directory changed meanwhile, and replace it. A volume is the engine's to look after.
    pub(crate) fn ensure(&self) -> io::Result<InUse> {
        let own = self.own();
        Ok(InUse(own.map(|own| own.ensure()).transpose()?))
    }

    /// Makes a socket for the agent of one container, where the file is the library's own. Without a socket all goes through
    /// the engine.
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

    fn own(&self) -> Option<Arc<Own>> {
        match &self.0 {
            Place::Own(own) => own.lock().clone(),
            _ => None,
        }
    }

    /// Where it is on this machine, for what is remembered of that: the place of the library's own directories, of which
    /// each has another name.
    pub(crate) fn place(&self) -> Option<PathBuf> {
        match &self.0 {
            Place::Elsewhere(path) => Some(path.clone()),
            Place::Own(_) => Some(self.own()?.dir.lock().path().parent()?.to_owned()),
            Place::Volume(_) => None,
        }
    }

    /// Returns how the program comes into a container.
    pub(crate) fn mount(&self) -> Mount {
        let file = |path, is_own| Mount::new(TARGET, MountSource::File { path, is_own });
        match &self.0 {
            Place::Elsewhere(path) => file(path.clone(), false),
            Place::Own(_) => {
                let path = self.own().map(|own| own.dir.lock().program());
                // Once the file is let go of, no container is started with it.
                file(path.unwrap_or_default(), true)
            }
            Place::Volume(name) => {
                let volume = ProgramVolume::new(name, VOLUME_FILE, EMBEDDED);
                Mount::new(VOLUME_TARGET, MountSource::Volume(volume))
            }
        }
    }

    /// Returns the path of the program in a container.
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
