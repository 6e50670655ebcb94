//! The audit of a trial under another VMM, which does not tell what it drops: what its guests say
//! must agree with itself and with what the kernel counts between them. What is missing then was
//! lost inside.

use crate::lab::{FabricCounters, Final};
use crate::results::{Counters, Protocol, Sample, TrialKind};

/// Packets that are missing and that nobody counted.
pub fn lost(sample: &Sample) -> u64 {
    sample.sent.saturating_sub(sample.received).saturating_sub(sample.dropped)
}

/// What the guests' own reports can say of a trial's counters.
pub fn counted(reports: &[&Final], cpu_ns: u64) -> Counters {
    let sum = |count: fn(&Final) -> u64| reports.iter().map(|report| count(report)).sum();
    Counters {
        tdt_writes: sum(|report| report.tdt_writes),
        rdt_writes: sum(|report| report.rdt_writes),
        interrupts: sum(|report| report.interrupts),
        kicks: sum(|report| report.tdt_writes + report.rdt_writes),
        halts: sum(|report| report.halts),
        cpu_ns,
        ..Counters::default()
    }
}

/// Audits a trial.
///
/// # Errors
/// What contradicts what.
pub fn books(
    sample: &Sample,
    protocol: Protocol,
    receiver: &Final,
    fabric: &FabricCounters,
) -> Result<(), String> {
    let explained = sample.received + sample.dropped;
    if explained > sample.sent {
        return Err(format!("{} packets sent, but {explained} arrived or dropped", sample.sent));
    }
    let kernel = || fabric.taps.iter().map(|tap| &tap.kernel);
    let written: u64 = kernel().map(|kernel| kernel.written).sum();
    let known: u64 = kernel().map(|tap| tap.read + tap.queue_full + tap.qdisc_dropped).sum();
    // With two TAPs a bridge makes one copy of every frame.
    if fabric.taps.len() == 2 && known > written {
        return Err(format!("{written} frames written to TAPs, but {known} read or dropped"));
    }
    if protocol == Protocol::Tcp {
        // It repairs what is lost; its records have no sequence to look at.
        return match sample.sent - sample.received {
            0 => Ok(()),
            missing => Err(format!("{missing} records written, but not read")),
        };
    }
    if sample.kind == TrialKind::Throughput {
        let missing = receiver.lost + sample.sent.saturating_sub(receiver.next);
        if missing != sample.sent - sample.received {
            let fewer = sample.sent - sample.received;
            return Err(format!(
                "{fewer} packets fewer than sent, but {missing} missing in sequence"
            ));
        }
    }
    match receiver.reordered + receiver.duplicates {
        0 => Ok(()),
        count => Err(format!("{count} frames out of order or doubled")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::TapCount;
    use crate::lab::network::PortStats;

    fn sample(sent: u64, received: u64, dropped: u64) -> Sample {
        let counted = Sample::new(TrialKind::Throughput, 1, 0);
        Sample { elapsed_ns: 1, sent, received, dropped, ..counted }
    }

    /// One TAP takes `written` frames, of which the other gives `read` to its reader.
    fn taps(written: u64, read: u64, queue_full: u64) -> FabricCounters {
        let port = |written, read, queue_full| {
            let kernel = PortStats { written, read, queue_full, ..PortStats::default() };
            TapCount { interface: "tap".to_owned(), guest: None, ours: None, kernel }
        };
        let taps = vec![port(written, 0, 0), port(0, read, queue_full)];
        FabricCounters { taps, ..FabricCounters::default() }
    }

    #[test]
    fn what_is_missing_is_lost_and_the_gaps_must_say_so() {
        let sample = sample(100, 80, 15);
        assert_eq!(lost(&sample), 5);
        // Of the 20 missing, 12 left gaps and 8 were the last.
        let receiver = Final { lost: 12, next: 92, ..Final::default() };
        assert_eq!(books(&sample, Protocol::Raw, &receiver, &taps(100, 85, 15)), Ok(()));
        let fewer_gaps = Final { lost: 11, ..receiver.clone() };
        let error = books(&sample, Protocol::Raw, &fewer_gaps, &taps(100, 85, 15)).unwrap_err();
        assert_eq!(error, "20 packets fewer than sent, but 19 missing in sequence");
        let doubled = Final { duplicates: 1, ..receiver };
        assert!(books(&sample, Protocol::Raw, &doubled, &taps(100, 85, 15)).is_err());
    }

    #[test]
    fn nothing_comes_from_nowhere() {
        let receiver = Final { next: 100, ..Final::default() };
        assert!(books(&sample(100, 101, 0), Protocol::Raw, &receiver, &taps(100, 100, 0)).is_err());
        assert!(books(&sample(100, 100, 0), Protocol::Raw, &receiver, &taps(100, 101, 0)).is_err());
        assert_eq!(
            books(&sample(100, 100, 0), Protocol::Raw, &receiver, &taps(100, 100, 0)),
            Ok(())
        );
        let sockets = FabricCounters::default();
        assert_eq!(books(&sample(100, 100, 0), Protocol::Raw, &receiver, &sockets), Ok(()));
    }

    #[test]
    fn a_stream_arrives_whole() {
        let (receiver, sockets) = (Final::default(), FabricCounters::default());
        assert_eq!(books(&sample(9, 9, 0), Protocol::Tcp, &receiver, &sockets), Ok(()));
        assert!(books(&sample(9, 8, 0), Protocol::Tcp, &receiver, &sockets).is_err());
    }

    #[test]
    fn what_the_guests_count_is_summed() {
        let report = Final { tdt_writes: 7, rdt_writes: 2, interrupts: 3, ..Final::default() };
        let counters = counted(&[&report, &report], 5);
        assert_eq!((counters.kicks, counters.interrupts, counters.cpu_ns), (18, 6, 5));
    }
}
