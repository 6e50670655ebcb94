//! The supervisor's end of the control socket: a task for each connection.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use vmm_core::cable::{Captured, PcapngWriter};
use vmm_core::serial::SerialInput;

use super::Readiness;
use super::history::Follower;
use super::requests::{Call, Capturing, Reply};
use crate::control::protocol::{Answer, ExecOutput, Hello, Refusal, Request, VERSION};
use crate::error::{Error, Exit};
use crate::lab::{Output, RunningCommand, Watcher};

/// The longest request: a lab file of the greatest length, every byte escaped.
const REQUEST_MAX: u64 = 8 << 20;

/// How long a client may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// How long typed bytes wait for a guest that does not read, at first and in the end.
const TYPING_PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// How long clients may take to read the last of what they asked for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves `lab` on a socket at `path`, as long as somebody answers calls.
///
/// # Errors
/// If the event loop cannot watch the socket.
pub fn serve(
    listener: std::os::unix::net::UnixListener,
    lab: &str,
    calls: mpsc::Sender<Call>,
) -> io::Result<Serving> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let lab = lab.to_owned();
    Ok(Serving(tokio::spawn(async move {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = clients.join_next() => continue,
                () = calls.closed() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (lab, calls) = (lab.clone(), calls.clone());
                    clients.spawn(async move {
                        if let Err(error) = attend(stream, &lab, calls).await {
                            tracing::debug!(%error, "a client went away");
                        }
                    });
                }
                // Too many open files, say: later there may be room.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        // One who does not read must not keep the others from ending.
        let _ = tokio::time::timeout(LAST_WORDS, clients.join_all()).await;
    })))
}

/// Accepts connections until it is dropped.
pub struct Serving(JoinHandle<()>);

