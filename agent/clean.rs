//! Brings a container back to its baseline after a lease, and proves that. See "Baseline and clean" in PROTOCOL.md.

use core::ffi::CStr;

use crate::picture::{self, Picture, Problem, Told, Workspace};
use crate::protocol::{Fields, Why};
use crate::sys::{self, Bytes, Errno, List, Object};
use crate::users;
use crate::wipe::{self, Wipe};

/// The most workspaces of a container.
const MAX_WORKSPACES: usize = 64;

/// The kernel's lists of objects of System V, with the places of the id and of the owner in each line.
const OBJECTS: [(&CStr, Object, usize, usize); 3] = [
    (c"/proc/sysvipc/shm", Object::Memory, 1, 7),
    (c"/proc/sysvipc/sem", Object::Semaphores, 1, 4),
    (c"/proc/sysvipc/msg", Object::Messages, 1, 7),
];

/// The most bytes of a list of objects.
const LIST: usize = 1024 * 1024;

/// The state of a container before its first command.
pub struct Baseline {
    told: Told,
    picture: Picture,
    workspaces: List<Workspace>,
}

impl Baseline {
    /// Looks at everything. Nothing but the agent runs.
    #[inline(never)]
    pub fn take(told: Told) -> picture::Result<Self> {
        let failed = |errno| Problem::new(Why::TooMuch, errno, b"");
        let mut workspaces = List::new(MAX_WORKSPACES).map_err(failed)?;
        let picture = Picture::take(&told, &mut |workspace| workspaces.push(workspace))?;
        for (list, ..) in OBJECTS {
            expect_no_objects(list)?;
        }
        Ok(Self {
            told,
            picture,
            workspaces,
        })
    }

    pub fn root_is_read_only(&self) -> bool {
        self.picture.root_is_read_only
    }

    /// Begins to empty the workspaces, for at most so many milliseconds. Fails if the mounts are not as they were: a workspace may
    /// lie in a directory of the user's own, in which others can move it, and then something else is at its path.
    #[inline(never)]
    pub fn wipe(&self, id: u32, limit: u32, now: u64) -> picture::Result<Wipe> {
        self.picture.expect_mounts()?;
        let failed = |errno| Problem::new(Why::Failed, errno, b"");
        let paths = || {
            self.workspaces
                .iter()
                .map(|workspace| workspace.path.as_c_str().to_bytes_with_nul())
        };
        let mut payload = Bytes::new(4 + paths().map(<[u8]>::len).sum::<usize>()).map_err(failed)?;
        payload[..4].copy_from_slice(&limit.to_le_bytes());
        let mut at = 4;
        for path in paths() {
            payload[at..at + path.len()].copy_from_slice(path);
            at += path.len();
        }
        let wipe = Wipe::begin(id, Fields(&payload), now).ok_or(failed(Errno::INVAL))?;
        Ok(wipe.map_err(failed)?.mounts_only())
    }

    /// Puts the rest right once all processes are dead and the workspaces were wiped, and compares everything with the start.
    #[inline(never)]
    pub fn prove(&self, wiped: wipe::Outcome) -> picture::Result<()> {
        if let Err((errno, number)) = wiped {
            let path = self.workspaces.get(number as usize).map(|workspace| workspace.path);
            let path = path.as_ref().map_or(b"".as_slice(), |path| path.as_c_str().to_bytes());
            return Err(Problem::new(Why::Workspace, errno, path));
        }
        for workspace in self.workspaces.iter() {
            let path = workspace.path.as_c_str().to_bytes();
            picture::restore(workspace).map_err(|errno| Problem::new(Why::Workspace, errno, path))?;
        }
        for (list, object, id, owner) in OBJECTS {
            let failed = |errno| Problem::new(Why::Object, errno, list.to_bytes());
            remove_objects(list, object, id, owner).map_err(failed)?;
        }
        let now = Picture::take(&self.told, &mut |_| Ok(()))?;
        self.picture.compare(&now)
    }
}

/// Fails if a list has an object. The objects are then those of others, whose namespace this is too, and must not be removed.
#[inline(never)]
fn expect_no_objects(list: &CStr) -> picture::Result<()> {
    let mut text = [0; 512];
    let len = match picture::read_text(list, &mut text) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOMEM) => text.len(),
        len => len.map_err(|errno| Problem::new(Why::Failed, errno, list.to_bytes()))?,
    };
    // The names of the columns are a line.
    match text[..len].iter().filter(|byte| **byte == b'\n').count() {
        0 | 1 => Ok(()),
        _ => Err(Problem::new(Why::NotEmpty, Errno(0), list.to_bytes())),
    }
}

/// Removes all objects of a list.
#[inline(never)]
fn remove_objects(list: &CStr, object: Object, id: usize, owner: usize) -> sys::Result<()> {
    let mut text = [0; 512];
    // The list has mostly nothing but the names of its columns.
    let len = match picture::read_text(list, &mut text) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOMEM) => {
            let mut text = Bytes::new(LIST)?;
            let len = picture::read_text(list, &mut text)?;
            return remove_listed(&text[..len], object, id, owner);
        }
        len => len?,
    };
    remove_listed(&text[..len], object, id, owner)
}

#[inline(never)]
fn remove_listed(text: &[u8], object: Object, id: usize, owner: usize) -> sys::Result<()> {
    for line in text
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
    {
        let word = |n| line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(n);
        let number = |n| word(n).and_then(users::number).ok_or(Errno::INVAL);
        sys::remove_object(object, number(id)? as i32, number(owner)?)?;
    }
    Ok(())
}
