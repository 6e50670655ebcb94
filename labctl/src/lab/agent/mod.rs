//! The agent in a Linux guest: commands that it runs for us, and the port that their words come from.

mod protocol;

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use vmm_core::serial::{Lines, SerialInput};

use protocol::Event;

/// Pieces of a command's output that wait for whoever has asked for it.
const UNREAD_MAX: usize = 4096;

/// What a command has written, or how it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes on its standard output.
    Out(Vec<u8>),
    /// Bytes on its standard error.
    Err(Vec<u8>),
    /// It has ended with this status; nothing more comes.
    Exit(u8),
}

/// What is known of a guest's agent. Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Agent {
    commands: Arc<Mutex<Commands>>,
}

#[derive(Default)]
struct Commands {
    /// The version of the protocol that it speaks, once it has said so.
    version: Option<u32>,
    last: u64,
    /// Where the output of each goes; nowhere any more if it was not read fast enough.
    running: HashMap<u64, Option<mpsc::Sender<Output>>>,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExecError {
    /// The guest does not run any more.
    #[error("it has ended")]
    Ended,
    /// Nobody has greeted on the second serial port.
    #[error("it has no agent, or that has not started yet")]
    NoAgent,
    /// The agent is of another time.
    #[error("its agent speaks version {0} of the protocol, and this labctl version {v}", v = protocol::VERSION)]
    Version(u32),
    /// A serial line takes only so much.
    #[error("the command is longer than {} bytes", protocol::COMMAND_MAX)]
    TooLong,
    /// The guest does not read what was typed before.
    #[error("its agent does not read")]
    Stuck,
}

impl Agent {
    /// Where the guest's second serial port writes.
    pub fn port(&self) -> Box<dyn Write + Send> {
        Box::new(Lines::new(Port(self.clone())))
    }

    /// Whether it has said that it is there.
    pub fn has_greeted(&self) -> bool {
        self.commands.lock().version.is_some()
    }

    /// Runs a command for the guest's shell; `keyboard` is its second serial port.
    ///
    /// # Errors
    /// If there is no agent, or it cannot take the command.
    pub fn exec(&self, command: &str, keyboard: &SerialInput) -> Result<RunningCommand, ExecError> {
        let (sender, outputs) = mpsc::channel(UNREAD_MAX);
        let mut commands = self.commands.lock();
        match commands.version {
            Some(protocol::VERSION) => {}
            Some(other) => return Err(ExecError::Version(other)),
            None => return Err(ExecError::NoAgent),
        }
        commands.last += 1;
        let id = commands.last;
        let line = protocol::exec(id, command).ok_or(ExecError::TooLong)?;
        commands.running.insert(id, Some(sender));
        drop(commands);
        // Without the lock: whoever hears the port's other end waits for it with the port in hand.
        if !keyboard.send_whole(line.as_bytes()) {
            self.commands.lock().running.remove(&id);
            return Err(ExecError::Stuck);
        }
        Ok(RunningCommand { id, outputs, agent: self.clone(), keyboard: keyboard.clone() })
    }

