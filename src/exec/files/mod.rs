//! Files of a container, in and out: [`Files`].
//!
//! By the agent, each call starts a process of the agent's as it starts a command: with the command's user, limits, deadline, kill and
//! accounting. In place of a program the process runs a small file server, which reads the request from its standard input
//! and answers on its standard output. So nothing is done with more rights than a command would have, PID 1 opens nothing,
//! and the engine's archive call is never made.

mod answers;
mod by_tar;
#[cfg(unix)]
mod download;
mod limits;
mod metadata;
mod reader;
mod server;
mod transfer;
#[cfg_attr(not(unix), path = "no_trees.rs")]
mod trees;
#[cfg(unix)]
mod upload;
mod watch;

use std::fmt;
use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use self::answers::Answer;
use self::limits::Left;
use self::server::{Call, Server};
use crate::agent::file_protocol::{HEADER, MAX_DATA, piece, request};
use crate::container::{Container, Running};
use crate::error::Error;

pub use limits::FileLimits;
pub use metadata::{FileEntry, FileMetadata, FileType};
pub use reader::FileReader;
pub use transfer::{SkipReason, Skipped, Transfer};
pub use watch::{FileChange, FileEvent, FileWatch};

/// The words for a container without the agent.
const NO_AGENT: &str = "this call on files needs the library's agent, which does not run the commands of this container, or \
                        not as that user; use ExecVia::Auto or ExecVia::Agent, or a command of the image";

/// Reads and writes files of a container; made by [`Container::files`](crate::Container::files).
///
/// Each call is made by a process of its own in the container, which has the rights, the limits and the control group of a
/// command. Nothing is done on the engine's side: the engine's archive call, which runs programs of the container on the host
/// on older engines, is never made, and a read-only root file system is no obstacle for its writable directories.
///
/// # Without the agent
///
/// Where the agent does not run the commands (see [`ExecVia`](crate::ExecVia)), the image's own `tar` makes and takes archives for
/// [`write`](Self::write), [`write_from`](Self::write_from), [`read`](Self::read), [`upload_dir`](Self::upload_dir) and
/// [`download_dir`](Self::download_dir). All other calls fail with [`Error::Unsupported`], as all do where there is no `tar`. With it:
///
/// - Paths are UTF-8.
/// - A failure in the container is [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) with the exit code of `tar`.
/// - A file that is there is replaced by another one; that of a link is not written to.
/// - [`write_from`](Self::write_from) gathers what it reads, up to the limit.
/// - Hard links are skipped as [`SkipReason::Special`].
/// - At the limits of time and bytes the container is killed, as the exec API ends any command.
/// - A file of the kernel's, as in `/proc`, is empty: `tar` goes by its size.
///
/// # Paths
///
/// Paths of the container are absolute, and are bytes: any but NUL, at most 4095 of them. Symbolic links in them are followed
/// within the container, as a program of the same user would. Relative paths are refused.
///
/// # Limits
///
/// Each call is under [`FileLimits`]; the default ones are small. See [`limits`](Self::limits).
///
/// # Secrets
///
/// Contents appear in no error, no `Debug` and no trace. Paths do.
///
/// # Examples
///
/// ```no_run
/// # async fn example(pool: dockerpool::Pool) -> Result<(), dockerpool::Error> {
/// let c = pool.acquire().await?;
/// let files = c.files();
/// files.write("/tmp/main.py", "open('/tmp/out', 'w').write(open('/tmp/in').read()[::-1])").await?;
/// files.write("/tmp/in", "hello").await?;
/// c.command("python3").arg("/tmp/main.py").output().await?.check()?;
///
/// let made = files.read_to_vec("/tmp/out").await?;
/// assert_eq!(made, b"olleh");
/// for entry in files.list("/tmp").await? {
///     println!("{}: {} bytes", entry.name_lossy(), entry.metadata.size);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Files<'c> {
    container: &'c Container<Running>,
    user: Option<String>,
    limits: FileLimits,
    mode: Option<u32>,
    parents: bool,
    in_memory: bool,
}

impl Container<Running> {
    /// Begins calls on the files of the container; see [`Files`].
    ///
    /// The process of a call counts among the 64 commands of a container that the agent runs at once. While so many run, the call
    /// waits in turn until one has ended, for at most its [time](FileLimits::time): do not [detach](crate::Child::detach) so many.
    pub fn files(&self) -> Files<'_> {
        Files {
            container: self,
            user: None,
            limits: FileLimits::default(),
            mode: None,
            parents: false,
            in_memory: false,
        }
    }
}

