//! One question to a lab's supervisor, and what comes of it.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, timeout};

use super::directory::{LabDirectory, user};
use super::protocol::{Answer, Request, VERSION};
use crate::error::{Error, Exit};

/// A supervisor answers at once, however busy its guests are.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a supervisor may take until it listens and greets: it starts its guests first.
const START_TIME: Duration = Duration::from_secs(10);
/// Between two attempts.
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of a console or capture that are read at once.
const CHUNK: usize = 64 << 10;

/// A connection to a supervisor that has greeted.
#[derive(Debug)]
pub struct Client {
    lab: LabDirectory,
    input: Input,
    output: OwnedWriteHalf,
}

/// What the supervisor says.
#[derive(Debug)]
struct Input(BufReader<OwnedReadHalf>);

impl Client {
    /// Connects to the lab's supervisor.
    ///
    /// # Errors
    /// [`Exit::NothingSelected`] if there is no such lab or its supervisor is gone,
    /// [`Exit::Timeout`] if it does not greet, [`Exit::Failed`] if it may not be asked or speaks
    /// another version of the protocol.
    pub async fn connect(lab: &LabDirectory) -> Result<Self, Error> {
        lab.check()?;
        let stream = reach(lab).await.map_err(|error| cannot_connect(lab, error))?;
        // Whatever was there a moment ago.
        if stream.peer_cred().is_ok_and(|peer| peer.uid() != user()) {
            return Err(not_ours(lab));
        }
        let (input, output) = stream.into_split();
        let mut client = Self { lab: lab.clone(), input: Input(BufReader::new(input)), output };
        let hello = match timeout(START_TIME, client.input.document()).await {
            Ok(hello) => hello.map_err(|error| client.broken(error))?,
            Err(_) => return Err(client.silent(START_TIME)),
        };
        client.check(hello)?;
        Ok(client)
    }

    fn check(&self, hello: Option<Value>) -> Result<(), Error> {
        let Some(hello) = hello else { return Err(self.gone()) };
        // Of another version only this much is certain.
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        let Version { protocol } =
            Version::deserialize(&hello).map_err(|error| self.broken(error.into()))?;
        if protocol == VERSION {
            return Ok(());
        }
        let version = hello["labctl"].as_str().unwrap_or("unknown");
        let message = format!(
            "lab `{}` is run by labctl {version}, which speaks version {protocol} of the control \
             protocol; this labctl speaks version {VERSION}",
            self.lab.name()
        );
        Err(Error::new(Exit::Failed, message).help("use the labctl that the lab was started with"))
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// What the supervisor answers, or that it does not.
    pub async fn ask<T: DeserializeOwned>(mut self, request: &Request) -> Result<T, Error> {
        let answer = self.answer(request).await?;
        serde_json::from_value(answer).map_err(|error| self.broken(error.into()))
    }

    /// Asks for a stream of documents.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn stream(mut self, request: &Request) -> Result<Documents, Error> {
        self.answer(request).await?;
        Ok(Documents(self))
    }

    /// Asks for a connection that carries bytes.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn bytes(mut self, request: &Request) -> Result<(ByteReader, ByteWriter), Error> {
        self.answer(request).await?;
        Ok((ByteReader(self.input), ByteWriter(self.output)))
    }

    async fn answer(&mut self, request: &Request) -> Result<Value, Error> {
        let patience = patience(request);
        let asked = async {
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            self.output.write_all(&line).await?;
            self.input.document().await
        };
        match timeout(patience, asked).await {
            Ok(Ok(Some(Answer::Ok(document)))) => Ok(document),
            Ok(Ok(Some(Answer::Error(refusal)))) => Err(refusal.into()),
            Ok(Ok(None)) => Err(self.gone()),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(self.silent(patience)),
        }
    }

    fn gone(&self) -> Error {
        let message = format!("the supervisor of lab `{}` has ended", self.lab.name());
        Error::new(Exit::Failed, message).help(match self.lab.last_words() {
            Some(log) => format!("its last words are in {}", log.display()),
            None => "labctl ps --all shows what is there".to_owned(),
        })
    }

    fn broken(&self, error: io::Error) -> Error {
        if is_hang_up(&error) {
            return self.gone();
        }
        let message = format!("cannot understand the supervisor of lab `{}`", self.lab.name());
        Error::new(Exit::Failed, message).because(error)
    }

    fn silent(&self, patience: Duration) -> Error {
        let message = format!(
            "the supervisor of lab `{}` has not answered for {} s",
            self.lab.name(),
            patience.as_secs()
        );
        Error::new(Exit::Timeout, message).help("labctl ps says which process it is")
    }
}

