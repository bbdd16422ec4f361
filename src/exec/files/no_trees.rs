//! Trees are copied on Unix only, where directories can be opened and names be looked up in them.

use std::path::Path;

use super::Files;
use super::transfer::Transfer;
use crate::error::Error;

pub(super) async fn upload(files: &Files<'_>, _host: &Path, _path: &[u8]) -> Result<Transfer, Error> {
    Err(unsupported(files))
}

pub(super) async fn download(files: &Files<'_>, _path: &[u8], _host: &Path) -> Result<Transfer, Error> {
    Err(unsupported(files))
}

fn unsupported(files: &Files<'_>) -> Error {
    Error::Unsupported {
        subject: files.container.shared().subject(),
        reason: "directories are copied safely on Unix only; read and write the files one by one".to_owned(),
    }
}
