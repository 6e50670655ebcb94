//! A host with hardware KVM, emulated: Debian's kernel with kvm-amd in QEMU's TCG, which knows SVM
//! and nested paging. It sees the real host's files, read-only, and so runs what was just built.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Mounts the real host's root, then serves us; see the script.
const COMMANDS: &str = "mkdir /host && mount -t 9p \
     -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /host && exec sh /host";

/// Modules in the emulated host.
const MODULES: &str = "virtio_pci 9pnet_virtio 9p tun bridge kvm-amd";

/// Until the emulated host is up; it takes 5 s.
const BOOT_TIME: Duration = Duration::from_secs(300);

/// QEMU 7.2 sometimes loses an interrupt that comes while SVM's VMEXIT changes the same word; if it
/// was the timer's, the host sleeps on until another comes. An empty line is one.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// How long after its own limit a command may take to say so.
const GRACE: Duration = Duration::from_secs(60);

/// The running host. One for all tests of a binary: see [`host`].
pub struct Host {
    commands: Arc<Mutex<ChildStdin>>,
    lines: Receiver<String>,
}

/// What a command did in the emulated host.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status; 124 or 137 if its time was up.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

/// The emulated host, for one test at a time; the first boots it.
pub fn host() -> MutexGuard<'static, Host> {
    static HOST: LazyLock<Mutex<Host>> = LazyLock::new(|| Mutex::new(Host::boot()));
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The project's root.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project")
}

impl Host {
    fn boot() -> Self {
        let images = project().join("images/linux");
        let built = Command::new(images.join("build")).status().expect("images/linux/build");
        assert!(built.success(), "images/linux/build: {built}");

        let (sender, lines) = mpsc::channel();
        let (hand_over, stdin) = mpsc::channel();
        // The emulator dies with the thread that started it, thanks to setpriv. That thread lives
        // as long as there are tests, which end without telling anybody.
        std::thread::spawn(move || {
            let mut qemu = start(&images.join("out"));
            let _ = hand_over.send(qemu.stdin.take().expect("a pipe"));
            let mut output = BufReader::new(qemu.stdout.take().expect("a pipe"));
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            // Takes the sender along, so that whoever waits for a line learns of it.
            let _ = qemu.wait();
        });
        let commands = Arc::new(Mutex::new(stdin.recv().expect("a running emulator")));
        let heart = commands.clone();
        std::thread::spawn(move || {
            while send(&heart, "").is_ok() {
                std::thread::sleep(HEARTBEAT);
            }
        });
        let host = Self { commands, lines };
        host.until("serve: ready", Instant::now() + BOOT_TIME);
        host
    }

    /// Runs a shell command as root of the emulated host, whose only writable directory is /run.
    pub fn run(&mut self, command: &str, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit + GRACE;
        let line = format!("{} cd /run; {command}", limit.as_secs());
        send(&self.commands, &line).expect("the host lives");
        let (stdout, _) = self.until("serve: stderr", deadline);
        let (stderr, status) = self.until("serve: exit ", deadline);
        Outcome { status: status.parse().expect("a number"), stdout, stderr }
    }

    /// Runs the `labctl` that was built with this test.
    pub fn labctl(&mut self, arguments: &str, limit: Duration) -> Outcome {
        self.run(&format!("NO_COLOR=1 {} {arguments}", env!("CARGO_BIN_EXE_labctl")), limit)
    }

    /// All lines before the one that starts with `mark`, and the rest of that.
    fn until(&self, mark: &str, deadline: Instant) -> (String, String) {
        let mut text = String::new();
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(patience) {
                Ok(line) => match line.strip_prefix(mark) {
                    // The mark is on a line of its own, whatever the command's last line was.
                    Some(rest) => return (text.trim_end_matches('\n').to_owned(), rest.to_owned()),
                    None => text = text + &line + "\n",
                },
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    let log = console_log();
                    panic!("no \"{mark}\": {error}; see {}\n{text}", log.display())
                }
            }
        }
    }
}

fn send(commands: &Mutex<ChildStdin>, line: &str) -> io::Result<()> {
    let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
    commands.write_all(format!("{line}\n").as_bytes())
}

/// Where the emulated host's kernel messages go.
fn console_log() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tcg-host.log")
}

fn start(images: &Path) -> Child {
    let serve = project().join("tests/tcg/serve");
    let command_line = format!(
        "console=ttyS0 panic=-1 idle=halt name=host agent= modules=\"{MODULES}\" run=\"{COMMANDS}{}\"",
        serve.display()
    );
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"])
        // One processor: with more, QEMU 7.2 sometimes goes on executing the breakpoint by which
        // Linux patches running code, for ever. Two guests do not need more. Protection keys confuse
        // nested guests, as TCG lets them change XCR0 behind KVM's back. Interrupts get in between a
        // nested guest's `sti` and `hlt` (until 9.1), and it sleeps through what has just come: pktguest
        // knows (its boot.S), and tests' Linux guests have `nohz=off`, so that the next tick wakes them.
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max,pku=off", "-smp", "1"])
        .args(["-m", "2048"])
        .args(["-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(images.join("vmlinux"))
        .arg("-initrd")
        .arg(images.join("initrd.img"))
        .args(["-append", &command_line])
        .args([
            "-virtfs",
            "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
        ])
        .args(["-serial", &format!("file:{}", console_log().display()), "-serial", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("setpriv (Debian: util-linux)")
}
