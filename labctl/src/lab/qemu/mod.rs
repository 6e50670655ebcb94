//! Guests that QEMU runs, for comparison: the same image, command line and start barrier as ours.
//!
//! What a reader may ask: is it QEMU at its best on this host? Its NICs are as their authors set them
//! (only the e1000's half second of autonegotiation is left out); KVM's interrupt controller; nothing
//! on the machine but the NIC and a serial port. For virtio-net, TAPs with offload headers, packed
//! rings, transmission by a timer or without ioeventfd were tried with QEMU 7.2: none was better.
//!
//! A vCPU is pinned, as ours are, where there is a CPU for each thread that can be busy, and QEMU has
//! two for each guest. On two CPUs pinned vCPUs got in the way of QEMU's I/O threads: over sockets
//! they cost a quarter of the throughput.

mod qmp;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use vmm_core::kvm::KvmKind;
use vmm_core::{child, cpus};

use super::console::{Console, printable};
use crate::platform::{Link, NicModel};
use crate::units::human_mac;
use qmp::Qmp;

/// The program, found in PATH.
const PROGRAM: &str = "qemu-system-x86_64";

/// The first version with the firmware that we boot: qboot.
const OLDEST: (u32, u32) = (5, 1);

/// Boots in a tenth of a second where SeaBIOS takes three, because page-table KVM interprets it.
const FIRMWARE: &str = "qboot.rom";

/// The NIC's slot: one where qboot's idea of interrupt routing is the machine's.
const SLOT: u32 = 3;

/// Base address registers and what to write there: qboot leaves them to the guest, whose driver
/// leaves them to the firmware. All of it lies above 3 GiB, where pktguest expects devices.
const E1000_BARS: [(u32, u32); 1] = [(0x10, 0xfebc_0000)];
const VIRTIO_BARS: [(u32, u32); 4] =
    [(0x10, 0xc001), (0x14, 0xfebf_8000), (0x20, 0xfebf_0000), (0x24, 0)];

/// Name of the NIC in QEMU.
const NIC: &str = "nic";

/// The e1000 takes no frames for a second after its driver has enabled reception
/// (hw/net/e1000.c, `set_rx_control`); a little more, for its clock is not ours.
const E1000_DEAF: Duration = Duration::from_millis(1020);

/// As much of what QEMU says on stderr as an error message can hold.
const WORDS_MAX: usize = 1000;

/// What a guest needs.
pub struct Config {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel's command line.
    pub cmdline: String,
    /// Model of its NIC.
    pub nic: NicModel,
    /// Whether the e1000 honours ITR; QEMU calls that mitigation.
    pub itr: bool,
    /// The NIC's address.
    pub mac: [u8; 6],
    /// What the NIC is linked by.
    pub link: Link,
    /// A TAP's queue or one end of a socket.
    pub cable: OwnedFd,
    /// Where its lines go.
    pub console: Console,
}

/// A running QEMU. Dropping it kills it.
pub struct Qemu {
    child: Child,
    /// `None` before [`boot`](Self::boot), and once it did not answer.
    qmp: Option<Qmp>,
    monitor: Option<UnixStream>,
    nic: NicModel,
    words: Option<JoinHandle<String>>,
}

/// The version of the QEMU in PATH.
///
/// # Errors
/// Why there is none that can be used.
pub fn version() -> Result<String, String> {
    let output =
        Command::new(PROGRAM).arg("--version").output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("no {PROGRAM} in PATH (Debian: apt-get install qemu-system-x86)")
            }
            _ => format!("cannot start {PROGRAM}: {error}"),
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    usable(line.trim_start_matches("QEMU emulator version "))
}

/// The version, if it is new enough.
fn usable(version: &str) -> Result<String, String> {
    let mut numbers = version.split(['.', ' ']).map_while(|number| number.parse::<u32>().ok());
    let (oldest_major, oldest_minor) = OLDEST;
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(version.to_owned()),
        (Some(major), Some(minor)) => Err(format!(
            "QEMU {major}.{minor} is too old: it takes {oldest_major}.{oldest_minor} or later"
        )),
        _ => Err(format!("{PROGRAM} --version does not tell: {version}")),
    }
}

