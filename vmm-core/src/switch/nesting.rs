//! What a thread is in the middle of when one switch delivers into another.
//!
//! A batch crosses a cable between two switches on the thread that brought it, which then holds the
//! first switch's ports for reading and the sender behind the cable (a gate) while it takes the
//! second's. That no order of guests, cables and switches can deadlock rests on four rules:
//!
//! 1. Whoever holds nothing takes a switch's ports fairly: a writer that waits comes first. Whoever
//!    holds something takes them [recursively](parking_lot::RwLock::read_recursive), which waits only
//!    for a writer that is at work, and writers at work wait for nobody.
//! 2. Writers hold nothing else. So NICs, whose end frees a port, are let go of only by the
//!    outermost level of a thread.
//! 3. A thread that holds a gate only tries others; what it cannot hand over there at once is left
//!    to the [courier](crate::cable::Courier), who comes with empty hands.
//! 4. A NIC's receive side, which comes last, waits for nothing of all this.
//!
//! So who holds a gate gets on, hence who waits for one, hence every reader, hence every writer.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::Receiver;

/// The most cables between switches that a frame may cross; 802.1D counts on 7. Ends the frames of
/// a loop.
pub const MAX_HOPS: u32 = 32;

#[derive(Clone, Copy, Default)]
struct Place {
    /// Switches and gates that the thread is inside of.
    levels: u32,
    /// Gates that the frames at hand have passed.
    hops: u32,
    /// Whether [`FAREWELL`] has any.
    owed: bool,
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place { levels: 0, hops: 0, owed: false }) };
    /// Receivers to let go of at the end.
    static FAREWELL: RefCell<Vec<Arc<dyn Receiver>>> = const { RefCell::new(Vec::new()) };
}

/// Gates that the frames at hand have passed; 0 if the thread is inside of none.
#[inline]
pub fn hops() -> u32 {
    PLACE.get().hops
}

/// Being inside of one more switch or gate. To be dropped after what is locked there.
pub struct Level {
    outside: Place,
    this_thread: PhantomData<*const ()>,
}

impl Level {
    /// Into a switch.
    #[inline]
    pub fn enter() -> Self {
        Self::with_hops(hops())
    }

    /// Into a gate, or towards one with frames that have passed so many.
    #[inline]
    pub fn with_hops(hops: u32) -> Self {
        let outside = PLACE.get();
        PLACE.set(Place { levels: outside.levels + 1, hops, ..outside });
        Self { outside, this_thread: PhantomData }
    }

    /// Whether the thread came with empty hands.
    #[inline]
    pub fn is_outermost(&self) -> bool {
        self.outside.levels == 0
    }

    /// Lets go of receivers as soon as the thread holds nothing. The caller's own locks must be free.
    #[inline]
    pub fn let_go(&self, receivers: &mut Vec<Arc<dyn Receiver>>) {
        if self.is_outermost() {
            receivers.clear();
        } else if !receivers.is_empty() {
            FAREWELL.with_borrow_mut(|later| later.append(receivers));
            PLACE.set(Place { owed: true, ..PLACE.get() });
        }
    }
}

impl Drop for Level {
    #[inline]
    fn drop(&mut self) {
        let owed = PLACE.get().owed;
        PLACE.set(Place { owed: owed && !self.is_outermost(), ..self.outside });
        if owed && self.is_outermost() {
            // Taken out: a NIC's end may come back here.
            let mut receivers = FAREWELL.take();
            receivers.clear();
            FAREWELL.set(receivers);
        }
    }
}
