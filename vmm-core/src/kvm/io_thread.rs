//! Threads that move frames: one for a NIC, or one for many.
//!
//! Such a thread sleeps until a doorbell rings, then serves that NIC until nothing is left. Before it
//! asks for the doorbell again it may watch for a while: where it has a CPU to itself, that is cheaper
//! than to be woken. How long it does so depends on whether it has paid of late.

use std::collections::BTreeMap;
use std::hint;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::KvmDoorbell;
use crate::doorbell::Served;
use crate::policy::Policy;

/// The longest that a thread with a CPU of its own watches before it sleeps: about what its wake-up
/// costs, so that it never wastes more than twice what it would have needed.
pub const MAX_SPIN: Duration = Duration::from_micros(50);

/// When to look once more after asking for the doorbell: drivers without a fence can miss the request.
const RECHECK_AFTER: Duration = Duration::from_millis(1);

/// The event that ends the thread; NICs count from 0.
const STOP: u64 = u64::MAX;

/// The threads of a lab's NICs, as their policies demand.
#[derive(Clone, Default)]
pub struct IoThreads {
    spin: Duration,
    poller: Arc<Mutex<Option<Arc<IoThread>>>>,
}

impl IoThreads {
    /// Threads that watch for up to `spin` before they sleep. Only for a host with a CPU for each of
    /// them and for each vCPU should that be more than nothing.
    pub fn new(spin: Duration) -> Self {
        Self { spin, ..Self::default() }
    }

    /// The thread for a NIC, if it needs one; `name` is what a thread of its own is called.
    pub(crate) fn get(&self, policy: Policy, name: String) -> io::Result<Option<Arc<IoThread>>> {
        match policy {
            Policy::Push | Policy::Pull => Ok(None),
            Policy::Thread => IoThread::spawn(name, self.spin).map(Some),
            Policy::Poller => {
                let mut poller = self.poller.lock();
                if poller.is_none() {
                    *poller = Some(IoThread::spawn("poller".to_owned(), self.spin)?);
                }
                Ok(poller.clone())
            }
        }
    }
}

/// A thread that serves NICs whose doorbells ring. Dropping it ends the thread.
pub struct IoThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: Epoll,
    stop: EventFd,
    members: Mutex<BTreeMap<u64, Member>>,
}

#[derive(Clone)]
struct Member {
    served: Arc<dyn Served>,
    doorbell: Arc<KvmDoorbell>,
}

/// Has a thread serve a NIC, until it is dropped.
pub struct Attachment {
    thread: Arc<IoThread>,
    key: u64,
}

impl IoThread {
    /// Starts a thread `name` that watches for up to `spin` before it sleeps.
    fn spawn(name: String, spin: Duration) -> io::Result<Arc<Self>> {
        let (epoll, stop) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        watch(&epoll, &stop, STOP)?;
        let shared = Arc::new(Shared { epoll, stop, members: Mutex::default() });
        let theirs = shared.clone();
        let rounds = move || Rounds::new(&theirs, spin).run();
        let thread = thread::Builder::new().name(name).spawn(rounds)?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }

    /// Serves `served` from now on, whenever `doorbell` rings.
    pub(crate) fn attach(
        self: Arc<Self>,
        served: Arc<dyn Served>,
        doorbell: Arc<KvmDoorbell>,
    ) -> io::Result<Attachment> {
        let mut members = self.shared.members.lock();
        let key = members.last_key_value().map_or(0, |(last, _)| last + 1);
        watch(&self.shared.epoll, &*doorbell, key)?;
        members.insert(key, Member { served, doorbell });
        drop(members);
        Ok(Attachment { thread: self, key })
    }
}

fn watch(epoll: &Epoll, event: &impl AsRawFd, key: u64) -> io::Result<()> {
    epoll.ctl(ControlOperation::Add, event.as_raw_fd(), EpollEvent::new(EventSet::IN, key))
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Shared { epoll, members, .. } = &*self.thread.shared;
        if let Some(member) = members.lock().remove(&self.key) {
            let fd = member.doorbell.as_raw_fd();
            if let Err(error) = epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default()) {
                tracing::error!(%error, "cannot stop waiting for a doorbell");
            }
        }
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        // It can only fail on a full counter, and that wakes the thread as well.
        let _ = self.shared.stop.write(1);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("an I/O thread panicked");
        }
    }
}

/// What the thread itself keeps.
struct Rounds<'a> {
    shared: &'a Shared,
    spin: Spin,
    /// Those who do not ring, because they are looked after.
    awake: BTreeMap<u64, Arc<dyn Served>>,
    /// Those who are to be looked at once more, and when.
    rested: BTreeMap<u64, Instant>,
}

impl<'a> Rounds<'a> {
    fn new(shared: &'a Shared, spin: Duration) -> Self {
        let (awake, rested) = Default::default();
        Self { shared, spin: Spin::new(spin), awake, rested }
    }

