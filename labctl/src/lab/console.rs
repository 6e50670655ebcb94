//! From a guest's serial port to the control plane.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Report, linux};

/// Bytes that the lines of one guest may take until somebody has read them.
const UNREAD_MAX: usize = 1 << 20;

/// One line that a guest printed.
#[derive(Debug)]
pub struct Line {
    /// Which guest, in the lab file's order.
    pub guest: usize,
    /// The line without its end and without control characters; what is not UTF-8 is replaced.
    pub text: String,
    /// What it reports, if it is a report.
    pub report: Option<Report>,
    // Its share of the guest's UNREAD_MAX, free again when the line is dropped.
    _share: OwnedSemaphorePermit,
}

/// A guest's serial output. Never blocks the guest: when nobody keeps up, lines are lost.
pub struct Console {
    guest: usize,
    lines: mpsc::UnboundedSender<Line>,
    unread: Arc<Semaphore>,
    panic: Arc<OnceLock<String>>,
}

impl Console {
    /// The console of guest number `guest`.
    pub fn new(guest: usize, lines: mpsc::UnboundedSender<Line>) -> Self {
        let unread = Arc::new(Semaphore::new(UNREAD_MAX));
        Self { guest, lines, unread, panic: Arc::default() }
    }

    /// Where the last words of the guest's kernel will be, even if that line is lost.
    pub fn panic(&self) -> Arc<OnceLock<String>> {
        self.panic.clone()
    }

    fn pass_on(&self, text: String) -> Option<()> {
        let size = u32::try_from(text.capacity() + size_of::<Line>()).ok()?;
        let share = self.unread.clone().try_acquire_many_owned(size).ok()?;
        let report = Report::parse(&text);
        self.lines.send(Line { guest: self.guest, text, report, _share: share }).ok()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = printable(&String::from_utf8_lossy(bytes));
        text.truncate(text.trim_end().len());
        if let Some(message) = linux::panic_message(&text) {
            // The first one counts: a panic can panic.
            let _ = self.panic.set(message.to_owned());
        }
        if self.pass_on(text).is_none() {
            tracing::debug!(guest = self.guest, "a console line was lost");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A guest's words without what could command the operator's terminal: all control characters but
/// the tab.
pub fn printable(text: &str) -> String {
    text.chars().filter(|&c| c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (Console, mpsc::UnboundedReceiver<Line>) {
        let (sender, lines) = mpsc::unbounded_channel();
        (Console::new(0, sender), lines)
    }

    #[test]
    fn nothing_but_text_and_tabs_reaches_the_terminal() {
        let (mut console, mut lines) = console();
        console.write_all(b"a\tb\x1b[2J\rright | \x1b]0;title\x07\x7f\xc2\x9b1m \xff\r\n").unwrap();
        assert_eq!(lines.try_recv().unwrap().text, "a\tb[2Jright | ]0;title1m \u{fffd}");
    }

    #[test]
    fn what_nobody_reads_is_lost_and_not_kept_in_memory() {
        let (mut console, mut lines) = console();
        let line = [b'x'; 16 << 10];
        let written = 2 * UNREAD_MAX / line.len();
        (0..written).for_each(|_| console.write_all(&line).unwrap());
        let kept = lines.len();
        assert!((1..=UNREAD_MAX / line.len()).contains(&kept), "{kept} of {written} lines");
        drop(lines.try_recv().unwrap());
        console.write_all(&line).unwrap();
        assert_eq!(lines.len(), kept, "a line that was read makes room for another");
        // Empty lines take memory too.
        (0..UNREAD_MAX).for_each(|_| console.write_all(b"\n").unwrap());
        assert!(lines.len() < UNREAD_MAX / size_of::<Line>() + kept);
    }

    #[test]
    fn a_panic_is_known_even_if_its_line_is_lost() {
        let (mut console, mut lines) = console();
        let panic = console.panic();
        (0..UNREAD_MAX / size_of::<Line>()).for_each(|_| console.write_all(b"\n").unwrap());
        assert_eq!(panic.get(), None);
        console.write_all(b"[    1.5] Kernel panic - not syncing: \x1b[1mno init\r\n").unwrap();
        assert_eq!(panic.get().unwrap(), "Kernel panic - not syncing: [1mno init");
        let mut lines = std::iter::from_fn(|| lines.try_recv().ok());
        assert!(lines.all(|line| line.text.is_empty()), "there was no room for its line");
    }
}
