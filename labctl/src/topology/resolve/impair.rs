//! What cables do to frames, by the file.

use crate::impairments::Impairments;
use crate::topology::{file::ImpairmentsSpec, resolve::Resolver, text::index::join};

impl Resolver<'_> {
    /// The impairments at `pointer`; what is not said is none.
    pub fn impairments(&mut self, pointer: &str, spec: &ImpairmentsSpec) -> Impairments {
        let time = |time: Option<crate::topology::file::Delay>| {
            time.map_or(0, |time| u64::try_from(time.get().as_micros()).unwrap_or(u64::MAX))
        };
        let share = |share: Option<crate::units::Share>| share.map_or(0.0, |share| share.get());
        let impairments = Impairments {
            delay_us: time(spec.delay),
            jitter_us: time(spec.jitter),
            loss: share(spec.loss),
            duplicate: share(spec.duplicate),
            reorder: share(spec.reorder),
            rate_bps: spec.rate.map_or(0, |rate| rate.0),
        };
        let delay_known = !self.document.is_damaged(&join(pointer, "delay"));
        if impairments.jitter_us > impairments.delay_us && delay_known {
            let message = "the jitter is more than the delay";
            let label = match spec.delay {
                Some(_) => "a frame cannot arrive before it was sent",
                None => "there is no `delay`",
            };
            self.document.value_problem(&join(pointer, "jitter"), message, label);
        }
        if impairments.reorder > 0.0 && impairments.delay_us == 0 && delay_known {
            self.document
                .value_problem(&join(pointer, "reorder"), "reordering needs a `delay`", "no delay")
                .help("a frame overtakes others by not being delayed as they are");
        }
        impairments
    }
}