impl Qemu {
    /// Starts QEMU with its machine at rest. Call this on a thread that outlives it: the kernel
    /// kills QEMU with that thread.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(kind: KvmKind, config: Config) -> io::Result<Self> {
        let (monitor, theirs) = UnixStream::pair()?;
        let kernel = child::unnamed_file(images::PKTGUEST)?;
        let mut command = command(kind, &config, &theirs, kernel.as_fd());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for us: QEMU would end before we have said that we stop.
        command.process_group(0);
        let files = [config.cable.as_fd(), theirs.as_fd(), kernel.as_fd()];
        let mut child = child::spawn(&mut command, &files)?;
        if let Some(output) = child.stdout.take() {
            let mut console = config.console;
            // Ends with QEMU.
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    let _ = console.write_all(&line);
                    line.clear();
                }
            });
        }
        let words = child.stderr.take().map(|stderr| thread::spawn(move || listen(stderr)));
        Ok(Self { child, qmp: None, monitor: Some(monitor), nic: config.nic, words })
    }

    /// Sets the machine going, its link down, with its vCPU on `cpu` if given.
    ///
    /// # Errors
    /// With QEMU's words, if it has ended or does not do as it is told.
    pub fn boot(&mut self, cpu: Option<usize>) -> Result<(), String> {
        self.try_boot(cpu).map_err(|error| match self.exited() {
            Some(words) => words,
            None => format!("QEMU's monitor: {error}"),
        })
    }

    fn try_boot(&mut self, cpu: Option<usize>) -> io::Result<()> {
        let monitor = self.monitor.take().ok_or(io::ErrorKind::NotConnected)?;
        let qmp = self.qmp.insert(Qmp::open(monitor)?);
        qmp.execute("set_link", json!({ "name": NIC, "up": false }))?;
        let bars: &[_] = match self.nic {
            NicModel::E1000 => &E1000_BARS,
            NicModel::VirtioNet => &VIRTIO_BARS,
        };
        for (register, value) in bars {
            // Configuration mechanism #1 (PCI 3.0, section 3.2.2.3.2).
            let address = 1 << 31 | SLOT << 11 | register;
            for line in [format!("o /w 0xcf8 {address:#x}"), format!("o /w 0xcfc {value:#x}")] {
                qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
            }
        }
        if let Some(cpu) = cpu {
            let vcpus = qmp.execute("query-cpus-fast", json!({}))?;
            let thread =
                vcpus.pointer("/0/thread-id").and_then(|id| i32::try_from(id.as_i64()?).ok());
            cpus::pin_thread(thread.ok_or(io::ErrorKind::InvalidData)?, cpu)?;
        }
        qmp.execute("cont", json!({}))?;
        qmp.has_started()
    }

    /// How long after the guest is ready its NIC takes frames.
    pub fn deaf_for(&self) -> Duration {
        match self.nic {
            NicModel::E1000 => E1000_DEAF,
            NicModel::VirtioNet => Duration::ZERO,
        }
    }

    /// Plugs its cable in, or out. Whoever waits for the guest hears of a QEMU that has ended; one
    /// that does not answer is not asked again.
    pub fn set_link(&mut self, up: bool) {
        let Some(qmp) = &mut self.qmp else { return };
        if let Err(error) = qmp.execute("set_link", json!({ "name": NIC, "up": up })) {
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                tracing::warn!(up, "QEMU does not answer: its link stays as it is");
                // What it says later would be taken for the answer to something else.
                self.qmp = None;
            } else {
                tracing::debug!(%error, up, "cannot set QEMU's link");
            }
        }
    }

    /// How QEMU ended and what it said, if it has ended.
    pub fn exited(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let words = if words.is_empty() { "no word on stderr".to_owned() } else { words };
        Some(format!("QEMU ended with {status}: {words}"))
    }

    /// CPU time of all its threads; zero if the kernel does not tell.
    pub fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of = |task: io::Result<std::fs::DirEntry>| {
            // The first number is nanoseconds on a CPU (Documentation/scheduler/sched-stats.rst).
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.into_iter().flatten().filter_map(of).sum())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last of what QEMU says, in one line; warnings are no reason for an end.
fn listen(stderr: impl Read) -> String {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let lines = lines.filter(|line| !line.contains("warning:"));
    let words = lines.map(|line| printable(line.trim())).collect::<Vec<_>>().join("; ");
    let skipped = words.chars().count().saturating_sub(WORDS_MAX);
    words.chars().skip(skipped).collect()
}

