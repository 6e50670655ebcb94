use super::*;
use crate::irq::InterruptLine;
use parking_lot::Mutex;

/// A block of scratch registers.
struct Scratch(Mutex<[u8; 0x100]>);

impl Registers for Scratch {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.copy_from_slice(&self.0.lock()[offset as usize..][..data.len()]);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock()[offset as usize..][..data.len()].copy_from_slice(data);
    }
}

#[derive(Default)]
struct Levels(Mutex<Vec<bool>>);

impl InterruptLine for Levels {
    fn set_level(&self, high: bool) {
        self.0.lock().push(high);
    }
}

/// A root with one device at 00:01.0, and what is behind the device.
struct Bench {
    root: PciRoot,
    intx: Arc<Intx>,
    levels: Arc<Levels>,
    bus_master: Arc<Mutex<Vec<bool>>>,
}

impl Bench {
    fn new() -> Self {
        let identity = Identity {
            vendor: 0x1234,
            device: 0x5678,
            revision: 9,
            class: 0x02_0000,
            subsystem_vendor: 0xabcd,
            subsystem_device: 0xef01,
        };
        let bars = vec![
            Bar { space: Space::Memory, len: 0x100, base: 0xe000_0000 },
            Bar { space: Space::Ports, len: 0x40, base: 0xc000 },
        ];
        let scratch = || Arc::new(Scratch(Mutex::new([0; 0x100]))) as Arc<dyn Registers>;
        let levels = Arc::new(Levels::default());
        let intx = Arc::new(Intx::new(levels.clone()));
        let bus_master = Arc::new(Mutex::new(Vec::new()));
        let log = bus_master.clone();
        let mut root = PciRoot::new();
        root.add(Function::new(
            ConfigSpace::new(&identity, bars).with_inta(10),
            vec![scratch(), scratch()],
            Some(intx.clone()),
            move |on| log.lock().push(on),
        ));
        Self { root, intx, levels, bus_master }
    }

    fn select(&mut self, address: u32) {
        self.root.config_write(CONFIG_ADDRESS, &address.to_le_bytes());
    }

    fn data(&self) -> u32 {
        let mut raw = [0; 4];
        self.root.config_read(CONFIG_DATA, &mut raw);
        u32::from_le_bytes(raw)
    }

    fn get(&mut self, device: u32, register: u32) -> u32 {
        self.select(ENABLE | device << 11 | register);
        self.data()
    }

    fn set(&mut self, device: u32, register: u32, value: u32) {
        self.select(ENABLE | device << 11 | register);
        self.root.config_write(CONFIG_DATA, &value.to_le_bytes());
    }
}

#[test]
fn the_address_register_reads_back() {
    let mut bench = Bench::new();
    bench.select(0x8000_0810);
    let mut raw = [0; 4];
    bench.root.config_read(CONFIG_ADDRESS, &mut raw);
    assert_eq!(raw, 0x8000_0810u32.to_le_bytes());
    let mut high = [0; 2];
    bench.root.config_read(CONFIG_ADDRESS + 2, &mut high);
    assert_eq!(high, [0x00, 0x80]);
}

#[test]
fn only_whole_writes_change_the_address() {
    let mut bench = Bench::new();
    bench.select(0x8000_0800);
    bench.root.config_write(CONFIG_ADDRESS + 3, &[1]);
    bench.root.config_write(CONFIG_ADDRESS, &[0xff]);
    bench.root.config_write(CONFIG_ADDRESS, &[0xff, 0xff]);
    assert_eq!(bench.data(), 0x5678_1234);
}

#[test]
fn a_disabled_mechanism_reads_all_ones_and_ignores_writes() {
    let mut bench = Bench::new();
    bench.select(0x0000_083c);
    assert_eq!(bench.data(), u32::MAX);
    bench.root.config_write(CONFIG_DATA, &[0x55]);
    assert_eq!(bench.get(1, 0x3c), 0x0000_010a);
}

