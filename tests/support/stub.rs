//! A scripted Docker daemon on a Unix socket. It knows a small part of HTTP/1.1, and misbehaves on request.
#![allow(dead_code)] // each test binary uses a part of this module

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The calls that the library makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    Version,
    Info,
    Image,
    Pull,
    Create,
    Attach,
    Start,
    Inspect,
    List,
    Kill,
    Remove,
    Events,
    ExecCreate,
    ExecStart,
    ExecInspect,
    ExecResize,
    Pause,
    Unpause,
    Stop,
    Stats,
    Network,
    NetworkCreate,
    NetworkList,
    VolumeList,
}

/// The daemon's behaviour in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Closes the connection without an answer.
    Close,
    /// Closes the connection with the request unread, which resets it.
    Reset,
    /// Answers with bytes that are not HTTP.
    Garbage,
    /// Cuts the answer within its body.
    CutBody,
    /// Answers with a body that is not JSON.
    GarbageBody,
    Status(u16),
    /// Sends the head of the answer byte by byte, with pauses.
    Drip,
    /// Sends a head that announces a body, and then nothing.
    HeadersThenSilence,
    /// Sends nothing at all.
    Silence,
    /// Sends a head without an end.
    EndlessHead,
    /// Sends a body without an end, and without an end of its first line.
    EndlessBody,
    /// Sends events without an end.
    EndlessEvents,
    /// Upgrades the connection, and cuts a frame.
    CutFrame,
    /// Upgrades the connection, and sends bytes that are not a frame.
    GarbageFrame,
    /// Upgrades the connection, and sends a frame that claims 4 GiB, with zeros for as long as the client reads.
    HugeFrame,
    /// Upgrades the connection, and sends nothing.
    SilentUpgrade,
    /// Upgrades the connection, and sends these frames (number of the stream, data) and the end.
    Prints(&'static [(u8, &'static [u8])]),
    /// Sends the frames once the library has inspected the command.
    PrintsLate(&'static [(u8, &'static [u8])]),
    /// Upgrades the connection, and sends these bytes without frames and the end.
    PrintsPlain(&'static [u8]),
    /// Upgrades the connection, and sends these bytes without frames and no end.
    PrintsOn(&'static [u8]),
    /// Runs a command that never ends.
    Running,
    /// Reports a command that was not started, without a reason.
    NeverWas,
    /// Reports a container that has ended.
    Ended,
}

/// The daemon. Drop ends it and removes its socket.
pub struct Stub {
    folder: PathBuf,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<HashMap<Route, Fault>>,
    calls: Mutex<HashMap<Route, usize>>,
    /// Status and body of an answer, in place of the usual one.
    words: Mutex<HashMap<Route, (u16, String)>>,
    /// The bodies of requests.
    bodies: Mutex<Vec<(Route, Vec<u8>)>>,
    /// The minor numbers of the oldest and the newest supported version of the API, if versions are checked.
    versions: Mutex<Option<(u32, u32)>>,
    /// The newest version that a 400 to a create call reports, whose cause is another one.
    bad_request: Mutex<Option<u32>>,
    /// Methods and paths of all requests.
    requests: Mutex<Vec<String>>,
    /// How many bytes of an endless answer the client has read.
    taken: AtomicU64,
    next_id: AtomicU64,
    /// The last request to create a container.
    asked: Mutex<serde_json::Value>,
    /// Fields in which the description of containers differs from that request.
    described: Mutex<Option<serde_json::Value>>,
    /// The ids and labels of containers that were created and not removed.
    containers: Mutex<Vec<(String, serde_json::Value)>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stub {
    pub fn start() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dockerpool-stub-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("docker.sock")).unwrap();
        let shared = Arc::<Shared>::default();
        let server = tokio::spawn({
            let shared = shared.clone();
            async move {
                // Connections end with the server.
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    tokio::select! {
                        Ok((stream, _)) = listener.accept() => {
                            let shared = shared.clone();
                            connections.spawn(async move {
                                // An error means that the client has gone.
                                let _ = serve(stream, &shared).await;
                            });
                        }
                        Some(_) = connections.join_next() => {}
                    }
                }
            }
        });
        Self { folder, shared, server }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    pub fn fault(&self, route: Route, fault: Fault) {
        self.shared.faults.lock().insert(route, fault);
    }

    pub fn unfault(&self, route: Route) {
        self.shared.faults.lock().remove(&route);
    }

    pub fn heal(&self) {
        self.shared.faults.lock().clear();
        self.shared.words.lock().clear();
    }

    /// Makes the daemon answer with this status and body.
    pub fn say(&self, route: Route, status: u16, body: impl Into<String>) {
        self.shared.words.lock().insert(route, (status, body.into()));
    }

    /// Returns the bodies of the requests of one kind so far.
    pub fn bodies(&self, route: Route) -> Vec<serde_json::Value> {
        let bodies = self.shared.bodies.lock();
        let of_route = bodies.iter().filter(|(of, _)| *of == route);
        of_route
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }

    /// Makes the daemon describe containers as requested but for these fields. `null` stands for no field.
    pub fn describe(&self, changes: serde_json::Value) {
        *self.shared.described.lock() = Some(changes);
    }

    /// Makes the daemon support only these versions of the API, by their minor numbers, and refuse others as Docker
    /// does. With `None` it ignores versions.
    pub fn speaks(&self, versions: Option<(u32, u32)>) {
        *self.shared.versions.lock() = versions;
        if let Some((oldest, newest)) = versions {
            let body =
                format!(r#"{{"ApiVersion":"1.{newest}","MinAPIVersion":"1.{oldest}","Os":"linux","Arch":"riscv64"}}"#);
            self.say(Route::Version, 200, body);
        }
    }

    /// Makes the daemon refuse every create call for its body, and report this newest version.
    pub fn bad_request_in(&self, newest: Option<u32>) {
        *self.shared.bad_request.lock() = newest;
    }

    /// Returns every request so far with its method and path, also unknown ones.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    /// Stops the daemon as by a crash: connections break, and new ones are refused.
    pub async fn crash(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    pub fn calls(&self, route: Route) -> usize {
        self.shared.calls.lock().get(&route).copied().unwrap_or(0)
    }

    /// Returns how many bytes of endless answers the client has read.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

fn route(method: &str, path: &str) -> Option<Route> {
    let path = path.split('?').next()?;
    // The path begins with the version of the API once one was agreed on.
    let mut parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    Some(match (method, parts.as_slice()) {
        ("GET", ["version"]) => Route::Version,
        ("GET", ["info"]) => Route::Info,
        ("GET", ["images", .., "json"]) => Route::Image,
        ("POST", ["images", "create"]) => Route::Pull,
        ("POST", ["containers", "create"]) => Route::Create,
        ("GET", ["containers", "json"]) => Route::List,
        ("GET", ["containers", _, "json"]) => Route::Inspect,
        ("POST", ["containers", _, "attach"]) => Route::Attach,
        ("POST", ["containers", _, "start"]) => Route::Start,
        ("POST", ["containers", _, "kill"]) => Route::Kill,
        ("DELETE", ["containers", _]) => Route::Remove,
        ("GET", ["events"]) => Route::Events,
        ("POST", ["containers", _, "exec"]) => Route::ExecCreate,
        ("POST", ["exec", _, "start"]) => Route::ExecStart,
        ("GET", ["exec", _, "json"]) => Route::ExecInspect,
        ("POST", ["exec", _, "resize"]) => Route::ExecResize,
        ("GET", ["containers", _, "stats"]) => Route::Stats,
        ("POST", ["containers", _, "pause"]) => Route::Pause,
        ("POST", ["containers", _, "unpause"]) => Route::Unpause,
        ("POST", ["containers", _, "stop"]) => Route::Stop,
        ("GET", ["networks"]) => Route::NetworkList,
        ("GET", ["networks", _]) => Route::Network,
        ("POST", ["networks", "create"]) => Route::NetworkCreate,
        ("GET", ["volumes"]) => Route::VolumeList,
        _ => return None,
    })
}

async fn serve(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(head_end) = read_head(&mut stream, &mut read).await? else {
            return Ok(());
        };
        let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        shared.requests.lock().push(format!("{method} {path}"));
        let Some(route) = route(method, path) else {
            return answer(&mut stream, 404, r#"{"message":"page not found"}"#).await;
        };
        *shared.calls.lock().entry(route).or_default() += 1;
        let fault = shared.faults.lock().get(&route).copied();
        if fault == Some(Fault::Reset) {
            return Ok(());
        }
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse::<usize>().unwrap_or(0));
        read.drain(..head_end);
        while read.len() < length {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        let body: Vec<u8> = read.drain(..length).collect();
        if !body.is_empty() {
            shared.bodies.lock().push((route, body.clone()));
        }
        // Remembers the request also where the answer is scripted, since later descriptions follow it. A refused
        // request makes no container.
        if route == Route::Create
            && !matches!(fault, Some(Fault::Status(_)))
            && let Ok(asked) = serde_json::from_slice(&body)
        {
            *shared.asked.lock() = asked;
        }
        let words = shared.words.lock().get(&route).cloned();
        let versions = *shared.versions.lock();
        if let Some(refusal) = versions.and_then(|versions| refusal(versions, path)) {
            stream.write_all(refusal.as_bytes()).await?;
            continue;
        }
        let bad_request = shared.bad_request.lock().filter(|_| route == Route::Create);
        if let Some(newest) = bad_request {
            let refusal = refusal_in(newest, "invalid");
            stream.write_all(refusal.as_bytes()).await?;
            continue;
        }
        match (fault, words) {
            // An engine keeps the connection over which it refuses a request.
            (Some(Fault::Status(status)), _) => answer(&mut stream, status, r#"{"message":"scripted"}"#).await?,
            (Some(fault), _) => return misbehave(&mut stream, route, fault, shared).await,
            (None, Some((status, body))) => answer(&mut stream, status, &body).await?,
            (None, None) => behave(&mut stream, route, path, &body, shared).await?,
        }
    }
}

/// Docker's answer to a request in an unsupported version. Every such answer names the newest version.
fn refusal((oldest, newest): (u32, u32), path: &str) -> Option<String> {
    let asked: u32 = path.strip_prefix("/v1.")?.split('/').next()?.parse().ok()?;
    let words = if asked < oldest {
        format!(
            "client version 1.{asked} is too old. Minimum supported API version is 1.{oldest}, please upgrade your client to \
             a newer version"
        )
    } else if asked > newest {
        format!("client version 1.{asked} is too new. Maximum supported API version is 1.{newest}")
    } else {
        return None;
    };
    Some(refusal_in(newest, &words))
}

fn refusal_in(newest: u32, words: &str) -> String {
    let body = serde_json::json!({ "message": words }).to_string();
    format!(
        "HTTP/1.1 400 Bad Request\r\nApi-Version: 1.{newest}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads to the end of a request's head. Returns the position of that end, or `None` at the end of the connection.
async fn read_head(stream: &mut UnixStream, read: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(stream: &mut UnixStream, status: u16, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let head = if status == 204 {
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
    } else {
        head
    };
    stream.write_all((head + body).as_bytes()).await
}

async fn upgrade(stream: &mut UnixStream) -> io::Result<()> {
    let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    stream.write_all(head.as_bytes()).await
}

fn frame(data: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend((data.len() as u32).to_be_bytes());
    frame.extend(data);
    frame
}

async fn behave(stream: &mut UnixStream, route: Route, path: &str, asked: &[u8], shared: &Shared) -> io::Result<()> {
    match route {
        // An architecture without an agent, so that PID 1 is `cat`.
        Route::Version => {
            let body =
                r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux","Arch":"riscv64"}"#;
            answer(stream, 200, body).await
        }
        Route::Info => answer(stream, 200, "{}").await,
        Route::Image => {
            answer(
                stream,
                200,
                r#"{"Id":"sha256:1","Os":"linux","Architecture":"riscv64"}"#,
            )
            .await
        }
        Route::Pull => answer(stream, 200, "{\"status\":\"done\"}\r\n").await,
        Route::Create => {
            let id = format!("{:064x}", shared.next_id.fetch_add(1, Ordering::Relaxed));
            let body = format!(r#"{{"Id":"{id}","Warnings":[]}}"#);
            let asked: serde_json::Value = serde_json::from_slice(asked)?;
            shared.containers.lock().push((id, asked["Labels"].clone()));
            answer(stream, 201, &body).await
        }
        Route::Remove => {
            // Removes by id. An unknown id is not in the list anyway.
            shared.containers.lock().retain(|(id, _)| !path.contains(id.as_str()));
            answer(stream, 204, "").await
        }
        Route::Start | Route::Kill | Route::Pause | Route::Unpause | Route::Stop => answer(stream, 204, "").await,
        Route::Inspect => {
            let mut config = shared.asked.lock().clone();
            if let Some(changes) = shared.described.lock().as_ref() {
                change(&mut config, changes);
            }
            let host = config["HostConfig"].take();
            let found = serde_json::json!({
                "Id": "1", "Name": "/one", "State": {"Status": "running"}, "HostConfig": host,
                "NetworkSettings": config["NetworkSettings"].take(),
                "Config": {"Image": config["Image"], "Labels": config["Labels"], "User": config["User"]},
            });
            answer(stream, 200, &found.to_string()).await
        }
        Route::List => {
            let containers = shared.containers.lock().clone();
            let one =
                |(id, labels)| serde_json::json!({"Id": id, "Names": ["/one"], "State": "running", "Labels": labels});
            let all: Vec<_> = containers.into_iter().map(one).collect();
            answer(stream, 200, &serde_json::Value::from(all).to_string()).await
        }
        Route::Network => answer(stream, 404, r#"{"message":"network not found"}"#).await,
        Route::NetworkCreate => answer(stream, 201, r#"{"Id":"n1","Warning":""}"#).await,
        Route::NetworkList => answer(stream, 200, "[]").await,
        Route::VolumeList => answer(stream, 200, r#"{"Volumes":[]}"#).await,
        Route::ExecCreate => answer(stream, 201, r#"{"Id":"e1"}"#).await,
        Route::ExecInspect => answer(stream, 200, r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":7}"#).await,
        Route::Stats => answer(stream, 200, "{}").await,
        Route::ExecResize => answer(stream, 200, "").await,
        Route::Events => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            drain(stream).await
        }
        Route::Attach => {
            upgrade(stream).await?;
            // Echoes the input, as `cat` does.
            let mut data = [0; 1024];
            loop {
                let n = stream.read(&mut data).await?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                stream.write_all(&frame(&data[..n])).await?;
            }
        }
        Route::ExecStart => {
            upgrade(stream).await?;
            stream.write_all(&frame(b"hello\n")).await?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

async fn print(stream: &mut UnixStream, frames: &[(u8, &[u8])]) -> io::Result<()> {
    for (number, data) in frames {
        let mut frame = frame(data);
        frame[0] = *number;
        stream.write_all(&frame).await?;
    }
    Ok(())
}

fn change(value: &mut serde_json::Value, by: &serde_json::Value) {
    match by {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, by)| change(&mut value[name], by)),
        by => *value = by.clone(),
    }
}

/// Holds the connection until the client closes it.
async fn drain(stream: &mut UnixStream) -> io::Result<()> {
    let mut data = [0; 1024];
    while stream.read(&mut data).await? > 0 {}
    Err(io::ErrorKind::UnexpectedEof.into())
}

async fn endless(stream: &mut UnixStream, piece: &[u8], shared: &Shared) -> io::Result<()> {
    loop {
        stream.write_all(piece).await?;
        shared.taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}

async fn misbehave(stream: &mut UnixStream, route: Route, fault: Fault, shared: &Shared) -> io::Result<()> {
    match fault {
        Fault::Close | Fault::Reset => Ok(()),
        Fault::Garbage => stream.write_all(b"\x00\xff\x16\x03\x01 what?\r\n\r\n").await,
        Fault::CutBody => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"Id\": \"1";
            stream.write_all(head).await
        }
        Fault::GarbageBody => answer(stream, 200, "<html>\n").await,
        Fault::Status(_) => unreachable!("answered before, on a connection that is kept"),
        Fault::Drip => {
            for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: "
                .iter()
                .chain([b'a'; 100_000].iter())
            {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
        Fault::HeadersThenSilence => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
                .await?;
            drain(stream).await
        }
        Fault::Silence => drain(stream).await,
        Fault::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            let line = format!("X-Long: {}\r\n", "a".repeat(1000));
            endless(stream, line.as_bytes(), shared).await
        }
        Fault::EndlessBody => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            endless(stream, chunk.as_bytes(), shared).await
        }
        Fault::EndlessEvents => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            let event = r#"{"Type":"container","Action":"die","Actor":{"ID":"nobody","Attributes":{}},"time":1}"#;
            let events = format!("{event}\n").repeat(100);
            let chunk = format!("{:x}\r\n{events}\r\n", events.len());
            endless(stream, chunk.as_bytes(), shared).await
        }
        Fault::CutFrame => {
            upgrade(stream).await?;
            stream.write_all(&frame(b"whole\n")).await?;
            stream.write_all(&frame(&[b'x'; 100])[..50]).await
        }
        Fault::GarbageFrame => {
            upgrade(stream).await?;
            stream.write_all(&frame(b"whole\n")).await?;
            stream.write_all(b"\xff\xfe\xfd no frame").await
        }
        Fault::HugeFrame => {
            upgrade(stream).await?;
            stream.write_all(&[1, 0, 0, 0, 255, 255, 255, 255]).await?;
            endless(stream, &[0; 65536], shared).await
        }
        Fault::Prints(frames) => {
            upgrade(stream).await?;
            print(stream, frames).await
        }
        Fault::PrintsLate(frames) => {
            upgrade(stream).await?;
            let asked = || shared.calls.lock().get(&Route::ExecInspect).copied().unwrap_or(0);
            let before = asked();
            while asked() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            print(stream, frames).await
        }
        Fault::PrintsPlain(data) => {
            upgrade(stream).await?;
            stream.write_all(data).await
        }
        Fault::PrintsOn(data) => {
            upgrade(stream).await?;
            stream.write_all(data).await?;
            drain(stream).await
        }
        Fault::Running => answer(stream, 200, r#"{"ID":"e1","Running":true,"Pid":7}"#).await,
        Fault::NeverWas => answer(stream, 200, r#"{"ID":"e1","Running":false,"ExitCode":126,"Pid":0}"#).await,
        Fault::Ended => {
            let body = r#"{"Id":"1","Name":"/one","State":{"Status":"exited"},"Config":{"Image":"any"}}"#;
            answer(stream, 200, body).await
        }
        Fault::SilentUpgrade => {
            upgrade(stream).await?;
            match route {
                // A command may be silent for any time. The library asks whether it has ended.
                Route::ExecStart | Route::Attach => drain(stream).await,
                _ => Ok(()),
            }
        }
    }
}
