//! QEMU's e1000, in a PC whose processor is this test: QEMU's qtest protocol reads and writes its
//! buses (docs/devel/qtest.rst in QEMU's sources).
//!
//! Debian's QEMU has no qtest accelerator, whose clock a test could step, but counting the
//! instructions of a processor that never wakes serves as well: with `sleep=off` QEMU's clock leaps
//! from one device's deadline to the next.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::nic::{MAC, Nic};

/// A QEMU that has not answered by then, whatever it was asked for, never will.
const STALL: Duration = Duration::from_secs(30);

const SLOT: u32 = 4;
const BAR0: u64 = 0xe000_0000;
const BAR1: u32 = 0xc000;

/// The HPET counts QEMU's clock; its comparator is a deadline of our own (IA-PC HPET specification,
/// section 2.3).
mod hpet {
    pub const BASE: u64 = 0xfed0_0000;
    pub const CONFIGURATION: u64 = BASE + 0x10;
    pub const ENABLE: u32 = 1 << 0;
    pub const COUNTER: u64 = BASE + 0xf0;
    pub const COMPARATOR: u64 = BASE + 0x108;
    /// Two seconds in QEMU, whose HPET counts tens of nanoseconds.
    pub const LONG: u64 = 200_000_000;
}

/// PCI configuration registers of the NIC.
mod config {
    pub const COMMAND: u32 = 0x04;
    pub const BAR0: u32 = 0x10;
    pub const BAR1: u32 = 0x14;
    pub const IO_SPACE: u32 = 1 << 0;
    pub const MEMORY_SPACE: u32 = 1 << 1;
    pub const BUS_MASTER: u32 = 1 << 2;
    /// Interrupt Status, in the upper half: Status.
    pub const INTERRUPT: u32 = 1 << (16 + 3);
}

/// `qemu-system-x86_64 -device e1000`.
pub struct Qemu {
    child: Child,
    qtest: BufReader<UnixStream>,
    cable: UnixStream,
    monitor: Monitor,
    /// Bytes from the cable that are not a whole frame yet.
    pending: Vec<u8>,
}

impl Qemu {
    /// Starts QEMU and does what firmware does: both BARs mapped, bus mastering on.
    pub fn new(moderation: bool) -> Self {
        let [qtest, cable, monitor] = ["qtest", "cable", "monitor"].map(socket_name);
        let [a, b, c, d, e, f] = MAC;
        let moderation = if moderation { "on" } else { "off" };
        // setpriv: QEMU must not outlive a test that is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"])
            .args(["-machine", "pc,pit=off,usb=off", "-m", "64", "-display", "none"])
            .args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios", sleeping_firmware()])
            .arg("-qtest")
            .arg(format!("unix:{qtest},server=on,wait=off,abstract=on"))
            .args(["-qtest-log", "none"])
            .arg("-chardev")
            .arg(format!("socket,id=monitor,server=on,wait=off,path={monitor},abstract=on"))
            .args(["-mon", "chardev=monitor,mode=control"])
            .arg("-netdev")
            .arg(format!(
                "stream,id=wire,server=on,addr.type=unix,addr.path={cable},addr.abstract=on"
            ))
            .arg("-device")
            .arg(format!(
                "e1000,netdev=wire,addr={SLOT},romfile=,mitigation={moderation},\
                 mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // It warns that the machine has no timers, which is the point.
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv and qemu-system-x86_64 (Debian: util-linux, qemu-system-x86)");
        let mut monitor = Monitor(BufReader::new(connect(&monitor, &mut child)));
        monitor.command("qmp_capabilities", "{}");
        let cable = connect(&cable, &mut child);
        // What the NIC sends before that event is lost.
        monitor.wait_for("NETDEV_STREAM_CONNECTED");
        let mut qemu = Self {
            qtest: BufReader::new(connect(&qtest, &mut child)),
            monitor,
            cable,
            pending: Vec::new(),
            child,
        };
        qemu.config_write(config::BAR0, BAR0 as u32);
        qemu.config_write(config::BAR1, BAR1);
        qemu.set_bus_master(true);
        qemu.command(&format!("writel {:#x} {:#x}", hpet::CONFIGURATION, hpet::ENABLE));
        qemu
    }

    /// One qtest command and the words of its answer after "OK".
    fn command(&mut self, command: &str) -> String {
        self.qtest.get_mut().write_all(format!("{command}\n").as_bytes()).expect(command);
        let mut answer = String::new();
        self.qtest.read_line(&mut answer).expect(command);
        let answer = answer.trim_end();
        match answer.strip_prefix("OK") {
            Some(rest) => rest.trim_start().into(),
            None => panic!("{command}: {answer}"),
        }
    }

    fn number(&mut self, command: &str) -> u64 {
        let answer = self.command(command);
        let digits = answer.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{command}: {answer}"))
    }

    fn config_read(&mut self, register: u32) -> u32 {
        self.select(register);
        self.number("inl 0xcfc") as u32
    }

    fn config_write(&mut self, register: u32, value: u32) {
        self.select(register);
        self.command(&format!("outl 0xcfc {value:#x}"));
    }

    fn select(&mut self, register: u32) {
        self.command(&format!("outl 0xcf8 {:#x}", 1 << 31 | SLOT << 11 | register));
    }
}

/// QEMU's monitor (docs/interop/qmp-spec.txt in QEMU's sources).
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn command(&mut self, name: &str, arguments: &str) {
        let command = format!("{{\"execute\": \"{name}\", \"arguments\": {arguments}}}\n");
        self.0.get_mut().write_all(command.as_bytes()).expect(name);
        self.wait_for("\"return\"");
    }

    /// Skips lines up to one with `text`.
    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            self.0.read_line(&mut line).expect(text);
            assert!(!line.is_empty() && !line.contains("\"error\""), "not {text}: {line}");
        }
    }
}

