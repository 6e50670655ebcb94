//! Links to the host, in a namespace that stands for the one that labctl is started in.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use vmm_core::backend::Tap;
use vmm_core::namespace::enter_private_net;

use super::{child, privileged, root};
use crate::lab::network::{HostLinks, HostTapError, NetworkError, TapPort};
use crate::topology::HostTap;
use crate::units::Network;

/// User and group "nobody".
const NOBODY: u32 = 65534;

/// Runs `$@` as nobody, where anybody may open /dev/net/tun, whatever this host says: udev lets them,
/// bare kernels do not.
const AS_NOBODY: &str = "\
cp -a /dev/net/tun $0 && chmod 666 $0 && mount --bind $0 /dev/net/tun && rm $0 &&
exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";

/// Runs a test where it can spoil nothing: threads and programs it starts are there, too.
fn elsewhere(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        enter_private_net().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test());
    });
    thread.join().unwrap();
}

/// Runs a command line as a user would, were this user root.
fn sh(line: &str) -> String {
    let Output { status, stdout, stderr } =
        Command::new("sh").args(["-c", &line.replace("sudo ", "")]).output().unwrap();
    assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Does what an error's help says.
fn mend(error: &NetworkError) {
    let help = error.help().unwrap();
    sh(help.split('`').nth(1).unwrap());
}

fn tap(name: &str) -> HostTap {
    HostTap { netns: None, name: name.to_owned(), address: None }
}

fn with_address(name: &str) -> HostTap {
    let address = Network { address: Ipv4Addr::new(10, 9, 0, 1), prefix: 24 };
    HostTap { address: Some(address), ..tap(name) }
}

async fn open(wanted: &HostTap) -> Result<(TapPort, Tap), NetworkError> {
    HostLinks::default().open(wanted).await
}

/// Waits for an ARP request, which is what the host says first to a neighbour.
fn hears_the_host(tap: &Tap) -> bool {
    let mut queue = File::from(tap.as_fd().try_clone_to_owned().unwrap());
    let mut frame = [0; 2048];
    (0..500).any(|_| {
        while queue.read(&mut frame).is_ok() {
            if frame[12..14] == [0x08, 0x06] {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
        false
    })
}

/// Has the host look for a neighbour.
fn speak() {
    std::net::UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"hello", "10.9.0.2:9").unwrap();
}

#[test]
fn what_is_not_there_is_created_and_goes_with_its_descriptor() {
    if !privileged() {
        return;
    }
    elsewhere(async || {
        let (port, tap) = open(&with_address("lab0")).await.unwrap();
        let shown = sh("ip address show dev lab0");
        assert!(shown.contains(",UP") && shown.contains("mtu 1500"), "{shown}");
        assert!(shown.contains("10.9.0.1/24"), "{shown}");
        speak();
        assert!(hears_the_host(&tap));
        assert!(port.stats().await.unwrap().read > 0);
        drop(tap);
        assert!(!sh("ip -o link").contains("lab0"));
    });
}

#[test]
fn what_is_there_is_used_as_it_is_and_stays() {
    if !privileged() {
        return;
    }
    elsewhere(async || {
        sh("ip tuntap add dev lab0 mode tap");
        let wanted = with_address("lab0");
        let down = open(&wanted).await.unwrap_err();
        assert!(matches!(down, NetworkError::HostTap(HostTapError::Down { .. })), "{down:?}");
        mend(&down);
        let bare = open(&wanted).await.unwrap_err();
        assert!(matches!(bare, NetworkError::HostTap(HostTapError::Unaddressed { .. })), "{bare}");
        mend(&bare);
        for _ in 0..2 {
            let (_port, tap) = open(&wanted).await.unwrap();
            speak();
            assert!(hears_the_host(&tap));
        }
        assert!(sh("ip address show dev lab0").contains("10.9.0.1/24"));
    });
}

#[test]
fn what_cannot_be_used_says_why() {
    if !privileged() {
        return;
    }
    elsewhere(async || {
        let _held = open(&tap("held")).await.unwrap();
        sh("ip link add switch type bridge && ip tuntap add dev many mode tap multi_queue");
        for (name, words) in [
            ("held", "another program has it open"),
            ("switch", "it is no TAP"),
            ("many", "several queues"),
            ("a/b", "choose another name"),
        ] {
            let error = open(&tap(name)).await.unwrap_err();
            assert!(error.help().unwrap().contains(words), "{name}: {error:?}");
        }
    });
}

/// Removes a named namespace at the end.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn a_named_namespace_is_entered_and_left_as_it_was() {
    if !root() {
        return;
    }
    elsewhere(async || {
        let named = Named(format!("labctl-test-{}", std::process::id()));
        let name = &named.0;
        sh(&format!("ip netns add {name}"));
        let wanted = HostTap { netns: Some(name.clone()), ..with_address("lab0") };
        let (port, tap) = open(&wanted).await.unwrap();
        assert!(sh(&format!("ip -n {name} address show dev lab0")).contains("10.9.0.1/24"));
        assert!(!sh("ip -o link").contains("lab0"));
        assert_eq!(port.stats().await.unwrap().write_refused, 0);
        drop(tap);
        assert!(!sh(&format!("ip -n {name} -o link")).contains("lab0"));

        let near = HostTap { netns: Some(name.replacen("labctl", "labclt", 1)), ..tap_in(name) };
        let help = open(&near).await.unwrap_err().help().unwrap();
        assert!(help.contains(&format!("did you mean `{name}`")), "{help}");
        let path = HostTap { netns: Some(format!("../netns/{name}")), ..tap_in(name) };
        assert!(open(&path).await.unwrap_err().to_string().contains("there is no"));

        sh(&format!("umount /run/netns/{name}"));
        let stale = open(&wanted).await.unwrap_err();
        assert!(matches!(stale, NetworkError::HostTap(HostTapError::Enter { .. })), "{stale:?}");
        mend(&stale);
        open(&wanted).await.unwrap();
    });
}

fn tap_in(netns: &str) -> HostTap {
    HostTap { netns: Some(netns.to_owned()), ..tap("lab0") }
}

#[test]
fn an_ordinary_user_needs_no_capability_for_its_own() {
    if !root() {
        return;
    }
    elsewhere(async || {
        let named = Named(format!("labctl-user-{}", std::process::id()));
        sh(&format!("ip netns add {}", named.0));
        sh(&format!("ip tuntap add dev mine mode tap user {NOBODY} && ip link set mine up"));
        sh("ip tuntap add dev roots mode tap user 0 && ip link set roots up");
        let test = child(module_path!(), "child_of_an_ordinary_user");
        // The first program may not be found by that user, wherever it lies; its open file can.
        let exe = || Stdio::from(File::open("/proc/self/exe").unwrap());
        for namespace in [&["env"][..], &["unshare", "--user", "--map-current-user", "--keep-caps"]]
        {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "sh", "-c", AS_NOBODY])
                .arg(std::env::temp_dir().join(&named.0));
            command.args(namespace).arg("/proc/self/fd/0").args(test.get_args());
            command.env("NETNS", &named.0).stdin(exe());
            let Output { status, stdout, stderr } = command.output().unwrap();
            let said = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(status.success() && said[0].contains("1 passed"), "{namespace:?}: {said:?}");
        }
    });
}

#[tokio::test]
#[ignore = "run by an_ordinary_user_needs_no_capability_for_its_own"]
async fn child_of_an_ordinary_user() {
    // Somebody started it by hand, with --include-ignored.
    let Ok(named) = std::env::var("NETNS") else { return };
    for _ in 0..2 {
        let (port, _tap) = open(&tap("mine")).await.unwrap();
        assert_eq!(port.stats().await.unwrap().write_refused, 0);
    }
    for (wanted, words) in [
        (
            with_address("none"),
            "`sudo ip tuntap add dev none mode tap user $(id -un) && sudo ip link set none up \
             && sudo ip address add 10.9.0.1/24 dev none`",
        ),
        (tap("roots"), "`sudo ip link delete roots && sudo ip tuntap add dev roots"),
        (tap_in(&named), "run labctl with sudo"),
    ] {
        let error = open(&wanted).await.unwrap_err();
        assert!(error.help().unwrap().contains(words), "{error:?}: {:?}", error.help());
    }
}