    fn run(mut self) {
        let mut events = [EpollEvent::default(); 32];
        // When there was something to do for the last time.
        let mut busy_at = Instant::now();
        loop {
            let ready = match self.shared.epoll.wait(self.timeout(), &mut events) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return tracing::error!(%error, "epoll_wait failed: frames stop"),
            };
            let slept = self.awake.is_empty();
            for event in &events[..ready] {
                match event.data() {
                    STOP => return,
                    key => self.wake(key, true),
                }
            }
            let now = Instant::now();
            if ready > 0 && slept {
                self.spin.woke(now - busy_at);
            }
            self.recheck(now);
            let found = self.awake.values().fold(false, |found, nic| nic.serve(false) | found);
            if found || ready > 0 {
                if !slept {
                    self.spin.paid();
                }
                busy_at = Instant::now();
            } else if now - busy_at < self.spin.limit {
                hint::spin_loop();
            } else if !self.awake.is_empty() {
                self.spin.in_vain();
                self.rest(now);
            }
        }
    }

    /// Milliseconds to wait for a doorbell; negative for ever.
    fn timeout(&self) -> i32 {
        match self.rested.values().min() {
            _ if !self.awake.is_empty() => 0,
            None => -1,
            // Rounded up: a wake-up before the time would only wait again.
            Some(at) => at.saturating_duration_since(Instant::now()).as_millis() as i32 + 1,
        }
    }

    /// Serves a NIC and looks after it from now on, if it is still there and if there is a reason.
    fn wake(&mut self, key: u64, rung: bool) {
        let served = self.shared.members.lock().get(&key).map(|member| member.served.clone());
        self.rested.remove(&key);
        if let Some(served) = served
            && (served.serve(rung) || rung)
        {
            self.awake.insert(key, served);
        }
    }

    /// Looks once more at those who may have missed that they should ring.
    fn recheck(&mut self, now: Instant) {
        let due = self.rested.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key);
        for key in due.collect::<Vec<_>>() {
            self.wake(key, false);
        }
    }

    /// Asks all for their doorbells; who has sent meanwhile is looked after on.
    fn rest(&mut self, now: Instant) {
        let resting = self.awake.extract_if(.., |_, nic| nic.rest()).map(|(key, _)| key);
        self.rested.extend(resting.map(|key| (key, now + RECHECK_AFTER)));
    }
}

/// How long to watch before sleeping.
struct Spin {
    bound: Duration,
    limit: Duration,
}

impl Spin {
    /// Less than this finds nothing that asking for the doorbell would not have found.
    const LEAST: Duration = Duration::from_micros(2);

    fn new(bound: Duration) -> Self {
        Self { bound, limit: bound }
    }

    /// The doorbell rang so long after there had been something to do.
    fn woke(&mut self, after: Duration) {
        if after < self.bound {
            self.paid();
        }
    }

    /// Watching has found something, or would have.
    fn paid(&mut self) {
        self.limit = self.bound;
    }

