//! What happens in a running lab, one thing after the other.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::{Line, RunningLab, State};

/// How often we look whether the guests live.
const LOOK_TIME: Duration = Duration::from_millis(100);

/// Something that happens in a lab.
#[derive(Debug)]
pub enum Happening {
    /// A guest has printed a line.
    Line(Line),
    /// A guest has said that it is ready, or what stands for that.
    Ready(usize),
    /// A guest has ended by itself, and well.
    Done(usize),
    /// A guest has failed; its [`State`] says how.
    Failed(usize),
    /// A guest hangs, or does so no more.
    Hang(usize),
    /// The cable of that name has lost an end.
    Lost(String),
}

impl Happening {
    /// That a guest has come into this state.
    fn of(number: usize, state: &State) -> Self {
        match state {
            State::Starting | State::Running => Self::Ready(number),
            State::Done => Self::Done(number),
            State::Failed(_) => Self::Failed(number),
        }
    }
}

impl RunningLab {
    /// The next thing that happens. What a guest printed before it ended comes before its end.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Happening {
        loop {
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + LOOK_TIME;
                self.look();
            }
            if let Some(happening) = self.happened.pop_front() {
                return happening;
            }
            if let Ok(Some(line)) = timeout_at(self.next_look.into(), self.lines.recv()).await {
                self.take(line);
            }
        }
    }

    /// Whether more has happened than [`next`](Self::next) has told.
    pub fn has_news(&self) -> bool {
        !self.happened.is_empty()
    }

    /// Notices guests that have ended, however much the others print.
    pub(super) fn look(&mut self) {
        let changed = self.guests.iter_mut().filter_map(|(number, guest)| {
            guest.look().then(|| Happening::of(*number, guest.state()))
        });
        let mut changed: Vec<_> = changed.collect();
        let alive = self.guests.iter_mut().filter_map(|(number, guest)| {
            guest.look_for_life().then_some(Happening::Hang(*number))
        });
        changed.extend(alive);
        if !changed.is_empty() {
            // All that those printed who have ended is there, because their serial port is gone.
            self.take_printed();
        }
        self.happened.extend(changed);
        self.happened.extend(self.fabric.unplug_lost().into_iter().map(Happening::Lost));
    }

    /// Takes the lines that are there by now: a guest that goes on printing keeps nobody for ever.
    pub(super) fn take_printed(&mut self) {
        for _ in 0..self.lines.len() {
            self.lines.try_recv().into_iter().for_each(|line| self.take(line));
        }
    }

    /// Notes what a line reports.
    fn take(&mut self, line: Line) {
        let number = line.guest;
        let change = self.guests.get_mut(&number).and_then(|guest| guest.hear(&line));
        self.happened.push_back(Happening::Line(line));
        self.happened.extend(change.map(|state| Happening::of(number, &state)));
    }
}
