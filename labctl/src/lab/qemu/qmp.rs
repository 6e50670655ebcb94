//! QEMU's monitor: one JSON object a line, each way (QEMU Machine Protocol).

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// How long QEMU may take to start, for which its first answer waits, and to get ready.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer once its machine runs: whoever asks waits, and others for him.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection to a monitor.
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Waits for the monitor's greeting and accepts it.
    ///
    /// # Errors
    /// If QEMU ends, or does not answer in time.
    pub fn open(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(START_PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.receive()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// From now on it is to answer at once.
    ///
    /// # Errors
    /// Not in practice.
    pub fn has_started(&self) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(Some(PATIENCE))
    }

    /// Executes a command and returns what it returns.
    ///
    /// # Errors
    /// If QEMU refuses, ends, or does not answer in time.
    pub fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.0.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.receive()?;
            if let Some(error) = answer.pointer("/error/desc").and_then(Value::as_str) {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
            // Anything else is an event.
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A monitor that says these lines, whatever it is asked.
    fn monitor(lines: &'static str) -> io::Result<Qmp> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(lines.as_bytes()).unwrap();
        // Reads until we hang up, so that no answer is lost to a closed connection.
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        thread::spawn(move || io::copy(&mut theirs, &mut io::sink()));
        Qmp::open(ours)
    }

    #[test]
    fn answers_are_told_from_events_and_errors() {
        let mut qmp = monitor(
            "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": [7]}\n\
             {\"error\": {\"class\": \"GenericError\", \"desc\": \"no such NIC\"}}\n",
        )
        .unwrap();
        assert_eq!(qmp.execute("cont", json!({})).unwrap(), json!([7]));
        let error = qmp.execute("set_link", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "set_link: no such NIC");
        let error = qmp.execute("quit", json!({})).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_monitor_that_does_not_greet_is_an_error() {
        assert!(monitor("").is_err());
        assert!(monitor("hello\n").is_err());
    }
}