impl<'c> Files<'c> {
    /// Sets the user with whose rights the calls are made: `user[:group]`, by name or number. Default: the container's, as for
    /// [`Command::user`](crate::Command::user).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets what each call may take. Default: [`FileLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: FileLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the rights of what [`write`](Self::write), [`write_from`](Self::write_from) and [`create_dir`](Self::create_dir)
    /// make, e.g. `0o755`; of a file also where it is there already. Only the lowest 12 bits count. Default: the rights that
    /// any program would give, mostly `0o644` and `0o755`.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o7777);
        self
    }

    /// Makes missing directories above the path of [`write`](Self::write), [`write_from`](Self::write_from),
    /// [`create_dir`](Self::create_dir) and [`upload_dir`](Self::upload_dir). Default: a missing directory is an error.
    #[must_use]
    pub fn create_parents(mut self) -> Self {
        self.parents = true;
        self
    }

    /// Has [`write`](Self::write) fail with [`CrossesDevices`](io::ErrorKind::CrossesDevices), before it writes anything, unless
    /// the file is in a file system in memory. Without the agent nobody looks.
    pub(crate) fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Writes a file: makes it, or replaces its contents.
    ///
    /// # Errors
    ///
    /// [`Error::File`], after which the file may be there in part; [`Error::Unsupported`], where nothing was done; and as
    /// [`Command::spawn`](crate::Command::spawn). What is there and is no regular file is refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call in the background. The file may then be there in part.
    pub async fn write(&self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<(), Error> {
        let call = self.call("write", path.as_ref());
        let mut data = data.as_ref();
        let left = Left::of(self.limits);
        left.has_room(data.len() as u64).map_err(|error| call.error(error))?;
        let mut server = Server::start(self, call, request::WRITE, None, true).await?;
        if let Err(error) = server.begin_file(data.len() as u64, self.mode).await {
            return Err(server.give_up(error).await);
        }
        let mut frame = Vec::with_capacity(HEADER + data.len().min(MAX_DATA));
        while !data.is_empty() {
            let (part, rest) = data.split_at(data.len().min(MAX_DATA));
            data = rest;
            begin_frame(&mut frame, piece::DATA, part.len());
            frame.extend_from_slice(part);
            match server.write(&frame).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(server.give_up(error).await),
            }
        }
        begin_frame(&mut frame, piece::DONE, 0);
        match server.write(&frame).await {
            Ok(_) => server.done().await,
            Err(error) => Err(server.give_up(error).await),
        }
    }

    /// Writes what a reader gives to a file, as [`write`](Self::write) does, up to the limit of bytes. Nothing is gathered in
    /// memory.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`Error::File`] with the reader's error if that fails.
    ///
    /// # Cancel safety
    ///
    /// As [`write`](Self::write). What was read from the reader is lost.
    pub async fn write_from<R>(&self, path: impl AsRef<[u8]>, reader: &mut R) -> Result<(), Error>
    where
        R: AsyncRead + Unpin + ?Sized,
    {
        let call = self.call("write", path.as_ref());
        let mut left = Left::of(self.limits);
        if !server::is_agent(self) {
            // An archive tells the size first.
            let mut data = Vec::new();
            let most = self.limits.bytes.saturating_add(1);
            let runtime = &self.container.shared().runtime;
            let begun = runtime.now();
            let gathered = async {
                let read = reader.take(most).read_to_end(&mut data).await;
                read.map_err(|error| call.error(error))
            };
            self.in_time(&call, gathered).await?;
            let mut rest = self.clone();
            rest.limits.time = server::time_left(self.limits.time, begun, runtime);
            return rest.write(path, data).await;
        }
        let mut server = Server::start(self, call, request::WRITE, None, true).await?;
        let mut frame = vec![0; HEADER + MAX_DATA];
        loop {
            let read = tokio::select! {
                biased;
                // A server that answers or ends now has failed.
                answer = server.answer() => return Err(server.unexpected(answer?).await),
                read = reader.read(&mut frame[HEADER..]) => read,
            };
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.and_then(|len| left.take(len).map(|()| len)),
            };
            let len = match read {
                Ok(len) => len,
                Err(error) => return Err(server.give_up(error).await),
            };
            let kind = if len == 0 { piece::DONE } else { piece::DATA };
            frame[..HEADER].copy_from_slice(&header(kind, len));
            match server.write(&frame[..HEADER + len]).await {
                Ok(true) if len > 0 => {}
                Ok(_) => break,
                Err(error) => return Err(server.give_up(error).await),
            }
        }
        server.done().await
    }

    /// Opens a file for reading. The reader gives at most [`FileLimits::bytes`].
    ///
    /// # Errors
    ///
    /// [`Error::File`]: there is no such file, it is no regular file, or it is larger than the limit; and as
    /// [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call in the background.
    pub async fn read(&self, path: impl AsRef<[u8]>) -> Result<FileReader<'c>, Error> {
        let call = self.call("read", path.as_ref());
        let left = Left::of(self.limits);
        let mut server = Server::start(self, call, request::READ, None, false).await?;
        match server.answer().await? {
            Answer::Meta(meta) => match left.has_room(meta.size) {
                Ok(()) => Ok(FileReader::new(server, meta.into(), left)),
                Err(error) => Err(server.give_up(error).await),
            },
            other => Err(server.unexpected(other).await),
        }
    }

    /// Reads a file into memory, at most [`FileLimits::bytes`].
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read).
    pub async fn read_to_vec(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Error> {
        let call = self.call("read", path.as_ref());
        let mut reader = self.read(path).await?;
        // The size is the container's word, so it is not trusted with more than a little memory at once.
        const TRUSTED: u64 = 1 << 20;
        let mut data = Vec::with_capacity(reader.metadata().size.min(TRUSTED) as usize);
        match reader.read_to_end(&mut data).await {
            Ok(_) => Ok(data),
            Err(error) => Err(reader.failed(call, error).await),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// The directory may be there or not.
    pub async fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<(), Error> {
        // A directory that is there is an error, unless parents are to be made.
        self.run("create the directory", request::MAKE_DIR, path.as_ref(), None)
            .await
    }

    /// Makes a directory and those in which it is, as far as they are missing. A directory that is there is no error, and keeps
    /// its rights.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// Some of the directories may be there.
    pub async fn create_dir_all(&self, path: impl AsRef<[u8]>) -> Result<(), Error> {
        self.clone().create_parents().create_dir(path).await
    }

    /// Returns the entries of a directory with their attributes, sorted by the bytes of their names; at most
    /// [`FileLimits::entries`].
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`Error::File`] if there are more entries than the limit.
    ///
    /// # Cancel safety
    ///
    /// As [`read`](Self::read).
    pub async fn list(&self, path: impl AsRef<[u8]>) -> Result<Vec<FileEntry>, Error> {
        let call = self.call("list", path.as_ref());
        let mut left = Left::of(self.limits);
        let mut server = Server::start(self, call, request::LIST, None, false).await?;
        let mut entries = Vec::new();
        loop {
            match server.answer().await? {
                Answer::Entry(meta, name) => match left.take_entry() {
                    Ok(()) => entries.push(FileEntry::new(&name, meta)),
                    Err(error) => return Err(server.give_up(error).await),
                },
                Answer::Done => break,
                other => return Err(server.unexpected(other).await),
            }
        }
        server.end().await?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Returns the attributes of a file, those of a link itself.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn metadata(&self, path: impl AsRef<[u8]>) -> Result<FileMetadata, Error> {
        let call = self.call("look at", path.as_ref());
        let mut server = Server::start(self, call, request::STAT, None, false).await?;
        match server.answer().await? {
            Answer::Meta(meta) => server.done().await.map(|()| meta.into()),
            other => Err(server.unexpected(other).await),
        }
    }

    /// Watches a file, or the entries of a directory: those of the directory itself, and not of directories in it. Returns when the
    /// watch stands, so that no later change is missed.
    ///
    /// The watch is a process in the container, by `inotify(7)`, and goes on until it is dropped. Of the
    /// [limits](Self::limits), that of time holds until the watch stands, and then none. Changes through a mapping of the file
    /// in memory are not seen. If nobody reads the events, the kernel keeps some 16,000 of them, and then says that others are [lost](FileChange::Lost).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) or
    /// [`StorageFull`](io::ErrorKind::StorageFull) where the user has no watches left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call in the background.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use dockerpool::FileChange;
    ///
    /// # async fn example(c: dockerpool::PooledContainer) -> Result<(), dockerpool::Error> {
    /// let mut watch = c.files().watch("/tmp").await?;
    /// c.command("sh").args(["-c", "echo done >/tmp/result"]).output().await?.check()?;
    /// while let Some(event) = watch.next().await? {
    ///     if event.change == FileChange::Written && event.name == "result" {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn watch(&self, path: impl AsRef<[u8]>) -> Result<FileWatch<'c>, Error> {
        let call = self.call("watch", path.as_ref());
        let mut files = self.clone();
        files.limits.time = None;
        let begun = async {
            let mut server = Server::start(&files, call.clone(), request::WATCH, None, false).await?;
            match server.answer().await? {
                Answer::Meta(_) => Ok(FileWatch::new(server)),
                other => Err(server.unexpected(other).await),
            }
        };
        self.in_time(&call, begun).await
    }

    /// Renames a file or directory within one file system, over a file that has the new name.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`CrossesDevices`](io::ErrorKind::CrossesDevices) between two file systems.
    ///
    /// # Cancel safety
    ///
    /// The file has the old or the new name.
    pub async fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Error> {
        self.run("rename", request::RENAME, from.as_ref(), Some(to.as_ref()))
            .await
    }

    /// Removes a file, a link or anything else but a directory.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// The file may be there or not.
    pub async fn remove(&self, path: impl AsRef<[u8]>) -> Result<(), Error> {
        self.run("remove", request::REMOVE, path.as_ref(), None).await
    }

    /// Removes a directory with everything in it, or a file. Links in it are removed and not followed; file systems that are
    /// mounted in it are not entered, and are an error. Directories of the user's own are made writable where that is needed.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write). What can be removed is removed in any case.
    ///
    /// # Cancel safety
    ///
    /// A part may be removed.
    pub async fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<(), Error> {
        self.run("remove", request::REMOVE_ALL, path.as_ref(), None).await
    }

    /// Copies what is in a directory of this machine into a directory of the container, which is made unless it is there.
    /// Files of the same names are replaced.
    ///
    /// - Nothing outside of `host` is read, whatever other processes make of it meanwhile: no symbolic link in it is followed.
    ///   Links in the path to it are.
    /// - Regular files and directories keep their rights, without the bits for set-user-id, set-group-id and sticky. They belong
    ///   to the user of the call. Times and extended attributes are not copied, hard links become files, and holes are filled.
    /// - Links are copied as links unless they could lead out of the tree: see [`SkipReason::LinkOutside`].
    /// - Devices, FIFOs and sockets are skipped, as is what is removed or replaced meanwhile. [`Transfer`] names what was
    ///   skipped; anything else that cannot be copied is an error.
    /// - At most 128 directories are within each other.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); a part may have been copied then. [`Error::Unsupported`] where this machine is no Unix.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call in the background. A part may have been copied.
    pub async fn upload_dir(&self, host: impl AsRef<Path>, path: impl AsRef<[u8]>) -> Result<Transfer, Error> {
        trees::upload(self, host.as_ref(), path.as_ref()).await
    }

    /// Copies what is in a directory of the container into a directory of this machine, which must be empty, and is made if it is
    /// missing. The directory above it must be there. After an error, remove what was copied before a further attempt.
    ///
    /// - Nothing outside of `host` is written or followed, whatever the container's tree looks like and whatever its processes
    ///   make of it meanwhile. Each entry is made anew, by a name in a directory that was made anew before.
    /// - Rights, links, and what is skipped: as [`upload_dir`](Self::upload_dir). This process's mask holds for the rights, and
    ///   its user, to whom everything belongs, can always read and write files and enter directories.
    /// - A file has the size that it had when it was opened, or less. So files of the kernel's, as in `/proc`, are empty.
    /// - A file of which a name comes twice is skipped the second time, also where this machine's file system does not tell
    ///   upper from lower case.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`DirectoryNotEmpty`](io::ErrorKind::DirectoryNotEmpty). A part may have been copied then.
    /// [`Error::Unsupported`] where this machine is no Unix.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call in the background. A part may have been copied.
    pub async fn download_dir(&self, path: impl AsRef<[u8]>, host: impl AsRef<Path>) -> Result<Transfer, Error> {
        trees::download(self, path.as_ref(), host.as_ref()).await
    }

    /// Makes a call that answers nothing but its success.
    async fn run(&self, op: &'static str, kind: u8, path: &[u8], to: Option<&[u8]>) -> Result<(), Error> {
        let server = Server::start(self, self.call(op, path), kind, to, false).await?;
        server.done().await
    }

    /// Waits for a part of a call that no server does, for at most the time of the call.
    async fn in_time<T>(&self, call: &Call, part: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(time) = self.limits.time else {
            return part.await;
        };
        let limited = async {
            let done = tokio::time::timeout(time, part).await;
            done.unwrap_or_else(|_| Err(call.error(server::too_late(time))))
        };
        self.container.shared().runtime.run(limited).await
    }

    fn call(&self, op: &'static str, path: &[u8]) -> Call {
        Call {
            op,
            path: path.to_vec(),
            on_host: false,
            subject: self.container.shared().subject(),
        }
    }
}

fn header(kind: u8, len: usize) -> [u8; HEADER] {
    let len = (len as u32).to_le_bytes();
    [len[0], len[1], len[2], len[3], kind]
}

fn begin_frame(frame: &mut Vec<u8>, kind: u8, len: usize) {
    frame.clear();
    frame.extend_from_slice(&header(kind, len));
}

impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("container", &self.container.name())
            .field("user", &self.user)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