    /// It has found nothing.
    fn in_vain(&mut self) {
        self.limit /= 2;
        if self.limit < Self::LEAST {
            self.limit = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::doorbell::Doorbell;
    use crate::kvm::{self, Vm};
    use crate::memory::GuestRam;

    const LONG: Duration = Duration::from_secs(10);

    /// A queue whose guest rings only when it has been asked to, as with the CSB.
    struct Queue {
        doorbell: Arc<KvmDoorbell>,
        sent: AtomicU64,
        served: AtomicU64,
        wants_ring: AtomicBool,
        serves: AtomicU64,
    }

    impl Queue {
        fn take(&self) -> bool {
            let sent = self.sent.load(Ordering::SeqCst);
            self.served.swap(sent, Ordering::SeqCst) != sent
        }
    }

    impl Served for Queue {
        fn serve(&self, rung: bool) -> bool {
            self.serves.fetch_add(1, Ordering::SeqCst);
            if rung {
                self.doorbell.answer();
                self.wants_ring.store(false, Ordering::SeqCst);
            }
            let found = self.take();
            if found {
                self.wants_ring.store(false, Ordering::SeqCst);
            }
            found
        }

        fn rest(&self) -> bool {
            self.wants_ring.store(true, Ordering::SeqCst);
            !self.take()
        }
    }

    struct Nic {
        queue: Arc<Queue>,
        attachment: Attachment,
    }

    impl Nic {
        fn send(&self) {
            self.queue.sent.fetch_add(1, Ordering::SeqCst);
            if self.queue.wants_ring.swap(false, Ordering::SeqCst) {
                self.queue.doorbell.ring();
            }
        }

        fn wait_for_any(&self) {
            let end = Instant::now() + LONG;
            while self.queue.served.load(Ordering::SeqCst) == 0 {
                assert!(Instant::now() < end, "nothing is served");
                thread::yield_now();
            }
        }

        fn wait_until_served(&self) {
            let end = Instant::now() + LONG;
            let Queue { sent, served, .. } = &*self.queue;
            while served.load(Ordering::SeqCst) != sent.load(Ordering::SeqCst) {
                assert!(Instant::now() < end, "a wake-up was lost");
                thread::yield_now();
            }
        }
    }

    fn vm() -> Option<Arc<Vm>> {
        let hypervisor = kvm::for_tests()?;
        Some(Arc::new(Vm::new(&hypervisor, GuestRam::new(1 << 16).unwrap()).unwrap()))
    }

    fn nic(vm: &Arc<Vm>, thread: &Arc<IoThread>) -> Nic {
        let doorbell = Arc::new(KvmDoorbell::new(vm.clone()).unwrap());
        let queue = Arc::new(Queue {
            doorbell: doorbell.clone(),
            sent: 0.into(),
            served: 0.into(),
            wants_ring: true.into(),
            serves: 0.into(),
        });
        let attachment = thread.clone().attach(queue.clone(), doorbell).unwrap();
        Nic { queue, attachment }
    }

    #[test]
    fn every_frame_is_served_however_its_sending_falls() {
        let Some(vm) = vm() else { return };
        for spin in [Duration::ZERO, MAX_SPIN] {
            let thread = IoThread::spawn("test".into(), spin).unwrap();
            let nics: Vec<_> = (0..3).map(|_| nic(&vm, &thread)).collect();
            for round in 0..3_000 {
                nics.iter().take(1 + round % 3).for_each(Nic::send);
                if round % 7 == 0 {
                    nics.iter().for_each(Nic::wait_until_served);
                }
                for _ in 0..round % 50 * 20 {
                    hint::spin_loop();
                }
            }
            nics.iter().for_each(Nic::wait_until_served);
        }
    }

    #[test]
    fn a_sleeping_thread_does_nothing() {
        let Some(vm) = vm() else { return };
        let thread = IoThread::spawn("test".into(), MAX_SPIN).unwrap();
        let nic = nic(&vm, &thread);
        nic.send();
        nic.wait_until_served();
        thread::sleep(Duration::from_millis(50));
        let before = nic.queue.serves.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
        assert!(nic.queue.serves.load(Ordering::SeqCst) <= before, "it looks without a reason");
    }

    #[test]
    fn a_guest_that_rings_a_million_times_is_served_and_harms_nobody() {
        let Some(vm) = vm() else { return };
        let thread = IoThread::spawn("test".into(), Duration::ZERO).unwrap();
        let (mad, sane) = (nic(&vm, &thread), nic(&vm, &thread));
        for ring in 0..1_000_000 {
            mad.queue.doorbell.ring();
            if ring % 100_000 == 0 {
                sane.send();
                sane.wait_until_served();
            }
        }
        mad.send();
        mad.wait_until_served();
    }

    #[test]
    fn a_nic_may_go_while_its_thread_sleeps_or_works() {
        let Some(vm) = vm() else { return };
        let thread = IoThread::spawn("test".into(), Duration::ZERO).unwrap();
        let stays = nic(&vm, &thread);
        for ring in [false, true] {
            for _ in 0..100 {
                let goes = nic(&vm, &thread);
                if ring {
                    goes.queue.doorbell.ring();
                }
                drop(goes);
                stays.send();
                stays.wait_until_served();
            }
        }
    }

    #[test]
    fn the_thread_ends_under_load() {
        let Some(vm) = vm() else { return };
        for _ in 0..20 {
            let thread = IoThread::spawn("test".into(), MAX_SPIN).unwrap();
            let nic = nic(&vm, &thread);
            let queue = nic.queue.clone();
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            let guest = thread::spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    queue.sent.fetch_add(1, Ordering::SeqCst);
                    queue.doorbell.ring();
                }
            });
            nic.wait_for_any();
            drop(nic.attachment);
            drop(thread);
            stop.store(true, Ordering::SeqCst);
            guest.join().unwrap();
        }
    }

    #[test]
    fn the_poller_is_one_thread_and_the_others_are_one_each() {
        let io = IoThreads::default();
        let get = |policy| io.get(policy, "test".into()).unwrap();
        assert!(get(Policy::Push).is_none() && get(Policy::Pull).is_none());
        let same = |policy| Arc::ptr_eq(&get(policy).unwrap(), &get(policy).unwrap());
        assert!(same(Policy::Poller) && !same(Policy::Thread));
    }

    #[test]
    fn watching_that_does_not_pay_ends_and_one_that_would_have_begins_again() {
        let mut spin = Spin::new(MAX_SPIN);
        (0..10).for_each(|_| spin.in_vain());
        assert_eq!(spin.limit, Duration::ZERO);
        spin.woke(MAX_SPIN);
        assert_eq!(spin.limit, Duration::ZERO, "it would have ended by then");
        spin.woke(MAX_SPIN / 2);
        assert_eq!(spin.limit, MAX_SPIN);
        let mut never = Spin::new(Duration::ZERO);
        never.paid();
        assert_eq!(never.limit, Duration::ZERO);
    }
}
