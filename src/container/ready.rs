//! Waiting until a container is ready to be lent: see [`Ready`](crate::Ready).

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::handle::Handle;
use super::heard::Heard;
use super::look::{finish, read_files};
use super::shared::Shared;
use super::supervise::CommandEnd;
use crate::agent::{AgentFile, Role};
use crate::engine::{Attachment, EngineError, EngineErrorKind, ExecRequest, Health};
use crate::runtime::bounded;
use crate::spec::{ASK, Ready, Sign};
use crate::values::shown::Rounded;

/// The kernel's lists of TCP sockets.
const SOCKETS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The kernel's number of the state of a socket that listens.
const LISTENS: &str = "0A";

/// The pause after a look that has not shown the sign, which doubles from look to look, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How long one look may take where it can be ended alone.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// How long the signs of a container may take that another process has left.
const LEFT_BY_OTHERS: Duration = Duration::from_secs(2);

/// How long after a look that has failed the engine may take to notice that the container has ended.
const LATE_END: Duration = Duration::from_secs(2);

/// How much of the output of a command an error quotes, in bytes.
const QUOTED: usize = 256;

/// How many bytes of an answer have its status: `HTTP/1.1 200`.
const HEAD: usize = 12;

/// Listens to the container's own command, where that is PID 1, from its start until it is ready.
pub(super) struct Listener {
    heard: Arc<Heard>,
    /// Closed at the end of the output.
    ended: watch::Receiver<()>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Returns the last words of a PID 1 that has ended, once its output has ended too, or the limit has passed.
    pub(super) async fn last_words(&self, limit: Duration) -> String {
        // Nobody sends: an error says that the output has ended.
        let _ = timeout(limit, self.ended.clone().changed()).await;
        self.heard.last_words()
    }
}

/// Holds the sign or the hook that is waited for, for the errors. That of a container that is being created is in its [`Shared`], where
/// others see it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// `None`: nothing is waited for.
    awaited: Mutex<Option<Awaited>>,
    /// Cancelled when nobody wants the container any more.
    unwanted: CancellationToken,
    /// The signs were waited for until nobody wanted the container.
    was_given_up: AtomicBool,
}

#[derive(Debug)]
enum Awaited {
    Sign {
        sign: String,
        /// The finding of the last look.
        seen: String,
        /// The output of PID 1, where the library listens to it.
        heard: Option<Arc<Heard>>,
    },
    /// The end of the function of this name, which the user has given.
    Hook(&'static str),
}

impl Waiting {
    fn begin(&self, sign: &Ready, heard: Option<&Arc<Heard>>) {
        *self.awaited.lock() = Some(Awaited::Sign {
            sign: sign.to_string(),
            seen: String::new(),
            heard: heard.cloned(),
        });
    }

    fn saw(&self, what: String) {
        if let Some(Awaited::Sign { seen, .. }) = &mut *self.awaited.lock() {
            *seen = what;
        }
    }

    fn end(&self) {
        *self.awaited.lock() = None;
    }

    /// Returns the error of a container whose own command has ended.
    fn ended(&self, end: CommandEnd) -> EngineError {
        let words = self.words("not ready", &end.words, &end.last_words);
        match end.never_began {
            Some(advice) => EngineError::new(EngineErrorKind::CannotStart, words).advise(advice),
            None => EngineError::new(EngineErrorKind::NotReady, words),
        }
    }

    /// Returns the error of a container that did not get ready.
    fn error(&self, how: &str, end: &str, last_words: &str) -> EngineError {
        EngineError::new(EngineErrorKind::NotReady, self.words(how, end, last_words))
    }

