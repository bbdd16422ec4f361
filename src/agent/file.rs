//! The place of the agent's program, for the engine to mount: a file on the engine's machine, or a volume.

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

/// The path of the volume in a container; the name and the path of the program in it.
const VOLUME_TARGET: &str = "/.dockerpool";
const VOLUME_FILE: &str = "agent";
const VOLUME_PROGRAM: &str = "/.dockerpool/agent";

/// The agent's program. Clones are cheap. The library's own file is removed with the last clone; running containers keep
/// their mount of it.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile(Place);

#[derive(Clone, Debug)]
enum Place {
    /// A file that the user named.
    Elsewhere(PathBuf),
    /// The library's own file. Clones share the slot, so that one of them can release the file for all.
    Own(Arc<Mutex<Option<Arc<Own>>>>),
    /// A volume of this name.
    Volume(String),
}

/// The library's own program, and its present directory.
#[derive(Debug)]
struct Own {
    program: &'static [u8],
    /// The directory, shared with the creations that use it.
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

    /// Writes the embedded program to this machine. All values that exist at the same time share one file.
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

    /// Releases the file. No container must be created with it after that.
    pub(crate) fn release(&self) {
        if let Place::Own(own) = &self.0 {
            own.lock().take();
        }
    }

    /// Checks that the library's own file is there and unchanged, and writes it anew if it is not, in the best place that
    /// works now. Does nothing for a volume, which the engine keeps.
    ///
    /// Must be called before each creation of a container. The result must be kept until the container has started: another
    /// creation may find the directory changed meanwhile and replace it.
    pub(crate) fn ensure(&self) -> io::Result<InUse> {
        let own = self.own();
        Ok(InUse(own.map(|own| own.ensure()).transpose()?))
    }

    /// Makes a socket for the agent of one container, where the file is the library's own. Without a socket all frames go
    /// through the engine.
    pub(crate) fn socket(&self) -> Option<Socket> {
        let own = self.own()?;
        let dir = own.dir.lock();
        match Socket::bind(dir.path()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%error, "could not make the socket of an agent");
                None
            }
        }
    }

    /// Returns the library's own file, unless it is released.
    fn own(&self) -> Option<Arc<Own>> {
        match &self.0 {
            Place::Own(own) => own.lock().clone(),
            _ => None,
        }
    }

    /// Returns where the program is on this machine, as the key under which a working way is remembered. For the library's
    /// own file that is the parent directory, since each directory in it has another name.
    pub(crate) fn place(&self) -> Option<PathBuf> {
        match &self.0 {
            Place::Elsewhere(path) => Some(path.clone()),
            Place::Own(_) => Some(self.own()?.dir.lock().path().parent()?.to_owned()),
            Place::Volume(_) => None,
        }
    }

    /// Returns the mount that brings the program into a container.
    pub(crate) fn mount(&self) -> Mount {
        let file = |path, is_own| Mount::new(TARGET, MountSource::File { path, is_own });
        match &self.0 {
            Place::Elsewhere(path) => file(path.clone(), false),
            Place::Own(_) => {
                let path = self.own().map(|own| own.dir.lock().program());
                // Once the file is released, no container is created with it.
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
    /// Returns the directory, made anew if it was changed.
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
    fn a_replaced_directory_stays_until_the_creations_that_use_it_are_done() {
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
