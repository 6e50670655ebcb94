//! From a guest's serial port to the control plane: lines for all, bytes for whoever watches.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use vmm_core::serial::Lines;

use super::{Report, linux};

/// Bytes that the lines of one guest may take until somebody has read them.
const UNREAD_MAX: usize = 1 << 20;

/// Bytes that wait for somebody who watches; what he does not read in time he does not see.
const UNSEEN_MAX: usize = 256 << 10;

/// Bytes that somebody sees who begins to watch: a prompt, say.
const RECENT_MAX: usize = 2 << 10;

/// One line that a guest printed.
#[derive(Debug)]
pub struct Line {
    /// Which guest.
    pub guest: usize,
    /// Its name, known even when the guest is gone.
    pub name: Arc<str>,
    /// The line without its end and without control characters; what is not UTF-8 is replaced.
    pub text: String,
    /// What it reports, if it is a report.
    pub report: Option<Report>,
    // Its share of the guest's UNREAD_MAX, free again when the line is dropped.
    _share: OwnedSemaphorePermit,
}

/// A guest's serial output. Never blocks the guest: when nobody keeps up, output is lost.
pub struct Console {
    lines: Lines<LineSender>,
    screen: Screen,
    panic: Arc<OnceLock<String>>,
}

impl Console {
    /// The console of guest number `guest`, called `name`.
    pub fn new(guest: usize, name: &str, lines: mpsc::UnboundedSender<Line>) -> Self {
        let unread = Arc::new(Semaphore::new(UNREAD_MAX));
        let panic = Arc::default();
        let sender =
            LineSender { guest, name: name.into(), lines, unread, panic: Arc::clone(&panic) };
        Self { lines: Lines::new(sender), screen: Screen::default(), panic }
    }

    /// Where the last words of the guest's kernel will be, even if that line is lost.
    pub fn panic(&self) -> Arc<OnceLock<String>> {
        self.panic.clone()
    }

    /// Where its bytes can be watched.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.screen.show(bytes);
        self.lines.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.screen.close();
    }
}

/// Where a guest's bytes can be watched.
#[derive(Clone, Default)]
pub struct Screen {
    shared: Arc<Mutex<Shown>>,
}

#[derive(Default)]
struct Shown {
    recent: VecDeque<u8>,
    watchers: Vec<Arc<Unseen>>,
    closed: bool,
}

#[derive(Default)]
struct Unseen {
    bytes: Mutex<VecDeque<u8>>,
    more: Notify,
}

/// Somebody who watches.
pub struct Watcher {
    screen: Screen,
    unseen: Arc<Unseen>,
}

impl Screen {
    /// Watches from now on; what was just shown comes first.
    pub fn watch(&self) -> Watcher {
        let mut shared = self.shared.lock();
        let unseen = Arc::new(Unseen::default());
        unseen.bytes.lock().extend(&shared.recent);
        unseen.more.notify_one();
        shared.watchers.push(unseen.clone());
        Watcher { screen: self.clone(), unseen }
    }

    fn show(&self, bytes: &[u8]) {
        let mut shared = self.shared.lock();
        shared.recent.extend(bytes);
        let surplus = shared.recent.len().saturating_sub(RECENT_MAX);
        shared.recent.drain(..surplus);
        for watcher in &shared.watchers {
            let mut unseen = watcher.bytes.lock();
            let room = UNSEEN_MAX - unseen.len();
            unseen.extend(&bytes[..bytes.len().min(room)]);
            watcher.more.notify_one();
        }
    }

    fn close(&self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        shared.watchers.iter().for_each(|watcher| watcher.more.notify_one());
    }
}

impl Watcher {
    /// What has been shown since; `None` once the guest has ended and all was seen.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            let closed = self.screen.shared.lock().closed;
            let seen: Vec<u8> = self.unseen.bytes.lock().drain(..).collect();
            match (seen.is_empty(), closed) {
                (false, _) => return Some(seen),
                (true, true) => return None,
                (true, false) => self.unseen.more.notified().await,
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Here and not when the next byte is shown: there may be none.
        let gone = |watcher: &Arc<Unseen>| Arc::ptr_eq(watcher, &self.unseen);
        self.screen.shared.lock().watchers.retain(|watcher| !gone(watcher));
    }
}

/// Makes [`Line`]s of what [`Lines`] has collected.
struct LineSender {
    guest: usize,
    name: Arc<str>,
    lines: mpsc::UnboundedSender<Line>,
    unread: Arc<Semaphore>,
    panic: Arc<OnceLock<String>>,
}

impl LineSender {
    fn pass_on(&self, text: String) -> Option<()> {
        let size = u32::try_from(text.capacity() + size_of::<Line>()).ok()?;
        let share = self.unread.clone().try_acquire_many_owned(size).ok()?;
        let report = Report::parse(&text);
        let (guest, name) = (self.guest, self.name.clone());
        self.lines.send(Line { guest, name, text, report, _share: share }).ok()
    }
}

impl Write for LineSender {
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
        (Console::new(0, "a", sender), lines)
    }

    #[tokio::test]
    async fn whoever_watches_sees_every_byte_and_the_end() {
        let (mut console, _lines) = console();
        console.write_all(b"login: ").unwrap();
        let mut watcher = console.screen().watch();
        assert_eq!(watcher.read().await.unwrap(), b"login: ");
        console.write_all(b"r").unwrap();
        assert_eq!(watcher.read().await.unwrap(), b"r");
        (0..3).for_each(|_| console.write_all(&[b'x'; UNSEEN_MAX]).unwrap());
        assert_eq!(watcher.read().await.unwrap().len(), UNSEEN_MAX, "the rest was not kept");
        drop(console);
        assert_eq!(watcher.read().await, None);
    }

    #[test]
    fn who_has_gone_away_is_forgotten_whether_the_guest_prints_or_not() {
        let (console, _lines) = console();
        let screen = console.screen();
        let stays = screen.watch();
        for _ in 0..10 {
            drop(screen.watch());
        }
        assert_eq!(screen.shared.lock().watchers.len(), 1);
        drop(console);
        drop(screen.watch());
        drop(stays);
        assert_eq!(screen.shared.lock().watchers.len(), 0, "its guest has ended");
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