fn command(
    kind: KvmKind,
    config: &Config,
    monitor: &UnixStream,
    kernel: BorrowedFd<'_>,
) -> Command {
    let mut command = Command::new(PROGRAM);
    // Page-table KVM has no host CPU to show: it refuses a model that it would have to trim.
    let cpu = if kind.runs_kernels_natively() { "host" } else { "qemu64" };
    let cable = config.cable.as_raw_fd();
    let netdev = match config.link {
        Link::Socket => format!("socket,id=cable,fd={cable}"),
        Link::Tap | Link::Vale => format!("tap,id=cable,fd={cable},vhost=off"),
    };
    let model = match config.nic {
        NicModel::E1000 => {
            let mitigation = if config.itr { "on" } else { "off" };
            format!("e1000,autonegotiation=off,mitigation={mitigation}")
        }
        NicModel::VirtioNet => "virtio-net-pci,rx_queue_size=1024".to_owned(),
    };
    let mac = human_mac(config.mac);
    command
        .args(["-S", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "pc", "-accel", "kvm", "-cpu", cpu, "-bios", FIRMWARE])
        .arg("-m")
        .arg(config.memory_mib.to_string())
        .args(["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"])
        .arg("-chardev")
        .arg(format!("socket,id=monitor,fd={}", monitor.as_raw_fd()))
        .args(["-mon", "chardev=monitor,mode=control"])
        .args(["-netdev", &netdev])
        .arg("-device")
        .arg(format!("{model},id={NIC},netdev=cable,mac={mac},addr={SLOT},romfile="))
        .arg("-kernel")
        .arg(format!("/proc/self/fd/{}", kernel.as_raw_fd()))
        .args(["-append", &config.cmdline]);
    command
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn versions_are_read_and_old_ones_refused() {
        let debian = "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)";
        assert_eq!(usable(debian).as_deref(), Ok(debian));
        assert_eq!(usable("5.1.0").as_deref(), Ok("5.1.0"));
        assert_eq!(usable("10.0.2").as_deref(), Ok("10.0.2"));
        let old = usable("4.2.1 (Debian 1:4.2-3ubuntu6.30)").unwrap_err();
        assert_eq!(old, "QEMU 4.2 is too old: it takes 5.1 or later");
        assert!(usable("").is_err() && usable("seven").is_err());
    }

    /// A QEMU whose monitor says nothing any more once its machine goes.
    fn silent() -> Qemu {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            theirs.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut goes = false;
            for line in BufReader::new(theirs.try_clone().unwrap()).lines().map_while(Result::ok) {
                if !goes {
                    theirs.write_all(b"{\"return\": {}}\n").unwrap();
                }
                goes |= line.contains("\"cont\"");
            }
        });
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        Qemu { child, qmp: None, monitor: Some(ours), nic: NicModel::E1000, words: None }
    }

    #[test]
    fn a_qemu_that_does_not_answer_holds_nobody_up() {
        let mut qemu = silent();
        qemu.boot(None).unwrap();
        let begin = Instant::now();
        (0..10).for_each(|_| qemu.set_link(false));
        // Each would be given a second.
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }

    #[test]
    fn the_last_words_are_kept_and_warnings_are_not() {
        assert_eq!(listen("a\nx: warning: y\n\x1b[1mb\n".as_bytes()), "a; [1mb");
        let long = "x".repeat(WORDS_MAX) + "end";
        let kept = listen(long.as_bytes());
        assert!(kept.len() == WORDS_MAX && kept.ends_with("end"));
    }
}
