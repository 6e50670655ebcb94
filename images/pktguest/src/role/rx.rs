//! Counts frames and checks their sequence numbers.

use super::sink::{self, Sink};
use super::{BATCH, Session};
use crate::frame::Kind;
use crate::nic::Nic;

/// Receives until the role is over.
pub fn run<N: Nic>(session: Session<'_>, nic: &mut N) {
    sink::run(session, nic, |nic: &mut N, sink: &mut Sink, _| {
        nic.receive(BATCH, |frame| match frame.kind() {
            Some(Kind::Data) => sink.note(frame.sequence(), frame.len().into()),
            Some(Kind::Announce) => (),
            _ => sink.foreign += 1,
        })
    });
}
