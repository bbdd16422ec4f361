//! A proxy before the real engine that records all requests and can change requests and answers.
#![allow(dead_code)] // each test binary uses a part of this module

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// The changes to make. Each function gets the first line of a request, such as `GET /v1.41/info HTTP/1.1`.
#[derive(Clone, Copy)]
pub struct Changes {
    /// Changes the body of a request.
    pub asked: fn(&str, &mut Value),
    /// Returns an answer with its status in place of the engine's, by the request.
    pub refused: fn(&str, &Value) -> Option<(u16, String)>,
    /// Changes the engine's description of itself.
    pub info: fn(&mut Value),
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            asked: |_, _| {},
            refused: |_, _| None,
            info: |_| {},
        }
    }
}

/// Forwards to the real engine until it is dropped.
pub struct Teller {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    accepting: JoinHandle<()>,
}

impl Teller {
    /// Starts a proxy before the engine with this socket.
    pub fn start(engine: String, changes: Changes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let accepting = tokio::spawn({
            let asked = asked.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let (engine, asked) = (engine.clone(), asked.clone());
                    connections.spawn(async move {
                        // An error means that the connection was cut.
                        let _ = serve(client, &engine, &asked, changes).await;
                    });
                }
            }
        });
        Self {
            folder,
            asked,
            accepting,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Returns the first line and the body of each request so far, before any change.
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().clone()
    }

    /// Returns the bodies of all requests to create containers.
    pub fn created(&self) -> Vec<Value> {
        let asked = self.asked();
        let of_create = |(line, _): &(String, _)| line.contains("/containers/create");
        asked.into_iter().filter(of_create).map(|(_, body)| body).collect()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one request for each connection, so that all requests are recorded.
async fn serve(
    mut client: UnixStream,
    engine: &str,
    asked: &Mutex<Vec<(String, Value)>>,
    changes: Changes,
) -> io::Result<()> {
    let mut read = Vec::new();
    let Some((head, mut body)) = message(&mut client, &mut read).await? else {
        return Ok(());
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let mut json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    asked.lock().push((line.clone(), json.clone()));
    if let Some((status, words)) = (changes.refused)(&line, &json) {
        let answer = serde_json::json!({ "message": words }).to_string();
        return client
            .write_all(with_body(&format!("HTTP/1.1 {status} Word"), answer.as_bytes()).as_slice())
            .await;
    }
    if !json.is_null() {
        (changes.asked)(&line, &mut json);
        body = json.to_string().into_bytes();
    }
    let mut engine = UnixStream::connect(engine).await?;
    let lower = head.to_ascii_lowercase();
    let is_whole = !lower.contains("transfer-encoding:");
    let mut kept: Vec<_> = head.trim_end().lines().map(str::to_owned).collect();
    if is_whole {
        kept.retain(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
        kept.push(format!("Content-Length: {}", body.len()));
    }
    if !lower.contains("upgrade:") {
        kept.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        kept.push("Connection: close".to_owned());
    }
    engine
        .write_all(format!("{}\r\n\r\n", kept.join("\r\n")).as_bytes())
        .await?;
    engine.write_all(&body).await?;
    engine.write_all(&read).await?;
    if line.contains("/info ") {
        let mut read = Vec::new();
        if let Some((_, said)) = message(&mut engine, &mut read).await? {
            let mut said = serde_json::from_slice(&said)?;
            (changes.info)(&mut said);
            client
                .write_all(&with_body("HTTP/1.1 200 OK", said.to_string().as_bytes()))
                .await?;
        }
        return Ok(());
    }
    if lower.contains("upgrade:") {
        // The engine would keep the connection after a refusal, and the next request would not be recorded.
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && engine.read_buf(&mut answer).await? > 0 {}
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            if let Some((head, body)) = message(&mut engine, &mut answer).await? {
                let line = head.lines().next().unwrap_or_default();
                client.write_all(&with_body(line, &body)).await?;
            }
            return Ok(());
        }
        client.write_all(&answer).await?;
    }
    copy_bidirectional(&mut client, &mut engine).await.map(drop)
}

fn with_body(line: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads the head of a message. Also reads the body if its length is known or the connection ends with it; otherwise
/// the following bytes stay in `read`.
async fn message(stream: &mut UnixStream, read: &mut Vec<u8>) -> io::Result<Option<(String, Vec<u8>)>> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end);
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    if let Some(length) = length {
        while read.len() < length {
            if stream.read_buf(read).await? == 0 {
                return Ok(None);
            }
        }
        return Ok(Some((head, read.drain(..length).collect())));
    }
    if head.starts_with("HTTP/") {
        while stream.read_buf(read).await? > 0 {}
        let body = std::mem::take(read);
        return Ok(Some((
            head,
            if lower.contains("chunked") {
                unchunked(&body)
            } else {
                body
            },
        )));
    }
    Ok(Some((head, Vec::new())))
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 2 + length + 2..];
    }
    body
}
