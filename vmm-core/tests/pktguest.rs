//! pktguest on switches: what a person types to it, pings all to all, frames through a forwarder.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmm_core::backend;
use vmm_core::boot::Kernel;
use vmm_core::clock::{Clock, MonotonicClock};
use vmm_core::e1000::E1000;
use vmm_core::kvm::{ExitReason, Hypervisor, IoThreads};
use vmm_core::machine::{Machine, MachineConfig, NicConfig};
use vmm_core::policy::Policy;
use vmm_core::serial::Lines;
use vmm_core::switch::Switch;

const LONG: Duration = Duration::from_secs(20);

/// Hands a guest's lines over to the test.
struct Console(Sender<String>);

impl Write for Console {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The test may have seen enough.
        let _ = self.0.send(String::from_utf8_lossy(line).trim_end().to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Guest {
    machine: Machine,
    lines: Receiver<String>,
}

impl Guest {
    /// The next line that `wanted` takes for what it looks for.
    fn find<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return found,
                    None => seen.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; it said {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let end = self.machine.exited();
                    panic!("no {what}; it said {seen:#?} and ended: {end:?}")
                }
            }
        }
    }

    /// The next report of that kind.
    fn event(&self, name: &str) -> Value {
        self.find(name, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == name).then_some(value)
        })
    }

    /// The next line, which is to be this.
    fn says(&self, expected: &str) {
        self.find(expected, |line| (line == expected).then_some(()));
    }

    fn type_in(&self, text: &str) {
        assert_eq!(self.machine.serial_input().send(text.as_bytes()), text.len());
    }
}

struct Lab {
    hypervisor: Hypervisor,
    clock: Arc<dyn Clock>,
    switches: Vec<Switch>,
    guests: Vec<Guest>,
}

impl Lab {
    /// `None` if tests that need KVM are to be skipped.
    fn new(switches: usize) -> Option<Self> {
        let hypervisor = match Hypervisor::open() {
            Ok(hypervisor) => hypervisor,
            Err(error) if std::env::var_os("LABCTL_SKIP_KVM_TESTS").is_some_and(|v| v == "1") => {
                eprintln!("SKIPPED for LABCTL_SKIP_KVM_TESTS=1: {error}");
                return None;
            }
            Err(error) => panic!("{error}; LABCTL_SKIP_KVM_TESTS=1 skips the tests that need KVM"),
        };
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
        let switches = (0..switches).map(|i| Switch::new(&format!("sw{i}"), clock.clone()));
        let switches = switches.collect();
        Some(Self { hypervisor, clock, switches, guests: Vec::new() })
    }

    /// Starts a guest with a NIC on each of these switches; NIC `n` of guest `g` has address
    /// 02:00:00:00:`g`:`n`.
    fn start(&mut self, cmdline: &str, switches: &[usize]) {
        let guest = self.guests.len() as u8;
        let ports: Vec<_> =
            switches.iter().map(|i| self.switches[*i].attach().expect("a port")).collect();
        let indices: Vec<_> = ports.iter().map(|port| port.index()).collect();
        let nics = (0..).zip(ports).map(|(nic, port)| NicConfig {
            mac: [2, 0, 0, 0, guest, nic],
            itr: false,
            csb: cmdline.contains("csb=1"),
            policy: Policy::default(),
            backend: Box::new(port),
        });
        // To measure it takes a PIT that is in time, as a crowded host's may not be.
        let tsc_khz = self.hypervisor.tsc_khz().map(|khz| format!("tsc_khz={khz}"));
        let (sender, lines) = mpsc::channel();
        let config = MachineConfig {
            name: format!("g{guest}"),
            ram_bytes: 48 << 20,
            kernel: Kernel {
                image: images::PKTGUEST.into(),
                cmdline: format!("{cmdline} {}", tsc_khz.unwrap_or_default()),
                ..Kernel::default()
            },
            nics: nics.collect(),
            console: Box::new(Lines::new(Console(sender))),
            agent: None,
            clock: self.clock.clone(),
            io: IoThreads::default(),
        };
        let machine = Machine::start(&self.hypervisor, config).expect("a guest");
        for ((switch, port), nic) in switches.iter().zip(indices).zip(machine.nics()) {
            let receiver: Arc<dyn backend::Receiver> = nic.clone();
            self.switches[*switch].connect(port, &receiver);
        }
        self.guests.push(Guest { machine, lines });
    }

