//! Copying a whole tree. The files of this machine are read and written on a thread that may block, which takes and gives
//! pieces through a short queue.

use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Files;
use super::answers::Answer;
use super::download::{Failure, Tree};
use super::server::{Call, Server};
use super::transfer::Transfer;
use super::upload;
use crate::agent::file_protocol::request;
use crate::error::Error;
use crate::values::waker::guarded;

/// The pieces between the connection and the thread, each of at most 64 KiB and a little.
const QUEUE: usize = 16;

pub(super) async fn upload(files: &Files<'_>, host: &Path, path: &[u8]) -> Result<Transfer, Error> {
    let here = of_this_machine(files, "read", host);
    let (send, mut frames) = mpsc::channel::<Bytes>(QUEUE);
    let mut server = Server::start(files, files.call("write", path), request::UNPACK, None, true).await?;
    let (source, limits) = (host.to_owned(), files.limits);
    let walk = blocking(files, move || {
        upload::walk(&source, limits, |frames| send.blocking_send(frames).is_ok())
    });
    let mut failed = None;
    while let Some(frames) = guarded(frames.recv()).await {
        match server.write(&frames).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                drop(frames);
                failed = Some(error);
                break;
            }
        }
    }
    drop(frames);
    let done = match ended(walk).await? {
        Ok(done) => done,
        Err((beneath, error)) => {
            server.end_early().await;
            return Err(here.error_at(&beneath, error));
        }
    };
    if let Some(error) = failed {
        return Err(server.give_up(error).await);
    }
    server.done().await.map(|()| done)
}

pub(super) async fn download(files: &Files<'_>, path: &[u8], host: &Path) -> Result<Transfer, Error> {
    let here = of_this_machine(files, "write", host);
    let (target, limits) = (host.to_owned(), files.limits);
    let begun = blocking(files, move || Tree::begin(&target, limits));
    let mut tree = ended(begun).await?.map_err(|error| here.error(error))?;

    let mut server = Server::start(files, files.call("read", path), request::PACK, None, false).await?;
    let (pieces, mut taken) = mpsc::channel::<Answer>(QUEUE);
    let writes = blocking(files, move || -> Result<Transfer, Failure> {
        while let Some(answer) = taken.blocking_recv() {
            match answer {
                Answer::Done => return tree.end(),
                answer => tree.take(answer)?,
            }
        }
        Err((tree.at(), io::ErrorKind::UnexpectedEof.into()))
    });
    let (last, broken) = loop {
        match server.answer().await {
            Ok(Answer::Done) => {
                // A thread that has failed says so itself.
                let _ = guarded(pieces.send(Answer::Done)).await;
                break (Some(Answer::Done), None);
            }
            Ok(failed @ Answer::Failed(..)) => break (Some(failed), None),
            Ok(answer) => {
                if guarded(pieces.send(answer)).await.is_err() {
                    break (None, None);
                }
            }
            Err(error) => break (None, Some(error)),
        }
    };
    drop(pieces);
    let written = ended(writes).await?;
    match (last, broken, written) {
        (_, Some(error), _) => Err(error),
        (Some(Answer::Failed(errno, _)), _, Ok(_)) => Err(server.unexpected(Answer::Failed(errno, Bytes::new())).await),
        (Some(Answer::Failed(errno, _)), _, Err((at, _))) => {
            Err(server.unexpected(Answer::Failed(errno, at.into())).await)
        }
        (Some(_), _, Ok(done)) => server.end().await.map(|()| done),
        (_, _, Err((at, error))) => {
            server.end_early().await;
            Err(here.error_at(&at, error))
        }
        (None, None, Ok(done)) => {
            debug_assert!(false, "the thread ends well only after the last piece: {done:?}");
            Ok(done)
        }
    }
}

fn of_this_machine(files: &Files<'_>, op: &'static str, host: &Path) -> Call {
    Call {
        op,
        path: host.as_os_str().as_encoded_bytes().to_vec(),
        on_host: true,
        subject: files.container.shared().subject(),
    }
}

fn blocking<T: Send + 'static>(files: &Files<'_>, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    files.container.shared().runtime.handle().spawn_blocking(work)
}

/// Waits for the end of work on a thread. The work ends by itself when its queue does.
async fn ended<T>(work: JoinHandle<T>) -> Result<T, Error> {
    match guarded(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::RuntimeEnded),
    }
}
