//! Guests leave nothing behind. Alone in its process, because it counts what the process has.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_core::backend::NullBackend;
use vmm_core::boot::Kernel;
use vmm_core::clock::MonotonicClock;
use vmm_core::kvm::{ExitReason, Hypervisor, IoThreads};
use vmm_core::machine::{Machine, MachineConfig, NicConfig};
use vmm_core::policy::Policy;

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).expect("procfs").count()
}

#[test]
fn two_hundred_lives_leak_no_descriptor_and_no_thread() {
    let hypervisor = match Hypervisor::open() {
        Ok(hypervisor) => hypervisor,
        Err(error) if std::env::var_os("LABCTL_SKIP_KVM_TESTS").is_some_and(|v| v == "1") => {
            return eprintln!("SKIPPED for LABCTL_SKIP_KVM_TESTS=1: {error}");
        }
        Err(error) => panic!("{error}; LABCTL_SKIP_KVM_TESTS=1 skips the tests that need KVM"),
    };
    let counts = || (entries("/proc/self/fd"), entries("/proc/self/task"));
    let before = counts();
    for life in 0..200 {
        let config = MachineConfig {
            name: format!("life{life}"),
            ram_bytes: 48 << 20,
            kernel: Kernel {
                image: images::PKTGUEST.into(),
                cmdline: "role=idle driver=e1000".into(),
                ..Kernel::default()
            },
            nics: vec![NicConfig {
                mac: [0x52, 0x54, 0, 0, 0, 1],
                itr: true,
                csb: true,
                policy: Policy::default(),
                backend: Box::new(NullBackend),
            }],
            console: Box::new(std::io::sink()),
            agent: None,
            clock: Arc::new(MonotonicClock::new()),
            io: IoThreads::default(),
        };
        let machine = Machine::start(&hypervisor, config).unwrap();
        assert!(counts() > before, "a guest has descriptors and threads");
        machine.nic(0).set_link(true);
        // From the first instruction to a guest that idles.
        std::thread::sleep(Duration::from_millis(life % 8));
        assert_eq!(machine.stop(), ExitReason::Stopped, "life {life}");
    }
    // A thread that was joined is listed until the kernel has seen to it.
    let deadline = Instant::now() + Duration::from_secs(30);
    while counts() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counts(), before);
}
