//! Commands that a person types on COM1.
//!
//! Input interrupts and the stub counts, so that nobody who is busy with packets looks at a port.

use core::fmt::{Arguments, Write};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::irq::{self, Events};
use crate::serial::Serial;

/// What the role is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// To tell what it has done so far.
    Stats,
    /// To end.
    Stop,
}

const HELP: &str = "\
stats         what was done so far
stop          end the role with its final report
hang          spin for ever
crash         access memory that is not there
triple-fault  end the machine
";

/// Characters that a command may have.
const LONGEST: usize = 32;

/// Interrupts of the input that were heard.
static HEARD: AtomicU8 = AtomicU8::new(0);

/// Whether something was typed that [`Console::command`] has not read.
#[inline]
pub fn is_typed() -> bool {
    Events::now().console() != HEARD.load(Relaxed)
}

/// The line being typed.
pub struct Console {
    line: [u8; LONGEST],
    len: usize,
}

impl Console {
    /// Begins to listen.
    pub fn open(serial: &mut Serial) -> Self {
        serial.listen();
        Self { line: [0; LONGEST], len: 0 }
    }

    /// Reads what was typed, up to the next command for the role, if there is one.
    pub fn command(&mut self, serial: &mut Serial) -> Option<Command> {
        let typed = Events::now().console();
        while let Some(byte) = serial.read() {
            let line_ended = self.edit(serial, byte);
            if line_ended && let Some(command) = self.execute(serial) {
                return Some(command);
            }
        }
        HEARD.store(typed, Relaxed);
        None
    }

    /// Echoes the line so far again: a report has come in between.
    pub fn echo(&self, serial: &mut Serial) {
        print(serial, format_args!("{}", self.line()));
    }

    /// Takes and echoes a character; returns whether the line is complete.
    fn edit(&mut self, serial: &mut Serial, byte: u8) -> bool {
        match byte {
            b'\r' | b'\n' => {
                serial.end_line();
                return true;
            }
            0x08 | 0x7f if self.len > 0 => {
                self.len -= 1;
                print(serial, format_args!("\x08 \x08"));
            }
            // Ctrl-C, as in a shell: another line.
            0x03 => {
                print(serial, format_args!("^C\n"));
                self.len = 0;
            }
            b' '..=b'~' if self.len < LONGEST => {
                self.line[self.len] = byte;
                self.len += 1;
                print(serial, format_args!("{}", char::from(byte)));
            }
            _ => (),
        }
        false
    }

    fn line(&self) -> &str {
        // Only ASCII gets in.
        str::from_utf8(&self.line[..self.len]).unwrap_or_default()
    }

    /// Does what the line says, if it is not for the role.
    fn execute(&mut self, serial: &mut Serial) -> Option<Command> {
        let mut command = None;
        match self.line().trim() {
            "" => (),
            "help" => print(serial, format_args!("{HELP}")),
            "stats" => command = Some(Command::Stats),
            "stop" => command = Some(Command::Stop),
            "hang" => loop {
                core::hint::spin_loop();
            },
            "crash" => irq::page_fault(),
            "triple-fault" => irq::triple_fault(),
            other => print(serial, format_args!("no command '{other}': try help\n")),
        }
        self.len = 0;
        command
    }

    /// Answers for a role that is over, for ever.
    pub fn linger(&mut self, serial: &mut Serial) -> ! {
        loop {
            let events = Events::now();
            if is_typed() {
                if self.command(serial).is_some() {
                    print(serial, format_args!("the role is over\n"));
                }
            } else {
                events.halt();
            }
        }
    }
}

fn print(serial: &mut Serial, text: Arguments<'_>) {
    // The port has no errors.
    let _ = serial.write_fmt(text);
}
