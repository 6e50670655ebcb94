//! What has happened in a lab and what its guests have printed: the last of it, and the way to hear
//! more.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use super::now_ms;
use crate::control::protocol::{Event, LogLine};

/// Bytes of text that are kept of all guests' lines together.
const LOG_MAX: usize = 4 << 20;
/// Events that are kept.
const EVENTS_MAX: usize = 10_000;
/// What somebody who follows may lag behind before he misses something.
const LAG_MAX: usize = 4096;

/// The history of a lab. Clones are handles to the same.
#[derive(Clone)]
pub struct History {
    log: Arc<Mutex<Kept<LogLine>>>,
    events: Arc<Mutex<Kept<Event>>>,
}

struct Kept<T> {
    items: VecDeque<Arc<T>>,
    /// What the items weigh together, and may.
    weight: usize,
    most: usize,
    missed: Missed<T>,
    followers: broadcast::Sender<Arc<T>>,
}

/// Somebody who reads a history from some point on. Those who began at about the same time share
/// what they have not read yet.
pub struct Follower<T> {
    past: VecDeque<Arc<T>>,
    future: Option<broadcast::Receiver<Arc<T>>>,
    wanted: Wanted<T>,
    missed: Missed<T>,
}

/// What is told at some time instead of so many items.
type Missed<T> = fn(u64, u64) -> T;

type Wanted<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

impl Default for History {
    fn default() -> Self {
        Self {
            log: Arc::new(Mutex::new(Kept::new(LOG_MAX, LogLine::missed))),
            events: Arc::new(Mutex::new(Kept::new(EVENTS_MAX, Event::missed))),
        }
    }
}

impl History {
    /// Notes a line that a guest has printed.
    pub fn line(&self, guest: &str, text: &str) {
        let (guest, text) = (guest.to_owned(), text.to_owned());
        let line = LogLine { at_ms: now_ms(), guest, text, missed: None };
        self.log.lock().push(line, |line| line.text.len() + size_of::<LogLine>());
    }

    /// Notes that something has happened.
    pub fn event(&self, event: &str, subject: Option<&str>, detail: Option<&str>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (subject, detail) = (own(subject), own(detail));
        tracing::info!(event, subject, detail);
        let event = Event { at_ms: now_ms(), event: event.to_owned(), subject, detail };
        self.events.lock().push(event, |_| 1);
    }

    /// What guests have printed: the last `tail` lines, or all that are kept, of one guest or all;
    /// and what they print from now on if `follow`.
    pub fn log(&self, guest: Option<&str>, tail: Option<usize>, follow: bool) -> Follower<LogLine> {
        let guest = guest.map(str::to_owned);
        let wanted = move |line: &LogLine| guest.as_ref().is_none_or(|guest| *guest == line.guest);
        self.log.lock().follow(Box::new(wanted), tail, follow)
    }

    /// What has happened, and what happens from now on if `follow`.
    pub fn events(&self, follow: bool) -> Follower<Event> {
        self.events.lock().follow(Box::new(|_| true), None, follow)
    }
}

impl<T> Kept<T> {
    fn new(most: usize, missed: Missed<T>) -> Self {
        let (followers, _) = broadcast::channel(LAG_MAX);
        Self { items: VecDeque::new(), weight: 0, most, missed, followers }
    }

    fn push(&mut self, item: T, weight: impl Fn(&T) -> usize) {
        self.weight += weight(&item);
        let item = Arc::new(item);
        // Nobody follows, usually.
        let _ = self.followers.send(item.clone());
        self.items.push_back(item);
        while self.weight > self.most
            && let Some(oldest) = self.items.pop_front()
        {
            self.weight -= weight(&oldest);
        }
    }

    fn follow(&self, wanted: Wanted<T>, tail: Option<usize>, follow: bool) -> Follower<T> {
        let mut past: VecDeque<_> =
            self.items.iter().filter(|item| wanted(item)).cloned().collect();
        let surplus = tail.map_or(0, |tail| past.len().saturating_sub(tail));
        past.drain(..surplus);
        let future = follow.then(|| self.followers.subscribe());
        Follower { past, future, wanted, missed: self.missed }
    }
}

impl<T> Follower<T> {
    /// The next item; `None` at the end. Where it was too slow, an item says how much is missing.
    pub async fn next(&mut self) -> Option<Arc<T>> {
        if let Some(item) = self.past.pop_front() {
            return Some(item);
        }
        loop {
            match self.future.as_mut()?.recv().await {
                Ok(item) if (self.wanted)(&item) => return Some(item),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    return Some(Arc::new((self.missed)(now_ms(), count)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_get_the_tail_and_then_what_comes() {
        let history = History::default();
        for (guest, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")] {
            history.line(guest, text);
        }
        let mut follower = history.log(Some("a"), Some(2), true);
        history.line("b", "not asked for");
        history.line("a", "5");
        for expected in ["3", "4", "5"] {
            assert_eq!(follower.next().await.unwrap().text, expected);
        }
        let mut reader = history.log(None, None, false);
        let mut count = 0;
        while reader.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 6);
        drop(history);
        assert!(follower.next().await.is_none(), "the lab is gone");
    }

    #[tokio::test]
    async fn whoever_was_too_slow_is_told_so() {
        let history = History::default();
        let (mut log, mut events) = (history.log(Some("a"), None, true), history.events(true));
        for number in 0..LAG_MAX + 10 {
            history.line("a", &number.to_string());
            history.event("lab-ready", None, Some(&number.to_string()));
        }
        let told = serde_json::to_value(&*log.next().await.unwrap()).unwrap();
        assert_eq!((&told["guest"], &told["missed"]), (&"".into(), &10.into()), "{told}");
        assert!(told["text"].as_str().unwrap().contains("10 lines"), "{told}");
        let line = serde_json::to_value(&*log.next().await.unwrap()).unwrap();
        assert_eq!((&line["text"], line.get("missed")), (&"10".into(), None));
        let told = events.next().await.unwrap();
        assert_eq!(told.event, "events-missed");
        assert!(told.detail.as_ref().unwrap().contains("10 events"), "{told:?}");
        assert_eq!(events.next().await.unwrap().detail.as_deref(), Some("10"));
    }

    #[test]
    fn only_so_much_is_kept() {
        let history = History::default();
        let text = "x".repeat(1 << 16);
        (0..200).for_each(|_| history.line("a", &text));
        let kept = history.log.lock();
        assert!(kept.items.len() < 64 && kept.items.len() > 60, "{}", kept.items.len());
    }
}