    fn words(&self, how: &str, end: &str, last_words: &str) -> String {
        let mut message = how.to_owned();
        match &*self.awaited.lock() {
            Some(Awaited::Sign { sign, seen, .. }) => {
                message += &format!(": waited for {sign}");
                if !seen.is_empty() {
                    message += &format!(", and saw: {seen}");
                }
            }
            Some(Awaited::Hook(name)) => message += &format!(": {name} has not ended yet"),
            None => {}
        }
        if !end.is_empty() {
            message += &format!("; {end}");
        }
        if !last_words.is_empty() {
            message += &format!("; the last words of the container's command: {last_words}");
        }
        message
    }
}

impl Handle {
    /// Begins to listen to PID 1, where it is a command of the spec's own that is to get ready. Called before the start.
    pub(super) async fn listen(&self) -> Result<Option<Listener>, EngineError> {
        let shared = &**self.shared();
        let ready = &shared.spec.ready;
        if ready.is_at_once() || shared.spec.has_lifeline() {
            return Ok(None);
        }
        let attach = shared.engine.attach(shared.id());
        let Attachment { stdin, output } = match bounded("the attach to a container", shared.call_timeout, attach).await
        {
            Ok(streams) => streams,
            // Then there are no last words.
            Err(error) if ready.texts().next().is_none() => {
                tracing::debug!(container = shared.name(), %error, "the output of PID 1 cannot be heard");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let heard = Arc::new(Heard::looking_for(ready.texts()));
        let (end, ended) = watch::channel(());
        let task = shared.runtime.spawn({
            let heard = heard.clone();
            async move {
                let (_end, _stdin) = (end, stdin);
                // An output that breaks off has ended too.
                let _ = heard.hear_all(output).await;
            }
        });
        Ok(Some(Listener {
            heard,
            ended,
            _task: AbortOnDropHandle::new(task),
        }))
    }

    /// Waits until the container, which has just started, shows all signs.
    pub(super) async fn wait_until_ready(&self, listener: Option<Listener>) -> Result<(), EngineError> {
        let shared = &**self.shared();
        let ready = shared.wait_until_ready(listener.as_ref(), shared.spec.ready.limit, &shared.waiting);
        let shown = ready.await;
        shared.waiting.end();
        shown
    }

    /// Fails unless the container, which another process has left, shows all signs at once.
    pub(super) async fn must_be_ready(&self) -> Result<(), EngineError> {
        let waiting = Waiting::default();
        self.shared().wait_until_ready(None, LEFT_BY_OTHERS, &waiting).await
    }
}

impl Shared {
    /// Waits until the container, which was cleaned, shows all signs once more.
    pub(crate) async fn get_ready_again(&self) -> Result<(), EngineError> {
        let waiting = Waiting::default();
        self.wait_until_ready(None, self.spec.ready.limit, &waiting).await
    }

    /// Returns the error of a container that was to show a sign, and whose own command has ended before anybody looked.
    pub(super) fn ended_before_ready(&self, end: CommandEnd) -> EngineError {
        let waiting = Waiting::default();
        if let Some(sign) = self.spec.ready.signs.first() {
            waiting.begin(sign, None);
        }
        waiting.ended(end)
    }

    /// Gives up the wait for the signs of a container that is being created, now or when it begins. It fails then, and
    /// [`was_given_up`](Self::was_given_up) tells why.
    pub(crate) fn give_up(&self) {
        self.waiting.unwanted.cancel();
    }

    /// Returns whether the container did not get ready because the wait was given up.
    pub(crate) fn was_given_up(&self) -> bool {
        self.waiting.was_given_up.load(Ordering::Acquire)
    }

    /// Notes that the container, which is being created, is there once this function of the user ends.
    pub(crate) fn begin_hook(&self, name: &'static str) {
        *self.waiting.awaited.lock() = Some(Awaited::Hook(name));
    }

    /// Notes that the function has ended.
    pub(crate) fn end_hook(&self) {
        self.waiting.end();
    }

    /// Returns whether the container is being created, and something is waited for.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.awaited.lock().is_some()
    }

    /// Returns what the container, which is being created, still waits for.
    pub(crate) fn not_ready_yet(&self) -> Option<EngineError> {
        let (last_words, advice) = match &*self.waiting.awaited.lock() {
            Some(Awaited::Sign { heard, .. }) => {
                let heard = heard.as_deref().or_else(|| self.heard());
                let last_words = heard.map(Heard::last_words).unwrap_or_default();
                (last_words, "see acquire_timeout() and ready_when()")
            }
            Some(Awaited::Hook(_)) => (String::new(), "see acquire_timeout() and hook_timeout()"),
            None => return None,
        };
        Some(self.waiting.error("not ready yet", "", &last_words).advise(advice))
    }

    async fn wait_until_ready(
        &self,
        listener: Option<&Listener>,
        limit: Duration,
        waiting: &Waiting,
    ) -> Result<(), EngineError> {
        if self.spec.ready.is_at_once() {
            return Ok(());
        }
        let heard = match listener {
            Some(listener) => Some(&*listener.heard),
            None => self.heard(),
        };
        let last_words = || heard.map(Heard::last_words).unwrap_or_default();
        let signs = async {
            for sign in self.spec.ready.signs.iter() {
                waiting.begin(sign, listener.map(|listener| &listener.heard));
                self.wait_for(sign.sign(), heard, waiting).await?;
            }
            Ok::<_, EngineError>(())
        };
        tokio::select! {
            biased;
            shown = timeout(limit, signs) => match (shown, self.end_of_command()) {
                (Ok(Ok(())), _) => Ok(()),
                // The end of its command, whose words these are, has brought the error about.
                (Ok(Err(_)), Some(_)) => Err(waiting.ended(self.end_of_server(listener).await)),
                (Ok(Err(error)), None) => {
                    // Nothing can be looked at in a container that has just ended, and the engine may notice the end late.
                    let may_have_ended = self.is_supervised() || self.has_own_command();
                    if may_have_ended
                        && error.kind() != EngineErrorKind::Unsupported
                        && let Ok(end) = timeout(LATE_END, self.end_of_server(listener)).await
                    {
                        return Err(waiting.ended(end));
                    }
                    waiting.saw(String::new());
                    let how = "it cannot be known whether the container is ready";
                    Err(waiting.error(how, &error.to_string(), &last_words()).of_settings())
                }
                (Err(_), _) => Err(waiting.error(&format!("not ready within {}", Rounded(limit)), "", &last_words())),
            },
            end = self.end_of_server(listener) => Err(waiting.ended(end)),
            () = waiting.unwanted.cancelled() => {
                waiting.was_given_up.store(true, Ordering::Release);
                Err(waiting.error("not ready when it was given up", "", &last_words()))
            }
        }
    }

    /// Waits for the end of the container's own command. Waits for ever if there is none.
    async fn end_of_server(&self, listener: Option<&Listener>) -> CommandEnd {
        if self.is_supervised() {
            return self.supervised_end().await.unwrap_or_else(|| CommandEnd {
                words: "the container has ended".to_owned(),
                last_words: String::new(),
                never_began: None,
            });
        }
        if self.spec.has_lifeline() {
            return pending().await;
        }
        if let Some(listener) = listener {
            // Nobody sends: an error says that the output has ended.
            let _ = listener.ended.clone().changed().await;
        }
        let code = loop {
            // The engine may notice the end late, and the output may have broken off before it.
            if let Some(code) = self.look_at_end().await {
                break code;
            }
            sleep(LONGEST_PAUSE).await;
        };
        let words = listener.map(|listener| listener.heard.last_words()).unwrap_or_default();
        self.end_of_pid1(code, words)
    }

    /// Waits until the container shows a sign. Fails where no look can show it.
    async fn wait_for(&self, sign: &Sign, heard: Option<&Heard>, waiting: &Waiting) -> Result<(), EngineError> {
        if let Sign::Log(text) = sign {
            let Some(heard) = heard else {
                let message = "the output of its command is not known here";
                return Err(EngineError::new(EngineErrorKind::Unsupported, message));
            };
            heard.text(text).await;
            return Ok(());
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match self.look_for(sign).await {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => waiting.saw(seen),
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => waiting.saw(error.to_string()),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns whether the next look would fail in the same way.
    fn is_final(&self, error: &EngineError) -> bool {
        use EngineErrorKind::{CannotStart, Rejected, Unsupported};

        let is_lost = self.agent().is_some_and(|agent| agent.lost().is_some());
        let is_gone = is_lost || error.says_gone();
        // The end of the container's own command is waited for, and tells more.
        let is_told = self.is_supervised() || !self.spec.has_lifeline();
        is_gone && !is_told || matches!(error.kind(), CannotStart | Rejected | Unsupported)
    }

    /// Looks once. Returns `None` if the container shows the sign, and else what was seen.
    async fn look_for(&self, sign: &Sign) -> Result<Option<String>, EngineError> {
        match sign {
            Sign::Tcp(port) => {
                let look = read_files(self, &SOCKETS).await?;
                let lists = SOCKETS.iter().filter_map(|path| look.file(path));
                let is_open = lists.flat_map(str::lines).any(|line| listens(line, *port));
                Ok((!is_open).then(|| "nothing listens there".to_owned()))
            }
            Sign::Http { path, status, port } => match self.ask(port.unwrap_or_default(), path).await? {
                Ok(found) if found == *status => Ok(None),
                Ok(found) => Ok(Some(format!("the status {found}"))),
                Err(words) => Ok(Some(words)),
            },
            Sign::Command(argv) => self.run(argv).await,
            Sign::Healthcheck => {
                let inspect = self.engine.inspect(self.id());
                match bounded("an inspect", self.call_timeout, inspect).await?.health {
                    Some(Health::Healthy) => Ok(None),
                    Some(health) => Ok(Some(format!("{health:?}"))),
                    None => {
                        let message = "the container has no health check: the image has no HEALTHCHECK";
                        Err(EngineError::new(EngineErrorKind::Unsupported, message))
                    }
                }
            }
            // Awaited, and not looked for.
            Sign::Log(_) => Ok(None),
        }
    }

    /// Runs a command as one of a lease, and looks at its end.
    async fn run(&self, argv: &[String]) -> Result<Option<String>, EngineError> {
        let request = ExecRequest::new(argv);
        let place = self.place(&request).await?;
        let limit = place.is_some().then_some(ONE_LOOK);
        let ended = finish(self.exec(place, &request, Role::Command, limit).await?).await?;
        Ok(match ended.code {
            Some(0) => None,
            code => {
                let code = code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
                let words = ended.last_words(QUOTED);
                let colon = if words.is_empty() { "" } else { ": " };
                Some(format!("{code}{colon}{words}"))
            }
        })
    }

    /// Asks a web server for a page. Returns the status, or words for what came in its place.
    async fn ask(&self, port: u16, path: &str) -> Result<Result<u16, String>, EngineError> {
        let program = self.spec.decided.agent.as_ref().map(AgentFile::program);
        let (Some(agent), Some(program)) = (self.agent(), program) else {
            let Some(address) = self.look_at_port(port) else {
                let message = format!("without the agent, port {port} must be published: see publish()");
                return Err(EngineError::new(EngineErrorKind::Unsupported, message));
            };
            return Ok(match timeout(ONE_LOOK, ask_from_here(address, path)).await {
                Ok(Ok(head)) => status(&head),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            });
        };
        let request = ExecRequest::new([program, ASK, &port.to_string(), path]);
        let session = agent.exec(agent.place().await?, &request, Role::Command, Some(ONE_LOOK))?;
        let ended = finish(session).await?;
        match ended.code {
            Some(0) => Ok(status(&ended.stdout)),
            Some(AS_PID_1) => {
                let message = "the agent is older than Ready::http(): see agent_path()";
                Err(EngineError::new(EngineErrorKind::Unsupported, message))
            }
            // The number of an error; no larger one is among the exit codes of a program that was killed.
            Some(code @ 1..=127) => Ok(Err(io::Error::from_raw_os_error(code as i32).to_string())),
            _ => Ok(Err("no answer".to_owned())),
        }
    }
}

/// The exit code of an agent that does not know a word, and takes itself for one that is to become PID 1.
const AS_PID_1: i64 = 125;

/// Returns whether a line of the kernel's list is a socket that listens on this port.
fn listens(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next(), words.next(), words.next());
    let local = local.and_then(|local| local.rsplit_once(':'));
    let is_port = local.is_some_and(|(_, number)| u16::from_str_radix(number, 16) == Ok(port));
    is_port && state == Some(LISTENS)
}

/// Returns the status of an answer that begins with these bytes.
fn status(head: &[u8]) -> Result<u16, String> {
    let text = String::from_utf8_lossy(head);
    let of_http = || text.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok();
    of_http().ok_or_else(|| match head {
        [] => "a connection that was closed without an answer".to_owned(),
        _ => format!("an answer that begins with {text:?}"),
    })
}

/// Asks a web server through a port of the engine's machine. Returns the beginning of its answer.
async fn ask_from_here(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: dockerpool\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    server.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(HEAD);
    server.take(HEAD as u64).read_to_end(&mut head).await?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_listens_is_told_from_others_by_the_kernels_list() {
        let of_redis = "   0: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 1 1 0 100 0 0 10 0";
        let of_version_6 = "   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0";
        let connected =
            "   1: 0100007F:18EB 0100007F:C350 01 00000000:00000000 00:00000000 00000000   999        0 2 1 0 20 4";
        let other_end =
            "   2: 0100007F:C350 0100007F:18EB 0A 00000000:00000000 00:00000000 00000000   999        0 3 1 0 20 4";
        assert!(listens(of_redis, 6379) && listens(of_version_6, 6379));
        assert!(!listens(connected, 6379) && !listens(other_end, 6379));
        assert!(!listens(of_redis, 6380));
        assert!(!listens("  sl  local_address rem_address   st tx_queue rx_queue", 6379));
        assert!(!listens("", 6379));
    }

    #[test]
    fn the_status_of_an_answer_is_found_in_its_first_bytes() {
        assert_eq!(status(b"HTTP/1.1 200"), Ok(200));
        assert_eq!(status(b"HTTP/1.0 404"), Ok(404));
        for other in ["", "HTTP/1.1 ", "HTTP/1.1 abc", "SSH-2.0-Open", "\x15\x03\x01"] {
            assert!(status(other.as_bytes()).is_err(), "{other:?}");
        }
    }
}