impl Input {
    /// The next line as a document; `None` at the end.
    async fn document<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).await?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Documents as they come. Dropping it hangs up.
#[derive(Debug)]
pub struct Documents(Client);

impl Documents {
    /// The next one; `None` once the supervisor has hung up.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        self.0.input.document().await.map_err(|error| self.0.broken(error))
    }
}

/// What a guest prints, or a capture.
#[derive(Debug)]
pub struct ByteReader(Input);

impl ByteReader {
    /// The next bytes; none once the supervisor has hung up, or was killed.
    ///
    /// # Errors
    /// If the connection is broken in another way.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(CHUNK);
        match self.0.0.read_buf(&mut bytes).await {
            Err(error) if !is_hang_up(&error) => Err(error),
            _ => Ok(bytes),
        }
    }
}

/// What a guest reads.
#[derive(Debug)]
pub struct ByteWriter(OwnedWriteHalf);

impl ByteWriter {
    /// Sends some of the bytes, and says how many. That the supervisor has hung up is told by the
    /// [`ByteReader`].
    ///
    /// # Errors
    /// If the connection is broken in another way.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes).await {
            Err(error) if is_hang_up(&error) => Ok(bytes.len()),
            written => written,
        }
    }

    /// Tells the supervisor that there is no more to come, so that it ends what it has begun.
    pub async fn finish(mut self) {
        // It may have ended before.
        let _ = self.0.shutdown().await;
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// How long the answer may take: what boots or stops guests takes its time.
fn patience(request: &Request) -> Duration {
    match request {
        Request::Wait { timeout_ms } => Duration::from_millis(*timeout_ms) + PATIENCE,
        Request::Apply { .. } | Request::Down | Request::Restart { .. } => Duration::from_secs(60),
        _ => PATIENCE,
    }
}

/// Connects as soon as the supervisor listens, which one that has just taken the lab does not yet.
async fn reach(lab: &LabDirectory) -> io::Result<UnixStream> {
    let deadline = Instant::now() + START_TIME;
    loop {
        let stream = UnixStream::connect(lab.socket()).await;
        let early = stream.as_ref().err().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        });
        if !early || lab.holder().is_none() || Instant::now() >= deadline {
            return stream;
        }
        sleep(LISTEN_PAUSE).await;
    }
}

/// The process that listens on the lab's socket, as the kernel knows it; `None` if nobody does.
pub async fn listener(lab: &LabDirectory) -> Option<u32> {
    lab.check().ok()?;
    let stream = UnixStream::connect(lab.socket()).await.ok()?;
    stream.peer_cred().ok()?.pid()?.try_into().ok()
}

fn not_ours(lab: &LabDirectory) -> Error {
    Error::new(Exit::Failed, format!("lab `{}` belongs to somebody else", lab.name()))
}

fn cannot_connect(lab: &LabDirectory, error: io::Error) -> Error {
    let name = lab.name();
    if error.kind() == io::ErrorKind::PermissionDenied {
        return not_ours(lab).because(error);
    }
    match lab.holder() {
        Some(pid) => {
            let message = format!("the supervisor of lab `{name}` (process {pid}) does not listen");
            let help = "it may be about to begin or to end: try again";
            Error::new(Exit::NothingSelected, message).because(error).help(help)
        }
        None if lab.path().exists() => {
            let message = format!("lab `{name}` is dead: its supervisor is gone");
            let words = match lab.last_words() {
                Some(log) => format!("; its last words are in {}", log.display()),
                None => String::new(),
            };
            Error::new(Exit::NothingSelected, message).help(up_again(lab) + &words)
        }
        None => no_such_lab(name),
    }
}

/// What brings a dead lab back.
fn up_again(lab: &LabDirectory) -> String {
    let up = match lab.record() {
        Some(of) if of.is_from_a_pipe() => {
            return "`labctl up -` with the same lab file on stdin brings it back".to_owned();
        }
        Some(of) => format!("labctl up {}", of.file.display()),
        None => "labctl up".to_owned(),
    };
    format!("`{up}` brings it back; nothing needs to be repaired")
}

