//! What labctl and the agent in a Linux guest say to each other: lines on the guest's second serial
//! port. `images/linux/README.md` has the protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

/// The protocol's version that we speak.
pub const VERSION: u32 = 1;

/// The longest command, in bytes.
pub const COMMAND_MAX: usize = 24 << 10;

/// The line that has the agent run `command` for the shell; `None` if it is longer than
/// [`COMMAND_MAX`]. The answers bear the `id`, which no command that still runs may have.
pub fn exec(id: u64, command: &str) -> Option<String> {
    let fits = command.len() <= COMMAND_MAX;
    fits.then(|| format!("exec {id} {}\n", BASE64.encode(command)))
}

/// The line that sends a signal to a running command and all it has started; `None` if `signal`
/// is no name such as `TERM`. Background commands, which these are, ignore `INT` and `QUIT`.
pub fn signal(id: u64, signal: &str) -> Option<String> {
    let is_name = !signal.is_empty() && signal.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then(|| format!("signal {id} {signal}\n"))
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest is up and takes requests.
    Hello {
        /// The protocol's version that it speaks.
        version: u32,
    },
    /// A command has written to its standard output.
    Out {
        /// Which one.
        id: u64,
        /// What it has written.
        bytes: Vec<u8>,
    },
    /// A command has written to its standard error.
    Err {
        /// Which one.
        id: u64,
        /// What it has written.
        bytes: Vec<u8>,
    },
    /// A command has ended; nothing more comes from it.
    Exit {
        /// Which one.
        id: u64,
        /// Its exit status; 128 + N after signal N.
        status: u8,
    },
}

/// What a line says; `None` if it is not one of the agent's.
pub fn parse(line: &str) -> Option<Event> {
    if line.starts_with('{') {
        return match serde_json::from_str(line).ok()? {
            Greeting::Hello { version } => Some(Event::Hello { version }),
        };
    }
    let mut words = line.split_ascii_whitespace();
    let (verb, id, argument) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let bytes = || BASE64.decode(argument).ok();
    let event = match verb {
        "out" => Event::Out { id, bytes: bytes()? },
        "err" => Event::Err { id, bytes: bytes()? },
        "exit" => Event::Exit { id, status: argument.parse().ok()? },
        _ => return None,
    };
    words.next().is_none().then_some(event)
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Greeting {
    Hello { version: u32 },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::path::Path;
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    use super::*;

    /// The guest's agent on pipes instead of a serial port.
    struct Agent {
        child: Child,
        requests: Option<ChildStdin>,
        answers: BufReader<ChildStdout>,
    }

    impl Agent {
        fn start() -> Self {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/linux/agent");
            let mut command = Command::new("busybox");
            command.arg("sh").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("busybox (Debian: busybox-static)");
            let requests = child.stdin.take();
            let answers = BufReader::new(child.stdout.take().unwrap());
            let mut agent = Self { child, requests, answers };
            assert_eq!(agent.hear(), Event::Hello { version: VERSION });
            agent
        }

        fn ask(&mut self, request: Option<String>) {
            self.requests.as_mut().unwrap().write_all(request.unwrap().as_bytes()).unwrap();
        }

        fn hear(&mut self) -> Event {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            parse(&line).unwrap_or_else(|| panic!("{line:?}"))
        }

        /// Hears all until `commands` have ended: stdout, stderr and status of each.
        fn results(&mut self, commands: usize) -> BTreeMap<u64, (Vec<u8>, Vec<u8>, u8)> {
            let (mut results, mut ended) = (BTreeMap::<_, (Vec<_>, Vec<_>, _)>::new(), 0);
            while ended < commands {
                match self.hear() {
                    Event::Hello { .. } => panic!("it has said hello"),
                    Event::Out { id, bytes } => results.entry(id).or_default().0.extend(bytes),
                    Event::Err { id, bytes } => results.entry(id).or_default().1.extend(bytes),
                    Event::Exit { id, status } => {
                        results.entry(id).or_default().2 = status;
                        ended += 1;
                    }
                }
            }
            results
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            // It ends with its input.
            self.requests = None;
            let _ = self.child.wait();
        }
    }

    #[test]
    fn lines_are_told_from_noise() {
        assert_eq!(exec(7, "echo hi").unwrap(), "exec 7 ZWNobyBoaQ==\n");
        assert_eq!(exec(7, &"x".repeat(COMMAND_MAX + 1)), None);
        assert_eq!(signal(7, "TERM").unwrap(), "signal 7 TERM\n");
        assert_eq!(signal(7, "TERM\nexec 8 "), None);
        assert_eq!(
            parse("{\"event\":\"hello\",\"version\":1}\n"),
            Some(Event::Hello { version: 1 })
        );
        assert_eq!(parse("out 7 aGk="), Some(Event::Out { id: 7, bytes: b"hi".to_vec() }));
        assert_eq!(parse("exit 7 143\r\n"), Some(Event::Exit { id: 7, status: 143 }));
        for noise in
            ["", "out 7", "out 7 aGk= 8", "out x aGk=", "out 7 *", "exit 7 256", "{}", "in 7 a"]
        {
            assert_eq!(parse(noise), None, "{noise}");
        }
    }

    #[test]
    fn both_streams_and_the_status_come_back_whole() {
        let mut agent = Agent::start();
        agent.ask(exec(1, "printf 'a\\0b\\n'; echo \"no  'way'\" >&2; exit 3\n\n"));
        assert_eq!(
            agent.results(1),
            BTreeMap::from([(1, (b"a\0b\n".to_vec(), b"no  'way'\n".to_vec(), 3))])
        );
        agent.ask(exec(2, &format!("# {}\ncat; no-such-command", "x".repeat(COMMAND_MAX - 30))));
        let (out, err, status) = &agent.results(1)[&2];
        assert_eq!((out.as_slice(), *status), (&b""[..], 127), "input is empty");
        assert!(!err.is_empty());
    }

    #[test]
    fn a_signal_right_behind_its_command_reaches_it() {
        let mut agent = Agent::start();
        agent.ask(signal(1, "TERM"));
        for id in 1..=5 {
            agent.ask(Some(exec(id, "sleep 5").unwrap() + &signal(id, "TERM").unwrap()));
            assert_eq!(agent.results(1)[&id].2, 128 + 15);
        }
    }

    #[test]
    fn commands_run_side_by_side_and_their_output_streams() {
        let mut agent = Agent::start();
        agent.ask(exec(1, "head -c 50000 /dev/zero; echo first; sleep 1000"));
        // What it has written is here while it runs.
        let mut seen = Vec::new();
        while !seen.ends_with(b"first\n") {
            let Event::Out { id: 1, bytes } = agent.hear() else { panic!() };
            seen.extend(bytes);
        }
        assert_eq!(seen.len(), 50_006);
        agent.ask(exec(2, "echo second"));
        assert_eq!(agent.results(1)[&2], (b"second\n".to_vec(), vec![], 0));
        agent.ask(signal(1, "TERM"));
        assert_eq!(agent.results(1)[&1].2, 128 + 15);
    }
}
