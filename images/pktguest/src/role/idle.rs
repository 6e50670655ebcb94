//! Takes frames and drops them.

use super::{Session, Tally};
use crate::nic::{Nic, Until};
use crate::time;

/// Drops frames until the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    loop {
        nic.discard_received();
        let now = time::now();
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, Tally::default());
        nic.wait(Until::Frame, session.wake());
    }
    session.final_line(nic, 0).end();
}