impl Nic for Qemu {
    fn read(&mut self, offset: u32, data: &mut [u8]) {
        let value = self.number(&format!("read{} {:#x}", suffix(data), BAR0 + u64::from(offset)));
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
    }

    fn write(&mut self, offset: u32, data: &[u8]) {
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        let (at, value) = (BAR0 + u64::from(offset), u64::from_le_bytes(value));
        self.command(&format!("write{} {at:#x} {value:#x}", suffix(data)));
    }

    fn io_read(&mut self, offset: u32) -> u32 {
        self.number(&format!("inl {:#x}", BAR1 + offset)) as u32
    }

    fn io_write(&mut self, offset: u32, value: u32) {
        self.command(&format!("outl {:#x} {value:#x}", BAR1 + offset));
    }

    fn ram_read(&mut self, address: u64, data: &mut [u8]) {
        let answer = self.command(&format!("read {address:#x} {:#x}", data.len()));
        for (byte, digits) in data.iter_mut().zip(answer.as_bytes()[2..].chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
        }
    }

    fn ram_write(&mut self, address: u64, data: &[u8]) {
        let mut command = format!("write {address:#x} {:#x} 0x", data.len());
        for byte in data {
            write!(command, "{byte:02x}").unwrap();
        }
        self.command(&command);
    }

    fn set_bus_master(&mut self, on: bool) {
        let bus_master = if on { config::BUS_MASTER } else { 0 };
        self.config_write(config::COMMAND, config::IO_SPACE | config::MEMORY_SPACE | bus_master);
    }

    fn receive(&mut self, frame: &[u8]) {
        let mut message = (frame.len() as u32).to_be_bytes().to_vec();
        message.extend(frame);
        self.cable.set_nonblocking(false).unwrap();
        self.cable.write_all(&message).unwrap();
        self.rest();
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.cable.set_nonblocking(true).unwrap();
        match self.cable.read_to_end(&mut self.pending) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => panic!("QEMU's end of the cable: {result:?}"),
        }
        let mut frames = Vec::new();
        while let Some((length, rest)) = self.pending.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(frame) = rest.get(..length) else { break };
            frames.push(frame.to_vec());
            self.pending.drain(..4 + length);
        }
        frames
    }

    fn set_link(&mut self, up: bool) {
        self.monitor.command("set_link", &format!("{{\"name\": \"wire\", \"up\": {up}}}"));
        self.rest();
    }

    fn interrupt(&mut self) -> bool {
        self.config_read(config::COMMAND) & config::INTERRUPT != 0
    }

    fn rest(&mut self) {
        // None of the NIC's timers is longer: receive waits for 1 s after a write to RCTL,
        // autonegotiation takes 0.5 s. The clock stops at every deadline in order.
        let end = self.number(&format!("readq {:#x}", hpet::COUNTER)) + hpet::LONG;
        self.command(&format!("writeq {:#x} {end:#x}", hpet::COMPARATOR));
        let give_up = Instant::now() + STALL;
        while self.number(&format!("readq {:#x}", hpet::COUNTER)) < end {
            assert!(Instant::now() < give_up, "QEMU's clock stands still");
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What QEMU says that it is.
pub fn version() -> String {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().into()
}

/// What to do about differences from another QEMU than the one that the table was made for.
pub fn unlike_the_table() -> &'static str {
    if version().contains("version 7.2.") {
        return "";
    }
    "\nThe table of differences was made for QEMU 7.2, of Debian 12. Run this test in a container of \
     debian:bookworm, or make the table anew for this QEMU, with what this message lists."
}

/// Firmware that stops the processor for good at the reset vector; returns its path.
fn sleeping_firmware() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        const CLI: u8 = 0xfa;
        const HLT: u8 = 0xf4;
        let mut image = vec![HLT; 64 << 10];
        let reset_vector = image.len() - 16;
        image[reset_vector] = CLI;
        let path = format!("{}/sleeping-firmware", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, image).expect(&path);
        path
    });
    &PATH
}

/// The letter by which qtest names an access of this size.
fn suffix(data: &[u8]) -> char {
    match data.len() {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        other => panic!("no access has {other} bytes"),
    }
}

/// A name of its own, outside the file system. UNIX sockets deliver what is written before the
/// write returns, so that no test waits for a frame.
fn socket_name(purpose: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("differential-{}-{number}-{purpose}", std::process::id())
}

/// Connects to QEMU as soon as it listens; one that ends instead has said why.
fn connect(name: &str, child: &mut Child) -> UnixStream {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let give_up = Instant::now() + STALL;
    loop {
        if let Ok(stream) = UnixStream::connect_addr(&address) {
            stream.set_read_timeout(Some(STALL)).unwrap();
            return stream;
        }
        if child.try_wait().unwrap().is_some() {
            let mut complaint = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut complaint).unwrap();
            panic!("QEMU ended: {complaint}");
        }
        assert!(Instant::now() < give_up, "QEMU does not start");
        std::thread::sleep(Duration::from_millis(2));
    }
}