    fn set_links(&self, guests: impl IntoIterator<Item = usize>, up: bool) {
        let nics = guests.into_iter().flat_map(|guest| self.guests[guest].machine.nics().to_vec());
        E1000::set_links(&nics.collect::<Vec<_>>(), up);
    }

    /// Waits until all guests are ready.
    fn ready(&self) {
        for guest in &self.guests {
            guest.event("ready");
        }
    }

    /// Plugs all cables in once all guests are ready.
    fn go(&self) {
        self.ready();
        self.set_links(0..self.guests.len(), true);
    }
}

/// Waits for something that is bound to happen, and for no longer than it may take.
fn soon(happened: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !happened() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_guest_does_what_is_typed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.start("role=idle driver=e1000 interval_ms=50", &[0]);
    let guest = &lab.guests[0];
    guest.event("ready");
    // It waits for its link, and halts.
    guest.type_in("stots\x7f\x7f\x7fats\r");
    guest.find("echo", |line| line.contains("stots\x08 \x08").then_some(()));
    assert_eq!(guest.event("stats")["packets"], 0);
    lab.set_links([0], true);
    guest.type_in("reboot\nhelp\r\n");
    guest.says("no command 'reboot': try help");
    guest.says("help");
    guest.find("help", |line| line.starts_with("stop ").then_some(()));
    // Reports have lines of their own, and what is typed goes on behind them.
    guest.event("interval");
    guest.type_in("sto");
    guest.says("sto");
    guest.event("interval");
    guest.type_in("p\r");
    assert_eq!(guest.event("final")["role"], "idle");
    guest.type_in("stats\r");
    guest.says("the role is over");
}

#[test]
fn a_person_does_not_disturb_a_sender_who_never_halts() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.start("role=tx driver=e1000 csb=1 burst=64", &[0]);
    lab.start("role=rx driver=e1000 csb=1", &[0]);
    lab.go();
    let guest = &lab.guests[0];
    guest.type_in("stats\r");
    let first = guest.event("stats");
    // More than the UART's FIFO holds.
    guest.type_in(&"stats\r".repeat(30));
    let stats: Vec<_> = (0..30).map(|_| guest.event("stats")).collect();
    // It may answer the first ones before it has sent anything, and goes on sending between others.
    assert!(stats[29]["packets"].as_u64() > first["packets"].as_u64(), "{stats:?}");
    guest.type_in("stop\r");
    let sent = guest.event("final")["packets"].as_u64();
    assert!(sent >= stats[29]["packets"].as_u64(), "{sent:?} {stats:?}");
    lab.guests[1].type_in("stop\r");
    lab.guests[1].event("final");
}

#[test]
fn guests_fail_as_they_are_told() {
    let Some(mut lab) = Lab::new(1) else { return };
    for _ in 0..3 {
        lab.start("role=idle driver=e1000", &[0]);
    }
    lab.go();
    let [crashes, ends, hangs] = lab.guests.as_slice() else { unreachable!() };
    crashes.type_in("crash\r");
    let message = crashes.event("error")["message"].to_string();
    assert!(message.contains("Exception 14") && message.contains("0x80000000"), "{message}");
    ends.type_in("triple-fault\r");
    soon(|| ends.machine.exited().is_some());
    let end = ends.machine.exited();
    assert!(matches!(end, Some(ExitReason::TripleFault { .. })), "{end:?}");
    hangs.type_in("hang\rstats\r");
    hangs.says("hang");
    let silence = hangs.lines.recv_timeout(Duration::from_millis(100));
    assert_eq!((silence, hangs.machine.exited()), (Err(RecvTimeoutError::Timeout), None));
}

