//! INTx between a function and the interrupt controller.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::irq::InterruptLine;

/// A function's interrupt pin: what the function wants, gated by Command.Interrupt Disable.
///
/// The function drives it from any thread as an [`InterruptLine`]; configuration space gates it and
/// reads it back as Status.Interrupt (PCI 3.0, section 6.2.3).
pub struct Intx {
    line: Arc<dyn InterruptLine>,
    /// Held while the line is driven, so that levels reach it in the order they were decided.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    disabled: bool,
    driven: bool,
}

impl Intx {
    /// A pin that drives `line`; low and not disabled.
    pub fn new(line: Arc<dyn InterruptLine>) -> Self {
        Self { line, state: Mutex::default() }
    }

    /// Follows Command.Interrupt Disable.
    pub fn set_disabled(&self, disabled: bool) {
        self.update(|state| state.disabled = disabled);
    }

    /// Whether the function wants an interrupt, even if it is disabled.
    pub fn wanted(&self) -> bool {
        self.state.lock().wanted
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let level = state.wanted && !state.disabled;
        if level != state.driven {
            state.driven = level;
            self.line.set_level(level);
        }
    }
}

impl InterruptLine for Intx {
    fn set_level(&self, high: bool) {
        self.update(|state| state.wanted = high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Levels(Mutex<Vec<bool>>);

    impl InterruptLine for Levels {
        fn set_level(&self, high: bool) {
            self.0.lock().push(high);
        }
    }

    fn pin() -> (Intx, Arc<Levels>) {
        let levels = Arc::new(Levels::default());
        (Intx::new(levels.clone()), levels)
    }

    #[test]
    fn a_disabled_pin_is_silent_but_shows_in_status() {
        let (pin, levels) = pin();
        pin.set_disabled(true);
        pin.set_level(true);
        assert!(pin.wanted());
        assert!(levels.0.lock().is_empty());
        pin.set_disabled(false);
        assert_eq!(*levels.0.lock(), [true], "enabling asserts what is still wanted");
    }

    #[test]
    fn disabling_an_asserted_pin_releases_the_line() {
        let (pin, levels) = pin();
        pin.set_level(true);
        pin.set_disabled(true);
        assert_eq!(*levels.0.lock(), [true, false]);
        pin.set_level(false);
        pin.set_disabled(false);
        assert_eq!(*levels.0.lock(), [true, false], "nothing wanted, nothing driven");
    }

    #[test]
    fn the_line_sees_changes_only() {
        let (pin, levels) = pin();
        for high in [true, true, false, false] {
            pin.set_level(high);
        }
        assert_eq!(*levels.0.lock(), [true, false]);
    }
}
