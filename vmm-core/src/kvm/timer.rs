//! Timers for devices, and the thread that waits for them.
//!
//! A host takes its time to wake a thread: 15 to 40 us in a virtual machine, a tenth of a common
//! interrupt interval. So a timer has itself woken earlier by what its host usually takes, and
//! spins for the few microseconds that are then left. It learns that from its own wake-ups.

use std::hint;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use crate::clock::{Clock, Timer};

/// No deadline.
const NEVER: u64 = u64::MAX;
/// The longest that a timer is set ahead of its deadline, hence spins, in nanoseconds.
const MAX_LEAD: u64 = 50_000;
/// The most that one late wake-up teaches, in nanoseconds: a late one may be an exception.
const LEAD_STEP: u64 = 500;

/// A device's timer: a timerfd that a [`TimerThread`] waits for.
pub struct DeviceTimer {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// Both deadlines in nanoseconds of the clock.
struct State {
    fd: TimerFd,
    /// What the device asked for last.
    wanted: u64,
    /// The deadline that the timerfd is set for, never later than `wanted`.
    armed: u64,
    /// When the timerfd will expire: earlier than `armed` by the lead.
    expires: u64,
    /// What the host takes to wake the thread, in most cases.
    lead: u64,
}

impl State {
    fn new(fd: TimerFd) -> Self {
        Self { fd, wanted: NEVER, armed: NEVER, expires: NEVER, lead: 0 }
    }

    /// Learns from a wake-up. Waking early costs spinning and late costs precision: the lead
    /// settles where a quarter of the wake-ups are early.
    fn learn(&mut self, now: u64) {
        // An event that has crossed a later `arm` teaches nothing.
        let Some(taken) = now.checked_sub(self.expires) else { return };
        if taken >= self.lead {
            self.lead += ((taken - self.lead) / 16).min(LEAD_STEP);
        } else {
            self.lead -= (self.lead - taken) / 2;
        }
        self.lead = self.lead.min(MAX_LEAD);
    }
}

impl DeviceTimer {
    /// A timer that stands still, for deadlines of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let fd = TimerFd::new().map_err(io::Error::from)?;
        Ok(Self { clock, state: Mutex::new(State::new(fd)) })
    }

    /// After the timerfd expired: whether the device is due. If not, waits for the rest.
    ///
    /// A call too many is harmless, so a wake-up that crosses a call of `arm` is, too.
    fn take_due(&self) -> bool {
        let now = self.clock.now();
        let (wanted, lead) = {
            let mut state = self.state.lock();
            let lead = state.lead;
            state.learn(now);
            (state.wanted, lead)
        };
        // Not with the lock held: vCPUs arm the timer.
        if wanted.saturating_sub(now) <= lead {
            while self.clock.now() < wanted {
                hint::spin_loop();
            }
        }
        let mut state = self.state.lock();
        let due = state.wanted <= self.clock.now();
        if due {
            state.wanted = NEVER;
        }
        (state.armed, state.expires) = (NEVER, NEVER);
        let wanted = state.wanted;
        self.set(&mut state, wanted);
        due
    }

    /// Makes the timerfd wake the thread at `deadline`, unless it will earlier anyway.
    fn set(&self, state: &mut State, deadline: u64) {
        if state.armed <= deadline {
            return;
        }
        let now = self.clock.now();
        // A timerfd set to 0 would stand still.
        let delay = deadline.saturating_sub(now).saturating_sub(state.lead).max(1);
        match state.fd.reset(Duration::from_nanos(delay), None) {
            Ok(()) => (state.armed, state.expires) = (deadline, now.saturating_add(delay)),
            Err(error) => tracing::error!(%error, "timerfd_settime failed"),
        }
    }
}

impl Timer for DeviceTimer {
    /// Costs a system call only when nothing earlier is armed: a wake-up before the wanted time
    /// waits for the rest, which is cheaper than re-arming each time a deadline moves back.
    fn arm(&self, deadline: u64) {
        let mut state = self.state.lock();
        state.wanted = deadline;
        self.set(&mut state, deadline);
    }
}

/// What a [`TimerThread`] calls when a device's time has come.
pub type OnTimer = Box<dyn Fn() + Send>;

/// A thread that waits for the timers of a guest's devices.
///
/// Dropping it stops and joins the thread.
pub struct TimerThread {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl TimerThread {
    /// Starts a thread `name` that serves `timers`.
    pub fn spawn(name: String, timers: Vec<(Arc<DeviceTimer>, OnTimer)>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let watch = |fd, data, mode| {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN | mode, data))
        };
        for (index, (timer, _)) in timers.iter().enumerate() {
            // Edge-triggered: every expiry is an event, and nothing has to be read back.
            let fd = timer.state.lock().fd.as_raw_fd();
            watch(fd, index as u64, EventSet::EDGE_TRIGGERED)?;
        }
        watch(stop.as_raw_fd(), timers.len() as u64, EventSet::empty())?;
        let thread = thread::Builder::new().name(name).spawn(move || serve(&epoll, &timers))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        // It can only fail on a full counter, and that wakes the thread as well.
        let _ = self.stop.write(1);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the timer thread panicked");
        }
    }
}