#[test]
fn pings_reach_all_from_all_and_name_who_is_missing() {
    let Some(mut lab) = Lab::new(1) else { return };
    const GUESTS: usize = 12;
    for guest in 1..=GUESTS {
        let ip = format!("ip=10.0.0.{guest}/24 to_ip=10.0.0.1-10.0.0.{GUESTS}");
        lab.start(&format!("role=icmp driver=e1000 csb={} {ip}", guest % 2), &[0]);
    }
    // And one who pings somebody who is not there, and one who only answers.
    lab.start("role=icmp driver=e1000 ip=10.0.0.100/24 to_ip=10.0.0.101-10.0.0.102 count=1", &[0]);
    lab.start("role=icmp driver=e1000 ip=10.0.0.102/24", &[0]);
    lab.go();
    for guest in &lab.guests[..GUESTS] {
        let done = guest.event("done");
        let others = GUESTS as u64 - 1;
        assert_eq!((&done["reached"], &done["unreached"]), (&others.into(), &0.into()), "{done}");
        assert_eq!((&done["sent"], &done["received"]), (&others.into(), &others.into()), "{done}");
        assert!(done["p50_ns"].as_u64() > Some(0), "{done}");
    }
    let done = lab.guests[GUESTS].event("done");
    assert_eq!((&done["reached"], &done["sent"]), (&1.into(), &2.into()), "{done}");
    assert_eq!((&done["unreached"], &done["lost"]), (&1.into(), &1.into()), "{done}");
    assert_eq!(done["missing"], serde_json::json!(["10.0.0.101"]));
    // They have gone on answering. Without a link they wait for the next, and can be told to end.
    lab.set_links(0..GUESTS, false);
    lab.guests[0].type_in("stop\r");
    let end = lab.guests[0].event("final");
    assert_eq!((&end["packets"], &end["reached"]), (&11.into(), &11.into()), "{end}");
}

#[test]
fn pings_of_one_host_keep_their_rate_and_end_with_their_count() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.start("role=icmp driver=e1000 ip=10.0.0.1/24", &[0]);
    let pings = "to_ip=10.0.0.1 count=20 rate=200 frame=1514";
    lab.start(&format!("role=icmp driver=e1000 ip=10.0.0.2/24 {pings}"), &[0]);
    lab.ready();
    let start = Instant::now();
    lab.set_links([0, 1], true);
    let done = lab.guests[1].event("done");
    assert!(start.elapsed() >= Duration::from_millis(95), "{:?}", start.elapsed());
    assert_eq!(
        (&done["received"], &done["lost"], &done["reached"]),
        (&20.into(), &0.into(), &1.into())
    );
    lab.guests[1].type_in("stop\r");
    assert_eq!(lab.guests[1].event("final")["bytes"], 20 * 1514);
}

/// A sender and a receiver with a forwarder between them.
fn chain(rate: u32, options: &str) {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start(&format!("role=forward driver=e1000 unplugged=end {options}"), &[0, 1]);
    let to = "dst=02:00:00:00:01:00 count=20000";
    lab.start(&format!("role=rx driver=e1000 unplugged=end {options}"), &[1]);
    lab.start(&format!("role=tx driver=e1000 {to} rate={rate} {options}"), &[0]);
    lab.ready();
    lab.set_links([0, 1], true);
    // Their announcements have gone round when nothing moves any more.
    std::thread::sleep(Duration::from_millis(50));
    lab.set_links([2], true);
    assert_eq!(lab.guests[2].event("final")["unsent"], 0);
    let port = |switch: usize, index| {
        let counters = lab.switches[switch].counters();
        counters.into_iter().find(|(port, _)| *port == index).expect("its port").1
    };
    // All that it has been given, and the announcement of its own.
    soon(|| port(1, 0).frames_in > port(0, 1).delivered);
    lab.set_links([0, 1, 2], false);
    let (bridge, received) = (lab.guests[0].event("final"), lab.guests[1].event("final"));
    let count = |value: &Value, key: &str| value[key].as_u64().expect(key);
    // The receiver's announcement, and not its own.
    assert_eq!(count(&bridge, "packets_back"), 1, "{bridge}");
    assert_eq!((count(&bridge, "drops_forth"), count(&bridge, "drops_back")), (0, 0), "{bridge}");
    // The sender is the second on its switch, the forwarder the first on both.
    let forth = count(&bridge, "packets_forth");
    assert_eq!((port(0, 1).frames_in, port(0, 1).delivered), (20_000, forth), "{bridge}");
    let announced = 1;
    assert_eq!(port(1, 0).frames_in, forth + announced, "{bridge}");
    let lost = port(1, 0).refused;
    let arrived = count(&received, "packets");
    assert!((forth - lost..=forth).contains(&arrived), "{lost} {bridge} {received}");
    assert!(arrived > 0 && count(&received, "foreign") == 0, "{received}");
}