    fn hear(&self, line: &str) {
        let mut commands = self.commands.lock();
        let (id, output) = match protocol::parse(line) {
            Some(Event::Hello { version }) => {
                commands.version = Some(version);
                return;
            }
            Some(Event::Out { id, bytes }) => (id, Output::Out(bytes)),
            Some(Event::Err { id, bytes }) => (id, Output::Err(bytes)),
            Some(Event::Exit { id, status }) => (id, Output::Exit(status)),
            None => return,
        };
        let ended = matches!(output, Output::Exit(_));
        if let Some(to) = commands.running.get_mut(&id) {
            // Whoever does not read is not waited for: the guest would stand still. The command runs
            // on until it is hung up on.
            to.take_if(|to| to.try_send(output).is_err());
        }
        if ended {
            commands.running.remove(&id);
        }
    }
}

/// A command that runs in a guest. Dropping it hangs up on the command.
pub struct RunningCommand {
    id: u64,
    outputs: mpsc::Receiver<Output>,
    agent: Agent,
    keyboard: SerialInput,
}

impl RunningCommand {
    /// What comes next; `None` if the guest has ended, or nobody has read for too long.
    pub async fn next(&mut self) -> Option<Output> {
        self.outputs.recv().await
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let runs = self.agent.commands.lock().running.remove(&self.id).is_some();
        if let Some(line) = protocol::signal(self.id, "HUP").filter(|_| runs) {
            self.keyboard.send_whole(line.as_bytes());
        }
    }
}

/// The guest's second serial port.
struct Port(Agent);

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.hear(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // The guest has ended: nobody waits for its commands any more.
        self.0.commands.lock().running.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmm_core::irq::InterruptLine;
    use vmm_core::serial::Serial;

    use super::*;

    struct NoLine;

    impl InterruptLine for NoLine {
        fn set_level(&self, _high: bool) {}
    }

    fn serial() -> Serial {
        Serial::new(Arc::new(NoLine), Box::new(io::sink()))
    }

    /// An agent that has greeted, and its port.
    fn greeted() -> (Agent, Box<dyn Write + Send>) {
        let agent = Agent::default();
        let mut port = agent.port();
        port.write_all(b"{\"event\":\"hello\",\"version\":1}\n").unwrap();
        (agent, port)
    }

    /// All that waits for the guest to read it.
    fn read(serial: &mut Serial) -> String {
        let mut register = |offset| {
            let mut data = [0];
            serial.read(offset, &mut data);
            data[0]
        };
        let mut text = String::new();
        // Looking at an empty FIFO has it filled.
        while register(5) & 1 != 0 || register(5) & 1 != 0 {
            text.push(register(0).into());
        }
        text
    }

    #[test]
    fn a_command_is_typed_whole_or_not_at_all() {
        let ((agent, _port), mut serial) = (greeted(), serial());
        let (keyboard, long) = (serial.input(), "x".repeat(protocol::COMMAND_MAX));
        let mut running = Vec::new();
        let refused = loop {
            match agent.exec(&long, &keyboard) {
                Ok(command) => running.push(command),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, ExecError::Stuck);
        let whole: String =
            running.iter().map(|command| protocol::exec(command.id, &long).unwrap()).collect();
        assert!(read(&mut serial) == whole, "there is something of the one that was refused");
        let next = agent.exec("true", &keyboard).unwrap();
        assert_eq!(read(&mut serial), protocol::exec(next.id, "true").unwrap());
    }

    #[test]
    fn a_command_that_nobody_reads_is_hung_up_on() {
        let ((agent, mut port), mut serial) = (greeted(), serial());
        for ends in [false, true] {
            let running = agent.exec("yes", &serial.input()).unwrap();
            read(&mut serial);
            let id = running.id;
            (0..=UNREAD_MAX).for_each(|_| writeln!(port, "out {id} eQo=").unwrap());
            if ends {
                writeln!(port, "exit {id} 0").unwrap();
            }
            drop(running);
            let signal = protocol::signal(id, "HUP").filter(|_| !ends);
            assert_eq!(read(&mut serial), signal.unwrap_or_default());
        }
    }

    #[tokio::test]
    async fn a_command_hears_its_own_output_only() {
        let agent = Agent::default();
        let serial = serial();
        let keyboard = serial.input();
        let mut port = agent.port();
        assert_eq!(agent.exec("true", &keyboard).err(), Some(ExecError::NoAgent));
        port.write_all(b"{\"event\":\"hello\",\"version\":1}\r\n").unwrap();
        assert!(agent.has_greeted());
        let mut first = agent.exec("true", &keyboard).unwrap();
        let mut second = agent.exec("false", &keyboard).unwrap();
        port.write_all(b"out 2 aGk=\nerr 1 aG8=\nexit 1 3\nnoise\nexit 9 9\n").unwrap();
        assert_eq!(first.next().await, Some(Output::Err(b"ho".to_vec())));
        assert_eq!(first.next().await, Some(Output::Exit(3)));
        assert_eq!(first.next().await, None);
        assert_eq!(second.next().await, Some(Output::Out(b"hi".to_vec())));
        drop(port);
        assert_eq!(second.next().await, None, "the guest has ended");
    }
}
