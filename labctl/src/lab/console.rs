//! From a guest's serial port to the control plane.

use std::io::{self, Write};

use tokio::sync::mpsc;

use super::Report;

/// One line that a guest printed.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which guest, in the lab file's order.
    pub guest: usize,
    /// The line without its end; what is not UTF-8 is replaced.
    pub text: String,
    /// What it reports, if it is a report.
    pub report: Option<Report>,
}

/// A guest's serial output. Never blocks the guest: when nobody keeps up, lines are lost.
pub struct Console {
    guest: usize,
    lines: mpsc::Sender<Line>,
}

impl Console {
    /// The console of guest number `guest`.
    pub fn new(guest: usize, lines: mpsc::Sender<Line>) -> Self {
        Self { guest, lines }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        let report = Report::parse(&text);
        if self.lines.try_send(Line { guest: self.guest, text, report }).is_err() {
            tracing::debug!(guest = self.guest, "a console line was lost");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