#[test]
fn what_is_absent_reads_all_ones() {
    let mut bench = Bench::new();
    assert_eq!(bench.get(0, 0), 0x1237_8086, "host bridge");
    assert_eq!(bench.get(0, 8), 0x0600_0002);
    assert_eq!(bench.get(2, 0), u32::MAX, "no such device");
    bench.select(ENABLE | 1 << 11 | 1 << 8);
    assert_eq!(bench.data(), u32::MAX, "no such function");
    bench.select(ENABLE | 1 << 16 | 1 << 11);
    assert_eq!(bench.data(), u32::MAX, "no such bus");
}

#[test]
fn the_data_port_takes_bytes_and_words() {
    let mut bench = Bench::new();
    bench.select(0x8000_0800);
    let mut byte = [0];
    bench.root.config_read(CONFIG_DATA + 3, &mut byte);
    assert_eq!(byte, [0x56]);
    let mut word = [0; 2];
    bench.root.config_read(CONFIG_DATA + 2, &mut word);
    assert_eq!(word, [0x78, 0x56]);
    bench.root.config_read(CONFIG_DATA + 3, &mut word);
    assert_eq!(word, [0xff; 2], "crosses the register");
    bench.select(0x8000_083c);
    bench.root.config_write(CONFIG_DATA, &[0x55]);
    assert_eq!(bench.data(), 0x0000_0155);
}

#[test]
fn a_moved_bar_answers_at_its_new_base_only() {
    let mut bench = Bench::new();
    bench.root.memory().find(0xe000_0010, 4).unwrap().0.write(0x10, &[1, 2, 3, 4]);
    bench.set(1, 0x10, 0xd123_4500);
    assert!(bench.root.memory().find(0xe000_0010, 4).is_none());
    let (registers, offset) = bench.root.memory().find(0xd123_4510, 4).unwrap();
    let mut data = [0; 4];
    registers.read(offset, &mut data);
    assert_eq!((offset, data), (0x10, [1, 2, 3, 4]));

    bench.set(1, 0x14, 0xd000);
    assert!(bench.root.ports().find(0xc000, 4).is_none());
    assert!(bench.root.ports().find(0xd03f, 1).is_some());
}

#[test]
fn sizing_a_bar_under_decode_moves_it_for_a_moment() {
    let mut bench = Bench::new();
    bench.set(1, 0x10, u32::MAX);
    assert_eq!(bench.data(), 0xffff_ff00);
    bench.set(1, 0x10, 0xe000_0000);
    assert!(bench.root.memory().find(0xe000_0000, 4).is_some());
}

#[test]
fn the_command_register_gates_decoding() {
    let mut bench = Bench::new();
    bench.set(1, 0x04, 0x0001);
    assert!(bench.root.memory().find(0xe000_0000, 4).is_none());
    assert!(bench.root.ports().find(0xc000, 4).is_some());
    bench.set(1, 0x04, 0x0002);
    assert!(bench.root.memory().find(0xe000_0000, 4).is_some());
    assert!(bench.root.ports().find(0xc000, 4).is_none());
}

#[test]
fn the_device_learns_of_bus_mastering_when_it_changes() {
    let mut bench = Bench::new();
    for command in [0x0007, 0x0007, 0x0003, 0x0003] {
        bench.set(1, 0x04, command);
    }
    assert_eq!(*bench.bus_master.lock(), [true, false]);
}

#[test]
fn interrupt_disable_gates_the_pin_and_status_tells_the_truth() {
    let mut bench = Bench::new();
    bench.set(1, 0x04, 0x0407);
    bench.intx.set_level(true);
    assert!(bench.levels.0.lock().is_empty());
    assert_eq!(bench.get(1, 0x04) >> 16, u32::from(STATUS_INTERRUPT));
    let mut status = [0; 2];
    bench.root.config_read(CONFIG_DATA + 2, &mut status);
    assert_eq!(status, STATUS_INTERRUPT.to_le_bytes());
    bench.set(1, 0x04, 0x0007);
    assert_eq!(*bench.levels.0.lock(), [true]);
    bench.intx.set_level(false);
    assert_eq!(bench.get(1, 0x04) >> 16, 0);
}