/// Calls devices whose time has come, until the event behind the last timer says stop.
fn serve(epoll: &Epoll, timers: &[(Arc<DeviceTimer>, OnTimer)]) {
    let mut events = vec![EpollEvent::default(); timers.len() + 1];
    loop {
        let ready = match epoll.wait(-1, &mut events) {
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return tracing::error!(%error, "epoll_wait failed: timers stop"),
        };
        for event in &events[..ready] {
            match timers.get(event.data() as usize) {
                Some((timer, call)) if timer.take_due() => call(),
                Some(_) => {}
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonotonicClock;
    use std::sync::mpsc::{self, Receiver};

    const MS: u64 = 1_000_000;
    const LONG: Duration = Duration::from_secs(5);

    struct Bench {
        clock: Arc<MonotonicClock>,
        timer: Arc<DeviceTimer>,
        calls: Receiver<u64>,
        _thread: TimerThread,
    }

    fn bench() -> Bench {
        let clock = Arc::new(MonotonicClock::new());
        let timer = Arc::new(DeviceTimer::new(clock.clone()).unwrap());
        let (sender, calls) = mpsc::channel();
        let now = clock.clone();
        let call: OnTimer = Box::new(move || sender.send(now.now()).unwrap());
        let thread = TimerThread::spawn("timer:test".into(), vec![(timer.clone(), call)]).unwrap();
        Bench { clock, timer, calls, _thread: thread }
    }

    /// Wakes a timer `count` times, each `wake(i)` ns after its timerfd has expired. Returns the
    /// last lead and how many of the wake-ups were early.
    fn teach(count: u64, wake: impl Fn(u64) -> u64) -> (u64, usize) {
        let mut state = State::new(TimerFd::new().unwrap());
        let early = (0..count).filter(|&i| {
            (state.armed, state.expires) = (MS, MS - state.lead);
            let now = state.expires + wake(i);
            state.learn(now);
            now < state.armed
        });
        let early = early.count();
        (state.lead, early)
    }

    #[test]
    fn a_deadline_is_met_once_and_not_early() {
        let bench = bench();
        let deadline = bench.clock.now() + 5 * MS;
        bench.timer.arm(deadline);
        assert!(bench.calls.recv_timeout(LONG).unwrap() >= deadline);
        assert!(bench.calls.recv_timeout(Duration::from_millis(30)).is_err());
    }

    #[test]
    fn a_deadline_in_the_past_is_met_at_once() {
        let bench = bench();
        bench.timer.arm(1);
        bench.calls.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn the_last_request_counts_whether_earlier_or_later() {
        let bench = bench();
        let start = bench.clock.now();
        bench.timer.arm(start + 10 * MS);
        bench.timer.arm(start + 60 * MS);
        assert!(bench.calls.recv_timeout(LONG).unwrap() >= start + 60 * MS, "postponed");
        bench.timer.arm(start + 3_600_000 * MS);
        bench.timer.arm(start);
        bench.calls.recv_timeout(LONG).expect("brought forward");
    }

    #[test]
    fn the_lead_is_what_the_host_usually_takes() {
        // As measured in a virtual machine: 20 to 35 us, and now and then half a millisecond.
        let virtual_machine =
            |i: u64| if i.is_multiple_of(50) { 500_000 } else { 20_000 + i * 7919 % 15_000 };
        let (lead, early) = teach(2_000, virtual_machine);
        assert!((20_000..30_000).contains(&lead), "{lead}");
        assert!((100..800).contains(&early), "{early}");
        let (lead, _) = teach(2_000, |i| 2_000 + i % 3);
        assert!((1_900..2_100).contains(&lead), "a prompt host: {lead}");
        let (lead, _) = teach(2_000, |_| 5 * MS);
        assert_eq!(lead, MAX_LEAD, "a hopeless one");
    }

    #[test]
    fn no_request_is_lost_while_others_expire() {
        let bench = bench();
        for round in 0..5_000 {
            let deadline = bench.clock.now() + round % 7 * 10_000;
            bench.timer.arm(deadline + MS);
            bench.timer.arm(deadline);
            loop {
                let called = bench.calls.recv_timeout(LONG).expect("a deadline was lost");
                if called >= deadline {
                    break;
                }
            }
        }
    }
}