fn no_such_lab(name: &str) -> Error {
    Error::new(Exit::NothingSelected, format!("lab `{name}` does not run")).help(what_runs())
}

/// Which labs could have been meant.
fn what_runs() -> String {
    match running().unwrap_or_default().as_slice() {
        [] => "no lab runs; `labctl up` starts one".to_owned(),
        labs => {
            let names: Vec<_> = labs.iter().map(LabDirectory::name).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// The labs that somebody runs, by name.
///
/// # Errors
/// If they cannot be listed.
pub fn running() -> Result<Vec<LabDirectory>, Error> {
    Ok(LabDirectory::all()?.into_iter().filter(|lab| lab.holder().is_some()).collect())
}

/// The lab that is meant: the one of that name or, where none is given, `here`, the lab of the file
/// in this directory; where there is no file either, the only one that runs.
///
/// # Errors
/// [`Exit::NothingSelected`] if none can be meant, [`Exit::Usage`] if several can.
pub fn select(given: Option<&str>, here: Option<&str>) -> Result<LabDirectory, Error> {
    if let Some(name) = given.or(here) {
        // Anything else could lead out of the directory of labs.
        let is_name = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = !name.is_empty() && name.as_bytes().iter().all(is_name);
        let lab = is_name.then(|| LabDirectory::named(name));
        return lab.filter(|lab| lab.path().exists()).ok_or_else(|| no_such_lab(name));
    }
    let mut running = running()?;
    match (running.pop(), running.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => Err(Error::new(Exit::NothingSelected, "no lab runs")
            .help("`labctl up` starts one; `labctl ps --all` shows dead ones too")),
        (Some(_), _) => Err(Error::new(Exit::Usage, "several labs run")
            .help(format!("name one with --lab; {}", what_runs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;
    use tokio::net::UnixListener;

    use super::*;
    use crate::control::directory::{Record, create_private};
    use crate::control::protocol::Event;

    /// A lab's directory with a socket, where one client is told what `says` and then hung up on.
    struct Fake {
        lab: LabDirectory,
        listener: UnixListener,
    }

    impl Fake {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("labctl-{test}-{}", std::process::id()));
            let lab = LabDirectory { path: root.join("pair") };
            create_private(lab.path()).unwrap();
            let listener = UnixListener::bind(lab.socket()).unwrap();
            Self { lab, listener }
        }

        /// Greets, reads a request and says `lines`. Returns the request.
        async fn serve(&self, protocol: u32, lines: &str) -> String {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let hello = json!({ "protocol": protocol, "labctl": "9.9", "lab": "pair", "pid": 1 });
            stream.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
            let (input, mut output) = stream.split();
            let mut request = String::new();
            BufReader::new(input).read_line(&mut request).await.unwrap();
            // A client that met the wrong version does not listen any more.
            let _ = output.write_all(lines.as_bytes()).await;
            request
        }

        /// What asking for the events comes to while `lines` is said.
        async fn events(&self, lines: &str) -> Result<Vec<Event>, Error> {
            let ask = async {
                let request = Request::Events { follow: false };
                let mut stream = Client::connect(&self.lab).await?.stream(&request).await?;
                let mut events = Vec::new();
                while let Some(event) = stream.next().await? {
                    events.push(event);
                }
                Ok(events)
            };
            tokio::join!(ask, self.serve(VERSION, lines)).0
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let root = self.lab.path().parent().map(PathBuf::from);
            let _ = std::fs::remove_dir_all(root.unwrap());
        }
    }

    #[tokio::test]
    async fn a_question_is_answered() {
        let fake = Fake::new("answer");
        let ask = async { Client::connect(&fake.lab).await?.ask(&Request::Links).await };
        let (answer, request) = tokio::join!(ask, fake.serve(VERSION, "{\"ok\":[1,2]}\n"));
        let answer: Vec<u8> = answer.unwrap();
        assert_eq!((answer, request.as_str()), (vec![1, 2], "{\"request\":\"links\"}\n"));
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_exit_code_and_words() {
        let fake = Fake::new("refusal");
        let refusal = json!({ "error": {
            "exit": 4, "message": "there is no guest `x`", "causes": ["why"], "help": "try y",
        }});
        let error = fake.events(&format!("{refusal}\n")).await.unwrap_err();
        assert_eq!(error.exit(), Exit::NothingSelected);
        let text = error.render(false, Some(100));
        for words in ["there is no guest `x`", "why", "try y"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[tokio::test]
    async fn documents_come_until_the_supervisor_hangs_up() {
        let fake = Fake::new("stream");
        let event = json!({ "at_ms": 1, "event": "e", "subject": null, "detail": null });
        let events = fake.events(&format!("{{\"ok\":null}}\n{event}\n{event}\n")).await.unwrap();
        assert_eq!(events.len(), 2);
        let error = fake.events(&format!("{{\"ok\":null}}\n{event}\n{{\"at")).await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "cut off: {error}");
        let error = fake.events("").await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "no answer: {error}");
        let error = fake.events("{\"ok\":null}\nnonsense\n").await.unwrap_err();
        assert!(error.to_string().contains("cannot understand"), "{error}");
    }

    #[tokio::test]
    async fn bytes_follow_the_answer_at_once() {
        let fake = Fake::new("bytes");
        let ask = async {
            let request = Request::Console { guest: "left".into() };
            let (mut reader, _writer) =
                Client::connect(&fake.lab).await?.bytes(&request).await.unwrap();
            let mut all = Vec::new();
            loop {
                match reader.next().await.unwrap() {
                    bytes if bytes.is_empty() => return Ok::<_, Error>(all),
                    bytes => all.extend(bytes),
                }
            }
        };
        let (all, _) = tokio::join!(ask, fake.serve(VERSION, "{\"ok\":null}\nlogin: "));
        assert_eq!(all.unwrap(), b"login: ");
    }

    #[tokio::test]
    async fn another_version_is_told_from_nonsense() {
        let fake = Fake::new("version");
        let (client, _) = tokio::join!(Client::connect(&fake.lab), async {
            let _ = timeout(Duration::from_millis(200), fake.serve(99, "")).await;
        });
        let error = client.unwrap_err().to_string();
        assert!(error.contains("labctl 9.9") && error.contains("version 99"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_waited_for() {
        let fake = Fake::new("silence");
        let error = Client::connect(&fake.lab).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Timeout);
        let long = Request::Wait { timeout_ms: 60_000 };
        assert!(patience(&long) > Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lab_without_supervisor_is_dead() {
        let fake = Fake::new("dead");
        let lab = fake.lab.clone();
        std::fs::remove_file(lab.socket()).unwrap();
        let error = Client::connect(&lab).await.unwrap_err();
        assert_eq!(error.exit(), Exit::NothingSelected);
        assert!(error.to_string().contains("is dead"), "{error}");
        let help = |error: Error| miette::Diagnostic::help(&error).map(|help| help.to_string());
        assert!(help(error).unwrap().starts_with("`labctl up` brings it back"));
        std::fs::write(lab.log(), "a bug").unwrap();
        let words = help(Client::connect(&lab).await.unwrap_err()).unwrap();
        assert!(words.contains(&lab.log().display().to_string()), "{words}");
        let lock = lab.lock().unwrap();
        let error = Client::connect(&lab).await.unwrap_err();
        assert!(error.to_string().contains("does not listen"), "{error}");
        lock.record(&Record::new(Path::new("/labs/-"), 1)).unwrap();
        let record = std::fs::read(lab.path().join("lab.json")).unwrap();
        drop(lock);
        create_private(lab.path()).unwrap();
        std::fs::write(lab.path().join("lab.json"), record).unwrap();
        let words = help(Client::connect(&lab).await.unwrap_err()).unwrap();
        assert!(words.contains("`labctl up -` with the same lab file on stdin"), "{words}");
        drop(lab.lock().unwrap());
        let error = Client::connect(&lab).await.unwrap_err();
        assert_eq!(error.exit(), Exit::NothingSelected);
        assert!(error.to_string().contains("does not run"), "{error}");
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in ["..", ".", "a/b", "/", "", "no-such-lab-is-here"] {
            let error = select(Some(name), None).unwrap_err();
            assert_eq!(error.exit(), Exit::NothingSelected, "{name}");
        }
    }
}
