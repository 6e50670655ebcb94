//! The terminal, taken over for a while and given back whatever happens.

use std::io::{self, IsTerminal, Read, Write};

use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use tokio::sync::mpsc;

/// How the terminal was before, and what to print to have it so again.
static BEFORE: Mutex<Option<(Termios, &str)>> = Mutex::new(None);

/// A way to use the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every key goes to whoever reads, Ctrl-C and Ctrl-Z too.
    Raw,
    /// A screen of our own; keys are read at once and not shown, Ctrl-C and Ctrl-Z are signals.
    Screen,
}

/// The terminal in another mode; dropping this, or a panic, gives it back.
#[derive(Debug)]
pub struct Terminal {
    mode: Mode,
}

impl Terminal {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// If stdin or stdout is no terminal.
    pub fn enter(mode: Mode) -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        set(mode)?;
        Ok(Self { mode })
    }

    /// Stops this process with the terminal given back, and takes it again once it goes on.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn suspend(&self) -> io::Result<()> {
        restore();
        kill_process(getpid(), Signal::STOP)?;
        set(self.mode)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

fn set(mode: Mode) -> io::Result<()> {
    let before = tcgetattr(io::stdin())?;
    let mut now = before.clone();
    let (enter, leave) = match mode {
        Mode::Raw => {
            now.make_raw();
            // Not every guest ends its lines with a carriage return.
            now.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
            ("", "\x1b[0m\x1b[?25h")
        }
        Mode::Screen => {
            now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            // Ctrl-\ would leave the screen as it is.
            now.special_codes[SpecialCodeIndex::VQUIT] = 0;
            ("\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l")
        }
    };
    *BEFORE.lock() = Some((before, leave));
    tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
    io::stdout().write_all(enter.as_bytes())?;
    io::stdout().flush()
}

/// Gives the terminal back, if it was taken.
pub fn restore() {
    let before = BEFORE.lock().take();
    if let Some((before, leave)) = before {
        // If it is gone there is nothing to give back.
        let mut stdout = io::stdout();
        let _ = stdout.write_all(leave.as_bytes()).and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// What comes on stdin, until it ends. Read by a thread of its own: stdin may be anything, a file
/// too, and the thread may still wait for more when the process ends.
pub fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) if count > 0 => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
    });
    receiver
}

/// Columns and rows of the terminal; what they were at first if it does not tell (VT100).
pub fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}