#[test]
fn a_forwarder_joins_two_switches() {
    chain(40_000, "burst=16");
}

#[test]
fn a_forwarder_joins_two_switches_through_shared_memory() {
    chain(200_000, "burst=64 csb=1 ring=1024");
}

#[test]
fn the_second_of_two_nics_can_be_driven_alone() {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start("role=pong driver=e1000 nic=1", &[0, 1]);
    lab.start("role=ping driver=e1000 count=10 dst=02:00:00:00:00:01", &[1]);
    lab.go();
    assert_eq!(lab.guests[1].event("final")["packets"], 10);
    lab.start("role=idle driver=e1000 nic=1", &[0]);
    assert_eq!(lab.guests[2].event("error")["message"], "No such 82540EM on PCI bus 0");
}

/// Packets a second of those who send at a rate.
const RATE: u32 = 2000;

impl Lab {
    /// Packets of guest `index` so far, as it says itself.
    fn packets(&self, index: usize) -> u64 {
        self.guests[index].type_in("stats\r");
        self.guests[index].event("stats")["packets"].as_u64().expect("a number")
    }

    /// Waits until guest `index` has more than `before` packets.
    fn more(&self, index: usize, before: u64) {
        let deadline = Instant::now() + LONG;
        while self.packets(index) <= before {
            assert!(Instant::now() < deadline, "guest {index} stays at {before} packets");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Leaves all as it is for a while, in which guests `index` have nothing to do.
    fn rest(&self, index: impl IntoIterator<Item = usize>) {
        const TIME: Duration = Duration::from_millis(300);
        let cpu = |index: &usize| self.guests[*index].machine.cpu_time().expect("its CPU time");
        let guests: Vec<_> = index.into_iter().map(|index| (index, cpu(&index))).collect();
        std::thread::sleep(TIME);
        for (index, before) in guests {
            let used = cpu(&index) - before;
            assert!(used < TIME / 5, "guest {index} used {used:?} of its CPU in {TIME:?}");
        }
    }
}

/// A guest that sends at a rate, and one that it sends to, are unplugged one after the other, and go
/// on each time. Returns the lab and their final reports.
fn outlive_their_links(from: &str, to: &str, options: &str) -> Option<(Lab, [Value; 2])> {
    let mut lab = Lab::new(1)?;
    let peer = "dst=02:00:00:00:01:00 to_ip=10.0.0.2 ip=10.0.0.1/24";
    lab.start(&format!("role={from} driver=e1000 rate={RATE} {peer} {options}"), &[0]);
    lab.start(&format!("role={to} driver=e1000 ip=10.0.0.2/24 {options}"), &[0]);
    lab.go();
    lab.more(1, 0);

    lab.set_links([0], false);
    std::thread::sleep(Duration::from_millis(50));
    let before = lab.packets(0);
    lab.rest([0, 1]);
    assert_eq!(lab.packets(0), before, "nothing is sent without a link");
    let received = lab.packets(1);
    let start = Instant::now();
    lab.set_links([0], true);
    std::thread::sleep(Duration::from_millis(100));
    lab.set_links([0], false);
    // A sender may be late, and catch up, by 10 ms.
    let time = start.elapsed() + Duration::from_millis(10);
    std::thread::sleep(Duration::from_millis(50));
    let sent = lab.packets(0) - before;
    let allowed = (f64::from(RATE) * time.as_secs_f64()) as u64 + 2;
    assert!(sent <= allowed, "{from} {options}: {sent} packets in {time:?}");
    lab.set_links([0], true);
    lab.more(1, received);

    lab.set_links([1], false);
    std::thread::sleep(Duration::from_millis(50));
    let received = lab.packets(1);
    lab.rest([1]);
    lab.set_links([1], true);
    lab.more(1, received);
    let reports = [0, 1].map(|index| {
        lab.guests[index].type_in("stop\r");
        lab.guests[index].event("final")
    });
    Some((lab, reports))
}

/// Shared memory or not, send combining or not.
const DRIVERS: [&str; 3] = ["", "sc=1", "csb=1"];

#[test]
fn frames_flow_again_when_a_cable_is_plugged_in_again_and_all_are_accounted_for() {
    for options in DRIVERS {
        let Some((lab, [sender, receiver])) = outlive_their_links("tx", "rx", options) else {
            return;
        };
        let count = |value: &Value, key: &str| value[key].as_u64().expect(key);
        let [left, right] = [0, 1].map(|guest| lab.guests[guest].machine.nics()[0].counters());
        let gone = left.tx.dropped.total() + right.rx.dropped.total();
        let sent = count(&sender, "packets");
        assert_eq!(sent, count(&receiver, "packets") + gone, "{options} {left:#?} {right:#?}");
        assert_eq!(left.tx.frames + left.tx.dropped.total(), count(&sender, "tx_frames"));
        assert_eq!(
            count(&receiver, "next"),
            count(&receiver, "packets") + count(&receiver, "lost")
        );
    }
}

#[test]
fn requests_are_answered_again_when_a_cable_is_plugged_in_again() {
    for options in DRIVERS {
        let Some((_, [ping, pong])) = outlive_their_links("ping", "pong", options) else { return };
        let count = |key: &str| ping[key].as_u64().expect(key);
        assert_eq!(count("sent"), count("packets") + count("lost"), "{ping} {pong}");
        // Those of two moments without a cable, one at a time.
        assert!((1..20).contains(&count("lost")), "{ping} {pong}");
    }
}

#[test]
fn sockets_outlive_an_unplugged_cable() {
    for options in DRIVERS {
        let Some((_, [_, udp])) = outlive_their_links("udp-tx", "udp-rx", options) else { return };
        assert!(udp["lost"].as_u64() > Some(0), "{udp}");
        let options = format!("frame=100 {options}");
        let Some((_, [sent, got])) = outlive_their_links("tcp-tx", "tcp-rx", &options) else {
            return;
        };
        assert_eq!((&got["damaged"], &sent["unsent"]), (&0.into(), &0.into()), "{sent} {got}");
        assert_eq!(sent["packets"], got["packets"], "TCP has sent again what was lost");
    }
}

#[test]
fn a_forwarder_goes_on_when_its_cables_are_plugged_in_again() {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start("role=forward driver=e1000 csb=1", &[0, 1]);
    lab.start("role=rx driver=e1000 csb=1", &[1]);
    lab.start(&format!("role=tx driver=e1000 rate={RATE} dst=02:00:00:00:01:00 csb=1"), &[0]);
    lab.go();
    lab.more(1, 0);
    lab.set_links([0], false);
    std::thread::sleep(Duration::from_millis(50));
    let received = lab.packets(1);
    lab.rest([0]);
    assert_eq!(lab.packets(1), received);
    let nics = lab.guests[0].machine.nics().to_vec();
    // One after the other: what comes meanwhile is dropped.
    nics[0].set_link(true);
    std::thread::sleep(Duration::from_millis(50));
    nics[1].set_link(true);
    lab.more(1, received);
    lab.guests[0].type_in("stop\r");
    let bridge = lab.guests[0].event("final");
    assert!(bridge["drops_forth"].as_u64() > Some(0), "{bridge}");
}

#[test]
fn an_unplugged_guest_ends_if_it_was_told_so_and_in_time_if_not() {
    let Some(mut lab) = Lab::new(1) else { return };
    for role in ["tx rate=1000", "rx", "ping", "pong", "idle", "udp-rx", "tcp-rx frame=82", "icmp"]
    {
        let ip = lab.guests.len() + 1;
        lab.start(&format!("role={role} ip=10.0.0.{ip}/24 driver=e1000 unplugged=end"), &[0]);
    }
    let told = lab.guests.len();
    for role in ["tx rate=1000", "rx", "ping"] {
        lab.start(&format!("role={role} driver=e1000 duration_ms=400"), &[0]);
    }
    lab.go();
    // All of them send at least one frame when they have seen their links.
    let begun = |guest: &Guest| guest.machine.nics()[0].counters().tx.frames > 0;
    soon(|| lab.guests.iter().all(begun));
    lab.set_links(0..lab.guests.len(), false);
    for (number, guest) in lab.guests.iter().enumerate() {
        let over = guest.event("final");
        // It looks at the clock a moment after its time has begun.
        let long = over["elapsed_ns"].as_u64() >= Some(390_000_000);
        assert!(number < told || long || over["role"] == "rx", "{over}");
    }
}