impl Serving {
    /// Once nobody answers calls any more: waits until clients have been told the last of what they
    /// asked for.
    pub async fn finish(mut self) {
        // A panic in there has been told.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One client's line to us, and ours to it.
struct Client {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

async fn attend(stream: UnixStream, lab: &str, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (from, to) = stream.into_split();
    let mut client = Client { from: BufReader::new(from), to };
    let (labctl, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
    client.say(&Hello { protocol: VERSION, labctl, lab: lab.to_owned(), pid }).await?;
    let mut line = Vec::new();
    let mut limited = (&mut client.from).take(REQUEST_MAX);
    tokio::select! {
        read = tokio::time::timeout(REQUEST_TIME, limited.read_until(b'\n', &mut line)) => read??,
        () = calls.closed() => return Ok(()),
    };
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => {
            let error = Error::new(Exit::Usage, "cannot read the request").because(error);
            return client.answer(Err(error)).await;
        }
    };
    let (reply, answer) = oneshot::channel();
    let gone = || Error::new(Exit::NothingSelected, format!("lab `{lab}` has ended"));
    let answer = match calls.send(Call { request, reply }).await {
        Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
        Err(_) => Err(gone()),
    };
    match answer {
        Err(error) => client.answer(Err(error)).await,
        Ok(Reply::Document(document)) => client.answer(Ok(document)).await,
        Ok(Reply::Ready(readiness, time)) => {
            let answer = ready(readiness, time).await.unwrap_or_else(|| Err(gone()));
            client.answer(answer).await
        }
        Ok(Reply::Log(follower)) => client.stream(follower).await,
        Ok(Reply::Events(follower)) => client.stream(follower).await,
        Ok(Reply::Console(watcher, keyboard)) => client.console(watcher, keyboard).await,
        Ok(Reply::Capture(capturing)) => client.capture(capturing, &calls).await,
        Ok(Reply::Exec(running)) => client.exec(running).await,
    }
}

/// Waits for the lab; `None` if it ends meanwhile.
async fn ready(
    mut readiness: watch::Receiver<Readiness>,
    time: Duration,
) -> Option<Result<Value, Error>> {
    let settled = async {
        let settled = readiness.wait_for(|now| now.ready || !now.failed.is_empty());
        Some(settled.await.ok()?.clone())
    };
    let Ok(settled) = tokio::time::timeout(time, settled).await else {
        let waiting = readiness.borrow().waiting.join(", ");
        let message = format!("not ready after {time:?}: {waiting}");
        return Some(Err(Error::new(Exit::Timeout, message)));
    };
    Some(match settled?.failed.first() {
        None => Ok(Value::Null),
        Some((guest, words)) => Err(Error::new(Exit::Failed, format!("guest `{guest}` {words}"))
            .help(format!("labctl logs {guest}"))),
    })
}

impl Client {
    async fn say(&mut self, document: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.to.write_all(&line).await
    }

    async fn answer(&mut self, answer: Result<Value, Error>) -> io::Result<()> {
        let answer = match answer {
            Ok(document) => Answer::Ok(document),
            Err(error) => Answer::Error(Refusal::from(&error)),
        };
        self.say(&answer).await
    }

    /// Sends what follows until it ends or the client hangs up.
    async fn stream<T: Serialize>(&mut self, mut follower: Follower<T>) -> io::Result<()> {
        self.answer(Ok(Value::Null)).await?;
        let mut ignored = [0; 64];
        loop {
            tokio::select! {
                item = follower.next() => match item {
                    Some(item) => self.say(&*item).await?,
                    None => return Ok(()),
                },
                count = self.from.read(&mut ignored) => if count? == 0 {
                    return Ok(());
                },
            }
        }
    }

    /// Sends a command's output until it ends. A client that hangs up hangs up on the command.
    async fn exec(&mut self, mut running: RunningCommand) -> io::Result<()> {
        self.answer(Ok(Value::Null)).await?;
        let mut ignored = [0; 64];
        loop {
            let output = tokio::select! {
                output = running.next() => output,
                count = self.from.read(&mut ignored) => match count? {
                    0 => return Ok(()),
                    _ => continue,
                },
            };
            match output {
                Some(Output::Out(bytes)) => {
                    self.say(&ExecOutput::Out(BASE64.encode(bytes))).await?
                }
                Some(Output::Err(bytes)) => {
                    self.say(&ExecOutput::Err(BASE64.encode(bytes))).await?
                }
                Some(Output::Exit(status)) => {
                    return self.say(&ExecOutput::Exit(status.into())).await;
                }
                None => return Ok(()),
            }
        }
    }

    /// Sends a pcapng file, until it is long enough, the client closes its end, or the lab ends.
    async fn capture(
        &mut self,
        capturing: Capturing,
        calls: &mpsc::Sender<Call>,
    ) -> io::Result<()> {
        self.answer(Ok(Value::Null)).await?;
        let Capturing { capture, interface, snap, mut left } = capturing;
        let application = concat!("labctl ", env!("CARGO_PKG_VERSION"));
        let mut writer = PcapngWriter::new(Vec::new(), application, &interface, snap)?;
        let (mut frames, mut ignored) = (Captured::default(), [0; 64]);
        let signal = capture.as_fd().try_clone_to_owned()?;
        #[expect(deprecated, reason = "unsound for descriptors that may close; an OwnedFd cannot")]
        let signal = AsyncFd::with_interest(signal, Interest::READABLE)?;
        let mut ended = false;
        loop {
            let written = std::mem::take(writer.get_mut());
            self.to.write_all(&written).await?;
            if left == 0 || ended {
                break;
            }
            tokio::select! {
                ready = signal.readable() => ready?.clear_ready(),
                count = self.from.read(&mut ignored) => ended = count? == 0,
                () = calls.closed() => ended = true,
            }
            capture.take(&mut frames);
            for frame in frames.iter().take(left.try_into().unwrap_or(usize::MAX)) {
                writer.write_frame(&frame)?;
                left -= 1;
            }
        }
        let end = writer.finish(&capture)?;
        self.to.write_all(&end).await
    }

    /// Shows the console, and types what the client sends, until either side ends.
    async fn console(
        mut self,
        mut watcher: Watcher,
        keyboard: Option<SerialInput>,
    ) -> io::Result<()> {
        self.answer(Ok(Value::Null)).await?;
        let Self { mut from, mut to } = self;
        let show = async {
            while let Some(bytes) = watcher.read().await {
                to.write_all(&bytes).await?;
            }
            io::Result::Ok(())
        };
        let type_in = async {
            let mut typed = [0; 1024];
            loop {
                let count = from.read(&mut typed).await?;
                if count == 0 {
                    return io::Result::Ok(());
                }
                let Some(keyboard) = &keyboard else { continue };
                let (mut left, [mut pause, longest]) = (&typed[..count], TYPING_PAUSES);
                while !left.is_empty() {
                    match keyboard.send(left) {
                        0 if has_hung_up(from.get_ref()) => return Ok(()),
                        0 => {
                            tokio::time::sleep(pause).await;
                            pause = longest.min(2 * pause);
                        }
                        taken => (left, pause) = (&left[taken..], TYPING_PAUSES[0]),
                    }
                }
            }
        };
        tokio::select! {
            shown = show => shown,
            typed = type_in => typed,
        }
    }
}

/// Whether a client has closed the connection, whatever it has sent that was not read yet. One that
/// has only no more to send still listens.
fn has_hung_up(from: &OwnedReadHalf) -> bool {
    let state = from.ready(Interest::WRITABLE).now_or_never();
    matches!(state, Some(Ok(state)) if state.is_write_closed())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmm_core::irq::InterruptLine;
    use vmm_core::serial::{INPUT_MAX, Serial};

    use super::*;
    use crate::lab::Screen;

    struct NoLine;

    impl InterruptLine for NoLine {
        fn set_level(&self, _high: bool) {}
    }

    /// A silent guest's serial port, a client's end of its console, and the task between them.
    async fn console() -> (Serial, UnixStream, JoinHandle<io::Result<()>>) {
        let serial = Serial::new(Arc::new(NoLine), Box::new(io::sink()));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (from, to) = ours.into_split();
        let client = Client { from: BufReader::new(from), to };
        let watcher = Screen::default().watch();
        let task = tokio::spawn(client.console(watcher, Some(serial.input())));
        let mut answer = String::new();
        BufReader::new(&mut theirs).read_line(&mut answer).await.unwrap();
        assert_eq!(answer, "{\"ok\":null}\n");
        (serial, theirs, task)
    }

    #[tokio::test]
    async fn who_hangs_up_on_a_guest_that_does_not_read_is_gone() {
        let (_serial, mut client, task) = console().await;
        client.write_all(&[b'x'; 2 * INPUT_MAX]).await.unwrap();
        // Until the guest takes no more.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!task.is_finished());
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), task)
            .await
            .expect("it ends")
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_reads_late_gets_all_that_was_typed() {
        let (mut serial, mut client, task) = console().await;
        let typed: Vec<u8> = (0..2 * INPUT_MAX).map(|byte| byte as u8).collect();
        client.write_all(&typed).await.unwrap();
        client.shutdown().await.unwrap();
        let mut register = |offset| {
            let mut data = [0];
            serial.read(offset, &mut data);
            data[0]
        };
        let mut seen = Vec::new();
        let read_all = async {
            while seen.len() < typed.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
                for _ in 0..100 {
                    while register(5) & 1 != 0 {
                        seen.push(register(0));
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), read_all).await.expect("all of it");
        assert!(seen == typed);
        task.await.unwrap().unwrap();
    }
}
